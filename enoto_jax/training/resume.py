"""What an online phase starts from: another run, the hand-over, and the data's extra columns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from enoto_jax import core
from enoto_jax.data.returns import ends, next_actions, returns_to_go
from enoto_jax.recipes import plugins, recipe, units
from enoto_jax.recipes.recipe import Built
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.folder import config_of
from enoto_jax.runs.streams import stream
from enoto_jax.runs.templates import abstract, template
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import FitTransform, Transform
from enoto_jax.types import InputError, Transition, plural


class Restored(NamedTuple):
    """The offline state that a run starts from, as another run has kept it.

    Attributes:
      folder: The run that has it.
      kind: Where it is: "handover", or "latest" if that run is still offline.
      step: How many updates it has made.
      transform: The transform that it was trained with; None in runs of older versions.
      seeds: The seeds of that run.
    """

    folder: Path
    kind: str
    step: int
    transform: Transform | None
    seeds: list[int]

    def state(self, algorithm: core.Algorithm, seeds: SeedMap) -> core.TrainState:
        """Read the state of these seeds, and return it on the devices.

        Raises:
          InputError: It is damaged, or its networks differ.
        """
        print(f"restored {self.folder}: offline, {plural(self.step, 'update')}", file=sys.stderr)
        shapes = template(lambda: abstract(algorithm), len(self.seeds))
        with closing(Checkpoints(self.folder / "checkpoints")) as checkpoints:
            state = checkpoints.restore(shapes, self.kind)
        rows = np.asarray([self.seeds.index(seed) for seed in seeds.seeds.tolist()])
        return seeds.put(jax.tree.map(lambda x: np.asarray(x)[rows], state))


def restored(folder: Path, seeds: Sequence[int]) -> Restored:
    """Return what a folder has for these seeds, without reading its arrays.

    Raises:
      InputError: It has no checkpoint of an offline phase, or not all of the seeds.
    """
    have = config_of(folder).get("seeds", [])
    with closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        kept, newest = checkpoints.record("handover"), checkpoints.record()
    found = kept or newest
    if found is None or found["phase"] != "offline":
        raise InputError(f"--restore: {folder} has no checkpoint of an offline phase")
    if missing := [seed for seed in seeds if seed not in have]:
        raise InputError(f"--restore: {folder} trained seeds {have}, not {missing}")
    transform = found.get("transform") and Transform.from_json(found["transform"])
    return Restored(folder, "handover" if kept else "latest", found["step"], transform, have)


def check_transform(folder: Path, mine: FitTransform) -> None:
    """Refuse a transform other than the restored run's: its networks and its data share that one.

    Raises:
      InputError: An option differs; the message gives the restored run's.
    """
    theirs = mine
    with suppress(InputError, KeyError):  # of another version, or no run: reported later
        theirs = plugins.recipe_of(config_of(folder), str(folder)).transform
    if theirs != mine:
        now = {path: value for path, value, _ in units.leaves(mine)}
        wanted = [] if theirs.name == mine.name else [f"transform={theirs.name}"]
        wanted += [f"transform.{p}={v}" for p, v, _ in units.leaves(theirs) if now.get(p) != v]
        raise InputError(
            f"--restore: {folder} was trained with another transform, which this run must keep: "
            f"give {' '.join(f'--set={x}' for x in wanted)} (in Python: override)"
        )


def hand_over(
    built: Built,
    begin: Callable,
    seeds: SeedMap,
    before: core.TrainState | None,
    data: Transition | None,
) -> Any:
    """Return the state in which the online phase starts, on the devices.

    Args:
      built: The recipe's units.
      begin: See online.begin.
      seeds: The seeds to start.
      before: The state at the end of the offline phase; None without one.
      data: The data set on the devices, for hand-overs that need it.
    """
    learns = built.handover.needs_data
    data = data._replace(extras={}) if learns and data is not None else None

    def start(seed, state, data):
        return begin(recipe.hand_over(built, stream(seed, "handover"), state, data), seed)

    program = seeds.compile(start, shared=(2,), long=learns, once=not learns)
    return program(seeds.put(seeds.seeds), before, data)


def extras(
    algorithm: core.Algorithm, data: Transition, seeds: SeedMap, stored: bool
) -> dict[str, Any]:
    """Return the extra columns [M, ...] of the data set's batches, on the devices.

    Args:
      algorithm: Determines whether returns-to-go, next actions and ends are needed.
      data: Host arrays [M, ...], as the agent sees them.
      seeds: The seeds whose devices share the result.
      stored: Whether the rows are mixed with new transitions, which have bootstrap masks.
    """
    found = {}
    if stored and algorithm.exploration.masks:
        found["mask"] = np.ones((len(data.reward), algorithm.critics), np.float32)
    if algorithm.monte_carlo is not None:
        found["mc_return"] = returns_to_go(data, *algorithm.monte_carlo)
    if algorithm.next_actions:
        found["next_action"] = next_actions(data)
    if algorithm.chunk is not None:
        found["ends"] = ends(data)
    return seeds.share(found)
