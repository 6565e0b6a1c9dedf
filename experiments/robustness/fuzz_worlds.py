"""Environments, arrays and steps that a Python user passes in, as JSON so that they can be mutated.

Three kinds of input: an environment (spaces, rewards, flags, infos), a data set of arrays in memory
(keys, types, bounds), and what an Agent is given (bounds, observations, actions).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from enoto_jax.data import words
from enoto_jax.data.memory import from_arrays
from enoto_jax.deploy.world import world_of
from enoto_jax.envs.gym import make_env, spec_of
from enoto_jax.envs.rollout import rollout, uniform
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import transform
from enoto_jax.types import InputError, RunError, Spec, Transition
from experiments.robustness import mutations

NAME = "world.json"
TYPES = ("float64", "float16", "int8", "int64", "uint8", "bool", "complex64", "<U3", "object")
KINDS = ("box", "discrete", "dict", "tuple", "text", "none")
NAMES = (*words.MEANING, *words.AMBIGUOUS, "infos", "log_probs", "name ", "")
SUCCESSES = ("success", "is_success", "successes", "goal_achieved", "other")


def _changed(change) -> mutations.Mutation:
    """A mutation that changes the JSON tree."""

    def mutation(path: Path, rng: np.random.Generator) -> None:
        tree = json.loads(path.read_text())
        change(tree, rng)
        path.write_text(json.dumps(tree))

    return mutation


def _pick(rng: np.random.Generator, choices) -> Any:
    return choices[rng.integers(len(choices))]


# Environments.


def make_environment(folder: Path) -> None:
    """Write an environment that every method can be trained in."""
    tree = {
        "observation_space": _box(-10.0, 10.0, [2]),
        "action_space": _box(-1.0, 1.0, [1]),
        "first": [0.0, 0.5],
        "observation": [0.5, -0.5],
        "reward": 0.25,
        "terminated": False,
        "truncated": False,
        "info": {"success": True},
        "steps": 4,
    }
    (folder / NAME).write_text(json.dumps(tree))


def _box(low: float, high: float, shape: list[int]) -> dict[str, Any]:
    return {"kind": "box", "low": low, "high": high, "shape": shape, "dtype": "float32"}


def _other_space(tree: dict, rng: np.random.Generator) -> None:
    space = tree[_pick(rng, ("observation_space", "action_space"))]
    what = _pick(rng, ("kind", "low", "high", "shape", "dtype"))
    choices: dict[str, tuple] = {
        "kind": KINDS,
        "low": (0.0, 1.0, -2.0, float("-inf"), float("nan"), [-1.0], [-1.0, -2.0], 3.0),
        "high": (0.0, -1.0, 2.0, float("inf"), float("nan"), [1.0], [1.0, 2.0], -3.0),
        "shape": ([], [0], [3], [2, 2], [1, 1], [4, 4, 3]),
        "dtype": TYPES[:6],
    }
    space[what] = _pick(rng, choices[what])


def _other_step(tree: dict, rng: np.random.Generator) -> None:
    """Change the form of something that `reset` or `step` returns."""
    what = _pick(rng, ("first", "observation", "reward", "terminated", "truncated", "info"))
    tree[what] = _pick(rng, ([0.5], [[0.5, 0.5]], [1], True, mutations.odd(rng)))


def _other_info(tree: dict, rng: np.random.Generator) -> None:
    tree["info"] = {_pick(rng, SUCCESSES): mutations.odd(rng) for _ in range(3)}


ENVIRONMENT: dict[str, mutations.Mutation] = {
    "spaces": _changed(_other_space),
    "steps": _changed(_other_step),
    "infos": _changed(_other_info),
    "values": mutations.JSON["values"],
}


class Written(gymnasium.Env):
    """The environment that a file describes, which returns whatever the file contains."""

    def __init__(self, path: str):
        self._tree = json.loads(Path(path).read_text())
        self.observation_space = _space(self._tree["observation_space"])
        self.action_space = _space(self._tree["action_space"])
        self._count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        self._count = 0
        return self._tree["first"], {}

    def step(self, action):
        self._count += 1
        names = ("observation", "reward", "terminated", "truncated", "info")
        observation, reward, terminated, truncated, info = (self._tree[name] for name in names)
        ends = truncated or self._count >= self._tree["steps"]
        return observation, reward, terminated, ends, info


def _space(tree: dict[str, Any]) -> Any:
    kind = tree["kind"]
    if kind == "discrete":
        return gymnasium.spaces.Discrete(3)
    if kind == "text":
        return gymnasium.spaces.Text(4)
    if kind == "none":
        return None
    low, high = (np.asarray(tree[k], np.float64) for k in ("low", "high"))
    shape, dtype = tuple(tree["shape"]), np.dtype(tree["dtype"])
    if math.prod(shape) > 1_000_000:  # the environment's own memory is not tested
        raise ValueError(f"too large: {shape}")
    box = gymnasium.spaces.Box(
        np.broadcast_to(low, shape).astype(dtype),
        np.broadcast_to(high, shape).astype(dtype),
        shape,
        dtype.type,
    )
    if kind == "dict":
        return gymnasium.spaces.Dict({"seen": box})
    return gymnasium.spaces.Tuple((box,)) if kind == "tuple" else box


@contextmanager
def _refused() -> Iterator[None]:
    """Count a failure of the environment as a refusal."""
    try:
        yield
    except RunError as error:
        raise InputError(str(error)) from error


def use_environment(folder: Path) -> None:
    """Roll out and evaluate in the environment; check that all numbers returned are finite."""

    def env() -> gymnasium.Env:
        return Written(str(folder / NAME))

    with _refused():
        spec = spec_of(make_env(env))
        made = rollout(env, uniform(spec.action_size), 9, seed=0)
        evaluator = Evaluator(env, 1, SeedMap([0]), transform()(spec, None), max_steps=20)
        found = evaluator(lambda state, seen: np.zeros((1, 1, spec.action_size)), None, 0)
        evaluator.close()
    numbers = (*made.transitions[:6], made.returns, found.returns)
    if not all(np.isfinite(x).all() for x in numbers):
        raise AssertionError("not finite")
    if not all(isinstance(x, np.ndarray) and x.dtype != object for x in numbers):
        raise AssertionError("no numbers")


# Arrays in memory.


def make_arrays(folder: Path) -> None:
    """Write a data set as Python values: one episode terminates and one is truncated."""
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(size=(8, 2)).tolist(),
        "actions": rng.uniform(-1, 1, (8, 1)).tolist(),
        "rewards": rng.normal(size=8).tolist(),
        "terminals": [0, 0, 0, 1, 0, 0, 0, 0],
        "timeouts": [0, 0, 0, 0, 0, 0, 0, 1],
        "next_observations": rng.normal(size=(8, 2)).tolist(),
    }
    types = {key: "bool" if key in ("terminals", "timeouts") else "float32" for key in arrays}
    tree = {"arrays": arrays, "types": types, "options": {}}
    (folder / NAME).write_text(json.dumps(tree))


def _other_key(tree: dict, rng: np.random.Generator) -> None:
    """Put an array under another library's name, once or twice, or remove it."""
    key, other = _pick(rng, list(tree["arrays"])), _pick(rng, NAMES)
    array, kind = tree["arrays"][key], tree["types"][key]
    if rng.integers(3):
        del tree["arrays"][key]
    if rng.integers(4):
        tree["arrays"][other], tree["types"][other] = array, kind


