"""Report in one line which environment failed, and why."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from enoto_jax.envs import values
from enoto_jax.envs.choice import one_line
from enoto_jax.types import RunError


class Guard(gymnasium.Wrapper):
    """A wrapper that copies inputs and outputs and raises on every value that is not unambiguous.

    Observations are rows of floats, the reward is a number, both flags are bools; an environment
    may reuse its arrays. Of `info` only `success` is kept, if it is given (`values.success`).

    Args:
      env: An environment with a flat observation.
      name: The environment's name in messages.

    Attributes:
      count: Steps so far; callers that know a better number may set it.

    Raises:
      RunError: In `reset` and `step`: the environment raised, did not return what Gymnasium
        requires, or returned NaN or infinity.
    """

    def __init__(self, env: gymnasium.Env, name: str):
        super().__init__(env)
        self.name, self.count = name, 0
        space = env.observation_space
        self._shape, self._dtype = space.shape, np.result_type(space.dtype, np.float32)
        if space.dtype != self._dtype:
            self.observation_space = gymnasium.spaces.Box(
                -np.inf, np.inf, self._shape, self._dtype.type
            )

    def reset(self, **how: Any):
        try:
            given = self.env.reset(**how)
        except Exception as error:
            raise self._wrong(one_line(error)) from error
        if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[1], Mapping):
            raise self._wrong("reset() must return an observation and a dictionary")
        return self._observation(given[0]), {}

    def step(self, action: np.ndarray):
        self.count += 1
        try:
            given = self.env.step(np.array(action))
        except Exception as error:
            raise self._wrong(one_line(error)) from error
        if not isinstance(given, tuple) or len(given) != 5:
            raise self._wrong(
                "step() must return observation, reward, terminated, truncated and a dictionary"
            )
        observation, reward, terminated, truncated, info = given
        observation = self._observation(observation)
        reward = self._taken("reward", values.number, reward)
        if not np.isfinite(reward):
            raise self._wrong("its reward is NaN or infinite")
        ends = (
            self._taken("terminated", values.flag, terminated),
            self._taken("truncated", values.flag, truncated),
        )
        told = values.success(info) if isinstance(info, Mapping) else None
        return observation, reward, *ends, {} if told is None else {"success": told}

    def close(self) -> None:
        try:
            self.env.close()
        except Exception as error:  # must not cost what was computed
            print(f"{self.name}: close() failed: {one_line(error)}", file=sys.stderr)

    def _observation(self, value: Any) -> np.ndarray:
        observation = self._taken("observation", values.row, value, self._shape, self._dtype)
        if not np.isfinite(observation).all():
            raise self._wrong("its observation is NaN or infinite")
        return observation

    def _taken(self, what: str, take, value: Any, *how: Any) -> Any:
        try:
            return take(value, *how)
        except ValueError as error:
            raise self._wrong(f"its {what} {error}") from error

    def _wrong(self, reason: str) -> RunError:
        return RunError(f"{self.name}, step {self.count}: {reason}")
