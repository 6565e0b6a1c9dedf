"""Chunks are executed in open loop: chosen once, and then taken action by action."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from enoto_jax.types import Array, Chunk


class Waiting(NamedTuple):
    """A chunk that is being executed.

    Attributes:
      actions: All of it, [h, A].
      begun: The environment step that its first action is of.
    """

    actions: Array
    begun: Array


def empty(chunk: Chunk, action_size: int) -> Waiting:
    """Nothing waits."""
    return Waiting(jnp.zeros((chunk.length, action_size)), jnp.int32(-chunk.length))


def following(waiting: Waiting, chosen: Array, starts: Array, t: Array) -> tuple[Waiting, Array]:
    """What waits from environment step t on, and the action [A] of that step.

    Args:
      waiting: The chunk so far.
      chosen: A new one [h * A], which begins at t where nothing waits.
      starts: An episode begins, and what waits is dropped.
      t: The step; the same one again gives the same action.
    """
    due = starts | (t - waiting.begun >= len(waiting.actions))
    actions = jnp.where(due, chosen.reshape(waiting.actions.shape), waiting.actions)
    begun = jnp.where(due, t, waiting.begun)
    return Waiting(actions, begun), jnp.take(actions, t - begun, axis=0)
