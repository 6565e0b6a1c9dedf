"""The training environments: one per seed, stepped together, reset as soon as an episode ends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from enoto_jax.envs import state
from enoto_jax.envs.choice import env_choice
from enoto_jax.envs.guard import Guard
from enoto_jax.envs.gym import Env, make_env
from enoto_jax.transforms import Transform
from enoto_jax.types import Transition


class Step(NamedTuple):
    """The result of one step of all environments.

    Attributes:
      transition: [S, ...]; `next_observation` is the true successor, also at an episode's end.
      observation: [S, D] to act on next; the first of the new episode if one has begun.
      starts: [S] bool, whether a new episode has begun.
    """

    transition: Transition
    observation: np.ndarray
    starts: np.ndarray


def first_step(observation: np.ndarray, action_size: int, transform: Transform) -> Step:
    """Return the start of new episodes [S, D]; its transition is zeros: nothing has happened."""
    count, nothing = len(observation), np.zeros_like(observation)
    action, reward = np.zeros((count, action_size), np.float32), np.zeros(count, np.float32)
    flags = np.zeros(count, bool)
    transition = Transition(nothing, action, reward, flags, flags.copy(), nothing.copy())
    seen = transform.observation(observation).astype(np.float32)
    return Step(transition, seen, np.ones(count, bool))


class SeedEnvs:
    """S environments side by side.

    Args:
      env: Gymnasium id, or anything else that `env_choice` takes.
      seeds: S seeds, one for each environment's random numbers.
      transform: The transform of the training data; it maps actions and transitions.

    Raises:
      RunError: In `begin` and `step`: an environment fails; the message has its id, seed and step.
    """

    def __init__(self, env: Env, seeds: Sequence[int], transform: Transform):
        self._transform = transform
        self._seeds = [int(seed) for seed in seeds]
        self._envs = SyncVectorEnv(
            [partial(_guarded, env, seed) for seed in self._seeds],
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        self._guards: list[Any] = list(self._envs.envs)  # each a Guard
        self._observation = np.zeros(0, np.float32)

    def begin(self, number: int = 0) -> Step:
        """Begin new episodes, seeded by each seed and `number`, the steps so far."""
        for env in self._guards:
            env.count = number
        states = [np.random.SeedSequence([s, number]).generate_state(1)[0] for s in self._seeds]
        observation, _ = self._envs.reset(seed=[int(s) for s in states])
        self._observation = np.asarray(observation, np.float32)
        size = self._envs.single_action_space.shape[0]
        return first_step(self._observation, size, self._transform)

    def step(self, action: np.ndarray) -> Step:
        """Step every environment by its action, [S, A]."""
        before, action = self._observation, self._transform.world_action(action)
        observation, reward, terminated, truncated, info = self._envs.step(action)
        observation = np.asarray(observation, np.float32)
        following = observation.copy()
        ended = terminated | truncated
        for i in np.flatnonzero(ended):
            following[i] = info["final_obs"][i]
        transition = Transition(
            observation=before,
            action=np.asarray(action, np.float32),
            reward=np.asarray(reward, np.float32),
            terminated=terminated,
            # A terminal state at the last allowed step counts as terminal.
            truncated=truncated & ~terminated,
            next_observation=following,
        )
        self._observation = observation
        seen = self._transform.observation(observation).astype(np.float32)
        return Step(self._transform.transitions(transition), seen, ended)

    def capture(self) -> dict[str, Any] | None:
        """Capture everything that future steps depend on; None if an environment hides some."""
        states = [state.capture(env.env) for env in self._guards]
        if None in states:
            return None
        return {"states": states, "observation": self._observation}

    def restore(self, captured: dict[str, Any]) -> None:
        """Continue exactly from a captured state; call `begin` first."""
        for env, own in zip(self._guards, captured["states"]):
            state.restore(env.env, own)
        self._observation = captured["observation"]

    def close(self) -> None:
        self._envs.close()


def _guarded(env: Env, seed: int) -> gymnasium.Env:
    return Guard(make_env(env), f"{env_choice(env)} of seed {seed}")
