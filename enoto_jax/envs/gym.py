"""Gymnasium environments as the agents see them: flat float32 observations, actions in [-1, 1]."""

from __future__ import annotations

import contextlib
import sys
import warnings

import gymnasium
import mujoco
import numpy as np
from gymnasium.wrappers import RescaleAction

from enoto_jax.envs import robotics
from enoto_jax.types import InputError, Spec


@contextlib.contextmanager
def known_warnings_ignored():
    """D4RL's tasks are the -v4 environments: that newer ones exist is no news, and MuJoCo's note
    on `settotalmass` (HalfCheetah's model) would be printed once per environment."""
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


def make_env(env_id: str, **how) -> gymnasium.Env:
    """An environment whose actions are rescaled to [-1, 1] where they are not so already.

    Args:
      env_id: Gymnasium id.
      how: Gymnasium's own arguments (`render_mode`, `width`, ...).

    Raises:
      InputError: unknown id, missing simulator, or spaces that are not bounded flat boxes.
    """
    try:
        robotics.register(env_id)
        with known_warnings_ignored():
            env = gymnasium.make(env_id, **how)
    except (gymnasium.error.Error, ImportError, ModuleNotFoundError, AssertionError) as error:
        # gymnasium-robotics 1.4 fails a bare assertion in its joints' utilities with MuJoCo 4.
        bare = f"{type(error).__name__} inside it, with MuJoCo {mujoco.__version__}"
        reason = " ".join(str(error).split()) or bare
        raise InputError(f"--env: cannot make {env_id!r}: {reason}") from error
    if isinstance(env.observation_space, gymnasium.spaces.Dict):
        env = robotics.observed(env, env_id)
    observation, action = env.observation_space, env.action_space
    box = gymnasium.spaces.Box
    if not isinstance(observation, box) or len(observation.shape) != 1:
        raise InputError(f"--env: {env_id} observes {observation}; a flat Box is needed")
    if not isinstance(action, box) or len(action.shape) != 1:
        raise InputError(f"--env: {env_id} acts in {action}; a flat Box is needed")
    if not (np.isfinite(action.low).all() and np.isfinite(action.high).all()):
        raise InputError(f"--env: {env_id} has unbounded actions; wrap it with bounds first")
    if (action.low != -1).any() or (action.high != 1).any():
        env = RescaleAction(env, np.float32(-1.0), np.float32(1.0))
    return env


def spec_of(env: gymnasium.Env) -> Spec:
    """Sizes of its observations and actions."""
    return Spec(env.observation_space.shape[0], env.action_space.shape[0])


def env_spec(env_id: str) -> Spec:
    """Sizes of an environment that is made for this alone.

    Raises:
      InputError: it cannot be made.
    """
    with contextlib.closing(make_env(env_id)) as env:
        return spec_of(env)


def action_bounds(env_id: str | None, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest action [A] of the environment itself; -1 and 1 without one.

    Args:
      env_id: Gymnasium id, or none.
      size: A.

    Raises:
      InputError: the environment cannot be made.
    """
    if env_id in (None, "none"):
        return np.full(size, -1.0, np.float32), np.full(size, 1.0, np.float32)
    env = make_env(env_id)
    space = (env.env if isinstance(env, RescaleAction) else env).action_space
    env.close()
    return np.float32(space.low), np.float32(space.high)


def check_spec(env_id: str, spec: Spec, task: str) -> None:
    """Make the environment once and compare its sizes with the data's.

    Raises:
      InputError: they differ.
    """
    found = env_spec(env_id)
    if found != spec:
        raise InputError(
            f"--env: {env_id} has observation size {found.observation_size} and action size "
            f"{found.action_size}, but the data of {task} have {spec.observation_size} and "
            f"{spec.action_size}; give the environment that the data come from"
        )
