"""The policies that a run has kept: of the hand-over, of its last and of its best evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from enoto_jax import core
from enoto_jax.recipes import registry
from enoto_jax.recipes.recipe import Built, build
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.folder import config_of
from enoto_jax.runs.streams import stream
from enoto_jax.runs.templates import abstract, template
from enoto_jax.transforms import Transform
from enoto_jax.types import InputError, Spec

KINDS = ("last", "best", "before")


class Kept(NamedTuple):
    """One seed of a checkpoint, as far as acting goes.

    Attributes:
      algorithm: whose `mode` acts.
      state: its train state, host arrays.
      transform: between the world's numbers and the agent's.
      kind: which of the run's checkpoints it is from.
      phase: offline or online.
      step: of that phase.
      seed: its number; None: all of the run's.
      config: the run's.
    """

    algorithm: core.Algorithm
    state: core.TrainState
    transform: Transform
    kind: str
    phase: str
    step: int
    seed: int | None
    config: dict[str, Any]


class Policy(NamedTuple):
    """What one seed does.

    Attributes:
      phase: offline or online.
      step: of that phase.
      act: the world's observation [D] -> the deterministic action [A], in the world's numbers.
    """

    phase: str
    step: int
    act: Callable[[np.ndarray], np.ndarray]


def kept(folder: Path, kind: str = "last", seed: int | None = None) -> Kept:
    """What a run's folder keeps of one seed, without its replay.

    Args:
      folder: of the run, or of an Agent.
      kind: "last", "best", or "handover", the end of the offline phase.
      seed: one that the run has trained; its first by default.

    Raises:
      InputError: it has no such checkpoint or seed, or a damaged one.
    """
    config = config_of(folder)
    seed = config["seeds"][0] if seed is None else seed
    _check_seed(folder, config, seed)
    found = kept_seeds(folder, kind)
    row = config["seeds"].index(seed)
    return found._replace(state=jax.tree.map(lambda x: x[row], found.state), seed=seed)


def kept_seeds(folder: Path, kind: str = "last") -> Kept:
    """The same of all seeds: `state` has arrays [S, ...], and `seed` is None.

    Raises:
      InputError: it has no such checkpoint, or a damaged one.
    """
    config = config_of(folder)
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        found = _record(checkpoints, folder, kind)
        transform, built = _built(config, found)
        phase, step = found["phase"], found["step"]
        algorithm = getattr(built, phase)
        shapes = template(lambda: abstract(algorithm), len(config["seeds"]))
        if kind == "last" and phase == "online":
            state = checkpoints.restore_part({"train": shapes})["train"]
        else:
            state = checkpoints.restore(shapes, kind == "handover", kind == "best")
    state = jax.tree.map(np.asarray, state)
    return Kept(algorithm, state, transform, kind, phase, step, None, config)


def load(folder: Path, kind: str, seed: int) -> Policy:
    """A policy of a run.

    Args:
      folder: of the run.
      kind: "last" or "best"; "before": what the online phase started from, which is an untrained
        policy in a row without an offline phase.
      seed: one that the run has trained.

    Raises:
      InputError: it has no such checkpoint or seed, or no environment.
    """
    config = config_of(folder)
    _check_seed(folder, config, seed)
    if config["env"] == "none":
        raise InputError(f"{folder}: was trained without an environment to act in")
    if kind != "before":
        return _policy(kept(folder, kind, seed))
    if registry.from_json(config["recipe"]).offline is not None:
        return _policy(kept(Path(config["restore"] or folder), "handover", seed))
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        transform, built = _built(config, _record(checkpoints, folder, "last"))
    state = built.handover(stream(np.int32(seed), "handover"), None, built.online)
    return _policy(Kept(built.online, state, transform, kind, "online", 0, seed, config))


def _check_seed(folder: Path, config: Mapping[str, Any], seed: int) -> None:
    if seed not in config["seeds"]:
        raise InputError(f"--seed: {folder} trained seeds {config['seeds']}, not {seed}")


def _record(checkpoints: Checkpoints, folder: Path, kind: str) -> dict[str, Any]:
    found = checkpoints.record(kind == "handover", kind == "best")
    if found is None:
        of = {"handover": "of its hand-over", "best": "of an evaluation"}.get(kind, "yet")
        raise InputError(f"{folder} has no checkpoint {of}; train it further, or take another kind")
    return found


def _built(config: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[Transform, Built]:
    """A checkpoint's transform, and the run's recipe for the sizes that it has."""
    transform = Transform.from_json(record["transform"])
    spec = Spec(len(transform.observation_shift), len(transform.action_shift))
    return transform, build(registry.from_json(config["recipe"]), spec)


def _policy(found: Kept) -> Policy:
    mode, state = jax.jit(found.algorithm.mode), jax.device_put(found.state)

    def act(observation: np.ndarray) -> np.ndarray:
        seen = np.float32(found.transform.observation(observation))
        return found.transform.world_action(np.asarray(mode(state, seen)))

    return Policy(found.phase, found.step, act)
