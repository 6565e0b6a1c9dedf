"""The policies that a run has kept: of the hand-over, of its last and of its best evaluation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from enoto_jax import core, registry
from enoto_jax.checkpoint import Checkpoints
from enoto_jax.data.transforms import Transform
from enoto_jax.envs.gym import make_env, spec_of
from enoto_jax.recipes import build
from enoto_jax.train import restoring
from enoto_jax.train.seeds import SeedMap, stream
from enoto_jax.types import InputError

KINDS = ("last", "best", "before")


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
    config = restoring.config(folder)
    if seed not in config["seeds"]:
        raise InputError(f"--seed: {folder} trained seeds {config['seeds']}, not {seed}")
    if config["env"] == "none":
        raise InputError(f"{folder}: was trained without an environment to act in")
    with contextlib.closing(make_env(config["env"])) as env:
        spec = spec_of(env)
    built = build(registry.from_json(config["recipe"]), spec)
    scratch = kind == "before" and built.offline is None
    if kind == "before" and config["restore"]:
        folder = Path(config["restore"])
        config = restoring.config(folder)
    index, seeds = config["seeds"].index(seed), SeedMap(config["seeds"], jax.local_devices()[:1])
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        found = _record(checkpoints, folder, "last" if scratch else kind)
        if scratch:
            state = built.handover(stream(np.int32(seed), "handover"), None, built.online)
            return _policy(built.online, state, {**found, "phase": "online", "step": 0})
        algorithm = getattr(built, found["phase"])
        template = restoring.template(lambda: restoring.abstract(algorithm), seeds)
        if kind == "last" and found["phase"] == "online":
            state = checkpoints.restore_part({"train": template})["train"]
        else:
            state = checkpoints.restore(template, kind == "before", kind == "best")
    return _policy(algorithm, jax.tree.map(lambda x: x[index], state), found)


def _record(checkpoints: Checkpoints, folder: Path, kind: str) -> dict:
    found = checkpoints.record(kind == "before", kind == "best")
    if found is None:
        which = {"before": "of its hand-over", "best": "of an evaluation"}.get(kind, "yet")
        raise InputError(f"{folder} has no checkpoint {which}; train it further")
    return found


def _policy(algorithm: core.Algorithm, state: core.TrainState, found: dict) -> Policy:
    transform, mode = Transform.from_json(found["transform"]), jax.jit(algorithm.mode)
    state = jax.device_put(state)

    def act(observation: np.ndarray) -> np.ndarray:
        seen = np.float32(transform.observation(observation))
        return transform.world_action(np.asarray(mode(state, seen)))

    return Policy(found["phase"], found["step"], act)