def _other_type(tree: dict, rng: np.random.Generator) -> None:
    tree["types"][_pick(rng, list(tree["types"]))] = _pick(rng, TYPES)


def _bounds(tree: dict, rng: np.random.Generator) -> None:
    """Set bounds of the actions, valid or invalid."""
    good = ((-1.0, 1.0), (-2.0, 2.0), ([-1.0], [3.0]), ("-2", "2"), ("env", None), (0, 1))
    low, high = _pick(rng, good)
    if rng.integers(2):
        low, high = (mutations.odd(rng), high) if rng.integers(2) else (low, mutations.odd(rng))
    tree["options"] |= {"action_low": low, "action_high": high}


ARRAYS: dict[str, mutations.Mutation] = {
    "keys": _changed(_other_key),
    "types": _changed(_other_type),
    "bounds": _changed(_bounds),
    "values": mutations.JSON["values"],
}


def use_arrays(folder: Path) -> None:
    """Load the arrays; check that what is accepted is float32 and finite, actions in [-1, 1]."""
    tree = json.loads((folder / NAME).read_text())
    parts = [tree.get(key) for key in ("arrays", "types", "options")]
    if not all(isinstance(part, dict) for part in parts):
        raise InputError("no arrays")
    arrays, types, options = parts
    arrays = {key: _array(value, types.get(key)) for key, value in arrays.items()}
    arrays.pop("name", None)
    source = from_arrays(name="fuzzed", **{**options, **arrays})
    found = source.load().transitions
    for field in (found.observation, found.action, found.reward, found.next_observation):
        if field.dtype != np.float32 or not np.isfinite(field).all():
            raise AssertionError(f"{field.dtype}, or not finite")
    if np.abs(found.action).max() > 1.0:
        raise AssertionError("actions beyond [-1, 1]")
    if (found.terminated & found.truncated).any():
        raise AssertionError("terminated and truncated at once")


