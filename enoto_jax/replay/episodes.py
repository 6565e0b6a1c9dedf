"""Replay of whole episodes: new transitions may be drawn once their episode has ended (Cal-QL)."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from enoto_jax.replay import ring
from enoto_jax.replay.mixing import Stored, joined, mixed
from enoto_jax.types import Array, InputError


class Running(NamedTuple):
    """The running episode, in numbers of transitions since the phase began.

    Attributes:
      begun: The number of its first transition; earlier transitions may be drawn.
      inserted: How many transitions have been inserted.
      sparse: Whether all its rewards were the sparse one.
    """

    begun: Array
    inserted: Array
    sparse: Array


class whole_episodes(mixed):
    """`mixed` over finished episodes, with returns-to-go if the algorithm needs them.

    Cal-QL collects an episode and then does one update for each of its steps; here these updates
    are spread over the steps of the next episode. Until the first episode has ended, batches come
    only from the data set. An episode that is cut off because the run stops is kept as if a time
    limit had ended it.
    """

    returns = True

    longest: Annotated[int, "last steps of an episode that get a return-to-go."] = 1_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest < 1:
            self._refuse()

    def _refuse(self):
        raise InputError(
            f"whole_episodes: longest is {self.longest}; it must be at least 1 and at most the "
            f"capacity, {self.capacity}"
        )

    def start(self, rows):
        if self.longest > self.capacity:  # only here, because options may be replaced one by one
            self._refuse()
        return Running(jnp.int32(0), jnp.int32(0), jnp.bool_(True))

    def insert(self, stored, transition, count, monte_carlo):
        running, position = stored.own, jnp.maximum(count - 1, 0)
        new = count == running.inserted + 1
        # After a resume that began a new episode, the newest transition comes again, truncated.
        ended = transition.terminated | transition.truncated
        sparse = running.sparse
        if monte_carlo is None:
            storage = ring.insert(stored.ring, transition, position)
        else:
            kept = stored.ring.extras["mc_return"][position % self.capacity]
            extras = {**transition.extras, "mc_return": jnp.where(new, 0.0, kept)}
            storage = ring.insert(stored.ring, transition._replace(extras=extras), position)
            returns = storage.extras["mc_return"]
            back = jnp.arange(self.longest)  # 0 is the newest row
            rows = (position - back) % self.capacity
            earned = returns[rows] + monte_carlo.discount**back * transition.reward * new
            if monte_carlo.sparse is not None:
                # Call 0 inserts a placeholder, whose reward says nothing.
                sparse &= (transition.reward == monte_carlo.sparse) | (count == 0)
                for_ever = monte_carlo.sparse / (1.0 - monte_carlo.discount)
                earned = jnp.where(ended & sparse, for_ever, earned)
            rows = jnp.where(back <= position - running.begun, rows, self.capacity)  # else dropped
            returns = returns.at[rows].set(earned, mode="drop")
            storage = storage._replace(extras={**storage.extras, "mc_return": returns})
        own = Running(
            begun=jnp.where(ended, count, running.begun), inserted=count, sparse=ended | sparse
        )
        return Stored(storage, own)

    def sample(self, stored, data, key, batch_size, inserted):
        old_key, new_key, spare_key = jax.random.split(key, 3)
        old, new = self.counts(batch_size)
        known = jnp.int32(data.reward.shape[0])
        begun = stored.own.begun
        whole = jnp.minimum(begun, self.capacity - (inserted - begun))
        rows = (begun - 1 - jax.random.randint(new_key, (new,), 0, whole)) % self.capacity
        fresh = jax.tree.map(lambda x: x[rows], stored.ring)
        spare = ring.sample(data, spare_key, new, known)
        fresh = jax.tree.map(lambda x, y: jnp.where(whole > 0, x, y), fresh, spare)
        return joined(ring.sample(data, old_key, old, known), fresh)
