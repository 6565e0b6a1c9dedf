"""RO2O (Wen et al. 2024): SAC-N that is smooth and pessimistic in a small box around each state.

All three terms use n noisy states, s + delta with delta ~ U(-epsilon, epsilon)^D, with the same n
deltas for the whole batch. Online, the authors' code trains without the terms: plain SAC-N.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp

from enoto_jax.algorithms.bellman import CriticTerm
from enoto_jax.algorithms.sac import sac
from enoto_jax.core import Algorithm
from enoto_jax.nets.distributions import TanhNormal
from enoto_jax.nets.ensembles import share
from enoto_jax.types import Array, InputError, Key, Spec


class _Noise(CriticTerm):
    """Options of a term on noisy states."""

    weight: Annotated[float, "weight of the term."] = 1.0
    epsilon: Annotated[float, "largest noise on an entry of the state, as the agent sees it."] = (
        0.01
    )
    noises: Annotated[int, "noisy states of every transition."] = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noises < 1 or self.epsilon < 0:
            raise InputError(
                f"{self.name}: noises is {self.noises} and epsilon {self.epsilon}; give at least 1 "
                "noisy state, and an epsilon of 0 or more"
            )


class q_smoothness(_Noise):
    """weight mean_B max_delta mean_i [ 0.8 max(x, 0)^2 + 0.2 min(x, 0)^2 ].

    x = Q_i(s + delta, a) - Q_i(s, a): a rise costs more than a fall (RO2O-code).
    """

    weight: Annotated[float, "weight of the term."] = 1e-4

    def bind(self, q, policy, spec):
        def term(params, state, batch, key, q_data):
            near = noisy(key, batch.observation, self.epsilon, self.noises)
            change = q(params, near, batch.action) - q_data[:, None]  # [N, n, B]
            rise, fall = jnp.maximum(change, 0.0), jnp.minimum(change, 0.0)
            cost = jnp.mean(0.8 * jnp.square(rise) + 0.2 * jnp.square(fall), axis=0)
            smoothness = share(params) * jnp.mean(jnp.max(cost, axis=0))
            return self.weight * smoothness, {"smoothness": smoothness}

        return term


class q_pessimism(_Noise):
    """weight mean ( Q_i(s', a') - sg(Q_i(s', a') - k std_i Q(s', a')) )^2, a' ~ pi(s').

    s' = s + delta; the standard deviation is unbiased. The gradient lowers every critic where they
    disagree (RO2O-code).
    """

    weight: Annotated[float, "weight of the term."] = 0.1
    spread: Annotated[float, "k at the start of the phase."] = 1.0
    spread_fall: Annotated[float, "decrease of k per update."] = 5e-7
    least_spread: Annotated[float, "the smallest k."] = 0.1

    def bind(self, q, policy, spec):
        def term(params, state, batch, key, q_data):
            if len(q_data) < 2:
                raise InputError(
                    f"{self.name}: disagreement needs at least 2 critics that learn; raise n or "
                    "learners"
                )
            noise_key, sample_key = jax.random.split(key)
            near = noisy(noise_key, batch.observation, self.epsilon, self.noises)
            action, _ = policy(state.params["actor"], near).sample(sample_key)
            value = q(params, near, jax.lax.stop_gradient(action))  # [N, n, B]
            k = jnp.maximum(self.spread - self.spread_fall * state.step, self.least_spread)
            spread = jnp.std(value, axis=0, ddof=1)
            lower = jax.lax.stop_gradient(value - k * spread)
            disagreement = share(params) * jnp.mean(jnp.square(value - lower))
            return self.weight * disagreement, {"disagreement": jnp.mean(spread)}

        return term


class ro2o(sac):
    """RO2O: SAC-N with q_smoothness, q_pessimism and a smooth policy (Wen et al. 2024)."""

    terms: Annotated[tuple[CriticTerm, ...], "additional losses on the critics."] = (
        q_smoothness(),
        q_pessimism(),
    )
    policy_weight: Annotated[
        float, "weight of mean_B max_delta [KL(p || p') + KL(p' || p)], p before tanh."
    ] = 1.0
    policy_epsilon: Annotated[float, "largest noise on an entry of the state in that term."] = 0.01
    policy_noises: Annotated[int, "noisy states of every transition in that term."] = 20

    def build(self, spec: Spec) -> Algorithm:
        base = super().build(spec)
        actor, plain = base.nets["actor"], base.losses["actor"]

        def actor_loss(params, state, batch, key):
            loss, metrics = plain(params, state, batch, key)
            noise_key = jax.random.fold_in(key, 1)
            near = noisy(noise_key, batch.observation, self.policy_epsilon, self.policy_noises)
            here = TanhNormal(*actor.apply(params, batch.observation))
            there = TanhNormal(*actor.apply(params, near))
            change = jnp.mean(jnp.max(divergence(here, there), axis=0))
            return loss + self.policy_weight * change, {**metrics, "policy_change": change}

        return base._replace(losses={**base.losses, "actor": actor_loss})


def noisy(key: Key, observation: Array, epsilon: float, count: int) -> Array:
    """Return `count` noisy copies [n, B, D] of observations [B, D]; all rows share the noise."""
    shape = (count, 1, observation.shape[-1])
    return observation + jax.random.uniform(key, shape, minval=-epsilon, maxval=epsilon)


def divergence(p: TanhNormal, q: TanhNormal) -> Array:
    """Return KL(p || q) + KL(q || p) [...] of the Gaussians before tanh."""
    gap = jnp.square(p.mean - q.mean)
    ratio = jnp.exp(2.0 * (p.log_std - q.log_std))
    both = 0.5 * (ratio + 1.0 / ratio) - 1.0
    return jnp.sum(both + 0.5 * gap * (jnp.exp(-2 * p.log_std) + jnp.exp(-2 * q.log_std)), axis=-1)