def _array(value: Any, kind: Any) -> Any:
    """The value as an array of this type, or unchanged if it cannot be converted."""
    try:
        with np.errstate(all="ignore"):
            return np.asarray(value, kind)
    except Exception:
        return value


# What an Agent is given.


def make_told(folder: Path) -> None:
    """Write the bounds of a robot's actions, and a step."""
    step = Transition([0.0, 0.5], [1.5], 0.5, False, True, [0.5, 1.0])
    tree = {"low": [-2.0], "high": [2.0], "step": {**step._asdict(), "extras": {}}}
    (folder / NAME).write_text(json.dumps(tree))


def _other_told(tree: dict, rng: np.random.Generator) -> None:
    """Change the form or the size of a value of the step."""
    value = _pick(rng, ([1.5], [[1.5]], [[0.0, 0.5]], [1, 2], 1.5, [True], 1, mutations.odd(rng)))
    tree["step"][_pick(rng, list(tree["step"]))] = value


def _other_bounds(tree: dict, rng: np.random.Generator) -> None:
    value = _pick(rng, (-3, 3.0, [2.5], [-2.5], [[1.0]], [1.0, 2.0], None, mutations.odd(rng)))
    tree[_pick(rng, ("low", "high"))] = value


TOLD: dict[str, mutations.Mutation] = {
    "steps": _changed(_other_told),
    "bounds": _changed(_other_bounds),
    "values": mutations.JSON["values"],
}


def use_told(folder: Path) -> None:
    """Take the step; check that what is accepted has the agent's sizes, is finite and in bounds."""
    tree = json.loads((folder / NAME).read_text())
    if not isinstance(tree, dict) or not isinstance(tree.get("step"), dict):
        raise InputError("no step")
    world = world_of(Spec(2, 1), tree.get("low"), tree.get("high"), None)
    names = Transition._fields
    given = Transition(*(tree["step"].get(name) for name in names))
    taken = world.transition(given)
    for value, shape in zip(taken[:6], ((2,), (1,), (), (), (), (2,)), strict=True):
        if np.shape(value) != shape or not np.isfinite(value).all():
            raise AssertionError(f"{value!r} is not of shape {shape}, or not finite")
    if np.abs(taken.action).max() > 1.0 or (taken.terminated and taken.truncated):
        raise AssertionError(f"{taken}")
    back = world.action(taken.action)
    if not ((world.low - 1e-3 <= back) & (back <= world.high + 1e-3)).all():
        raise AssertionError(f"{back} is beyond the bounds")
