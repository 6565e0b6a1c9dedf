"""An environment that fails says which one it was, in one line."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from enoto_jax.types import RunError


class Guard(gymnasium.Wrapper):
    """Passes everything through, and stops what raises or is no longer a number.

    Args:
      env: any.
      name: of it in the message.

    Attributes:
      count: steps so far; whoever knows a better number sets it.

    Raises:
      RunError: in `reset` and `step`: the environment raised, or gave NaN or infinity.
    """

    def __init__(self, env: gymnasium.Env, name: str):
        super().__init__(env)
        self.name, self.count = name, 0

    def reset(self, **how: Any):
        try:
            observation, info = self.env.reset(**how)
        except Exception as error:
            raise self._failed(error) from error
        self._check(observation, 0.0)
        return observation, info

    def step(self, action: np.ndarray):
        self.count += 1
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            raise self._failed(error) from error
        self._check(observation, reward)
        return observation, reward, terminated, truncated, info

    def _failed(self, error: Exception) -> RunError:
        reason = " ".join(str(error).split())[:300]
        return RunError(f"{self.name}, step {self.count}: {type(error).__name__}: {reason}")

    def _check(self, observation: np.ndarray, reward: float) -> None:
        for what, value in (("observation", observation), ("reward", reward)):
            if not np.isfinite(value).all():
                raise RunError(f"{self.name}, step {self.count}: its {what} is no longer a number")
