"""AWAC (Nair et al. 2020): an actor that clones the data's actions by their advantage."""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp
import optax

from enoto_jax.algorithms import bellman
from enoto_jax.core import Algorithm, AlgorithmConfig, acting_by
from enoto_jax.exploration import Exploration, policy
from enoto_jax.nets.distributions import ClippedNormal
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.nets.networks import Critic, Gaussian, check_sizes
from enoto_jax.targets import TargetRule, min_q
from enoto_jax.types import Array, InputError, Metrics, Spec


def weighted_cloning(
    log_prob: Array, advantage: Array, beta: float, cap: float
) -> tuple[Array, Metrics]:
    """-mean(w log pi(a | s)), w = min(exp(beta advantage), cap), all [B] (AWR, AWAC, IQL)."""
    weight = jax.lax.stop_gradient(jnp.minimum(jnp.exp(beta * advantage), cap))
    return -jnp.mean(weight * log_prob), {
        "advantage": jnp.mean(advantage),
        "weight": jnp.mean(weight),
        "log_prob": jnp.mean(log_prob),
    }


class awac(AlgorithmConfig):
    """L_pi = -mean min(exp(A / lambda), cap) log pi(a | s), A = Q(s, a) - Q(s, a~), a~ ~ pi (CORL).

    The critics are SAC's without entropy: y = r + discount (1 - terminated) target(Q(s2, a2)). The
    policy is a plain Gaussian whose samples are clipped to [-1, 1].
    """

    n: Annotated[int, "N, the number of critics."] = 2
    target: Annotated[TargetRule, "rule that reduces the target critics."] = min_q()
    exploration: Annotated[Exploration, "how to act online and weight transitions."] = policy()
    actor_value: Annotated[TargetRule, "rule that reduces the critics in the advantage."] = min_q()
    lam: Annotated[float, "lambda; smaller values favour the best actions more."] = 1.0 / 3.0
    cap: Annotated[float, "largest weight of an action."] = 100.0
    hidden: Annotated[tuple[int, ...], "widths of the hidden layers of actor and critics."] = (
        256,
        256,
        256,
    )
    layer_norm: Annotated[bool, "LayerNorm before each ReLU, in actor and critics."] = False
    actor_init: Annotated[Init, "how the actor starts."] = torch_init()
    critic_init: Annotated[Init, "how the critics start."] = torch_init()
    log_std_range: Annotated[
        tuple[float, float], "bounds of the policy's log standard deviation."
    ] = (-20.0, 2.0)
    actor_rate: Annotated[float, "Adam's learning rate of the actor."] = 3e-4
    critic_rate: Annotated[float, "Adam's learning rate of the critics."] = 3e-4
    discount: Annotated[float, "gamma."] = 0.99
    tau: Annotated[float, "rate of the targets' Polyak average, per update."] = 0.005

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: n or a width is below 1, or lam is not above 0.
        """
        check_sizes(self.n, self.hidden)
        if self.lam <= 0.0:
            raise InputError(f"awac: lam is {self.lam}; it must be above 0")
        hidden = tuple(self.hidden)
        actor = Gaussian(
            spec.action_size,
            hidden,
            self.layer_norm,
            self.actor_init,
            tuple(self.log_std_range),
            bounded=False,
        )
        critic = ensemble(Critic(hidden, self.layer_norm, self.critic_init), self.n)
        reduce = bellman.checked(self.actor_value)

        def policy_of(params, observation):
            return ClippedNormal(*actor.apply(params, observation))

        def acting(state, observation):
            return policy_of(state.params["actor"], observation)

        def actor_loss(params, state, batch, key):
            sample_key, rule_key = jax.random.split(key)
            chosen = policy_of(params, batch.observation)
            action, _ = chosen.sample(sample_key)

            def value(action):
                q = critic.apply(state.params["critic"], batch.observation, action)
                return reduce(rule_key, q)

            advantage = value(batch.action) - jax.lax.stop_gradient(value(action))
            log_prob = chosen.log_prob(batch.action)
            return weighted_cloning(log_prob, advantage, 1.0 / self.lam, self.cap)

        observation = jnp.zeros((1, spec.observation_size))
        action = jnp.zeros((1, spec.action_size))
        return Algorithm(
            nets={"actor": actor, "critic": critic},
            inputs={"actor": (observation,), "critic": (observation, action)},
            losses={
                "critic": bellman.critic_loss(
                    critic.apply,
                    acting,
                    self.target,
                    bellman.sampled(),
                    self.discount,
                    self.exploration,
                    streams=bellman.flat,
                ),
                "actor": actor_loss,
            },
            optimisers={
                "actor": optax.adam(self.actor_rate),
                "critic": optax.adam(self.critic_rate),
            },
            tracked=("critic",),
            tau=self.tau,
            **acting_by(acting),
            q=critic.apply,
            critics=self.n,
            exploration=self.exploration,
        )
