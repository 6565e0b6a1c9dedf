"""What an online phase starts from: another run, the hand-over, and what its data carry besides."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from enoto_jax import core
from enoto_jax.data.returns import returns_to_go
from enoto_jax.recipes.recipe import Built
from enoto_jax.runs import files
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.training.seeds import SeedMap, stream
from enoto_jax.transforms import Transform
from enoto_jax.types import InputError, Transition


def offline_state(
    folder: Path, algorithm: core.Algorithm, seeds: SeedMap
) -> tuple[core.TrainState, Transform | None]:
    """The offline state of another run, for these seeds, and the transform that it learned under.

    It is the one kept at that run's hand-over; of a run still in its offline phase, the newest.

    Raises:
      InputError: no such checkpoint, or of other seeds or networks.
    """
    have, want = config(folder).get("seeds", []), seeds.seeds.tolist()
    checkpoints = Checkpoints(folder / "checkpoints")
    kept, newest = checkpoints.record(handover=True), checkpoints.record()
    found = kept or newest
    if found is None or found["phase"] != "offline":
        raise InputError(f"--restore: {folder} has no checkpoint of an offline phase")
    if missing := [s for s in want if s not in have]:
        raise InputError(f"--restore: {folder} trained seeds {have}, not {missing}")
    print(f"restored {folder}: offline, {found['step']:,} updates", file=sys.stderr)
    shapes = _zeros(lambda: abstract(algorithm), len(have))
    state = checkpoints.restore(shapes, handover=kept is not None)
    checkpoints.close()
    transform = found.get("transform")
    rows = np.asarray([have.index(s) for s in want])
    state = seeds.put(jax.tree.map(lambda x: np.asarray(x)[rows], state))
    return state, transform and Transform.from_json(transform)


def moved(folder: Path, now: Mapping[str, Any]) -> str:
    """What a run computes with that is not what it began with: "jax 0.10.2, now 0.12.0", or ""."""
    then = config(folder) if (folder / "config.json").exists() else {}
    old, new = ({**c.get("versions", {}), "device": c.get("device")} for c in (then, now))
    names = [name for name in new if old.get(name) not in (None, new[name])]
    return "; ".join(f"{name} {old[name]}, now {new[name]}" for name in names)


def hand_over(built: Built, begin: Callable, seeds: SeedMap, before: core.TrainState | None) -> Any:
    """The online phase's start, on the devices, from the offline phase's end (None without one)."""

    def start(seed, state):
        return begin(built.handover(stream(seed, "handover"), state, built.online), seed)

    return seeds.compile(start, once=True)(seeds.put(seeds.seeds), before)


def extras(
    algorithm: core.Algorithm, data: Transition, seeds: SeedMap, stored: bool
) -> dict[str, Any]:
    """What batches of the data set carry beside its transitions (host arrays [M, ...]).

    Args:
      algorithm: asks for returns-to-go or not.
      data: as the agent sees it.
      seeds: whose devices share the result.
      stored: whether the rows are drawn beside new transitions, which have bootstrap masks.
    """
    found = {}
    if stored and algorithm.exploration.masks:
        found["mask"] = np.ones((len(data.reward), algorithm.critics), np.float32)
    if algorithm.monte_carlo is not None:
        found["mc_return"] = returns_to_go(data, *algorithm.monte_carlo)
    return seeds.share(found)


def abstract(algorithm: core.Algorithm) -> core.TrainState:
    """A state of one seed; only its shapes are meant."""
    return core.init(algorithm, jax.random.key(0))


def template(make: Callable[[], Any], seeds: SeedMap) -> Any:
    """Zeros [S, ...], of all hosts, shaped as `make` returns for one seed, without computing it."""
    return _zeros(make, len(seeds.all))


def _zeros(make: Callable[[], Any], count: int) -> Any:
    shapes = jax.eval_shape(make)
    return jax.tree.map(lambda x: np.zeros((count, *x.shape), x.dtype), shapes)


def config(folder: Path) -> dict[str, Any]:
    """A run's config.json.

    Raises:
      InputError: it cannot be read.
    """
    return files.read_config(folder / "config.json")
