"""Target rules: how the N target critics' values become the target of the Bellman backup.

A rule maps q [N, B] to [B], or to [N, B] for a separate target per critic. ENOTO section 3.3b
compares min_q, mean_q, rem, random_min_pair and weighted_min_pair; mean_spread has the last and
mean_q as two values of one option.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax.types import Array, InputError, Key, Unit, check_positive, plural


class TargetRule(Unit):
    """Reduces the target critics' values of the next action, and does nothing else."""

    def __call__(self, key: Key, q: Array) -> Array:
        """Reduce q [N, B] to one target for all critics [B], or to one per critic [N, B]."""
        raise NotImplementedError


class min_q(TargetRule):
    """The smallest value (clipped double Q-learning for any N; SAC-N)."""

    def __call__(self, key: Key, q: Array) -> Array:
        return jnp.min(q, axis=0)


class mean_q(TargetRule):
    """The mean over critics."""

    def __call__(self, key: Key, q: Array) -> Array:
        return jnp.mean(q, axis=0)


class first_q(TargetRule):
    """The first critic alone, whose policy gradient TD3 and TD3+BC follow."""

    def __call__(self, key: Key, q: Array) -> Array:
        return q[0]


class rem(TargetRule):
    """Random ensemble mixture (Agarwal et al. 2020): a random convex combination."""

    per_sample: Annotated[
        bool, "draw weights for every transition (REDQ-code) instead of once per batch (REM)."
    ] = False

    def __call__(self, key: Key, q: Array) -> Array:
        shape = q.shape if self.per_sample else (q.shape[0], 1)
        w = jax.random.uniform(key, shape, minval=jnp.finfo(jnp.float32).tiny)  # 0 / 0 if N is 1
        return jnp.sum(w / jnp.sum(w, axis=0) * q, axis=0)


class random_min_pair(TargetRule):
    """The minimum over m distinct critics, drawn once per batch (REDQ, Chen et al. 2021)."""

    m: Annotated[int, "how many critics are drawn, without replacement."] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(f"{self.name}: m", self.m)

    def __call__(self, key: Key, q: Array) -> Array:
        if self.m > q.shape[0]:
            critics = plural(q.shape[0], "critic")
            raise InputError(f"random_min_pair: m is {self.m}, but the ensemble has {critics}")
        drawn = jax.random.choice(key, q.shape[0], (self.m,), replace=False)
        return jnp.min(q[drawn], axis=0)


def weighted_min_pair_weights(n: int) -> np.ndarray:
    """Return weights [N] of ascending values: rank i is the minimum of n - 1 - i of the pairs."""
    return np.arange(n - 1, -1, -1) / (n * (n - 1) / 2)


class weighted_min_pair(TargetRule):
    """The mean over all pairs of critics of the pair's minimum: ENOTO equation 7, closed form.

    It lies between min_q and mean_q, without random_min_pair's noise, and equals min_q when N = 2.
    It takes one sort and one dot product instead of N (N - 1) / 2 minima.
    """

    def __call__(self, key: Key, q: Array) -> Array:
        if q.shape[0] < 2:
            raise InputError("weighted_min_pair needs at least 2 critics, not 1: --num_critics=2")
        weights = jnp.asarray(weighted_min_pair_weights(q.shape[0]), q.dtype)
        return jnp.tensordot(weights, jnp.sort(q, axis=0), axes=1)


class mean_spread(TargetRule):
    """mean + k delta, delta the mean over pairs of critics of |Q_i - Q_j|.

    k = -1/2 is weighted_min_pair, k = 0 mean_q; with two critics k = -1/2 is min_q. delta comes
    from the sorted values: rank i is the larger of i pairs and the smaller of N - 1 - i.
    """

    k: Annotated[float, "weight of the mean pairwise distance; below 0: pessimistic."] = -0.5

    def __call__(self, key: Key, q: Array) -> Array:
        n = q.shape[0]
        if n < 2:
            raise InputError("mean_spread needs at least 2 critics, not 1: --num_critics=2")
        weights = 1.0 / n + self.k * np.arange(1 - n, n, 2) / (n * (n - 1) / 2)
        return jnp.tensordot(jnp.asarray(weights, q.dtype), jnp.sort(q, axis=0), axes=1)


class independent(TargetRule):
    """A separate target for each critic, [N, B]: the minimum of the critic's group."""

    group: Annotated[
        int, "consecutive critics that share one target (2 in balanced replay: 5 pairs)."
    ] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(f"{self.name}: group", self.group)

    def __call__(self, key: Key, q: Array) -> Array:
        minima = jnp.min(_groups(self.name, q, self.group), axis=1)
        return jnp.repeat(minima, self.group, axis=0)


class mean_of_mins(TargetRule):
    """The mean over groups of the group's minimum (the actor's value in balanced replay)."""

    group: Annotated[int, "consecutive critics that form a group."] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(f"{self.name}: group", self.group)

    def __call__(self, key: Key, q: Array) -> Array:
        return jnp.mean(jnp.min(_groups(self.name, q, self.group), axis=1), axis=0)


class mix(TargetRule):
    """k min + (1 - k) max (BCQ, LAPO's `doubleq_min`)."""

    k: Annotated[float, "weight of the minimum."] = 0.7

    def __call__(self, key: Key, q: Array) -> Array:
        return self.k * jnp.min(q, axis=0) + (1.0 - self.k) * jnp.max(q, axis=0)


def _groups(unit: str, q: Array, group: int) -> Array:
    if q.shape[0] % group:
        raise InputError(
            f"{unit}: {plural(q.shape[0], 'critic')} cannot be divided into groups of {group}"
        )
    return q.reshape(-1, group, *q.shape[1:])
