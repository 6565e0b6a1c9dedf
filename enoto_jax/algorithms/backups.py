"""Backups: the value of the next state that the Bellman target uses, before the discount.

A backup gets the next state's policy and target critics and returns the value, [B] or [N, B], and
the critics' values next_q [N, B] of the action that it bootstraps from (for SUNRISE's weight).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from enoto_jax.nets import distributions
from enoto_jax.types import Array, Key, TargetRule

# (key, mean [B, A], log_std [B, A], q_of, rule, temperature) -> value, next_q; with
# q_of: action [..., B, A] -> [N, ..., B]
Backup = Callable[[Key, Array, Array, Callable, TargetRule, Array], tuple[Array, Array]]


def soft() -> Backup:
    """rule(Q(s2, a2)) - temperature log pi(a2 | s2), a2 sampled (SAC)."""

    def backup(key, mean, log_std, q_of, rule, temperature):
        sample_key, rule_key = jax.random.split(key)
        action, log_prob = distributions.sample(sample_key, mean, log_std)
        next_q = q_of(action)
        return rule(rule_key, next_q) - temperature * log_prob, next_q

    return backup


def sampled() -> Backup:
    """rule(Q(s2, a2)), a2 sampled, no entropy (CORL's CQL)."""

    def backup(key, mean, log_std, q_of, rule, temperature):
        value, next_q = soft()(key, mean, log_std, q_of, rule, jnp.zeros_like(temperature))
        return value, next_q

    return backup


def deterministic() -> Backup:
    """rule(Q(s2, tanh(mean(s2)))), no entropy (d3rlpy's CQL, hence ENOTO's offline phase)."""

    def backup(key, mean, log_std, q_of, rule, temperature):
        del log_std, temperature
        next_q = q_of(distributions.mode(mean))
        return rule(key, next_q), next_q

    return backup


def best_of(*, k: int = 10) -> Backup:
    """The largest rule(Q(s2, a)) of k sampled actions, no entropy (CQL's max backup, AntMaze).

    Args:
      k: actions sampled per transition.
    """

    def backup(key, mean, log_std, q_of, rule, temperature):
        del temperature
        sample_key, rule_key = jax.random.split(key)
        actions, _ = distributions.sample(sample_key, mean, log_std, (k,))
        q = q_of(actions)  # [N, K, B]
        values = rule(rule_key, q.reshape(q.shape[0], -1))
        values = values.reshape(*values.shape[:-1], *q.shape[1:])  # [K, B] or [N, K, B]
        best = jnp.argmax(jnp.min(q, axis=0), axis=0)  # [B], the action SUNRISE's weight is of
        next_q = jnp.take_along_axis(q, best[None, None], axis=1)[:, 0]
        return jnp.max(values, axis=-2), next_q

    return backup
