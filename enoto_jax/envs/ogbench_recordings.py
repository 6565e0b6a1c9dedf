"""Record episodes as OGBench does: with the package's scripted oracles, or a planner in mazes.

The recipes (lengths, noise, how often cubes are stacked) are the published ones. The random numbers
are not, and the planner is written from its description, so the files differ from OGBench's. An
episode's random numbers depend only on the seed and the episode's number, so any episode can be
recorded alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from enoto_jax.envs import ogbench
from enoto_jax.types import InputError, RunError

ATTEMPTS = 100  # to record an episode in which nothing leaves the workspace
_ORACLES = "ogbench.manipspace.oracles.plan"


class Recipe(NamedTuple):
    """How the episodes of a data set are recorded.

    Attributes:
      env_id: The Gymnasium id.
      rows: Rows per episode; the last one has no successor.
      noise: Standard deviation of the noise on the actions.
      stack: Range from which an episode's probability of stacking cubes is drawn.
    """

    env_id: str
    rows: int = 1001
    noise: float = 0.1
    stack: tuple[float, float] = (0.5, 0.5)


RECIPES: Mapping[str, Recipe] = {
    "pointmaze-medium-navigate-v0": Recipe("pointmaze-medium-v0", noise=0.5),
    "pointmaze-large-navigate-v0": Recipe("pointmaze-large-v0", noise=0.5),
    "pointmaze-giant-navigate-v0": Recipe("pointmaze-giant-v0", rows=2001, noise=0.5),
    "cube-single-play-v0": Recipe("cube-single-v0", stack=(0.0, 0.0)),
    "cube-double-play-v0": Recipe("cube-double-v0", stack=(0.0, 0.25)),
    "cube-triple-play-v0": Recipe("cube-triple-v0", stack=(0.05, 0.35)),
    "cube-quadruple-play-v0": Recipe("cube-quadruple-v0", stack=(0.1, 0.5)),
    "scene-play-v0": Recipe("scene-v0"),
    "puzzle-3x3-play-v0": Recipe("puzzle-3x3-v0"),
    "puzzle-4x4-play-v0": Recipe("puzzle-4x4-v0"),
}


class Recorder:
    """Record the episodes of one data set.

    Args:
      name: A name in RECIPES.
      seed: Seed of all random numbers, together with the episode's number.

    Raises:
      InputError: The recipe does not exist, or the package is not installed.
    """

    def __init__(self, name: str, seed: int):
        if name not in RECIPES:
            raise InputError(
                f"--recipe: unknown recipe ogbench:{name}; known: {', '.join(RECIPES)}"
            )
        self._recipe, self._seed = RECIPES[name], seed
        if not ogbench.register(self._recipe.env_id):
            raise InputError(f"--recipe: this version of ogbench has no {self._recipe.env_id}")
        maze = "maze" in name
        options = {} if maze else {"mode": "data_collection"}
        self._env = gymnasium.make(
            self._recipe.env_id,
            terminate_at_goal=False,
            max_episode_steps=self._recipe.rows,
            disable_env_checker=True,
            **options,
        )
        noise = self._recipe.noise
        self._navigator = Navigator(self._env.unwrapped, noise) if maze else None
        self._oracles = {} if maze else _oracles(self._env, noise)

    def episode(self, number: int) -> dict[str, np.ndarray]:
        """Record one episode: observations, actions, terminals, and the simulator's state.

        Raises:
          RunError: Something leaves the workspace in every attempt.
        """
        for attempt in range(ATTEMPTS):
            root = np.random.SeedSequence([self._seed, number, attempt])
            first, second, third, fourth = (int(x) for x in root.generate_state(4))
            with _seeded(first):  # the package draws from NumPy's global generator too
                self._env.action_space.seed(second)
                rows = _columns(self._steps(np.random.default_rng(third), fourth))
            if _in_sight(self._recipe.env_id, rows["qpos"]):
                return rows
        raise RunError(f"{self._recipe.env_id}: no usable episode {number} in {ATTEMPTS} attempts")

    def _steps(self, rng: np.random.Generator, seed: int) -> Iterator[tuple]:
        if self._navigator is not None:
            return _navigate(self._env, self._navigator, rng, seed)
        return _play(self._env, self._oracles, rng.uniform(*self._recipe.stack), seed)


class Navigator:
    """A planner that walks a maze's free cells along a shortest path, with Gaussian noise.

    Args:
      maze: OGBench's environment.
      noise: Standard deviation of the noise on the actions.
    """

    def __init__(self, maze: Any, noise: float):
        self._maze, self._noise = maze, noise
        self.cells = [tuple(map(int, cell)) for cell in np.argwhere(maze.maze_map == 0)]
        self.goals = [cell for cell in self.cells if not self._is_corridor(cell)]
        self._centres = np.array([maze.ij_to_xy(cell) for cell in self.cells], float)
        self._known: dict[tuple, dict[tuple, int]] = {}

    def act(self, rng: np.random.Generator) -> np.ndarray:
        """Return a unit step [2] to the centre of the next cell, plus noise, in [-1, 1]."""
        place = self._maze.get_xy()
        here, left = self._cell(place), self._distances(self._cell(self._maze.cur_goal_xy))
        following = min([here, *self._around(here)], key=left.__getitem__)
        way = np.array(self._maze.ij_to_xy(following)) - place
        action = way / (np.linalg.norm(way) + 1e-6) + rng.normal(0.0, self._noise, 2)
        return np.clip(action, -1.0, 1.0)

    def _around(self, cell: tuple) -> list[tuple]:
        near = [(cell[0] + i, cell[1] + j) for i, j in ((-1, 0), (0, -1), (1, 0), (0, 1))]
        return [other for other in near if self._maze.maze_map[other] == 0]

    def _is_corridor(self, cell: tuple) -> bool:
        near = self._around(cell)
        return len(near) == 2 and (near[0][0] == near[1][0] or near[0][1] == near[1][1])

    def _distances(self, goal: tuple) -> dict[tuple, int]:
        """Distance in cells from every free cell to the goal's, by breadth-first search."""
        if goal not in self._known:
            found, reached = {goal: 0}, [goal]
            for cell in reached:
                for other in self._around(cell):
                    if other not in found:
                        found[other] = found[cell] + 1
                        reached.append(other)
            self._known[goal] = found
        return self._known[goal]

    def _cell(self, place: np.ndarray) -> tuple:
        return self.cells[int(np.argmin(np.linalg.norm(self._centres - place, axis=1)))]


