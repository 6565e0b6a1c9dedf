"""Where online batches come from: the new transitions, the data set, or both in exact numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from enoto_jax.replay import ring
from enoto_jax.types import Array, InputError, Key, Transition


class Replay(NamedTuple):
    """A policy over the ring of new transitions and the resident data set.

    The data set is one read-only array for all seeds; only the ring belongs to a seed.

    Attributes:
      sample: (ring, data or None, key, batch size, inserted so far) -> batch.
      counts: batch size -> (from the data set, from the ring); None: drawn from their union.
      capacity: transitions that the ring holds.
      needs_data: the data set must be resident during the online phase.
    """

    sample: Callable[[Transition, Transition | None, Key, int, Array], Transition]
    counts: Callable[[int], tuple[int, int] | None]
    capacity: int
    needs_data: bool


def online_only(*, capacity: int = 1_000_000) -> Replay:
    """New transitions alone: the data set is dropped at the switch (ENOTO section 2).

    Args:
      capacity: transitions kept; the oldest leaves first.
    """

    def sample(storage, data, key, batch_size, inserted):
        del data
        return ring.sample(storage, key, batch_size, jnp.minimum(inserted, capacity))

    return Replay(sample, lambda b: (0, b), _checked(capacity), needs_data=False)


def append(*, capacity: int = 1_000_000) -> Replay:
    """Uniform over data set and new transitions together (IQL, AWAC), neither copied.

    Args:
      capacity: new transitions kept; the data set is never overwritten.
    """

    def sample(storage, data, key, batch_size, inserted):
        known = data.reward.shape[0]
        rows = jax.random.randint(key, (batch_size,), 0, known + jnp.minimum(inserted, capacity))

        def pick(old: Array, new: Array) -> Array:
            is_old = (rows < known).reshape(-1, *(1,) * (old.ndim - 1))
            from_old = jnp.take(old, rows, axis=0, mode="clip")
            return jnp.where(is_old, from_old, jnp.take(new, rows - known, axis=0, mode="clip"))

        return jax.tree.map(pick, data, storage)

    return Replay(sample, lambda b: None, _checked(capacity), needs_data=True)


def mixed(*, fraction: float = 0.5, capacity: int = 1_000_000) -> Replay:
    """Exactly round(fraction * B) rows of every batch from the data set, the rest new (RLPD).

    Args:
      fraction: of the batch that comes from the data set, 0 to 1.
      capacity: new transitions kept; the oldest leaves first.
    """
    if not 0.0 <= fraction <= 1.0:
        raise InputError(f"mixed: fraction is {fraction}; it must lie between 0 and 1")

    def counts(batch_size: int) -> tuple[int, int]:
        old = round(fraction * batch_size)
        return old, batch_size - old

    def sample(storage, data, key, batch_size, inserted):
        old_key, new_key = jax.random.split(key)
        old, new = counts(batch_size)
        return jax.tree.map(
            lambda *parts: jnp.concatenate(parts),
            ring.sample(data, old_key, old, jnp.int32(data.reward.shape[0])),
            ring.sample(storage, new_key, new, jnp.minimum(inserted, capacity)),
        )

    return Replay(sample, counts, _checked(capacity), needs_data=True)


def _checked(capacity: int) -> int:
    if capacity < 1:
        raise InputError(f"replay: capacity is {capacity}; it must be at least 1")
    return capacity
