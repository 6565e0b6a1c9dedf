"""OGBench's environments, an optional extra: registered by id, each with its own random numbers.

Besides the environment's own generator, their package draws from NumPy's global generator and from
the action space. Here each environment has a global generator to itself, and a seed sets all three,
so that equal seeds begin equal episodes whatever else runs in the process.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from enoto_jax.types import InputError

_IDS = re.compile(r"(pointmaze|antmaze|humanoidmaze|antsoccer|cube|scene|puzzle)(-[\w-]+)?-v0")


def register(env_id: str) -> bool:
    """Register OGBench's environments if the id is one of theirs, and return whether it is.

    Raises:
      InputError: The id is OGBench's, but the package is not installed.
    """
    if not _IDS.fullmatch(env_id):
        return False
    if env_id not in gymnasium.registry:
        try:
            import ogbench  # noqa: F401  # registers them
        except ImportError as error:
            raise InputError(
                f"--env: {env_id} comes from ogbench; pip install 'enoto_jax[ogbench]'"
            ) from error
    # They make a new action space from float64 bounds whenever they are asked for it, and those
    # with a robot arm render, but do not declare it.
    warnings.filterwarnings("ignore", message=".*precision lowered by casting")
    warnings.filterwarnings("ignore", message=r".*not in the possible render_modes \(\[\]\)")
    return env_id in gymnasium.registry


class Sparse(gymnasium.RewardWrapper):
    """A single task whose reward is -1 until all of its subtasks are done, and then 0."""

    def reward(self, reward):
        return -float(reward != 0)


def wrapped(env: gymnasium.Env, sparse: bool) -> gymnasium.Env:
    """Wrap the package's environment for agents.

    Args:
      env: An environment made by Gymnasium.
      sparse: Whether rewards are sparse, see `Sparse`.

    Raises:
      InputError: `sparse` is given for an environment that is not a single task, whose rewards do
        not count subtasks.
    """
    env = OwnRandomness(env)
    if sparse and "singletask" not in env.spec.id:
        raise InputError(
            f"--env: {env.spec.id} is not a single task; only single tasks have sparse rewards"
        )
    return Sparse(env) if sparse else env


class OwnRandomness(gymnasium.Wrapper):
    """An environment with its own copy of NumPy's global generator; its state can be captured.

    Attributes:
      NOT_STATE: Attributes of the package's environments that `envs.state` skips: parts of the
        model, what a reset sets for the task, and what a step computes before it reads it.
    """

    NOT_STATE = frozenset(
        (
            *("custom_camera", "_camera", "_scene_option", "_desc_dir", "_colors", "_data", "_ik"),
            *("_mjcf_model", "_arm_jnts", "_arm_acts", "_gripper_jnts", "_gripper_acts", "_T_pa"),
            *("_cube_geoms_list", "_cube_target_geoms_list", "_cube_target_mocap_ids"),
            *("_button_geoms_list", "task_infos", "cur_task_info", "_effector_down_rotation"),
            *("_target_effector_pose", "_prev_ob_info"),
            *("_object_sampling_bounds", "_target_sampling_bounds"),
        )
    )

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        if not env.metadata.get("render_modes"):  # manipulation renders, but does not declare it
            self.metadata = {**env.metadata, "render_modes": ["rgb_array"], "render_fps": 20}
        self._global: Any = np.random.RandomState(0).get_state()
        # A maze writes its model to a temporary file and leaves it there.
        path = Path(getattr(env.unwrapped, "fullpath", ""))
        if path.suffix == ".xml" and path.parent == Path(tempfile.gettempdir()):
            path.unlink(missing_ok=True)

    @contextmanager
    def _own(self) -> Iterator[None]:
        before = np.random.get_state()
        np.random.set_state(self._global)
        try:
            yield
        finally:
            self._global = np.random.get_state()
            np.random.set_state(before)

    def get_state(self) -> dict[str, Any]:
        """Return the states of the global generator and of the action space, ready for JSON."""
        kind, keys, *numbers = self._global
        drawn = self.env.unwrapped.action_space.np_random.bit_generator.state
        return {"global": [kind, keys.tolist(), *numbers], "actions": drawn}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore both states, and the parts of the model that depend on the buttons' states."""
        kind, keys, *numbers = state["global"]
        self._global = (kind, np.asarray(keys, np.uint32), *numbers)
        inner: Any = self.env.unwrapped
        inner.action_space.np_random.bit_generator.state = state["actions"]
        if hasattr(inner, "_apply_button_states"):
            inner._apply_button_states()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if seed is not None:
            self._global = np.random.RandomState(seed).get_state()
            self.env.action_space.seed(seed)
            self.env.unwrapped.action_space.seed(seed)
        with self._own():
            return self.env.reset(seed=seed, options=options)

    def step(self, action):
        with self._own():
            return self.env.step(action)
