"""What a seed carries through the online phase, and how it is saved."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import numpy as np

from enoto_jax import core
from enoto_jax.replay import Replay, Stored
from enoto_jax.training.seeds import SeedMap
from enoto_jax.types import Array, Transition


class Online(flax.struct.PyTreeNode):
    """What a seed carries from step to step.

    Attributes:
      train: The train state.
      storage: The replay's storage.
      memory: The exploration rule's memory, for the running episode.
      totals: Sums of the metrics over the updates since they were last read.
      count: How many updates `totals` covers.
    """

    train: core.TrainState
    storage: Stored
    memory: Any
    totals: Any
    count: Array


def cut_off(online: Online, step: int, replay: Replay, seeds: SeedMap) -> Transition:
    """Return the newest stored transition [S, ...], marked as cut off before a new episode.

    Inserting it again with the same count overwrites its row, so that its episode ends there.
    """
    newest = (step - 1) % replay.capacity
    last = jax.tree.map(lambda x: x[:, newest], seeds.get(online.storage.ring))
    return last._replace(extras={}, truncated=~last.terminated)


def saved_template(whole: Online, step: int) -> Online:
    """Return the shapes that `portable` saves at a step, given a template with the whole ring."""
    ring = jax.tree.map(lambda x: x[:, :step], whole.storage.ring)
    return whole.replace(storage=whole.storage._replace(ring=ring))


def portable(online: Online, step: int, seeds: SeedMap) -> Online:
    """Return host arrays to save; of the ring, only the filled part."""
    filled = jax.tree.map(lambda x: np.asarray(x)[:, :step].copy(), online.storage.ring)
    host = seeds.get(
        online.replace(
            storage=online.storage._replace(ring=())  # type: ignore[arg-type]
        )
    )
    return host.replace(storage=host.storage._replace(ring=filled))


def unpack(saved: Online, template: Online) -> Online:
    """Undo `portable`: return host arrays with the ring at its full capacity."""

    def fill(whole, part):
        whole[:, : part.shape[1]] = part
        return whole

    whole = jax.tree.map(fill, template.storage.ring, saved.storage.ring)
    return saved.replace(storage=saved.storage._replace(ring=whole))
