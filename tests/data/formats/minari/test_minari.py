"""Minari's HDF5 episodes against literal transitions, and what the metadata say."""

import json

import numpy as np
import pytest

from enoto_jax.data import check, completed, concatenate, from_arrays, load_source
from enoto_jax.types import InputError, Spec
from tests.data.formats.minari.helpers import BOX, ENV, ID, load, refused


def test_same_transitions_as_from_d4rls_layout(write, episodes, tiny):
    write(episodes)
    flat = from_arrays(**tiny, name="flat").load()
    assert load().content_hash == flat.content_hash  # the hash covers all arrays
    np.testing.assert_array_equal(load().transitions.next_observation, tiny["next_observations"])
    np.testing.assert_array_equal(load().transitions.truncated, [0, 0, 0, 0, 0, 1, 1])


def test_what_the_metadata_say(write, episodes):
    write(
        episodes, ref_min_score=1.0, ref_max_score=11.0, requirements=["mujoco>=3.2", "gymnasium"]
    )
    source = load_source(f"minari:{ID}")
    assert (source.name, source.version, source.spec) == (ID, "v3", Spec(1, 1))
    assert (source.env_id, source.max_episode_steps) == ("CartPole-v1", 3)
    assert source.physics == "mujoco>=3.2, gymnasium"
    assert source.reference == (1.0, 11.0) and source.score(6.0) == 50.0
    assert source.notes == ()


def test_evaluation_environment_comes_first_and_arguments_are_noted(write, episodes):
    write(episodes, eval_env_spec=json.dumps(ENV | {"id": "Acrobot-v1", "kwargs": {"maze": 1}}))
    source = load_source(f"minari:{ID}")
    assert source.env_id == "Acrobot-v1"
    assert source.notes == ("the data are of Acrobot-v1 with arguments: maze=1",)
    assert source.env_kwargs == {"maze": 1}
    assert concatenate([source, source]).env_kwargs == {"maze": 1}
    assert completed(source, "Acrobot-v1").env_kwargs == {"maze": 1}
    assert completed(source, "CartPole-v1").env_kwargs == {}  # a different environment


def test_arguments_that_only_draw_are_none(write, episodes):
    write(episodes, env_spec=json.dumps(ENV | {"kwargs": {"render_mode": "human"}}))
    source = load_source(f"minari:{ID}")
    assert (source.env_kwargs, source.notes) == ({}, ())


def test_other_arguments_are_other_tasks(write, episodes):
    sources = []
    for maze in (1, 2):
        write(episodes, f"a/m{maze}-v0", env_spec=json.dumps(ENV | {"kwargs": {"maze": maze}}))
        sources.append(load_source(f"minari:a/m{maze}-v0"))
    with pytest.raises(InputError, match="its env_kwargs is {'maze': 2}"):
        concatenate(sources)
    write(episodes, "a/plain-v0")
    plain = load_source("minari:a/plain-v0")
    with pytest.raises(InputError, match="its env_kwargs is {}, but .* {'maze': 1}"):
        concatenate([sources[0], plain])
    found = plain.load().transitions
    unknown = from_arrays(
        name="own",
        observations=found.observation,
        actions=found.action,
        rewards=found.reward,
        terminals=found.terminated,
    )
    assert concatenate([sources[0], unknown]).env_kwargs == {"maze": 1}


def test_what_is_not_read_is_named(write, episodes):
    for episode in dictionary(episodes):
        episode |= {"infos/success": np.zeros(1), "extra": np.zeros(1)}
    write(episodes, env_spec=json.dumps(ENV | {"id": "AntMaze_UMaze-v4"}))
    source = load_source(f"minari:{ID}")
    assert source.unread == ("extra", "infos", "observations/desired_goal")


def test_numbers_that_float32_cannot_hold_are_noted(write, episodes):
    for number, episode in enumerate(episodes):
        steps = np.arange(len(episode["observations"]))[:, None] + 10 * number
        episode["observations"] = np.hstack([steps, 1.7e9 + steps / 100])
    write(episodes)
    (note,) = load().notes
    assert "column 1 of observations: 7 different numbers become 1 in float32" in note


def test_d4rls_reference_is_not_taken_for_other_physics(write, episodes):
    for episode in episodes:
        episode["observations"] = np.tile(episode["observations"], (1, 11))
        episode["actions"] = np.tile(episode["actions"], (1, 3))
    bounds = BOX | {"shape": [3], "low": [-1.0] * 3, "high": [1.0] * 3}
    spec = ENV | {"id": "Hopper-v5"}
    write(
        episodes,
        "mujoco/hopper/medium-v0",
        env_spec=json.dumps(spec),
        action_space=json.dumps(bounds),
    )
    source = load_source("minari:mujoco/hopper/medium-v0")
    assert source.spec == Spec(11, 3) and source.env_id == "Hopper-v5"
    assert source.reference is None and not source.scored


def test_metadata_may_say_little(write, episodes):
    write(episodes, action_space=None, env_spec=None, total_episodes=None, data_format=None)
    source = load_source(f"minari:{ID}")
    assert (source.env_id, source.max_episode_steps, source.physics) == (None, None, "")
    assert len(source.load()) == 7