def versions() -> str:
    """Return the package versions that a recording depends on, besides its seed."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in ("ogbench", "mujoco"))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator inside the block, and restore it afterwards."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def _navigate(env: Any, navigator: Navigator, rng: np.random.Generator, seed: int) -> Iterator:
    """Yield steps (observation, action, info, over), with a new goal each time one is reached."""

    def drawn(cells: list[tuple]) -> tuple:
        return cells[rng.integers(len(cells))]

    task = {"init_ij": drawn(navigator.cells), "goal_ij": drawn(navigator.goals)}
    observation, _ = env.reset(seed=seed, options={"task_info": task})
    over = False
    while not over:
        action = navigator.act(rng)
        following, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        if info["success"]:
            env.unwrapped.set_goal(drawn(navigator.goals))
        yield observation, action, info, over
        observation = following


def _play(env: Any, oracles: Mapping[str, Any], stack: float, seed: int) -> Iterator:
    """The same for manipulation: when the oracle is done, the environment draws a new target."""
    observation, info = env.reset(seed=seed)
    oracle = oracles[info["privileged/target_task"]]
    oracle.reset(observation, info)
    over = False
    while not over:
        action = np.clip(np.asarray(oracle.select_action(observation, info)), -1.0, 1.0)
        following, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        if oracle.done:
            seen, target = env.unwrapped.set_new_target(p_stack=stack)
            oracle = oracles[target["privileged/target_task"]]
            oracle.reset(seen, target)
        yield observation, action, info, over
        observation = following


def _oracles(env: Any, noise: float) -> dict[str, Any]:
    """One oracle for every kind of object that the environment may ask to move."""
    found = {}
    for kind in ("cube", "button", "drawer", "window"):
        oracle = getattr(import_module(f"{_ORACLES}.{kind}_plan"), f"{kind.title()}PlanOracle")
        closed = {"gripper_always_closed": "puzzle" in env.spec.id} if kind == "button" else {}
        found[kind] = oracle(env=env, noise=noise, noise_smoothing=0.5, **closed)
    return found


def _columns(steps: Iterator[tuple]) -> dict[str, np.ndarray]:
    columns: dict[str, list] = defaultdict(list)
    for observation, action, info, over in steps:
        columns["observations"].append(np.asarray(observation, np.float32))
        columns["actions"].append(np.asarray(action, np.float32))
        columns["terminals"].append(over)
        columns["qpos"].append(np.asarray(info["prev_qpos"], np.float32))
        columns["qvel"].append(np.asarray(info["prev_qvel"], np.float32))
        if "prev_button_states" in info:
            columns["button_states"].append(np.asarray(info["prev_button_states"], np.int64))
    return {name: np.array(values) for name, values in columns.items()}


def _in_sight(env_id: str, qpos: np.ndarray) -> bool:
    """Whether the scene's cube stays in reach: not far right, and far left only in the drawer."""
    if not env_id.startswith("scene"):
        return True
    y, z = qpos[:, 15], qpos[:, 16]
    return not ((y >= 0.29) | ((y <= -0.3) & ((z < 0.06) | (z > 0.08)))).any()
