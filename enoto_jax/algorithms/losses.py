"""Losses of actors and temperatures that several algorithms share; the critics' is in `bellman`.

In every loss the first argument is the parameters it is differentiated by, and whatever else it
reads comes from the state: no gradient can leave its network.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from enoto_jax.algorithms.bellman import PolicyFn, QFn, Reduce
from enoto_jax.nets.ensembles import Noisy
from enoto_jax.nets.networks import positive
from enoto_jax.types import Array, LossFn, Metrics


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


def with_dropout(loss: LossFn, of_critics: bool) -> LossFn:
    """A loss whose critics, targets included, drop units (DroQ); acting is without dropout.

    Args:
      loss: of any network.
      of_critics: the network that learns is the critics themselves.
    """

    def dropping(params, state, batch, key):
        own_key, slow_key, fixed_key, key = jax.random.split(key, 4)
        state = state.replace(
            params={**state.params, "critic": Noisy(state.params["critic"], fixed_key)},
            targets={**state.targets, "critic": Noisy(state.targets["critic"], slow_key)},
        )
        return loss(Noisy(params, own_key) if of_critics else params, state, batch, key)

    return dropping


def soft_actor(q: QFn, policy: PolicyFn, reduce: Reduce) -> LossFn:
    """Batch mean of temperature log pi(a | s) - reduce(Q(s, a)), a reparameterised (SAC)."""

    def loss(params, state, batch, key):
        sample_key, rule_key = jax.random.split(key)
        chosen = policy(params, batch.observation)
        action, log_prob = chosen.sample(sample_key)
        value = reduce(rule_key, q(state.params["critic"], batch.observation, action))
        temperature = positive(state.params["temperature"])
        return jnp.mean(temperature * log_prob - value), {
            "q_policy": jnp.mean(value),
            "entropy": -jnp.mean(log_prob),
            "std": jnp.mean(jnp.exp(chosen.log_std)),
        }

    return loss


def temperature(policy: PolicyFn, target_entropy: float, of_logarithm: bool) -> LossFn:
    """-x mean(log pi(a | s) + target_entropy), x = exp(value) (d3rlpy) or value (CORL, EDAC)."""

    def loss(params, state, batch, key):
        _, log_prob = policy(state.params["actor"], batch.observation).sample(key)
        gap = jax.lax.stop_gradient(jnp.mean(log_prob) + target_entropy)
        value = positive(params)
        return -(jnp.log(value) if of_logarithm else value) * gap, {"value": value}

    return loss
