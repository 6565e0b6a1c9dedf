"""Helpers for the integration tests: a tiny environment, its data, and methods cut to its size."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import gymnasium
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from enoto_jax.cli import main
from enoto_jax.data.memory import from_arrays
from enoto_jax.data.source import Source
from enoto_jax.recipes import registry, units
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.table import RECIPES
from enoto_jax.types import InputError, Spec

ROOT = Path(__file__).resolve().parents[1]
SPEED = 0.2  # the distance that Reach-v0's largest action moves the point
LIMIT = 20
REACH = Spec(2, 1)
# What a finished run's folder contains, and nothing else.
RUN_FILES = {
    "config.json",
    "evaluations.csv",
    "metrics.csv",
    "timing.json",
    "checkpoints",
    "summary.json",
    "curve.png",
    "training.png",
}


class Reach(gymnasium.Env):
    """A point on [-1, 1] and a goal; the reward is minus the remaining distance.

    Args:
      bound: Actions are in [-bound, bound], in units of SPEED.
      ends_after: The step at which an episode terminates; None for never.
      ends_within: The distance to the goal at which an episode terminates; 0 for never.
    """

    def __init__(self, bound: float = 1.0, ends_after: int | None = None, ends_within: float = 0.0):
        self.observation_space = gymnasium.spaces.Box(-2.0, 2.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-bound, bound, (1,), np.float32)
        self._ends_after, self._ends_within = ends_after, ends_within

    def _observation(self) -> np.ndarray:
        return np.asarray([self._position, self._goal - self._position], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        self._position, self._goal = self.np_random.uniform(-1.0, 1.0, 2)
        self._steps = 0
        return self._observation(), {}

    def step(self, action):
        self._position = float(np.clip(self._position + SPEED * float(action[0]), -1.0, 1.0))
        self._steps += 1
        distance = abs(self._goal - self._position)
        ends = self._steps == self._ends_after or distance < self._ends_within
        return self._observation(), -distance, ends, False, {}


class Drawn(Reach):
    """Reach that renders the point as a bright column, without MuJoCo."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 50}

    def __init__(self, render_mode: str | None = None):
        super().__init__()
        self.render_mode = render_mode

    def render(self) -> np.ndarray:
        picture = np.zeros((40, 201, 3), np.uint8)
        picture[:, round(100 * (1 + self._position))] = 255
        return picture


if "ReachDrawn-v0" not in gymnasium.registry:
    gymnasium.register("ReachDrawn-v0", Drawn, max_episode_steps=LIMIT)

for _id, _limit, _options in (
    ("Reach-v0", LIMIT, {}),
    ("ReachShort-v0", 5, {}),  # reaches its time limit within a test's few steps
    ("ReachWide-v0", 5, {"bound": 3.0}),  # actions that need rescaling
    ("ReachEnds-v0", 5, {"ends_after": 3}),  # terminates before the time limit
    ("ReachGoal-v0", LIMIT, {"ends_within": 0.1}),  # terminates at the goal
    ("ReachBoth-v0", 5, {"ends_after": 5}),  # terminates exactly at the time limit
):
    if _id not in gymnasium.registry:
        gymnasium.register(_id, Reach, max_episode_steps=_limit, kwargs=_options)


def successor(observation: np.ndarray, action: np.ndarray, bound: float = 1.0) -> np.ndarray:
    """Return Reach's observation [..., 2] after an action [..., 1] in [-1, 1]."""
    position, goal = observation[..., 0], observation.sum(axis=-1)
    position = np.clip(position + SPEED * bound * action[..., 0], -1.0, 1.0)
    return np.stack([position, goal - position], axis=-1)


def reach_data(episodes: int = 10, speed: float = 0.25, noise: float = 0.2, seed: int = 0) -> dict:
    """Return D4RL's arrays from a policy that walks to the goal at a fraction of full speed."""
    rng, env = np.random.default_rng(seed), Reach()
    rows: dict[str, list] = {
        k: [] for k in ("observations", "actions", "rewards", "next_observations")
    }
    for episode in range(episodes):
        observation, _ = env.reset(seed=1000 * seed + episode)
        for _ in range(LIMIT):
            action = speed * np.sign(observation[1:]) + noise * rng.normal(size=1)
            action = np.clip(action, -1.0, 1.0).astype(np.float32)
            following, reward, *_ = env.step(action)
            for key, value in zip(rows, (observation, action, reward, following)):
                rows[key].append(value)
            observation = following
    arrays = {key: np.asarray(value, np.float32) for key, value in rows.items()}
    step = np.arange(len(arrays["rewards"]))
    return {**arrays, "terminals": np.zeros(len(step), bool), "timeouts": (step + 1) % LIMIT == 0}


