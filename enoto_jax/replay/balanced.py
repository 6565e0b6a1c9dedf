"""Balanced replay (Lee et al. 2021): data set and new transitions, prioritised together."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from enoto_jax.replay import ring, sum_tree
from enoto_jax.replay.mixing import Replay
from enoto_jax.types import Array, InputError, check_positive


class Balance(NamedTuple):
    """The priorities of all rows.

    Attributes:
      levels: Priorities of the ring's rows, then of the data set's, as a tree of sums.
      largest: The largest priority so far, which a new transition gets.
      inserted: How many transitions have been inserted.
    """

    levels: sum_tree.Levels
    largest: Array
    inserted: Array


class balanced(Replay):
    """Sample rows in proportion to priorities that the algorithm updates after every batch.

    The data set starts with priority 1. New transitions get the largest priority so far, initially
    P0 = rows f / ((1 - f) first), so that after `first` new transitions a fraction f of the samples
    is new. There are no importance weights. A batch has the extras "row", and "offline" and
    "online": two more batches, sampled uniformly from the data set and from the ring, for the
    density ratio.
    """

    prioritised = True

    online_fraction: Annotated[
        float, "f, fraction of new transitions in a batch once `first` are stored; between 0 and 1."
    ] = 0.5
    first: Annotated[int, "number of new transitions after which their fraction is f."] = 1_000
    capacity: Annotated[int, "new transitions kept; the oldest is dropped first."] = 250_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.online_fraction < 1.0:
            raise InputError(
                f"balanced: online_fraction is {self.online_fraction}; it must be above 0 and "
                "below 1"
            )
        check_positive("balanced: first", self.first)

    def start(self, rows):
        largest = rows * self.online_fraction / ((1.0 - self.online_fraction) * self.first)
        empty, known = jnp.zeros(self.capacity, jnp.float32), jnp.ones(rows, jnp.float32)
        return Balance(
            levels=sum_tree.build(jnp.concatenate([empty, known])),
            largest=jnp.float32(largest),
            inserted=jnp.int32(0),
        )

    def insert(self, stored, transition, count, monte_carlo):
        own, position = stored.own, jnp.maximum(count - 1, 0)
        row = (position % self.capacity)[None]
        new = count == own.inserted + 1
        priority = jnp.where(new, own.largest, sum_tree.get(own.levels, row))
        after = Balance(
            levels=sum_tree.put(own.levels, row, priority),
            largest=own.largest,
            inserted=jnp.maximum(count, own.inserted),
        )
        return stored._replace(ring=ring.insert(stored.ring, transition, position), own=after)

    def sample(self, stored, data, key, batch_size, inserted):
        row_key, old_key, new_key = jax.random.split(key, 3)
        rows = sum_tree.draw(stored.own.levels, row_key, batch_size)
        known = data.reward.shape[0]
        # The ring's rows come first in the priorities, and last here.
        batch = ring.pick(data, stored.ring, (rows - self.capacity) % (known + self.capacity))
        written = jnp.minimum(inserted, self.capacity)
        extras = {
            "row": rows,
            "offline": ring.sample(data, old_key, batch_size, jnp.int32(known)),
            "online": ring.sample(stored.ring, new_key, batch_size, written),
        }
        return batch._replace(extras={**batch.extras, **extras})

    def feedback(self, stored, batch, priorities):
        own = stored.own
        return own._replace(
            levels=sum_tree.put(own.levels, batch.extras["row"], priorities),
            largest=jnp.maximum(own.largest, jnp.max(priorities)),
        )
