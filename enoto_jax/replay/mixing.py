"""Where online batches come from: the new transitions, the data set, or both in exact numbers."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from enoto_jax.replay import ring
from enoto_jax.types import Array, InputError, Key, MonteCarlo, Transition, Unit


class Stored(NamedTuple):
    """What a seed's replay holds.

    Attributes:
      ring: New transitions [capacity, ...].
      own: The replay's own state (priorities, where an episode began); () for most.
    """

    ring: Transition
    own: Any = ()


class Replay(Unit):
    """A rule for drawing batches from the ring of new transitions and the resident data set.

    The data set is one read-only array for all seeds; only `Stored` belongs to a seed.

    Attributes:
      needs_data: Whether the data set must be resident during the online phase.
      returns: Whether batches also have returns-to-go for new transitions.
      prioritised: Whether batches are drawn by priorities that the algorithm computes; see
        `feedback`.
    """

    needs_data = True
    returns = False
    prioritised = False

    capacity: Annotated[int, "new transitions kept; the oldest is dropped first."] = 1_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rows("replay: capacity", self.capacity)

    def sample(
        self, stored: Stored, data: Transition | None, key: Key, batch_size: int, inserted: Array
    ) -> Transition:
        """Draw a batch, after `inserted` transitions."""
        raise NotImplementedError

    def start(self, rows: int) -> Any:
        """Return the replay's own state at the start, next to a data set of `rows` rows."""
        return ()

    def insert(
        self, stored: Stored, transition: Transition, count: Array, monte_carlo: MonteCarlo | None
    ) -> Stored:
        """Store a transition; `count` includes it.

        A transition that comes again with the same count (after a resume) is not stored or counted
        twice.
        """
        # Call 0 has no transition yet; the row that it writes is overwritten by the first one.
        position = jnp.maximum(count - 1, 0)
        return stored._replace(ring=ring.insert(stored.ring, transition, position))

    def feedback(self, stored: Stored, batch: Transition, priorities: Array) -> Any:
        """Return the replay's own state after the algorithm has set a batch's priorities [B]."""
        raise NotImplementedError


def _check_rows(what: str, count: int) -> None:
    """Refuse a number of rows that, added to another one, does not fit into int32."""
    if not 1 <= count <= 1 << 30:
        raise InputError(f"{what} is {count}; it must be 1 to {1 << 30}")


class online_only(Replay):
    """Only new transitions: the data set is dropped at the hand-over (ENOTO section 2)."""

    needs_data = False

    def sample(self, stored, data, key, batch_size, inserted):
        return ring.sample(stored.ring, key, batch_size, jnp.minimum(inserted, self.capacity))


class append(Replay):
    """Uniform over data set and new transitions together (IQL, AWAC), without copying either.

    The larger the data set, the longer it takes until new transitions matter: with a million rows,
    one row in a hundred is new after 10,000 steps. With `counts_as` = W, a fraction n / (n + W) of
    each batch is new after n steps, whatever the size of the data set.
    """

    counts_as: Annotated[
        int | None, "how many transitions the data set counts as; None: as many as it has."
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.counts_as is not None:
            _check_rows(f"{self.name}: counts_as", self.counts_as)

    def sample(self, stored, data, key, batch_size, inserted):
        known, new = data.reward.shape[0], jnp.minimum(inserted, self.capacity)
        if self.counts_as is None:
            rows = jax.random.randint(key, (batch_size,), 0, known + new)
            return ring.pick(data, stored.ring, rows)
        key, old_key = jax.random.split(key)
        drawn = jax.random.randint(key, (batch_size,), -self.counts_as, new)
        old = jax.random.randint(old_key, (batch_size,), 0, known)
        return ring.pick(data, stored.ring, jnp.where(drawn < 0, old, known + drawn))


class mixed(Replay):
    """Exactly round(fraction * B) rows of every batch from the data set, the rest new (RLPD)."""

    fraction: Annotated[float, "fraction of the batch that comes from the data set, 0 to 1."] = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.fraction <= 1.0:
            raise InputError(
                f"{self.name}: fraction is {self.fraction}; it must lie between 0 and 1"
            )

    def sample(self, stored, data, key, batch_size, inserted):
        old_key, new_key = jax.random.split(key)
        old, new = self.counts(batch_size)
        return joined(
            ring.sample(data, old_key, old, jnp.int32(data.reward.shape[0])),
            ring.sample(stored.ring, new_key, new, jnp.minimum(inserted, self.capacity)),
        )

    def counts(self, batch_size: int) -> tuple[int, int]:
        """Return how many rows of a batch come from the data set and from the ring."""
        old = round(self.fraction * batch_size)
        return old, batch_size - old


def joined(*batches: Transition) -> Transition:
    """Join several batches into one."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches)
