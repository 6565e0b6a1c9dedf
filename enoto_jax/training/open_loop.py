"""Chunks executed in open loop: chosen once, then taken action by action."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from enoto_jax.types import Array, Chunk


class Waiting(NamedTuple):
    """A chunk that is being executed.

    Attributes:
      actions: The whole chunk, [h, A].
      begun: The environment step of its first action.
    """

    actions: Array
    begun: Array


def empty(chunk: Chunk, action_size: int) -> Waiting:
    """Return a finished chunk, so that nothing waits."""
    return Waiting(jnp.zeros((chunk.length, action_size)), jnp.int32(-chunk.length))


def following(waiting: Waiting, chosen: Array, starts: Array, t: Array) -> tuple[Waiting, Array]:
    """Return the chunk from environment step t on, and the action [A] of that step.

    Args:
      waiting: The current chunk.
      chosen: A new chunk [h * A], which begins at t if the current one is finished.
      starts: Whether an episode begins; the current chunk is then dropped.
      t: The environment step; the same step again gives the same action.
    """
    due = starts | (t - waiting.begun >= len(waiting.actions))
    actions = jnp.where(due, chosen.reshape(waiting.actions.shape), waiting.actions)
    begun = jnp.where(due, t, waiting.begun)
    return Waiting(actions, begun), jnp.take(actions, t - begun, axis=0)
