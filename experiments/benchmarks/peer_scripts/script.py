"""Run another library's training script unchanged, and time its updates between evaluations.

python experiments/benchmarks/peer_scripts/script.py SCRIPT ARGUMENTS

The script gets a `d4rl` and an `ogbench` with random transitions, a `gym` whose episodes end after
one step, and a `wandb` and a `robomimic` that do nothing. Everything else is its own. An evaluation
begins at the environment's reset. There the seconds since the last evaluation are written to
stdout, and a line of stdin is awaited, so that a caller can let one of several scripts run at a
time. This module needs only NumPy, and gymnasium for the scripts that use OGBench.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import time
import types
from typing import Any

import numpy as np

OBSERVATIONS, ACTIONS, ROWS = 17, 6, 100_000


class Turns:
    """Reports seconds to stdout and waits for turns; the script's own output goes to stderr."""

    def __init__(self) -> None:
        self._reports = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._begun = time.perf_counter()

    def end(self) -> None:
        """End a block of updates: report how long it took, and wait for the next turn."""
        jax = sys.modules.get("jax")
        for array in jax.live_arrays() if jax else ():
            with contextlib.suppress(RuntimeError):  # donated in the meantime
                array.block_until_ready()
        print(time.perf_counter() - self._begun, file=self._reports, flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # stdin is closed: no more turns

    def begin(self) -> None:
        """Start the clock again after an evaluation."""
        self._begun = time.perf_counter()


class Space:
    """The part of a `gym.spaces.Box` that the scripts use."""

    def __init__(self, size: int) -> None:
        self.shape = (size,)
        self.high, self.low = np.ones(size, np.float32), -np.ones(size, np.float32)

    def sample(self) -> np.ndarray:
        return np.zeros(self.shape, np.float32)

    def seed(self, seed: int) -> None:
        pass


class Env:
    """An environment, or `count` side by side, whose episodes last one step."""

    spec = types.SimpleNamespace(max_episode_steps=1000)
    _max_episode_steps = 1000

    def __init__(self, turns: Turns, count: int | None = None) -> None:
        self._turns, self._leading = turns, () if count is None else (count,)
        self.observation_space = self.single_observation_space = Space(OBSERVATIONS)
        self.action_space = self.single_action_space = Space(ACTIONS)
        self.env_fns = [lambda: self]

    def reset(self) -> np.ndarray:
        self._turns.end()
        return np.zeros((*self._leading, OBSERVATIONS), np.float32)

    def step(self, action):
        np.asarray(action)  # waits for it
        self._turns.begin()
        observation = np.zeros((*self._leading, OBSERVATIONS), np.float32)
        return observation, np.zeros(self._leading), np.ones(self._leading, bool), {}

    def seed(self, seed: int) -> None:
        pass

    def close(self) -> None:
        pass

    def get_normalized_score(self, returns):
        return returns


def ogbench_of(turns: Turns) -> types.ModuleType:
    """Return an `ogbench` with a gymnasium environment whose episodes also last one step."""
    import gymnasium

    class Newer(gymnasium.Env):
        def __init__(self) -> None:
            self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (OBSERVATIONS,))
            self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,))
            self._env = Env(turns)

        def reset(self, **_):
            return self._env.reset(), {}

        def step(self, action):
            observation, reward, done, info = self._env.step(action)
            return observation, float(reward), bool(done), False, info

    def make_env_and_datasets(name: str, env_only: bool = False):
        data = transitions()
        data["masks"] = 1.0 - data["terminals"]
        return Newer() if env_only else (Newer(), data, dict(data))

    module = types.ModuleType("ogbench")
    module.make_env_and_datasets = make_env_and_datasets
    return module


class Nothing:
    """Accepts any call and any attribute."""

    def __getattr__(self, name: str) -> Nothing:
        return self

    def __call__(self, *_, **__) -> Nothing:
        return self


def transitions(*_) -> dict[str, np.ndarray]:
    """Return random transitions with the keys of `d4rl.qlearning_dataset`."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(2, ROWS, OBSERVATIONS)).astype(np.float32)
    return {
        "observations": normal[0],
        "actions": rng.uniform(-1, 1, (ROWS, ACTIONS)).astype(np.float32),
        "rewards": normal[0, :, 0].copy(),
        "next_observations": normal[1],
        "terminals": np.zeros(ROWS, bool),
    }


def stand_in(d4rl: dict[str, Any], gym: dict[str, Any]) -> None:
    """Install `d4rl` and `gym` modules with these attributes, and a `wandb` that does nothing."""
    calls = ("init", "log", "finish", "save", "config", "define_metric", "Settings")
    pictures = dict.fromkeys(("Image", "Video", "Histogram"), Nothing)
    wandb = {**dict.fromkeys(calls, Nothing()), **pictures, "run": Nothing()}
    wandb["run"].project = ""
    for name, attributes in {"d4rl": d4rl, "gym": gym, "wandb": wandb}.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(attributes)
    with contextlib.suppress(ImportError):
        import jax

        if not hasattr(jax, "tree_map"):  # the name that older scripts use
            jax.tree_map = jax.tree_util.tree_map


def install(turns: Turns) -> None:
    """Replace the modules of data and environments by random transitions and one-step episodes."""
    stand_in(
        {"qlearning_dataset": transitions, "get_normalized_score": lambda name, returns: returns},
        {
            "make": lambda name: Env(turns),
            "Env": Env,
            "vector": types.SimpleNamespace(make=lambda name, num_envs: Env(turns, num_envs)),
            "wrappers": types.SimpleNamespace(TransformObservation=lambda env, change: env),
        },
    )
    with contextlib.suppress(ImportError):
        sys.modules["ogbench"] = ogbench_of(turns)
    for name in ("", ".utils", ".utils.env_utils", ".utils.file_utils", ".utils.obs_utils"):
        sys.modules[f"robomimic{name}"] = Nothing()


def run(arguments: list[str]) -> None:
    """Run a script as the main program; `arguments` are its path and its own arguments."""
    sys.argv = [os.path.abspath(arguments[0]), *arguments[1:]]
    sys.path[0] = os.path.dirname(sys.argv[0])
    os.chdir(sys.path[0])  # some scripts name files of their repository
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    install(Turns())
    run(sys.argv[1:])