def test_actions_are_rescaled_from_their_bounds(write, episodes):
    for episode in episodes:
        episode["actions"] = 3 * episode["actions"] + 1  # [-2, 4]
    write(episodes, action_space=json.dumps(BOX | {"low": [-2.0], "high": [4.0]}))
    np.testing.assert_allclose(
        load().transitions.action[:, 0], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], atol=1e-7
    )
    episodes[1]["actions"][0] = 5
    write(episodes, action_space=json.dumps(BOX | {"low": [-2.0], "high": [4.0]}))
    refused(r"actions range from .* row 3, action 0: ")
    with pytest.raises(InputError, match=r"already scaled from the bounds in the data, \[-2, 4\]"):
        load_source(f"minari:{ID}", action_low=-2, action_high=4)


def test_whole_numbers_are_no_actions(write, episodes):
    write(episodes, action_space=json.dumps(BOX | {"dtype": "int64"}))
    refused("its actions are whole numbers; continuous ones are needed")


def test_unbounded_actions_have_to_fit(write, episodes):
    # json writes infinity as Infinity.
    write(episodes, action_space=json.dumps(BOX | {"low": [-np.inf], "high": [np.inf]}))
    np.testing.assert_allclose(load().transitions.action.max(), 0.6)
    scaled = load_source(f"minari:{ID}", action_low=-0.6, action_high=0.6).load()
    np.testing.assert_allclose(scaled.transitions.action.max(), 1.0)


def test_if_one_action_is_unbounded_none_is_rescaled_before_bounds_are_given(write, episodes):
    for episode in episodes:
        episode["actions"] = np.hstack([2 * episode["actions"], 5 * episode["actions"]])
    space = BOX | {"shape": [2], "low": [-2.0, -np.inf], "high": [2.0, np.inf]}
    write(episodes, action_space=json.dumps(space))
    refused("actions range from .* is above 1")
    source = load_source(f"minari:{ID}", action_low=[-2, -5], action_high=[2, 5])
    found = source.load().transitions.action
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-7)
    np.testing.assert_allclose(found.max(), 0.6, atol=1e-7)


@pytest.mark.parametrize("limit", [0.6, 3.0])
def test_a_check_scales_the_actions_once(write, episodes, limit):
    write(episodes, action_space=json.dumps(BOX | {"low": [-limit], "high": [limit]}))
    report = check.inspect(f"minari:{ID}", env_id="none")
    assert report.usable and report.dataset.content_hash == load().content_hash
    np.testing.assert_allclose(report.arrays["actions"].max(), 0.6 / limit, atol=1e-6)


def dictionary(episodes):
    """Replace observations by dictionaries: x, achieved goal 2 x, desired goal x + 5 and x + 6."""
    for episode in episodes:
        x = episode.pop("observations")
        episode["observations/observation"] = x
        episode["observations/desired_goal"] = np.hstack([x + 5, x + 6])
        episode["observations/achieved_goal"] = 2 * x
    return episodes


def test_antmaze_observes_its_position_first_and_no_goal(write, episodes, tiny):
    write(dictionary(episodes), env_spec=json.dumps(ENV | {"id": "AntMaze_UMaze-v4"}))
    x, following = tiny["observations"], tiny["next_observations"]
    found = load().transitions
    np.testing.assert_array_equal(found.observation, np.hstack([2 * x, x]))
    np.testing.assert_array_equal(found.next_observation, np.hstack([2 * following, following]))
    notes = load_source(f"minari:{ID}").notes
    assert notes == ("observations are achieved_goal, observation, concatenated",)


def test_other_dictionaries_are_flattened_as_gymnasium_does(write, episodes, tiny):
    write(dictionary(episodes))
    x = tiny["observations"]
    wanted = np.hstack([2 * x, x + 5, x + 6, x])
    np.testing.assert_array_equal(load().transitions.observation, wanted)


def test_dictionaries_have_the_order_of_the_space_not_of_the_alphabet(write, episodes, tiny):
    inner = dict.fromkeys(("observation", "desired_goal", "achieved_goal"), BOX)
    write(
        dictionary(episodes),
        observation_space=json.dumps({"type": "Dict", "subspaces": inner}),
    )
    x = tiny["observations"]
    wanted = np.hstack([x, x + 5, x + 6, 2 * x])
    np.testing.assert_array_equal(load().transitions.observation, wanted)


def test_without_a_space_nested_keys_are_sorted_level_by_level(write, episodes, tiny):
    for episode in episodes:
        x = episode.pop("observations")
        episode["observations/arm-2"] = x
        episode["observations/arm/x"] = 2 * x  # "arm" is before "arm-2", "arm/x" is not
    write(episodes)
    x = tiny["observations"]
    np.testing.assert_array_equal(load().transitions.observation, np.hstack([2 * x, x]))


def test_terminations_stay_where_they_are(write, episodes):
    episodes[1]["terminations"] = np.array([0, 1, 0], bool)  # the episode continues
    write(episodes)
    found = load().transitions
    np.testing.assert_array_equal(found.terminated, [0, 0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(found.truncated, [0, 0, 0, 0, 0, 1, 1])


def test_episodes_are_taken_in_the_order_of_their_numbers(write, episodes):
    write([episodes[i % 3] for i in range(12)])  # episode_10 sorts before episode_2
    wanted = [1, 2, 3, 4, 5, 6, 7] * 4
    np.testing.assert_array_equal(load().transitions.reward, wanted)


def test_empty_episodes_are_passed_over(write, episodes):
    empty = {key: array[:0] for key, array in episodes[0].items()}
    empty["observations"] = episodes[0]["observations"][:1]
    write([*episodes[:1], empty, *episodes[1:]])
    assert len(load()) == 7
