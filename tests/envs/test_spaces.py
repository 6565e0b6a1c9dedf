"""Spaces that the agents do not support are refused before anything is computed."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Tuple

from enoto_jax.envs.gym import check_spec, make_env, spec_of
from enoto_jax.types import InputError, Spec
from tests.envs.odd import Fails, Returning
from tests.helpers import REACH, Reach

ROW = Box(-1.0, 1.0, (3,))
IMAGE = Box(0, 255, (8, 8, 3), np.uint8)


class Odd(Reach):
    """Reach with other spaces."""

    def __init__(self, **spaces):
        super().__init__()
        self.__dict__.update(spaces)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


def odd(**spaces):
    return lambda: Odd(**spaces)


@pytest.mark.parametrize(
    "space, words",
    [
        (Discrete(3), r"acts in Discrete\(3\); continuous actions only"),
        (MultiDiscrete([3, 2]), "continuous actions only"),
        (MultiBinary(3), "continuous actions only"),
        (Dict(arm=ROW), "continuous actions only"),
        (Tuple((ROW, ROW)), "continuous actions only"),
        (Box(-3, 3, (2,), np.int32), "whole numbers; continuous actions only"),
        (Box(-1.0, 1.0, (2, 2)), "a flat Box is needed"),
        (Box(-1.0, 1.0, ()), "a flat Box is needed"),
        (Box(-np.inf, np.inf, (1,)), "unbounded actions"),
        (Box(np.float32([-1, 0]), np.float32([1, np.inf])), "unbounded actions"),
        (Box(np.float32([-1, 2]), np.float32([1, 2])), "action 1 has the bounds 2 and 2"),
    ],
)
def test_actions(space, words):
    with pytest.raises(InputError, match=f"^--env: .*{words}") as error:
        make_env(odd(action_space=space))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "space, words",
    [
        (
            IMAGE,
            r"observes images \(Box\(0, 255, \(8, 8, 3\), uint8\)\); agents here take a flat vector",
        ),
        (Box(0, 255, (8, 8), np.uint8), "observes images"),
        (Box(0.0, 1.0, (3, 8, 8)), "observes images"),
        (Dict(state=ROW, camera=IMAGE), r"observes images \(camera: Box"),
        (Dict(arm=Dict(wrist=IMAGE), state=ROW), r"observes images \(arm: wrist: Box"),
        (Tuple((ROW, IMAGE)), r"observes images \(1: Box"),
        (Tuple((ROW, ROW)), "a flat Box is needed, or a Dict of them"),
        (Discrete(5), "a flat Box is needed"),
        (Box(0.0, 1.0, (2, 2)), "a flat Box is needed"),
        (Dict(state=ROW, many=Sequence(ROW)), "observes Dict.*; a flat Box is needed"),
    ],
)
def test_observations(space, words):
    with pytest.raises(InputError, match=f"^--env: .*{words}") as error:
        make_env(odd(observation_space=space))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "space, size",
    [
        (Dict(a=ROW, b=Dict(c=ROW)), 6),
        (Dict(a=ROW, mode=Discrete(4)), 7),
        (Box(0, 255, (6,), np.uint8), 6),
        (Box(-5, 5, (2,), np.int64), 2),
        (Box(-np.inf, np.inf, (4,), np.float64), 4),
    ],
)
def test_rows_of_numbers_are_taken(space, size):
    made = odd(observation_space=space)
    assert spec_of(make_env(made)) == Spec(size, 1)


def test_the_first_step_is_tried_before_the_run():
    assert [x.tolist() for x in check_spec("ReachWide-v0", REACH, "reach").bounds] == [
        [-3.0],
        [3.0],
    ]
    with pytest.raises(InputError, match="^--env: .*seed 0, tried before the run, step 0: reset"):
        check_spec(lambda: NoInfo(), REACH, "reach")
    with pytest.raises(InputError, match="ZeroDivisionError: no robot is connected"):
        check_spec(Fails, REACH, "reach")
    check_spec(lambda: Returning({1: None}), REACH, "reach")  # only the first step is tried


class NoInfo(Reach):
    """Reach whose reset returns only the observation, as in early Gym."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


def test_the_old_gym_is_refused_at_once():
    env = make_env(NoInfo)
    assert isinstance(env, gymnasium.Env)
    with pytest.raises(InputError, match=r"reset\(\) must return an observation and a dictionary"):
        check_spec(NoInfo, REACH, "reach")
