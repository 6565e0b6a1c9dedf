"""The caller's input to an agent: checked, copied, and with actions in one unit."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax.data.arrays import interval
from enoto_jax.data.source import Source
from enoto_jax.envs import values
from enoto_jax.envs.gym import Env, action_bounds
from enoto_jax.runs.folder import config_of
from enoto_jax.runs.policies import bounds_of
from enoto_jax.types import Array, InputError, Spec, Transition

OVERSHOOT = 1e-4  # fraction by which actions may exceed their bounds (rounding); then clipped


class World:
    """The units of the world that an agent acts in.

    Args:
      spec: Sizes of observations and actions.
      low: The world's lowest action, a number or [A]; None: actions lie in [-1, 1].
      high: The world's highest action.

    Raises:
      InputError: Bounds are not finite, have another size, or leave no room between them.
    """

    def __init__(self, spec: Spec, low: Any = None, high: Any = None):
        self._spec = spec
        if (low is None) != (high is None):
            raise InputError("action_low, action_high: give both or neither")
        self.low = _bound("action_low", -1.0 if low is None else low, spec.action_size)
        self.high = _bound("action_high", 1.0 if high is None else high, spec.action_size)
        if not (self.low < self.high).all():
            i = int(np.argmin(self.low < self.high))
            raise InputError(
                f"action_low, action_high: action {i} has the bounds {self.low[i]:g} and "
                f"{self.high[i]:g}; the low one must be below the high one"
            )
        self.bounded = bool((self.low != -1.0).any() or (self.high != 1.0).any())

    def observation(self, value: Array, name: str = "observation") -> np.ndarray:
        """Return a copy of an observation [D].

        Raises:
          InputError: It has another size, or its values are not finite numbers.
        """
        if isinstance(value, Mapping):
            raise InputError(
                f"{name} is of type {type(value).__name__}; expected numbers; flatten it with "
                "gymnasium.spaces.flatten(space, observation)"
            )
        return _row(name, value, self._spec.observation_size)

    def transition(self, given: Transition) -> Transition:
        """Return a copy of a step, its action in [-1, 1]; never both terminated and truncated.

        Raises:
          InputError: Sizes, numbers or flags that cannot be used, or an action beyond its bounds.
        """
        if not isinstance(given, Transition):
            raise InputError(
                f"observe: {type(given).__name__}; give a Transition(observation, action, reward, "
                "terminated, truncated, next_observation)"
            )
        terminated = _taken("terminated", values.flag, given.terminated)
        truncated = _taken("truncated", values.flag, given.truncated)
        reward = _taken("reward", values.row, _taken("reward", values.number, given.reward), ())
        return Transition(
            self.observation(given.observation),
            self._inner(given.action),
            _finite("reward", reward),
            np.bool_(terminated),
            np.bool_(truncated and not terminated),
            self.observation(given.next_observation, "next_observation"),
        )

    def action(self, inner: np.ndarray) -> np.ndarray:
        """Return the world's action [A] for an action in [-1, 1]."""
        if not self.bounded:
            return np.asarray(inner, np.float32)
        middle, half = 0.5 * (self.low + self.high), 0.5 * (self.high - self.low)
        return np.asarray(np.clip(middle + half * inner, self.low, self.high), np.float32)

    def _inner(self, value: Array) -> np.ndarray:
        """Return the action in [-1, 1] for one of the world's."""
        action = _row("action", value, self._spec.action_size)
        inner = (action - 0.5 * (self.low + self.high)) / (0.5 * (self.high - self.low))
        if (beyond := np.abs(inner) > 1.0 + OVERSHOOT).any():
            i = int(np.argmax(beyond))
            advice = "" if self.bounded else ", or give Agent your action_low and action_high"
            raise InputError(
                f"action {i} is {action[i]:g}, outside [{self.low[i]:g}, {self.high[i]:g}]; give "
                f"the executed action, within the bounds{advice}"
            )
        return np.clip(inner if self.bounded else action, -1.0, 1.0).astype(np.float32)


def world_of(
    spec: Spec, low: Any, high: Any, env: Env | None, usual: Mapping[str, Any] | None = None
) -> World:
    """Make a world from its bounds, from an environment that has them, or from the usual ones.

    Args:
      spec: Sizes of observations and actions.
      low: The lowest action, as in `World`.
      high: The highest action.
      env: An environment, instead of the bounds.
      usual: Known bounds by their origin. The first are used if neither bounds nor environment is
        given. A line on stderr names those that differ from the ones used.

    Raises:
      InputError: Both are given, they do not fit, or the environment cannot be made.
    """
    known = dict(usual or {})
    if env is not None:
        if low is not None or high is not None:
            raise InputError(
                "env, action_low, action_high: give the environment or the bounds, not both"
            )
        low, high = action_bounds(env, spec.action_size)
    elif low is None and high is None:
        low, high = next(iter(known.values()), (None, None))
    world = World(spec, low, high)
    for origin, bounds in known.items():
        if not (np.allclose(world.low, bounds[0]) and np.allclose(world.high, bounds[1])):
            used = interval(world.low, world.high)
            print(
                f"Agent: actions are in {used}; {origin} has {interval(*bounds)}", file=sys.stderr
            )
    return world


def usual_bounds(source: Source, restore: str | os.PathLike | None, given: bool) -> dict[str, Any]:
    """Return the bounds that `load_policy` uses for the restored run, and those of the data.

    Args:
      source: The data.
      restore: The folder of the restored run, if there is one.
      given: Whether the caller gives bounds, so that an older run need not make its environment.

    Raises:
      InputError: The folder holds no run, or its bounds cannot be read.
    """
    found = {"the data set": source.action_bounds} if source.action_bounds is not None else {}
    if restore is None:
        return found
    run = Path(restore)
    if config_of(run).get("action_bounds") is None and (found or given):  # an older run
        return found
    return {f"the run {run}": bounds_of(run, source.spec.action_size), **found}


def _bound(name: str, value: Any, size: int) -> np.ndarray:
    if not isinstance(value, (list, tuple)) and np.ndim(value) == 0:  # a list may be ragged
        value = np.full(size, value)
    return _row(name, value, size, np.float64)


def _row(name: str, value: Any, size: int, dtype: type = np.float32) -> np.ndarray:
    return _finite(name, _taken(name, values.row, value, (size,), dtype))


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise InputError(f"{name} contains NaN or infinity; it was not used")
    return array


def _taken(name: str, take, value: Any, *how: Any) -> Any:
    try:
        return take(value, *how)
    except ValueError as error:
        raise InputError(f"{name} {error}") from error
