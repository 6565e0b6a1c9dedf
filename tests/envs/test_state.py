"""Captured states continue exactly as the environment itself would have."""

import json

import gymnasium
import numpy as np
import pytest

from enoto_jax.envs.gym import make_env
from enoto_jax.envs.state import capture, restore
from tests.helpers import Reach

IDS = (
    "Hopper-v4",
    "HalfCheetah-v4",
    "Ant-v4",
    "enoto/Hopper-d4rl-v0",
    "enoto/AntMaze-umaze-v0",
    "InvertedDoublePendulum-v5",
    "Pendulum-v1",
    "Reach-v0",
)


class Counter(Reach):
    """Reach with an iterator, whose state is not in a plain attribute."""

    def reset(self, *, seed=None, options=None):
        self._numbers = iter(range(10**6))
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, float(next(self._numbers)), *rest


class Hooked(Counter):
    """Counter with get_state and set_state, which include the random numbers."""

    data = "its own, not MuJoCo's"

    def get_state(self):
        number = next(self._numbers)
        self._numbers = iter(range(number, 10**6))
        random = self.np_random.bit_generator.state
        return {
            "inner/number": number,
            "place": [self._position, self._goal, self._steps],
            "random": random,
        }

    def set_state(self, state):
        self._numbers = iter(range(state["inner/number"], 10**6))
        self._position, self._goal, self._steps = state["place"]
        self.np_random.bit_generator.state = state["random"]


class Grid(Reach):
    """Reach with a cell and a goal as tuples, which no list equals."""

    def reset(self, *, seed=None, options=None):
        self._cell, self._target = (0, (0,)), (3, (0,))
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self._cell = (self._cell[0] + 1, self._cell[1])
        observation, reward, _, *rest = super().step(action)
        return observation, reward, self._cell == self._target, *rest


class Views(Reach):
    """Reach with two views of one array."""

    def reset(self, *, seed=None, options=None):
        both = np.zeros(2)
        self._one, self._other = both[:1], both
        return super().reset(seed=seed, options=options)


for _name, _class in (
    ("Counter-v0", Counter),
    ("Hooked-v0", Hooked),
    ("Grid-v0", Grid),
    ("Views-v0", Views),
):
    if _name not in gymnasium.registry:
        gymnasium.register(_name, _class, max_episode_steps=20)


def play(env, steps: int, seed: int, end: int | None = None) -> list:
    """Take random actions; reset whenever an episode ends, and after step `end`."""
    rng, seen = np.random.default_rng(seed), []
    for step in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observation, *rest = env.step(action)
        seen += [*observation, *rest[:3]]
        if rest[1] or rest[2] or step == end:
            seen += [*env.reset()[0]]
    return seen


@pytest.mark.parametrize("env_id", [*IDS, "Hooked-v0"])
def test_bitwise_the_same_from_there(env_id):
    env = make_env(env_id)
    env.reset(seed=1)
    play(env, 30, seed=0)
    state = capture(env)
    expected = play(env, 50, seed=1, end=20)
    restore(env, state)
    assert play(env, 50, seed=1, end=20) == expected
    fresh = make_env(env_id)
    restore(fresh, state)
    assert play(fresh, 50, seed=1, end=20) == expected
    restore(fresh, state)
    assert play(fresh, 50, seed=2, end=20) != expected
    env.close(), fresh.close()


def test_the_time_limit_goes_on():
    env = make_env("HalfCheetah-v4")
    env.reset(seed=0)
    play(env, 998, seed=0)
    state = capture(env)
    restore(env, state)
    assert [env.step(np.zeros(6, np.float32))[3] for _ in range(2)] == [False, True]
    env.close()


@pytest.mark.parametrize("env_id", ["enoto/AntMaze-umaze-v0", "Reach-v0", "Grid-v0"])
def test_arrays_and_what_json_can_hold(env_id):
    env = make_env(env_id)
    env.reset(seed=1)
    state = capture(env)
    expected = play(env, 30, seed=1)
    loaded = {
        key: value if isinstance(value, np.ndarray) else json.loads(json.dumps(value))
        for key, value in state.items()
    }
    fresh = make_env(env_id)
    restore(fresh, loaded)
    assert play(fresh, 30, seed=1) == expected


def test_a_list_that_an_older_state_holds_for_a_tuple_is_restored_as_one():
    env = make_env("Grid-v0")
    env.reset(seed=0)
    state = capture(env)
    (cell,) = (key for key in state if key.endswith("_cell"))
    restore(env, {**state, cell: [2, [0]]})
    assert env.unwrapped._cell == [2, [0]]


@pytest.mark.parametrize("env_id", ["Counter-v0", "Views-v0"])
def test_an_unknown_attribute_or_a_shared_array_means_none(env_id):
    env = make_env(env_id)
    env.reset(seed=0)
    assert capture(env) is None


def test_another_environment_is_refused():
    env, other = make_env("Hopper-v4"), make_env("HalfCheetah-v4")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="HopperEnv.* but the environment has .*HalfCheetahEnv"):
        restore(other, capture(env))
