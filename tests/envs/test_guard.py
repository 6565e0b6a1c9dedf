"""Users' return values are copied, converted if unambiguous, or refused in one line."""

import contextlib
from functools import partial

import jax
import numpy as np
import pytest

from enoto_jax.envs import values
from enoto_jax.envs.guard import Guard
from enoto_jax.envs.rollout import rollout, uniform
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.envs.workers import Crew, Part
from enoto_jax.transforms import transform
from enoto_jax.types import RunError
from tests.envs.odd import Careless, Returning
from tests.helpers import REACH, Reach, successor

SAME = transform()(REACH, None)
NAME = r"tests.envs.odd:Returning of seed 7, step 102: "


def second_step(changes=None, length=5):
    """The result of the second of two steps with seed 7, with the given changes."""
    made = partial(Returning, changes=changes, length=length)
    with contextlib.closing(SeedEnvs(made, [7], SAME)) as envs:
        envs.begin(100)
        envs.step(np.zeros((1, 1), np.float32))
        return envs.step(np.zeros((1, 1), np.float32))


@pytest.mark.parametrize("reward", [[1.5], np.array([1.5]), np.array(1.5), (1.5,), np.float16(1.5)])
def test_a_reward_in_a_box_is_a_reward(reward):
    assert second_step({1: reward}).transition.reward.tolist() == [1.5]


@pytest.mark.parametrize("flag", [True, np.True_, np.array([True]), [1], np.array(1.0)])
def test_a_flag_is_what_means_one(flag):
    assert second_step({2: flag}).transition.terminated.tolist() == [True]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({1: None}, "its reward is None; expected a number"),
        ({1: np.nan}, "its reward is NaN or infinite"),
        ({1: [1.0, 2.0]}, r"its reward has shape \[2\]; expected one number"),
        ({1: "1"}, "its reward is '1'; expected a number"),
        ({1: {"a": 1}}, "its reward is of type dict; expected a number"),
        ({2: None}, "its terminated is None; expected true or false"),
        ({2: 0.5}, "its terminated is 0.5; expected true or false"),
        ({3: "no"}, "its truncated is 'no'; expected true or false"),
        ({0: np.zeros(3)}, r"its observation has shape \[3\]; expected \[2\]"),
        ({0: np.zeros((1, 2))}, r"its observation has shape \[1, 2\]"),
        ({0: 1.0}, r"its observation has shape \[\]"),
        ({0: None}, "its observation is None; expected numbers"),
        ({0: [[1.0], 2.0]}, "its observation is of type list; expected numbers"),
        ({0: np.float64([1e300, 0])}, "its observation is NaN or infinite"),
        ({0: [1j, 0]}, "its observation is of type list; expected numbers"),
    ],
)
def test_anything_else_is_one_line_with_environment_seed_and_step(changes, words):
    with pytest.raises(RunError, match=f"^{NAME}{words}") as error:
        second_step(changes)
    assert "\n" not in str(error.value)


def test_four_values_are_the_old_gyms():
    with pytest.raises(RunError, match=NAME + r"step\(\) must return observation, reward, term"):
        second_step(length=4)


def test_an_info_that_is_none_or_changes_its_shapes_does_not_matter():
    for info in (None, {"x": np.zeros(3)}, {"x": {"y": [1]}}, {"final_obs": 3}):
        second_step({4: info})


@pytest.mark.parametrize(
    "info, told",
    [
        ({}, None),
        ({"success": True}, True),
        ({"success": np.float32(0.0)}, False),
        ({"is_success": 1}, True),
        ({"successes": np.array([0])}, False),
        ({"goal_achieved": np.True_}, True),
        ({"success": 0.0, "is_success": 1.0}, True),
        ({"success": {"task": True}}, None),
        ({"successes": 3}, None),
        ({"success": np.nan}, None),
        ({"success": None, "goal_achieved": False}, False),
    ],
)
def test_the_words_for_success(info, told):
    assert values.success(info) is told


def test_integers_become_floats():
    class Counts(Reach):
        def __init__(self):
            super().__init__()
            self.observation_space = type(self.observation_space)(0, 255, (2,), np.uint8)

        def _observation(self):
            return np.uint8([self._steps if hasattr(self, "_steps") else 0, 255])

    env = Guard(Counts(), "counts")
    observation, _ = env.reset(seed=0)
    assert observation.dtype == np.float32 and env.observation_space.dtype == np.float32
    assert env.step(np.zeros(1))[0].tolist() == [1.0, 255.0]


def test_a_close_that_fails_is_told_and_loses_nothing(capsys):
    class Stuck(Reach):
        def close(self):
            raise OSError("port is gone")

    Guard(Stuck(), "stuck of seed 1").close()
    assert capsys.readouterr().err == "stuck of seed 1: close() failed: OSError: port is gone\n"


def test_training_keeps_no_array_of_the_environments():
    """The environment reuses one buffer, even across resets, and writes into the action."""
    careless, plain = (
        SeedEnvs(partial(kind, ends_after=3), [0, 1], SAME) for kind in (Careless, Reach)
    )
    given, expected = [careless.begin()], [plain.begin()]
    for step in range(7):
        action = np.full((2, 1), 0.5 * (-1) ** step, np.float32)
        given.append(careless.step(action))
        expected.append(plain.step(action.copy()))
        np.testing.assert_array_equal(action, 0.5 * (-1) ** step)
    for one, two in zip(given, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_roll_out_keeps_none_either():
    made = rollout(Careless, uniform(1), 30, 0).transitions
    expected = successor(made.observation, made.action)
    np.testing.assert_allclose(made.next_observation, expected, atol=1e-6)
    assert (made.next_observation != made.observation).any(axis=1).all()
    assert np.abs(made.action).max() <= 1.0


def test_a_roll_out_that_fails_is_one_line():
    with pytest.raises(RunError, match="<lambda> of seed 4, step 2: its reward is None"):
        rollout(lambda: Returning({1: None}), uniform(1), 30, 4)


@pytest.mark.parametrize("processes", [1, 2])
def test_evaluations_keep_none_either(processes):
    seeds, alive = np.arange(3), np.ones(3, bool)
    careless = Crew(Careless, ["a", "b", "c"], processes)
    plain = Part(Reach, ["a", "b", "c"])
    given, expected = [careless.reset(seeds)], [plain.reset(seeds)]
    for step in range(4):
        action = np.full((3, 1), 0.5 * (-1) ** step, np.float32)
        given.append(careless.step(action, alive))
        expected.append(plain.step(action.copy(), alive))
        np.testing.assert_array_equal(action, 0.5 * (-1) ** step)
    for one, two in zip(given, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, two)
    careless.close()