def reach_source(env_id: str | None = "Reach-v0", reference=None, **how) -> Source:
    """Return `reach_data` as a source, with an environment for evaluations."""
    return from_arrays(**reach_data(**how), name="reach", env_id=env_id, reference=reference)


def tiny(name: str, layers: int = 1, **changes) -> Recipe:
    """Return a method of the table, reduced to tiny networks and a few steps.

    Args:
      name: The method's name.
      layers: Hidden layers per network; each takes a sixth of the compile time.
      changes: Further hyper-parameters; `__` stands for the dot in a path.
    """
    row = RECIPES[name]
    phases = [phase for phase in ("offline", "online") if getattr(row, phase) is not None]
    for phase in phases:
        row = registry.override(row, f"{phase}.batch_size", 8)
        known = {path: value for path, value, _ in units.leaves(getattr(row, phase).algorithm)}
        # A decoder with only 8 ReLUs may ignore its latent.
        width = 16 if "latent_noise" in known else 8
        row = registry.override(row, f"{phase}.algorithm.hidden", (width,) * layers)
        if known.get("n", 0) > 2:
            row = registry.override(row, f"{phase}.algorithm.n", 3)
        if known.get("critic_hidden"):
            row = registry.override(row, f"{phase}.algorithm.critic_hidden", (8,) * layers)
        if "candidates" in known:
            row = registry.override(row, f"{phase}.algorithm.candidates", 2)
    row = registry.override(row, "online.replay.capacity", 64)
    if row.online.replay.name == "whole_episodes":
        row = registry.override(row, "online.replay.longest", 20)
    row = registry.override(row, "online.random_steps", min(row.online.random_steps, 2))
    if row.offline is not None:
        row = registry.override(row, "offline.steps", 20)
        row = registry.override(row, "offline.eval_every", 10)
    for path, value in {"steps": 12, "eval_every": 4, "warmup": 3}.items():
        row = registry.override(row, f"online.{path}", value)
    for path, value in changes.items():
        row = registry.override(row, path.replace("__", "."), value)
    return row


def assert_same(one, two, **tolerance) -> None:
    """Assert that two trees of arrays are equal, exactly or to a tolerance (rtol, atol)."""
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(two)):
        where = jax.tree_util.keystr(path)
        x, y = np.asarray(x), np.asarray(y)
        assert (x.shape, x.dtype) == (y.shape, y.dtype), where
        if tolerance:
            np.testing.assert_allclose(x, y, err_msg=where, **tolerance)
        else:
            np.testing.assert_array_equal(x, y, err_msg=where)


def differ(one, two) -> bool:
    """Return whether two trees of the same structure have different values."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return any(not np.array_equal(x, y) for x, y in pairs)


@contextmanager
def refused_in_a_line(message: str):
    """Expect the block to raise an InputError of one line that matches the pattern."""
    with pytest.raises(InputError, match=message) as caught:
        yield
    assert "\n" not in str(caught.value)


@contextmanager
def quick_compiling(cache: Path | None = None):
    """Compile in half the time to slower code; with a cache folder, compile each program once."""
    changes = {"jax_disable_most_optimizations": True}
    if cache is not None:
        changes |= {
            "jax_compilation_cache_dir": str(cache),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
    before = {name: jax.config.values[name] for name in changes}
    for name, value in changes.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # else the first compilation's folder stays in use
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@contextmanager
def largest_file(size: int):
    """Limit the size of this process's files, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def parse_shell(line: str) -> tuple[str, str | None, list[str]]:
    """Return the module, positional flag and arguments of a documented command line."""
    first, *rest = shlex.split(line)
    if first == "enoto":
        return main.module(rest[0]), main.COMMANDS[rest[0]][1], rest[1:]
    assert (first, rest[0]) == ("python", "-m"), line
    return rest[1], None, rest[2:]


def python(*arguments: str, **options) -> subprocess.Popen:
    """Start Python on a CPU in the repository's root, with pipes; `env` adds variables."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
