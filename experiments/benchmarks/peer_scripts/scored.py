"""Run another library's training script unchanged, on a data file, and record its scores.

python experiments/benchmarks/peer_scripts/scored.py DATA SCORES SCRIPT ARGUMENTS

The script gets a `d4rl` that reads DATA, an HDF5 file with D4RL's keys; a `gym` that makes
Gymnasium's HalfCheetah-v4, which steps and resets as the old gym did; and a `wandb` that does
nothing. Everything else is its own, including the evaluations. Whenever it normalises returns, the
mean score becomes a row of SCORES. This module needs NumPy, h5py and gymnasium.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import script

ENVIRONMENT = "HalfCheetah-v4"
RANDOM, EXPERT = -280.178953, 12135.0  # D4RL's reference returns, from `d4rl/infos.py`


class Env:
    """Gymnasium's environment with the methods that gym had when the scripts were written."""

    _max_episode_steps = 1000

    def __init__(self, score: Callable) -> None:
        self._env = gymnasium.make(ENVIRONMENT)
        self.spec = self._env.spec
        self.action_space, self.observation_space = (
            self._env.action_space,
            self._env.observation_space,
        )
        self._seed, self.get_normalized_score = None, score

    def seed(self, seed: int) -> None:
        self._seed = seed

    def reset(self) -> np.ndarray:
        (observation, _), self._seed = self._env.reset(seed=self._seed), None
        return self.see(observation)

    def step(self, action) -> tuple[np.ndarray, float, bool, dict]:
        observation, reward, terminated, truncated, info = self._env.step(np.asarray(action))
        return self.see(observation), reward, terminated or truncated, info

    def see(self, observation: np.ndarray) -> np.ndarray:
        """Return what the script sees; `transformed` replaces this method."""
        return observation

    def close(self) -> None:
        self._env.close()


def transformed(env: Env, change: Callable[[np.ndarray], np.ndarray]) -> Env:
    """Do what gym.wrappers.TransformObservation does."""
    env.see = change
    return env


class Several:
    """A gym.vector environment: several side by side, each reset when it ends."""

    def __init__(self, envs: list[Env]) -> None:
        self._envs, self.env_fns = envs, [lambda: envs[0]]
        self.single_action_space = envs[0].action_space
        self.single_observation_space = envs[0].observation_space

    def reset(self) -> np.ndarray:
        return np.stack([env.reset() for env in self._envs])

    def step(self, actions) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
        found = [env.step(action) for env, action in zip(self._envs, actions, strict=True)]
        seen, rewards, done = (np.stack(x) for x in list(zip(*found))[:3])
        again = [env.reset() if ends else x for env, ends, x in zip(self._envs, done, seen)]
        return np.stack(again), rewards, done, {}

    def close(self) -> None:
        for env in self._envs:
            env.close()


def transitions(path: str) -> dict[str, np.ndarray]:
    """Return `d4rl.qlearning_dataset`'s rows: all but those at time-outs and the file's last."""
    with h5py.File(path) as file:
        rows = {name: file[name][:] for name in ("observations", "actions", "rewards")}
        ends, cut = (file[name][:].astype(bool) for name in ("terminals", "timeouts"))
    rows |= {"terminals": ends, "next_observations": rows["observations"][1:]}
    kept = ~cut[:-1]
    rows = {name: array[: len(kept)][kept] for name, array in rows.items()}
    return {name: x if name == "terminals" else x.astype(np.float32) for name, x in rows.items()}


def main(data: str, scores: Path, arguments: list[str]) -> None:
    """Run the script; see the module's docstring."""
    scores.write_text("score\n")

    def score(*given):
        """Normalise returns, the last argument, to a fraction as D4RL does."""
        normal = (np.asarray(given[-1]) - RANDOM) / (EXPERT - RANDOM)
        with scores.open("a") as file:
            file.write(f"{100.0 * normal.mean()}\n")
        return normal

    script.stand_in(
        {"qlearning_dataset": lambda *_: transitions(data), "get_normalized_score": score},
        {
            "make": lambda name: Env(score),
            "Env": Env,
            "vector": types.SimpleNamespace(
                make=lambda name, num_envs: Several([Env(score) for _ in range(num_envs)])
            ),
            "wrappers": types.SimpleNamespace(TransformObservation=transformed),
        },
    )
    script.run(arguments)


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]), Path(sys.argv[2]).absolute(), sys.argv[3:])
