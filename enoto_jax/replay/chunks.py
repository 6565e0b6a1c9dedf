"""Batches of chunks: h consecutive steps as one transition (Li et al. 2025, Q-chunking).

A chunk may begin at any row. It stops at the end of an episode, at the newest row of the ring and
at the last row of the data set; positions after that are not valid.
"""

from __future__ import annotations

from typing import Annotated

import jax
import jax.numpy as jnp

from enoto_jax.replay import ring
from enoto_jax.replay.mixing import Replay, Stored
from enoto_jax.types import Array, Chunk, Key, Transition


def numbered(first: int, count: int) -> Transition:
    """Return row numbers in place of rewards, so that sampling from this samples row numbers."""
    return Transition(None, None, first + jnp.arange(count), None, None, None)


def sample(data: Transition, key: Key, count: int, size: Array, chunk: Chunk | None) -> Transition:
    """Draw `count` chunks from the data set, or transitions without a `chunk`."""
    if chunk is None:
        return ring.sample(data, key, count, size)
    known = data.reward.shape[0]
    rows = ring.sample(numbered(0, known), key, count, size).reward
    rows = rows[:, None] + jnp.arange(chunk.length)
    steps = jax.tree.map(lambda x: jnp.take(x, rows, axis=0, mode="clip"), data)
    return joined(steps, steps.extras["ends"], chunk)


def joined(steps: Transition, ends: Array, chunk: Chunk) -> Transition:
    """Join the h steps of each chunk [B] into one transition.

    The reward is the discounted sum up to the first terminal step, or over all h steps. The next
    observation is the last step's. The transition is terminated if one of the steps is terminal.

    Args:
      steps: Steps [B, h, ...]; those after an end may be anything.
      ends: Whether the recording ends after a step, [B, h].
      chunk: The kind of chunk, with its discount.

    Returns:
      Transitions with actions [B, h * A] and the extras "valid" [B, h] (the step belongs to the
      recording in which the chunk begins), "learns" [B] (critics may learn from it), both 0 or 1,
      and the first step's own. With `chunk.single`, the action is the first step's [B, A], and
      there is no "valid".
    """

    def before(flags: Array) -> Array:  # 1 if no earlier step has the flag
        none = jnp.cumprod(1.0 - flags, axis=1)
        return jnp.concatenate([jnp.ones_like(none[:, :1]), none[:, :-1]], axis=1)

    valid = before(ends)
    over = valid * steps.terminated
    earned = valid * before(over) * chunk.discount ** jnp.arange(chunk.length)
    terminated = jnp.any(over > 0.0, axis=1)
    learns = valid[:, -1]
    if not chunk.whole:
        learns = jnp.maximum(learns, terminated)
    own = {name: x[:, 0] for name, x in steps.extras.items() if name != "ends"}
    acted = steps.action[:, :1] if chunk.single else steps.action
    if not chunk.single:
        own["valid"] = valid
    return Transition(
        observation=steps.observation[:, 0],
        action=acted.reshape(len(valid), -1),
        reward=jnp.sum(earned * steps.reward, axis=1),
        terminated=terminated,
        truncated=steps.truncated[:, -1] & ~terminated,
        next_observation=steps.next_observation[:, -1],
        extras={**own, "learns": learns},
    )


class Chunked(Replay):
    """Chunks that begin at the transitions that another replay draws."""

    starts: Annotated[Replay, "replay that draws the first steps."]
    chunk: Annotated[Chunk, "kind of chunk, with its discount."]

    @property
    def needs_data(self) -> bool:  # type: ignore[override]
        return self.starts.needs_data

    def start(self, rows):
        return self.starts.start(rows)

    def insert(self, stored, transition, count, monte_carlo):
        return self.starts.insert(stored, transition, count, monte_carlo)

    def sample(self, stored, data, key, batch_size, inserted):
        known = 0 if data is None else data.reward.shape[0]
        drawn = Stored(numbered(known, self.capacity), stored.own)
        rows = numbered(0, known)
        first = self.starts.sample(drawn, rows, key, batch_size, inserted).reward[:, None]
        after = jnp.arange(self.chunk.length)
        is_new = first >= known
        # In the ring, nothing follows the newest row, whatever is still written there.
        place = (first - known + after) % self.capacity
        newest = (inserted - 1) % self.capacity
        rows = jnp.where(is_new, place, first + after)
        steps, ends = self._steps(stored.ring, data, rows, is_new)
        return joined(steps, ends | (is_new & (place == newest)), self.chunk)

    def _steps(self, new: Transition, data: Transition | None, rows: Array, is_new: Array):
        """Return steps [B, h, ...] of the ring or the data set, and which end a recording."""

        def take(of: Transition) -> Transition:
            return jax.tree.map(lambda x: jnp.take(x, rows, axis=0, mode="clip"), of)

        steps = take(new)
        ends = steps.terminated | steps.truncated
        if data is None:
            return steps, ends
        old_ends = jnp.take(data.extras["ends"], rows, axis=0, mode="clip")
        old = take(data._replace(extras={k: data.extras[k] for k in new.extras}))

        def choose(x: Array, y: Array) -> Array:
            return jnp.where(is_new.reshape(-1, *(1,) * (x.ndim - 1)), x, y)

        return jax.tree.map(choose, steps, old), choose(ends, old_ends)
