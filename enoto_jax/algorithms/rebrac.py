"""ReBRAC with N critics (Tarasov et al. 2023): TD3 with an actor and a target near the data.

Each of the two has its own coefficient, on squared distances summed over the action's entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import linen as nn

from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.bellman import PolicyFn, QFn, Reduce
from enoto_jax.algorithms.schedules import check_falling, falling
from enoto_jax.algorithms.td3 import ActFn, DeterministicConfig
from enoto_jax.core import Algorithm
from enoto_jax.exploration import Exploration, gaussian
from enoto_jax.nets.flow import ACTIVATIONS, NormLastCritic, NormLastDeterministic
from enoto_jax.nets.initialisers import Init, edac_init
from enoto_jax.targets import TargetRule, min_q
from enoto_jax.types import Array, InputError, LossFn, Spec, check_choice


def _distance(one: Array, other: Array) -> Array:
    """Return sum_A of the squared differences, [B]."""
    return jnp.sum(jnp.square(one - other), axis=-1)


def penalised_critic(
    q: QFn,
    policy: PolicyFn,
    rule: TargetRule,
    discount: float,
    exploration: Exploration,
    cloning: float,
) -> LossFn:
    """Make the loss sum_i mean_B w (Q_i(s, a) - y)^2, whose target is penalised off the data.

    y = r + discount (1 - terminated) [rule(Qt(s2, a2)) - cloning sum_A (a2 - a2_data)^2]. If the
    recording was cut at a transition, it has no next action and no penalty.

    Args:
      q: The critics.
      policy: (state, observation) -> distribution of the next action a2.
      rule: Reduces the target critics.
      discount: Gamma.
      exploration: Gives the weights w.
      cloning: The coefficient; with 0, batches need no extra "next_action" [B, A].
    """
    reduce = bellman.checked(rule)

    def loss(params, state, batch, key):
        (sample_key, rule_key), weight_key, _ = bellman.flat(key, 0)
        following = policy(state, batch.next_observation)

        def next_q_of(action):
            return q(state.targets["critic"], batch.next_observation, action)

        action, _ = following.sample(sample_key)
        next_q = next_q_of(action)
        value, about = reduce(rule_key, next_q), {}
        if cloning:
            known = 1.0 - batch.truncated
            distance = known * _distance(action, batch.extras["next_action"])
            value, about = value - cloning * distance, {"bc": jnp.mean(distance)}
        weight = exploration.td_weight(
            weight_key, next_q, lambda key: next_q_of(following.sample(key)[0])
        )
        q_data = q(params, batch.observation, batch.action)
        y = bellman.target(batch, discount, value)
        total, metrics = bellman.temporal_difference(q_data, y, weight, batch)
        return total, {**metrics, **about}

    return loss


def cloning_actor(
    q: QFn, actor: ActFn, reduce: Reduce, cloning: float, steps: int | None, floor: float
) -> LossFn:
    """Make the loss mean_B [cloning sum_A (pi(s) - a)^2 - lambda reduce(Q(s, pi(s)))].

    lambda = 1 / mean_B |reduce(Q(s, pi(s)))|, a constant for the gradient.

    Args:
      q: The critics.
      actor: (actor params, observation) -> action.
      reduce: (key, q [N, B]) -> value.
      cloning: The coefficient, which falls: see `schedules.falling`.
      steps: Updates until it would reach 0; None: constant.
      floor: The smallest fraction of it that is left.
    """

    def loss(params, state, batch, key):
        action = actor(params, batch.observation)
        value = reduce(key, q(state.params["critic"], batch.observation, action))
        factor = jax.lax.stop_gradient(1.0 / jnp.mean(jnp.abs(value)))
        gain, distance = jnp.mean(value), jnp.mean(_distance(action, batch.action))
        coefficient = falling(cloning, state.step, steps, floor)
        metrics = {"q_policy": gain, "bc": distance, "lambda": factor, "cloning": coefficient}
        return coefficient * distance - factor * gain, metrics

    return loss


class rebrac(DeterministicConfig):
    """ReBRAC (Tarasov et al. 2023): TD3 that clones in the actor's and in the critics' loss."""

    exploration: Annotated[Exploration, "how to act online and weight transitions."] = gaussian(
        std=0.0
    )
    actor_value: Annotated[TargetRule, "rule that reduces the critics in the actor's loss."] = (
        min_q()
    )
    actor_cloning: Annotated[
        float, "weight of the actor's squared distance to the data's actions, summed over entries."
    ] = 0.01
    critic_cloning: Annotated[
        float,
        "weight of the next action's squared distance to the data's next action in the target; "
        "above 0 only in a phase that learns only from the data set.",
    ] = 0.01
    cloning_decay_steps: Annotated[
        int | None,
        "updates over which the actor's weight falls linearly towards 0; None: constant.",
    ] = None
    cloning_floor: Annotated[float, "fraction of the actor's weight at which the fall stops."] = 0.5
    hidden: Annotated[tuple[int, ...], "widths of the hidden layers of actor and critics."] = (
        256,
        256,
        256,
    )
    activation: Annotated[str, "activation of the hidden layers, relu or gelu."] = "relu"
    layer_norm: Annotated[bool, "LayerNorm after each activation of the critics."] = True
    actor_init: Annotated[Init, "how the actor starts."] = edac_init(head=1e-3)
    critic_init: Annotated[Init, "how the critics start."] = edac_init(head=3e-3)
    actor_rate: Annotated[float, "Adam's learning rate of the actor."] = 1e-3
    critic_rate: Annotated[float, "Adam's learning rate of the critics."] = 1e-3

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: n, a width or the delay is below 1, or a coefficient is negative.
        """
        check_choice("activation", self.activation, ACTIVATIONS)
        check_falling("cloning", self.cloning_decay_steps, self.cloning_floor)
        if min(self.actor_cloning, self.critic_cloning) < 0:
            raise InputError("actor_cloning and critic_cloning must be 0 or more")
        return super().build(spec)._replace(next_actions=self.critic_cloning > 0)

    def networks(self, spec: Spec) -> tuple[nn.Module, nn.Module]:
        hidden = tuple(self.hidden)
        actor = NormLastDeterministic(
            spec.action_size,
            hidden,
            self.actor_layer_norm,
            self.actor_init,
            activation=self.activation,
        )
        return actor, NormLastCritic(
            hidden, self.layer_norm, self.critic_init, activation=self.activation
        )

    def losses(self, q: QFn, actor: ActFn, smoothed: PolicyFn) -> Mapping[str, LossFn]:
        return {
            "critic": penalised_critic(
                q, smoothed, self.target, self.discount, self.exploration, self.critic_cloning
            ),
            "actor": cloning_actor(
                q,
                actor,
                bellman.checked(self.actor_value),
                self.actor_cloning,
                self.cloning_decay_steps,
                self.cloning_floor,
            ),
        }
