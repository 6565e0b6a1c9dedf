"""Where online batches come from: the new transitions, the data set, or both in exact numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from enoto_jax.replay import ring
from enoto_jax.types import Array, InputError, Key, MonteCarlo, Transition


class Stored(NamedTuple):
    """What a seed's replay holds.

    Attributes:
      ring: new transitions [capacity, ...].
      own: the policy's own state (priorities, where an episode began); () for most.
    """

    ring: Transition
    own: Any = ()


def _insert(
    stored: Stored, transition: Transition, count: Array, monte_carlo: MonteCarlo | None
) -> Stored:
    del monte_carlo
    # Before the first transition there is none: what is written then is overwritten by the first.
    return stored._replace(ring=ring.insert(stored.ring, transition, jnp.maximum(count - 1, 0)))


class Replay(NamedTuple):
    """A policy over the ring of new transitions and the resident data set.

    The data set is one read-only array for all seeds; only what is `Stored` belongs to a seed.

    Attributes:
      sample: (stored, data or None, key, batch size, inserted so far) -> batch.
      counts: batch size -> (from the data set, from the ring); None: drawn from their union.
      capacity: transitions that the ring holds.
      needs_data: the data set must be resident during the online phase.
      start: rows of the data set (0 without) -> the policy's own state.
      insert: (stored, transition, count with it, MonteCarlo or None) -> stored; a transition that
        comes again with the same count (after a resume) is not stored or counted twice.
      feedback: (stored, batch, priorities [B] from the algorithm) -> the own state, or None.
      returns: batches carry returns-to-go of new transitions too.
    """

    sample: Callable[[Stored, Transition | None, Key, int, Array], Transition]
    counts: Callable[[int], tuple[int, int] | None]
    capacity: int
    needs_data: bool
    start: Callable[[int], Any] = lambda rows: ()
    insert: Callable[[Stored, Transition, Array, MonteCarlo | None], Stored] = _insert
    feedback: Callable[[Stored, Transition, Array], Any] | None = None
    returns: bool = False


def online_only(*, capacity: int = 1_000_000) -> Replay:
    """New transitions alone: the data set is dropped at the switch (ENOTO section 2).

    Args:
      capacity: transitions kept; the oldest leaves first.
    """

    def sample(stored, data, key, batch_size, inserted):
        del data
        return ring.sample(stored.ring, key, batch_size, jnp.minimum(inserted, capacity))

    return Replay(sample, lambda b: (0, b), checked(capacity), needs_data=False)


def append(*, capacity: int = 1_000_000) -> Replay:
    """Uniform over data set and new transitions together (IQL, AWAC), neither copied.

    Args:
      capacity: new transitions kept; the data set is never overwritten.
    """

    def sample(stored, data, key, batch_size, inserted):
        known = data.reward.shape[0]
        rows = jax.random.randint(key, (batch_size,), 0, known + jnp.minimum(inserted, capacity))
        return ring.pick(data, stored.ring, rows)

    return Replay(sample, lambda b: None, checked(capacity), needs_data=True)


def mixed(*, fraction: float = 0.5, capacity: int = 1_000_000) -> Replay:
    """Exactly round(fraction * B) rows of every batch from the data set, the rest new (RLPD).

    Args:
      fraction: of the batch that comes from the data set, 0 to 1.
      capacity: new transitions kept; the oldest leaves first.
    """
    counts = shares("mixed", fraction)

    def sample(stored, data, key, batch_size, inserted):
        old_key, new_key = jax.random.split(key)
        old, new = counts(batch_size)
        return joined(
            ring.sample(data, old_key, old, jnp.int32(data.reward.shape[0])),
            ring.sample(stored.ring, new_key, new, jnp.minimum(inserted, capacity)),
        )

    return Replay(sample, counts, checked(capacity), needs_data=True)


def shares(unit: str, fraction: float) -> Callable[[int], tuple[int, int]]:
    """Batch size -> exact counts (from the data set, new)."""
    if not 0.0 <= fraction <= 1.0:
        raise InputError(f"{unit}: fraction is {fraction}; it must lie between 0 and 1")

    def counts(batch_size: int) -> tuple[int, int]:
        old = round(fraction * batch_size)
        return old, batch_size - old

    return counts


def joined(*batches: Transition) -> Transition:
    """One batch of several."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches)


def checked(capacity: int) -> int:
    """The capacity, if it is one."""
    if not 1 <= capacity <= 1 << 30:  # rows, with those of a data set, are counted in int32
        raise InputError(f"replay: capacity is {capacity}; it must be 1 to {1 << 30}")
    return capacity
