"""Gymnasium environments as agents see them: flat float32 observations, actions in [-1, 1]."""

from __future__ import annotations

import contextlib
import sys
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import FlattenObservation, RescaleAction

from enoto_jax.envs import ogbench, robotics
from enoto_jax.envs.choice import EnvChoice, env_choice, one_line
from enoto_jax.envs.guard import Guard
from enoto_jax.envs.spaces import check_action, check_observation, parts
from enoto_jax.types import InputError, RunError, Spec

MAX_STEPS = 10_000  # per episode, if the environment has no time limit of its own
Env = str | EnvSpec | EnvChoice | Callable[..., gymnasium.Env]  # what a user may give
_MADE: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # id -> environment


@contextlib.contextmanager
def known_warnings_ignored():
    """Silence two warnings: newer versions of -v4 environments, and MuJoCo's on `settotalmass`.

    D4RL's tasks are the -v4 environments. MuJoCo's note on HalfCheetah's model would be printed
    once per environment.
    """
    other = mujoco.get_mju_user_warning()

    def show(message: str) -> None:
        if "settotalmass" not in message:
            print(f"MuJoCo: {message}", file=sys.stderr)

    mujoco.set_mju_user_warning(show)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is out of date.*")
            yield
    finally:
        mujoco.set_mju_user_warning(other)


def make_env(env: Env, **how) -> gymnasium.Env:
    """Make an environment, and rescale its actions to [-1, 1] if necessary.

    Args:
      env: Gymnasium id, or anything else that `env_choice` takes.
      how: Gymnasium's own arguments (`render_mode`, `width`, ...).

    Raises:
      InputError: The id is unknown, the simulator is missing, the environment's code raises, its
        spaces are not bounded flat boxes, or the same environment object is returned again.
    """
    choice = env_choice(env)
    name, maker = choice.name, choice.resolve()
    how, env_id = {**choice.kwargs, **how}, ""
    make: Any = maker
    if isinstance(maker, (str, EnvSpec)):  # errors are reported here, in one line
        make = partial(gymnasium.make, maker, disable_env_checker=True)
        env_id = name.rpartition(":")[2]  # without the module that registers it
    try:
        of_ogbench = ogbench.register(env_id)
        sparse = of_ogbench and how.pop("sparse", False)
        if isinstance(maker, str):
            robotics.register(env_id)
        with known_warnings_ignored():
            made: Any = make(**how)
    except InputError:
        raise
    except Exception as error:  # a constructor is somebody else's code
        raise InputError(f"--env: cannot make {name!r}: {_reason(error)}") from error
    if not isinstance(made, gymnasium.Env):
        kind = f"{type(made).__module__}.{type(made).__qualname__}"
        raise InputError(f"--env: {name} made a {kind}; expected a gymnasium.Env")
    if id(made.unwrapped) in _MADE:
        raise InputError(
            f"--env: {name} returns the same environment again; training and evaluation step "
            "their own side by side, so it must make a new one in every call"
        )
    _MADE[id(made.unwrapped)] = made.unwrapped
    if of_ogbench:
        made = ogbench.wrapped(made, sparse)
    check_action(made.action_space, name)
    check_observation(made.observation_space, name)
    if isinstance(made.observation_space, gymnasium.spaces.Dict):
        try:
            made = robotics.observed(made, env_id)
        except NotImplementedError as error:
            raise InputError(
                f"--env: {name} has observations that are not flat: {error}"
            ) from error
        check_observation(made.observation_space, name, nested=False)
    action = made.action_space
    if (action.low != -1).any() or (action.high != 1).any():
        made = RescaleAction(made, action.dtype.type(-1.0), action.dtype.type(1.0))
    return made


def _reason(error: Exception) -> str:
    """Why it cannot be made; messages of Gymnasium and of imports need no type in front."""
    if isinstance(error, (gymnasium.error.Error, ImportError)) and str(error):
        return " ".join(str(error).split())
    if str(error):
        return one_line(error)
    # gymnasium-robotics 1.4 fails a bare assertion in its joints' utilities with MuJoCo 4.
    return f"{type(error).__name__} inside it, with MuJoCo {mujoco.__version__}"


def time_limit(env: gymnasium.Env) -> int | None:
    """Return after how many steps episodes are cut, or None if no wrapper does that."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            return env._max_episode_steps
        env = env.env
    return None


def limit_of(env: Env) -> int | None:
    """Make an environment, return its time limit or None, and close it.

    Raises:
      InputError: The environment cannot be made.
    """
    with contextlib.closing(make_env(env)) as made:
        registered = None if made.spec is None else made.spec.max_episode_steps
        return time_limit(made) or registered


def spec_of(env: gymnasium.Env) -> Spec:
    """Return the sizes of an environment's observations and actions."""
    return Spec(env.observation_space.shape[0], env.action_space.shape[0])


def observed(env: gymnasium.Env) -> str:
    """Describe the order of a flattened dictionary of observations; "" if they were flat."""
    inner = env.env if isinstance(env, RescaleAction) else env
    return parts(inner.env.observation_space) if isinstance(inner, FlattenObservation) else ""


def env_spec(env: Env) -> Spec:
    """Make an environment, return its sizes, and close it.

    Raises:
      InputError: The environment cannot be made.
    """
    with contextlib.closing(make_env(env)) as made:
        return spec_of(made)


def action_bounds(env: Env | None, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the environment's own lowest and highest action, [A]; -1 and 1 without one.

    Args:
      env: Gymnasium id, or anything else that `env_choice` takes; None or "none" for no
        environment.
      size: Number of actions A.

    Raises:
      InputError: The environment cannot be made, or has actions of another size.
    """
    if env is None or env == "none":
        return np.full(size, -1.0, np.float32), np.full(size, 1.0, np.float32)
    with contextlib.closing(make_env(env)) as made:
        low, high = own_bounds(made)
    if len(low) != size:
        raise InputError(f"--env: {env_choice(env)} has actions of size {len(low)}, not {size}")
    return low, high


def own_bounds(made: gymnasium.Env) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds [A], [A] before `make_env` rescaled the actions."""
    space: Any = (made.env if isinstance(made, RescaleAction) else made).action_space
    return np.asarray(space.low, np.float32), np.asarray(space.high, np.float32)


class Checked(NamedTuple):
    """What is known of an environment that fits the data.

    Attributes:
      bounds: Its own lowest and highest action, [A] and [A].
      observed: The order of its observations, if it has a dictionary of them; else "".
    """

    bounds: tuple[np.ndarray, np.ndarray]
    observed: str


def check_spec(env: Env, spec: Spec, task: str) -> Checked:
    """Make the environment, compare its sizes with the data's, and try one step.

    Raises:
      InputError: The sizes differ, the environment cannot be made, or its first step fails.
    """
    name = env_choice(env).name
    with contextlib.closing(make_env(env)) as made:
        found = spec_of(made)
        if found != spec:
            raise InputError(
                f"--env: {name} has observation size {found.observation_size} and action size "
                f"{found.action_size}, but the data of {task} have {spec.observation_size} and "
                f"{spec.action_size}; give the environment that the data come from"
            )
        tried = Guard(made, f"{name} of seed 0, tried before the run")
        try:
            tried.reset(seed=0)
            tried.step(np.zeros(found.action_size, np.float32))
        except RunError as error:
            raise InputError(f"--env: {error}") from error
        return Checked(own_bounds(made), observed(made))
