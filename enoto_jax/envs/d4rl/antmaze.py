"""D4RL's AntMaze as D4RL v2 scores it, on today's MuJoCo.

Source: D4RL `d4rl/locomotion/{ant,maze_env,goal_reaching_env,wrappers}.py` and `assets/ant.xml`,
with `eval=True` and sparse rewards. One environment serves a maze's play and diverse data sets:
they differ in how the data were collected, not in how a policy is scored.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.utils import EzPickle

from enoto_jax.envs.d4rl.mazes import CELL, HEIGHT, MAZES, Maze
from enoto_jax.envs.d4rl.physics import compile_d4rl, runge_kutta

RADIUS = 0.5  # m; the goal is reached within it
TORQUE = 30.0  # N m at an action of 1
_CONTACT = {"solref": [0.02, 1.0], "solimp": [0.8, 0.8, 0.01, 0.5, 2.0]}
_SIZE = (15, 14)  # positions and velocities of the ant, the whole observation
_CAMERA = {"distance": 40.0, "elevation": -60.0, "azimuth": 90.0}


class AntMaze(MujocoEnv, EzPickle):
    """An ant in a maze with a hidden goal; within 0.5 m of it the reward is 1 and the task ends.

    Observation [29]: the ant's 15 positions (x, y first) and 14 velocities. Action [8] in [-1, 1]:
    joint torques, as a fraction of 30 N m; 0.1 s per step. Every reset draws the goal within its
    cell, uniformly from D4RL's offsets, and puts the ant near the origin.

    `info` contains `goal` [2] and `success`; the attribute `goal` may be set after a reset.

    Args:
      maze: `umaze`, `medium` or `large`.
      how: Gymnasium's own arguments (`render_mode`, `width`, ...).
    """

    metadata = {  # noqa: RUF012
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
        "render_fps": 10,
    }

    def __init__(self, maze: str = "umaze", **how):
        EzPickle.__init__(self, maze, **how)
        self.maze_name = maze
        self.goal = self._maze.goal
        camera: dict[str, Any] = {**_CAMERA, "lookat": np.array([*self._maze.middle, 0.0])}
        space = spaces.Box(-np.inf, np.inf, (sum(_SIZE),), np.float64)
        super().__init__("ant.xml", 5, observation_space=space, default_camera_config=camera, **how)

    @property
    def _maze(self) -> Maze:
        return MAZES[self.maze_name]

    def _initialize_simulation(self):
        model = compile_d4rl(_spec(self.fullpath, self._maze))
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    def step(self, action):
        """Gymnasium's step; raises ValueError for an action of another shape."""
        self.do_simulation(action, self.frame_skip)
        success = bool(np.linalg.norm(self.data.qpos[:2] - self.goal) <= RADIUS)
        if self.render_mode == "human":
            self.render()
        return self._get_obs(), float(success), success, False, self._info(success)

    def _step_mujoco_simulation(self, ctrl, n_frames):
        self.data.ctrl[:] = ctrl
        runge_kutta(self.model, self.data, n_frames)

    def reset_model(self):
        """Draw the goal and the start state."""
        random = self.np_random
        offset = random.uniform(0, 0.25 * CELL, 2) + random.uniform(0, 0.125 * CELL, 2)
        self.goal = np.maximum(self._maze.goal + offset, 0.0)
        qpos = self.init_qpos + random.uniform(-0.1, 0.1, self.model.nq)
        qpos[3:7] /= np.linalg.norm(qpos[3:7])
        qvel = self.init_qvel + 0.1 * random.standard_normal(self.model.nv)
        self.set_state(qpos, qvel)
        return self._get_obs()

    def _get_reset_info(self):
        return self._info(False)

    def _info(self, success: bool) -> dict:
        return {"goal": self.goal.copy(), "success": success}

    def _get_obs(self):
        return np.concatenate([self.data.qpos, self.data.qvel])


def _spec(path: str, maze: Maze) -> mujoco.MjSpec:
    """Gymnasium's ant, changed to D4RL's, among the walls of a maze."""
    spec = mujoco.MjSpec.from_file(path)
    spec.option.timestep = 0.02
    for cell in maze.walls:
        spec.worldbody.add_geom(
            spec.default,
            name=f"wall_{cell[0]}_{cell[1]}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[*maze.centre(cell), HEIGHT / 2],
            size=[CELL / 2, CELL / 2, HEIGHT / 2],
            conaffinity=1,
            rgba=[0.7, 0.5, 0.3, 1.0],
        )
    for geom in spec.geoms:
        geom.solref, geom.solimp = _CONTACT["solref"], _CONTACT["solimp"]
    for motor in spec.actuators:
        motor.gear[0] = TORQUE
    return spec
