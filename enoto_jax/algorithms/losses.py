"""Losses that several algorithms share. One network each; nothing here knows an algorithm's name.

In every loss the first argument is the parameters it is differentiated by, and whatever else it
reads comes from the state: no gradient can leave its network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from enoto_jax.algorithms.backups import Backup
from enoto_jax.exploration import Exploration
from enoto_jax.nets import distributions
from enoto_jax.types import Array, LossFn, TargetRule, Transition

QFn = Callable[[object, Array, Array], Array]  # (params, observation, action) -> [N, ...]
PolicyFn = Callable[[object, Array], tuple[Array, Array]]  # (params, observation) -> mean, log_std
# (params, state, batch, key, q_data [N, B]) -> (scalar added to the critics' loss, metrics)
CriticTerm = Callable[..., tuple[Array, dict]]


def critic(
    q: QFn,
    policy: PolicyFn,
    target: TargetRule,
    backup: Backup,
    discount: float,
    exploration: Exploration,
    terms: Sequence[CriticTerm] = (),
) -> LossFn:
    """Sum over critics of the batch mean of w (Q_i(s, a) - y)^2, plus the terms.

    y = r + discount (1 - terminated) backup(s2). A time limit does not cut the bootstrap. With
    bootstrap masks, each critic's mean is over its own transitions, sum / (count + 1) (SUNRISE).
    """

    def loss(params, state, batch, key, seen):
        del seen
        backup_key, weight_key, *term_keys = jax.random.split(key, 2 + len(terms))
        mean, log_std = policy(state.params["actor"], batch.next_observation)

        def next_q_of(action):
            return q(state.targets["critic"], batch.next_observation, action)

        def draw(key):
            return next_q_of(distributions.sample(key, mean, log_std)[0])

        temperature = jnp.exp(state.params["temperature"]["params"]["value"])
        value, next_q = backup(backup_key, mean, log_std, next_q_of, target, temperature)
        y = batch.reward + discount * (1.0 - batch.terminated) * value
        weight = exploration.td_weight(weight_key, next_q, draw)
        q_data = q(params, batch.observation, batch.action)
        total, metrics = temporal_difference(q_data, y, weight, batch)
        for term, term_key in zip(terms, term_keys):
            extra, about = term(params, state, batch, term_key, q_data)
            total, metrics = total + extra, {**metrics, **about}
        return total, metrics

    return loss


def temporal_difference(q_data: Array, y: Array, weight: Array, batch: Transition) -> tuple:
    """Sum over critics of the batch mean of w (Q_i - y)^2, and what critics' losses report.

    Args:
      q_data: Q_i(s, a), [N, B].
      y: targets, [B] or [N, B].
      weight: of every transition, [B] or [].
      batch: its "mask", if any, says which critics learn: sum / (count + 1) each (SUNRISE).
    """
    error = weight * jnp.square(q_data - y)
    if "mask" in batch.extras:
        mask = jnp.swapaxes(batch.extras["mask"], 0, 1)
        total = jnp.sum(jnp.sum(mask * error, axis=1) / (jnp.sum(mask, axis=1) + 1.0))
    else:
        total = jnp.sum(jnp.mean(error, axis=1))
    return total, {
        "td_loss": total,
        "q_data": jnp.mean(q_data),
        "q_std": jnp.mean(jnp.std(q_data, axis=0)),
        "target": jnp.mean(y),
        "weight": jnp.mean(weight),
    }


def weighted_cloning(log_prob: Array, advantage: Array, beta: float, cap: float) -> tuple:
    """-mean(w log pi(a | s)), w = min(exp(beta advantage), cap), all [B] (AWR, AWAC, IQL)."""
    weight = jax.lax.stop_gradient(jnp.minimum(jnp.exp(beta * advantage), cap))
    return -jnp.mean(weight * log_prob), {
        "advantage": jnp.mean(advantage),
        "weight": jnp.mean(weight),
        "log_prob": jnp.mean(log_prob),
    }


def soft_actor(q: QFn, policy: PolicyFn, reduce: TargetRule) -> LossFn:
    """Batch mean of temperature log pi(a | s) - reduce(Q(s, a)), a reparameterised (SAC)."""

    def loss(params, state, batch, key, seen):
        del seen
        sample_key, rule_key = jax.random.split(key)
        mean, log_std = policy(params, batch.observation)
        action, log_prob = distributions.sample(sample_key, mean, log_std)
        value = reduce(rule_key, q(state.params["critic"], batch.observation, action))
        temperature = jnp.exp(state.params["temperature"]["params"]["value"])
        return jnp.mean(temperature * log_prob - value), {
            "q_policy": jnp.mean(value),
            "entropy": -jnp.mean(log_prob),
            "std": jnp.mean(jnp.exp(log_std)),
        }

    return loss


def temperature(policy: PolicyFn, target_entropy: float, of_logarithm: bool) -> LossFn:
    """-x mean(log pi(a | s) + target_entropy), x = exp(value) (d3rlpy) or value (CORL, EDAC)."""

    def loss(params, state, batch, key, seen):
        del seen
        value = params["params"]["value"]
        mean, log_std = policy(state.params["actor"], batch.observation)
        _, log_prob = distributions.sample(key, mean, log_std)
        gap = jax.lax.stop_gradient(jnp.mean(log_prob) + target_entropy)
        return -(value if of_logarithm else jnp.exp(value)) * gap, {"value": jnp.exp(value)}

    return loss
