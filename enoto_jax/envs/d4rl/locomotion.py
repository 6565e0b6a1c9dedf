"""Gymnasium's -v4 locomotion tasks with the physics of D4RL's data.

Rewards, observations, start states and ends of episodes are those of -v4, which are D4RL's.
"""

from __future__ import annotations

import mujoco
from gymnasium.envs.mujoco.half_cheetah_v4 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v4 import HopperEnv
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.envs.mujoco.walker2d_v4 import Walker2dEnv

from enoto_jax.envs.d4rl.physics import compile_d4rl


class _D4RLPhysics(MujocoEnv):
    """Compile the task's own model file for the old physics."""

    def _initialize_simulation(self):
        model = compile_d4rl(mujoco.MjSpec.from_file(self.fullpath))
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)


class Hopper(_D4RLPhysics, HopperEnv):
    """`enoto/Hopper-d4rl-v0`."""


class HalfCheetah(_D4RLPhysics, HalfCheetahEnv):
    """`enoto/HalfCheetah-d4rl-v0`."""


class Walker2d(_D4RLPhysics, Walker2dEnv):
    """`enoto/Walker2d-d4rl-v0`."""
