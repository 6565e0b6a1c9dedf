"""OGBench's environments: refused without the package, deterministic per seed with it."""

import contextlib
import json
import tempfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from enoto_jax.envs import state
from enoto_jax.envs.gym import make_env, spec_of, time_limit
from enoto_jax.envs.ogbench import OwnRandomness, register
from enoto_jax.report import film
from enoto_jax.types import InputError, Spec

POINT = "pointmaze-medium-singletask-task3-v0"


class Draws(gymnasium.Env):
    """An environment that draws from the global generator and from its action space."""

    observation_space = gymnasium.spaces.Box(-10.0, 10.0, (3,), np.float64)

    def __init__(self):
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def _draw(self):
        return np.array(
            [np.random.normal(), self.action_space.sample()[0], self.np_random.normal()]
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action):
        return self._draw(), 0.0, False, False, {}


def episode(env, seed, disturb=lambda: None):
    rows = [env.reset(seed=seed)[0]]
    for _ in range(3):
        disturb()
        rows.append(env.step(np.zeros(env.action_space.shape, np.float32))[0])
    return np.array(rows)


def test_each_environment_has_a_global_generator_of_its_own():
    one, other = OwnRandomness(Draws()), OwnRandomness(Draws())
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    alone = episode(one, 5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    disturbed = episode(other, 5, lambda: (np.random.normal(), one.step(np.zeros(1))))
    np.testing.assert_array_equal(disturbed, alone)
    assert (episode(one, 6) != alone).all()


NAMED = "pointmaze-draws-v0"  # registered here, with a name of theirs
if NAMED not in gymnasium.registry:
    gymnasium.register(NAMED, Draws, max_episode_steps=20)


@pytest.mark.parametrize(
    "named",
    [NAMED, f"gymnasium:{NAMED}", gymnasium.spec(NAMED)],
    ids=["id", "module and id", "spec"],
)
def test_whichever_way_it_is_named_its_random_numbers_are_its_own(named):
    one, other = make_env(named), make_env(NAMED)
    np.testing.assert_array_equal(episode(one, 5, np.random.normal), episode(other, 5))


def test_without_the_package_it_says_what_to_install():
    with contextlib.suppress(ImportError):
        import ogbench  # noqa: F401

        pytest.skip("the package is installed")
    with pytest.raises(InputError, match=r"comes from ogbench; pip install 'enoto_jax\[ogbench\]'"):
        make_env(POINT)


@pytest.mark.parametrize(
    "name", ["Hopper-v5", "AntMaze_UMaze-v5", "PointMaze_UMaze-v3", "Reach-v0"]
)
def test_other_ids_are_not_its(name):
    assert not register(name)


def test_a_point_maze_begins_alike_for_equal_seeds_and_tells_success():
    pytest.importorskip("ogbench")
    left = set(Path(tempfile.gettempdir()).glob("*.xml"))
    one, other = make_env(POINT), make_env(POINT)
    assert set(Path(tempfile.gettempdir()).glob("*.xml")) == left
    assert spec_of(one) == Spec(2, 2) and time_limit(one) == 1000
    alone = episode(one, 5)
    np.testing.assert_array_equal(
        episode(other, 5, lambda: (np.random.normal(), one.reset(seed=1))), alone
    )
    assert (episode(one, 6)[0] != alone[0]).all()
    one.unwrapped.set_xy(one.unwrapped.cur_goal_xy)
    *_, terminated, _, info = one.step(np.zeros(2, np.float32))
    assert terminated and info["success"] == 1.0


@pytest.mark.parametrize(
    "name",
    [
        POINT,
        "antmaze-medium-singletask-task1-v0",
        "cube-single-singletask-task1-v0",
        "puzzle-3x3-singletask-task3-v0",
        "scene-singletask-task2-v0",
    ],
)
def test_a_captured_state_goes_on_to_the_same_bits(name):
    """The state is captured in mid-episode and restored into another environment.

    It includes MuJoCo's state and all three generators, so the next reset is identical too.
    """
    pytest.importorskip("ogbench")
    one, other = make_env(name), make_env(name)
    one.reset(seed=3)
    other.reset(seed=9)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (120, *one.action_space.shape)).astype(np.float32)
    for action in actions[:50]:
        one.step(action)
    other.step(actions[0])
    found = state.capture(one)
    assert found is not None
    saved = {  # as in a checkpoint
        key: value if isinstance(value, np.ndarray) else json.loads(json.dumps(value))
        for key, value in found.items()
    }
    state.restore(other, saved)
    for action in actions[50:]:
        (seen, *paid), (again, *repaid) = one.step(action)[:4], other.step(action)[:4]
        np.testing.assert_array_equal(seen, again)
        assert paid == repaid
    np.testing.assert_array_equal(one.reset()[0], other.reset()[0])
    np.testing.assert_array_equal(one.step(actions[0])[0], other.step(actions[0])[0])


def test_sparse_rewards_are_minus_one_until_all_is_done():
    pytest.importorskip("ogbench")
    name = "puzzle-3x3-singletask-task3-v0"
    plain, sparse = make_env(name), make_env(f'{name}?{{"sparse": true}}')
    for env, before in ((plain, -8.0), (sparse, -1.0)):
        env.reset(seed=0)
        inner = env.unwrapped
        assert env.step(np.zeros(5, np.float32))[1] == before  # one of nine buttons is correct
        inner.set_state(inner.data.qpos.copy(), inner.data.qvel.copy(), inner._target_button_states)
        assert env.step(np.zeros(5, np.float32))[1] == 0.0
        # The package reports success one step late, for the state before the action.
        _, reward, terminated, _, info = env.step(np.zeros(5, np.float32))
        assert reward == 0.0 and terminated and info["success"]
    found = state.capture(sparse)
    assert found is not None and any("OwnRandomness" in key for key in found)
    with pytest.raises(
        InputError,
        match="puzzle-3x3-v0 is not a single task; only single tasks have sparse rewards",
    ):
        make_env('puzzle-3x3-v0?{"sparse": true}')


@pytest.mark.parametrize("name", [POINT, "cube-single-singletask-task1-v0"])
def test_they_draw_pictures_for_a_film(name):
    pytest.importorskip("ogbench")
    try:
        film.use_renderer()
    except InputError:
        pytest.skip("nothing here draws")
    with film.drawing(name) as env:
        env.reset(seed=0)
        first = np.asarray(env.render())
        for _ in range(5):
            env.step(np.ones(env.action_space.shape, np.float32))
        assert first.shape == (200, 200, 3) and (np.asarray(env.render()) != first).any()
