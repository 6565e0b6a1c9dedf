"""Target rules: how the N target critics' values become the target of the Bellman backup.

A rule maps q [N, B] to [B], or to [N, B] for a target of its own per critic. ENOTO section 3.3b
compares min_q, mean_q, rem, random_min_pair and weighted_min_pair.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax.types import Array, InputError, Key, TargetRule


def _weighted(weights: Array, q: Array) -> Array:
    return jnp.tensordot(weights, q, axes=1)


def min_q() -> TargetRule:
    """The smallest value (clipped double Q-learning for any N; SAC-N)."""
    return lambda key, q: jnp.min(q, axis=0)


def mean_q() -> TargetRule:
    """The mean over critics."""
    return lambda key, q: jnp.mean(q, axis=0)


def first_q() -> TargetRule:
    """The first critic alone, whose policy gradient TD3 and TD3+BC follow."""
    return lambda key, q: q[0]


def rem(*, per_sample: bool = False) -> TargetRule:
    """Random ensemble mixture (Agarwal et al. 2020): a random convex combination.

    Args:
      per_sample: draw weights for every transition (REDQ-code) rather than once a batch (REM).
    """

    def rule(key: Key, q: Array) -> Array:
        w = jax.random.uniform(key, q.shape if per_sample else (q.shape[0], 1))
        return jnp.sum(w / jnp.sum(w, axis=0) * q, axis=0)

    return rule


def random_min_pair(*, m: int = 2) -> TargetRule:
    """The minimum over m distinct critics, drawn once a batch (REDQ, Chen et al. 2021).

    Args:
      m: how many critics are drawn, without replacement.
    """
    _positive("random_min_pair", m=m)

    def rule(key: Key, q: Array) -> Array:
        if m > q.shape[0]:
            raise InputError(f"random_min_pair: m is {m}, but there are {q.shape[0]} critics")
        drawn = jax.random.choice(key, q.shape[0], (m,), replace=False)
        return jnp.min(q[drawn], axis=0)

    return rule


def weighted_min_pair_weights(n: int) -> np.ndarray:
    """Weights [N] on ascending order statistics: rank i is the minimum of n-1-i of the pairs."""
    return np.arange(n - 1, -1, -1) / (n * (n - 1) / 2)


def weighted_min_pair() -> TargetRule:
    """The mean over all pairs of critics of the pair's minimum: ENOTO equation 7, closed form.

    Between min_q and mean_q, without random_min_pair's noise; equal to min_q when N = 2. One sort
    and one dot product instead of N (N - 1) / 2 minima.
    """

    def rule(key: Key, q: Array) -> Array:
        if q.shape[0] < 2:
            raise InputError("weighted_min_pair needs at least 2 critics, not 1: --num_critics=2")
        weights = jnp.asarray(weighted_min_pair_weights(q.shape[0]), q.dtype)
        return _weighted(weights, jnp.sort(q, axis=0))

    return rule


def independent(*, group: int = 1) -> TargetRule:
    """Each critic its own target [N, B]; in groups, the minimum of the critic's own group.

    Args:
      group: number of consecutive critics that share one target (2 in balanced replay: 5 pairs).
    """
    _positive("independent", group=group)

    def rule(key: Key, q: Array) -> Array:
        return jnp.repeat(jnp.min(_groups("independent", q, group), axis=1), group, axis=0)

    return rule


def mean_of_mins(*, group: int = 2) -> TargetRule:
    """The mean over groups of the group's minimum (the actor's value in balanced replay).

    Args:
      group: number of consecutive critics of which the smallest value counts.
    """
    _positive("mean_of_mins", group=group)

    def rule(key: Key, q: Array) -> Array:
        return jnp.mean(jnp.min(_groups("mean_of_mins", q, group), axis=1), axis=0)

    return rule


def mix(*, k: float = 0.7) -> TargetRule:
    """k min + (1 - k) max (BCQ, LAPO's `doubleq_min`).

    Args:
      k: weight of the minimum.
    """
    return lambda key, q: k * jnp.min(q, axis=0) + (1.0 - k) * jnp.max(q, axis=0)


def _groups(unit: str, q: Array, group: int) -> Array:
    if q.shape[0] % group:
        raise InputError(f"{unit}: {q.shape[0]} critics do not make groups of {group}")
    return q.reshape(-1, group, *q.shape[1:])


def _positive(unit: str, **value: int) -> None:
    for name, number in value.items():
        if number < 1:
            raise InputError(f"{unit}: {name} is {number}; it must be at least 1")
