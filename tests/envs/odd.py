"""Environments as users write them (careless, verbose, broken), all based on Reach."""

from __future__ import annotations

import gymnasium
import numpy as np

from tests.helpers import LIMIT, Reach


class Careless(Reach):
    """Reach that returns the same array in every step and overwrites the action's array."""

    def __init__(self, **how):
        super().__init__(**how)
        self._buffer = np.zeros(2, np.float32)

    def _observation(self):
        self._buffer[:] = super()._observation()
        return self._buffer

    def step(self, action):
        given = super().step(action)
        action[:] = 9.0
        return given


class Telling(Reach):
    """Reach that reports success when the point is near the goal.

    Args:
      word: The key of success in the info.
      always: Whether the info reports failure too.
      bound: Actions are in [-bound, bound], in units of SPEED.
    """

    def __init__(self, word: str = "success", always: bool = True, bound: float = 1.0):
        super().__init__(bound)
        self._word, self._always = word, always

    def step(self, action):
        observation, reward, *ends, info = super().step(action)
        near = reward > -0.1
        return (
            observation,
            reward,
            *ends,
            info | ({self._word: near} if near | self._always else {}),
        )


class Returning(Reach):
    """Reach that returns given values in one of its steps.

    Args:
      changes: Values to return, by position in (observation, reward, terminated, truncated, info).
      length: How many of the five values to return.
      at: The step that returns them.
    """

    def __init__(self, changes: dict | None = None, length: int = 5, at: int = 2):
        super().__init__()
        self._changes, self._length, self._at = changes or {}, length, at

    def step(self, action):
        given = list(super().step(action))
        if self._steps == self._at:
            for place, value in self._changes.items():
                given[place] = value
            given = given[: self._length]
        return tuple(given)


def make_telling(word: str = "success", always: bool = True) -> gymnasium.Env:
    """Make the environment in a module-level function, with arguments and a wrapper."""
    return gymnasium.wrappers.TimeLimit(Telling(word, always), LIMIT)


class Fails(Reach):
    """Reach that raises when it is created."""

    def __init__(self):
        raise ZeroDivisionError("no robot\nis connected")
