"""Episodes recorded by OGBench's recipes: the planner by hand, whole episodes with ogbench."""

import contextlib

import numpy as np
import pytest

from enoto_jax.envs.ogbench_recordings import RECIPES, Navigator, Recorder
from enoto_jax.types import InputError


class Maze:
    """A corridor with a corner, from cell (1, 1) to (3, 3); cells are four units wide."""

    maze_map = np.array(
        [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 1, 1, 0, 1], [1] * 5]
    )
    cur_goal_xy = np.array([8.0, 8.0])

    def __init__(self, place):
        self.place = np.array(place, float)

    def get_xy(self):
        return self.place

    @staticmethod
    def ij_to_xy(cell):
        return 4.0 * (cell[1] - 1), 4.0 * (cell[0] - 1)


@pytest.mark.parametrize(
    ("place", "action"),
    [([0, 0], [1, 0]), ([7.9, 0.0], [0.025, 1]), ([8, 4], [0, 1]), ([8, 7], [0, 1])],
)
def test_the_planner_goes_to_the_next_cell_on_the_shortest_path(place, action):
    navigator = Navigator(Maze(place), noise=0.0)
    np.testing.assert_allclose(navigator.act(np.random.default_rng(0)), action, atol=1e-3)


def test_goals_are_no_corridors():
    navigator = Navigator(Maze([0, 0]), noise=0.0)
    assert navigator.goals == [(1, 1), (1, 3), (3, 3)]
    noisy = Navigator(Maze([0, 0]), noise=0.5)
    actions = np.array([noisy.act(np.random.default_rng(i)) for i in range(300)])
    assert abs(actions).max() == 1.0 and 0.4 < actions[:, 1].std() < 0.6


def test_unknown_recipes_and_a_missing_package_are_told():
    with pytest.raises(
        InputError, match="unknown recipe ogbench:cube-play; known: pointmaze-medium-navigate-v0"
    ):
        Recorder("cube-play", 0)
    with contextlib.suppress(ImportError):
        import ogbench  # noqa: F401

        return
    with pytest.raises(InputError, match=r"pip install 'enoto_jax\[ogbench\]'"):
        Recorder("cube-single-play-v0", 0)


@pytest.mark.parametrize(
    "name", ["pointmaze-medium-navigate-v0", "cube-single-play-v0", "puzzle-3x3-play-v0"]
)
def test_an_episode_depends_on_its_seed_and_number_alone(name):
    pytest.importorskip("ogbench")
    before = np.random.get_state()[1].copy()
    rows = RECIPES[name].rows
    one = Recorder(name, 0)
    first = one.episode(3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert set(first) >= {"observations", "actions", "terminals", "qpos", "qvel"}
    assert ("button_states" in first) == ("puzzle" in name)
    assert {len(values) for values in first.values()} == {rows}
    assert first["terminals"].nonzero()[0].tolist() == [rows - 1]
    assert abs(first["actions"]).max() <= 1.0
    if "maze" not in name:  # more episodes would take seconds
        return
    np.testing.assert_array_equal(first["observations"], first["qpos"])
    again = Recorder(name, 0)
    again.episode(4)
    for key, values in again.episode(3).items():
        np.testing.assert_array_equal(values, first[key])
    assert (Recorder(name, 1).episode(3)["qpos"] != first["qpos"]).any()
