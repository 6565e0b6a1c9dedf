"""Implicit Q-learning (Kostrikov et al. 2022): nothing is learned from actions outside the data."""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp
import optax

from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.awac import weighted_cloning
from enoto_jax.core import Algorithm, AlgorithmConfig, acting_by, moments_of
from enoto_jax.exploration import Exploration, policy
from enoto_jax.nets.distributions import ClippedNormal, TanhNormal
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.initialisers import Init, orthogonal_init
from enoto_jax.nets.networks import Critic, Gaussian, Value, check_sizes
from enoto_jax.targets import TargetRule, min_q
from enoto_jax.types import InputError, Spec, check_choice

_ORTHOGONAL = orthogonal_init(head_gain=2**0.5)
ORDERS = ("value,actor,critic", "actor,critic,value")  # IQL-code; CORL and Unifloral


class iql(AlgorithmConfig):
    """V is an upper expectile of Q over the data's actions, and Q bootstraps from V (IQL-code).

    With u = target(Q_target(s, a)) - V(s): L_V = mean |expectile - 1(u <= 0)| u^2;
    L_Q = sum_i mean_B w (Q_i - y)^2 with y = r + discount (1 - terminated) V(s2);
    L_pi = -mean min(exp(beta u), cap) log pi(a | s).
    """

    n: Annotated[int, "N, the number of critics."] = 2
    target: Annotated[
        TargetRule, "rule that reduces the target critics, in V's regression and in the advantage."
    ] = min_q()
    exploration: Annotated[Exploration, "how to act online and weight transitions."] = policy()
    expectile: Annotated[
        float, "expectile of Q that V estimates: 0.5 is the mean, 1 the maximum."
    ] = 0.7
    beta: Annotated[float, "inverse temperature; larger values favour the best actions more."] = 3.0
    cap: Annotated[float, "largest weight of an action."] = 100.0
    squashed: Annotated[
        bool,
        "a tanh-squashed Gaussian (d3rlpy) instead of a plain one with its mean in [-1, 1] whose "
        "samples are clipped (the authors').",
    ] = False
    hidden: Annotated[tuple[int, ...], "widths of the hidden layers of all networks."] = (256, 256)
    layer_norm: Annotated[bool, "LayerNorm before each ReLU, in all networks."] = False
    actor_init: Annotated[Init, "how the actor starts."] = _ORTHOGONAL
    critic_init: Annotated[Init, "how the critics and V start."] = _ORTHOGONAL
    log_std_range: Annotated[
        tuple[float, float], "bounds of the policy's log standard deviation."
    ] = (-5.0, 2.0)
    actor_rate: Annotated[float, "Adam's learning rate of the actor, at the start."] = 3e-4
    critic_rate: Annotated[float, "Adam's learning rate of the critics."] = 3e-4
    value_rate: Annotated[float, "Adam's learning rate of V."] = 3e-4
    decay_steps: Annotated[
        int | None, "updates over which the actor's rate decays to 0 by a cosine; None: constant."
    ] = None
    discount: Annotated[float, "gamma."] = 0.99
    tau: Annotated[float, "rate of the targets' Polyak average, per update."] = 0.005
    order: Annotated[
        str,
        "order of the networks' steps in an update: value,actor,critic (IQL-code), or "
        "actor,critic,value: actor and critics use V before its update, which saves a pass (CORL).",
    ] = "value,actor,critic"

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: n, a width or decay_steps is below 1, the expectile is outside (0, 1), or the
            order is unknown.
        """
        check_choice("order", self.order, ORDERS)
        check_sizes(self.n, self.hidden)
        if not 0.0 < self.expectile < 1.0:
            raise InputError(f"iql: expectile is {self.expectile}; it must lie between 0 and 1")
        if self.decay_steps is not None and self.decay_steps < 1:
            raise InputError(f"iql: decay_steps is {self.decay_steps}; give at least 1, or None")
        hidden = tuple(self.hidden)
        actor = Gaussian(
            spec.action_size,
            hidden,
            self.layer_norm,
            self.actor_init,
            tuple(self.log_std_range),
            bounded=not self.squashed,
        )
        critic = ensemble(Critic(hidden, self.layer_norm, self.critic_init), self.n)
        value = Value(hidden, self.layer_norm, self.critic_init)
        family = TanhNormal if self.squashed else ClippedNormal
        reduce = bellman.checked(self.target)

        def policy_of(params, observation):
            return family(*actor.apply(params, observation))

        def acting(state, observation):
            return policy_of(state.params["actor"], observation)

        def q_of_data(state, batch, key):
            q = critic.apply(state.targets["critic"], batch.observation, batch.action)
            return reduce(key, q)

        def values(state, batch):
            """Return V at both states, each [B]: in one pass, or in two that V's step can share."""
            params, both = state.params["value"], (batch.observation, batch.next_observation)
            if self.order.startswith("value"):
                return value.apply(params, jnp.stack(both))
            return [value.apply(params, x) for x in both]

        def value_loss(params, state, batch, key):
            u = q_of_data(state, batch, key) - value.apply(params, batch.observation)
            weight = jnp.where(u > 0.0, self.expectile, 1.0 - self.expectile)
            return jnp.mean(weight * jnp.square(u)), {"advantage": jnp.mean(u)}

        def actor_loss(params, state, batch, key):
            u = q_of_data(state, batch, key) - values(state, batch)[0]
            log_prob = policy_of(params, batch.observation).log_prob(batch.action)
            return weighted_cloning(log_prob, u, self.beta, self.cap)

        def critic_loss(params, state, batch, key):
            sample_key, weight_key = jax.random.split(key)
            y = bellman.target(batch, self.discount, values(state, batch)[1])

            def next_q_of(key):
                action, _ = acting(state, batch.next_observation).sample(key)
                return critic.apply(state.targets["critic"], batch.next_observation, action)

            # The bootstrap is V: these critics are only for the weight, and XLA drops them without
            # one.
            weight = self.exploration.td_weight(weight_key, next_q_of(sample_key), next_q_of)
            q_data = critic.apply(params, batch.observation, batch.action)
            return bellman.temporal_difference(q_data, y, weight, batch)

        losses = {"value": value_loss, "actor": actor_loss, "critic": critic_loss}
        # A schedule even for a constant rate, so that both phases' optimisers have one structure.
        rate = (
            optax.constant_schedule(self.actor_rate)
            if self.decay_steps is None
            else optax.cosine_decay_schedule(self.actor_rate, self.decay_steps)
        )
        observation = jnp.zeros((1, spec.observation_size))
        action = jnp.zeros((1, spec.action_size))
        return Algorithm(
            nets={"actor": actor, "critic": critic, "value": value},
            inputs={
                "actor": (observation,),
                "critic": (observation, action),
                "value": (observation,),
            },
            losses={name: losses[name] for name in self.order.split(",")},
            optimisers={
                "actor": optax.adam(rate),
                "critic": optax.adam(self.critic_rate),
                "value": optax.adam(self.value_rate),
            },
            tracked=("critic",),
            tau=self.tau,
            **acting_by(acting),
            q=critic.apply,
            moments=moments_of(acting) if self.squashed else None,
            critics=self.n,
            exploration=self.exploration,
        )
