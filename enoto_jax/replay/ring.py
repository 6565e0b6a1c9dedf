"""A ring buffer of transitions: fixed capacity, oldest first out, one write per step.

The cursor is not part of a seed's state: all seeds insert at the same step, so `position` is one
number for all of them, and an insert stays one in-place slice write under vmap.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from enoto_jax.types import Array, Key, Transition


def empty(example: Transition, capacity: int) -> Transition:
    """Return storage [capacity, ...] for transitions shaped like `example` (no leading axis)."""
    return jax.tree.map(lambda x: jnp.zeros((capacity, *jnp.shape(x)), x.dtype), example)


def insert(storage: Transition, transition: Transition, position: Array) -> Transition:
    """Write the transition of insert number `position` (0-based, always increasing)."""
    capacity = storage.reward.shape[0]
    return jax.tree.map(
        lambda s, x: jax.lax.dynamic_update_index_in_dim(s, x, position % capacity, 0),
        storage,
        transition,
    )


def pick(data: Transition, storage: Transition, rows: Array) -> Transition:
    """Return rows [B] of the data set followed by the ring, without joining the two."""
    known = data.reward.shape[0]

    def take(old: Array, new: Array) -> Array:
        is_old = (rows < known).reshape(-1, *(1,) * (old.ndim - 1))
        from_old = jnp.take(old, rows, axis=0, mode="clip")
        return jnp.where(is_old, from_old, jnp.take(new, rows - known, axis=0, mode="clip"))

    return jax.tree.map(take, data, storage)


def sample(storage: Transition, key: Key, count: int, size: Array) -> Transition:
    """Draw `count` transitions uniformly, with replacement, from the first `size` rows."""
    rows = jax.random.randint(key, (count,), 0, size)
    return jax.tree.map(lambda x: jnp.take(x, rows, axis=0, mode="clip"), storage)
