"""Transforms against arithmetic on a data set with five rows in two episodes."""

import json

import numpy as np
import pytest

from enoto_jax.data.memory import from_arrays
from enoto_jax.recipes import registry
from enoto_jax.recipes.table import recipe
from enoto_jax.transforms import Transform, transform
from enoto_jax.types import InputError, Spec

SPEC = Spec(2, 1)
ROWS = {
    "observations": np.float32([[0, 1], [2, 1], [4, 1], [6, 1], [8, 1]]),
    "actions": np.float32([[-1], [0], [0.5], [1], [0]]),
    "rewards": np.float32([1, 2, 4, 1, 0]),
    "terminals": [0, 0, 1, 0, 0],
    "timeouts": [0, 0, 0, 0, 1],
    "next_observations": np.float32([[2, 1], [4, 1], [6, 1], [8, 1], [10, 1]]),
}


@pytest.fixture
def dataset():
    return from_arrays(**ROWS, name="five").load()


def test_the_default_changes_nothing(dataset):
    same = transform()(SPEC, None)
    assert same.changes_nothing and same.transitions(dataset.transitions) is dataset.transitions
    action = np.float32([[1.0], [-0.3]])
    np.testing.assert_array_equal(same.world_action(action), action)


def test_observations_are_standardised_by_the_data(dataset):
    fitted = transform(observations=True, epsilon=1e-3)(SPEC, dataset)
    seen = fitted.transitions(dataset.transitions)
    # Mean 4 and variance (16 + 4 + 0 + 4 + 16) / 5 = 8; the second column is constant.
    expected = (np.array([0, 2, 4, 6, 8]) - 4) / (8**0.5 + 1e-3)
    np.testing.assert_allclose(seen.observation[:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(seen.observation[:, 1], 0)
    np.testing.assert_allclose(seen.next_observation[:-1], seen.observation[1:])
    assert seen.observation.dtype == np.float32
    np.testing.assert_array_equal(seen.reward, dataset.transitions.reward)


def test_actions_are_standardised_and_given_back(dataset):
    fitted = transform(actions=True, epsilon=1e-6)(SPEC, dataset)
    world = dataset.transitions.action
    agent = fitted.action(world)
    np.testing.assert_allclose(agent.mean(), 0.0, atol=1e-6)
    np.testing.assert_allclose(agent.std(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(fitted.world_action(agent), world, atol=1e-6)
    assert fitted.world_action(np.float32([100.0])) == 1.0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"reward_scale": 10.0, "reward_shift": -5.0}, [5, 15, 35, 5, -5]),
        # The episodes' returns are 7 and 1.
        ({"return_range": 1000.0}, np.array([1, 2, 4, 1, 0]) * 1000 / 6),
        ({"return_range": 6.0, "reward_shift": -1.0}, [0, 1, 3, 0, -1]),
        ({"reward_over_largest": True}, [0.25, 0.5, 1, 0.25, 0]),
    ],
)
def test_rewards(dataset, options, expected):
    seen = transform(**options)(SPEC, dataset).transitions(dataset.transitions)
    np.testing.assert_allclose(seen.reward, expected, rtol=1e-6)
    assert seen.reward.dtype == np.float32


def test_actions_are_clipped_on_both_ways(dataset):
    fitted = transform(action_limit=0.99)(SPEC, dataset)
    seen = fitted.transitions(dataset.transitions)
    np.testing.assert_allclose(seen.action[:, 0], [-0.99, 0, 0.5, 0.99, 0])
    np.testing.assert_allclose(fitted.world_action(np.float32([5.0])), 0.99)


def test_json_gives_back_the_same_numbers(dataset):
    fitted = transform(observations=True, actions=True, return_range=1000.0)(SPEC, dataset)
    again = Transform.from_json(json.loads(json.dumps(fitted.to_json())))
    for one, two in zip(fitted, again, strict=True):
        np.testing.assert_array_equal(one, two)
        assert np.asarray(one).dtype == np.asarray(two).dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action_limit": 0.0}, "action_limit is 0.0"),
        ({"action_limit": 1.1}, "action_limit is 1.1"),
        ({"reward_scale": 0.0}, "reward_scale is 0.0 .* the scale not 0"),
        ({"reward_shift": float("nan")}, "reward_shift nan; both must be finite"),
        ({"epsilon": -1e-3}, "epsilon is -0.001; it must be 0 or more"),
        ({"return_range": -1.0}, "return_range is -1.0; it must be above 0"),
    ],
)
def test_senseless_numbers_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        transform(**options)


def test_what_is_learned_from_data_needs_data(dataset):
    with pytest.raises(InputError, match="this run reads none"):
        transform(observations=True)(SPEC, None)
    flat = from_arrays(**{**ROWS, "rewards": np.zeros(5)}, name="flat").load()
    setting = r"all 2 episodes have the same return, 0.*--set=transform.return_range=none"
    with pytest.raises(InputError, match=setting):
        transform(return_range=1.0)(SPEC, flat)
    setting = r"no reward is above 0 \(.* 0\).*--set=transform.reward_over_largest=false"
    with pytest.raises(InputError, match=setting):
        transform(reward_over_largest=True)(SPEC, flat)


def test_one_episode_and_rounding_are_no_range_of_returns():
    one = from_arrays(**{**ROWS, "terminals": np.zeros(5)}, name="one").load()
    with pytest.raises(
        InputError, match="a single episode .are its ends marked.*return_range=none"
    ):
        transform(return_range=1.0)(SPEC, one)
    rewards = np.float32([1, 2, 4, 7, np.nextafter(np.float32(0), np.float32(1))])
    equal = from_arrays(**{**ROWS, "rewards": rewards}, name="equal").load()
    with pytest.raises(InputError, match="all 2 episodes have the same return, 7"):
        transform(return_range=1.0)(SPEC, equal)


@pytest.mark.parametrize(
    ("method", "setting"),
    [("iql", "transform.return_range=none"), ("lapo", "transform.reward_over_largest=false")],
)
def test_the_named_settings_are_those_of_the_methods(method, setting):
    flat = from_arrays(**{**ROWS, "rewards": np.zeros(5)}, name="flat").load()
    with pytest.raises(InputError, match=f"--set={setting}"):
        recipe(method).transform(SPEC, flat)
    path, _, value = setting.partition("=")
    changed = registry.override(recipe(method), path, value)
    assert changed.transform(SPEC, flat).reward_scale == 1.0


@pytest.mark.parametrize(
    "tree", [{"reward_scale": "x"}, {"observation_shift": [{}]}, {"inf": 1.0}, []]
)
def test_json_that_is_no_transform_is_refused(tree):
    with pytest.raises(InputError, match="transform cannot be read"):
        Transform.from_json(tree)
