"""The units of actions, and how actions are scaled, for every way to load data."""

import h5py
import numpy as np
import pytest

from enoto_jax.data import (
    action_units,
    check,
    concatenate,
    contents,
    from_arrays,
    load_source,
    scaled,
)
from enoto_jax.types import InputError
from tests.helpers import reach_data


@pytest.fixture(params=["from_arrays", "hdf5", "npz"])
def opened(request, tmp_path):
    """opened(arrays, **bounds) -> the source, loaded in one of three ways."""

    def opened(arrays, **bounds):
        if request.param == "from_arrays":
            return from_arrays(**arrays, name="set", **bounds)
        path = tmp_path / f"set.{request.param}"
        if request.param == "npz":
            np.savez(path, **arrays)
        else:
            with h5py.File(path, "w") as file:
                for key, array in arrays.items():
                    file[key] = array
        return load_source(path, **bounds)

    return opened


UNITS = {  # low, high, and the recorded values of actions in [-1, 1]
    "from 0 to 1": (0.0, 1.0, lambda action: (action + 1) / 2),
    "wider": (-2.0, 2.0, lambda action: 2 * action),
    "one per action": ([-3.0], [5.0], lambda action: 1 + 4 * action),
    "as text": ("-2", "2", lambda action: 2 * action),
}


@pytest.mark.parametrize("units", UNITS)
def test_actions_are_scaled_on_request(opened, tiny, units):
    low, high, recorded = UNITS[units]
    wanted = from_arrays(**tiny, name="own").load().transitions.action
    given = tiny | {"actions": recorded(tiny["actions"]).astype(np.float32)}
    source = opened(given, action_low=low, action_high=high)
    np.testing.assert_allclose(source.load().transitions.action, wanted, atol=1e-6)
    assert source.load().transitions.action.dtype == np.float32
    assert any("actions: scaled from" in x for x in contents.opening_lines(source, source.load()))


def test_what_leaves_the_bounds_is_refused(opened, tiny):
    tiny["actions"][3] = 2.5
    with pytest.raises(
        InputError, match=r"row 3, action 0: 2.5 is above 1 \(1 row\); .*action_low and"
    ):
        opened(tiny).load()
    with pytest.raises(InputError, match=r"row 3, action 0: 2.5 is above 2 \(1 row\); clip"):
        opened(tiny, action_low=-2, action_high=2).load()
    both = {**tiny, "actions": np.tile([1000.09, 1.05], (7, 1))}  # only the second is outside
    with pytest.raises(InputError, match=r"action 1: 1.05 is above 1"):
        opened(both, action_low="-1000,-1", action_high="1000,1").load()
    tiny["actions"][3] = 2.0001  # rounding error
    found = opened(tiny, action_low=-2, action_high=2).load().transitions.action
    assert found.max() == 1.0


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, None), (None, 1), (1, 0), (0, np.inf), (0, 10**400), ("x", 1), ("", "")],
)
def test_bounds_that_are_none_are_refused(opened, tiny, low, high):
    with pytest.raises(InputError, match="action_low and action_high must both be given"):
        opened(tiny, action_low=low, action_high=high)


def test_bounds_as_text_and_as_float32_give_the_same_data(opened, tiny):
    tiny["actions"] *= np.float32(0.08)
    bounds = (".08", np.float32(0.08))
    found = [opened(tiny, action_low=-0.08, action_high=b).load() for b in bounds]
    assert found[0].content_hash == found[1].content_hash


def test_bounds_of_another_length_are_refused(opened, tiny):
    with pytest.raises(InputError, match=r"one per action \(1\), .* got '0' and '1,1'"):
        opened(tiny, action_low=0, action_high="1,1")


def test_whole_numbers_are_called_discrete(opened, tiny):
    tiny["actions"] = np.arange(7)[:, None]
    with pytest.raises(InputError, match=r"all are whole numbers: discrete actions are not"):
        opened(tiny).load()
    tiny["actions"] = np.arange(7)
    with pytest.raises(InputError, match=r"\[N, size\]; discrete actions are not"):
        opened(tiny)
    tiny["actions"] = np.arange(7)[:, None] % 2
    source = opened(tiny)
    assert any(
        "every action is one of 0, 1" in x for x in contents.opening_lines(source, source.load())
    )


def test_images_are_refused_in_words(opened, tiny):
    tiny["observations"] = np.zeros((7, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="images and stacked frames are not supported"):
        opened(tiny)


def test_bounds_that_a_file_brings(write, tiny, tmp_path):
    wanted = from_arrays(**tiny, name="own").load().transitions.action
    tiny["actions"] *= 2
    source = load_source(write(tiny, action_low=-2.0, action_high=np.float32([2.0])))
    np.testing.assert_allclose(source.load().transitions.action, wanted, atol=1e-6)
    np.savez(tmp_path / "b.npz", **tiny, action_low=-2, action_high=[2.0], env_id="Reach-v0")
    packed = load_source(tmp_path / "b.npz")
    assert (packed.env_id, packed.unread) == ("Reach-v0", ())
    assert packed.load().content_hash == source.load().content_hash
    assert check.inspect(str(source.path), env_id="none").dataset.content_hash == (
        source.load().content_hash
    )
    with pytest.raises(
        InputError, match=r"are already scaled from the bounds in the data, \[-2, 2\]"
    ):
        load_source(source.path, action_low=-1, action_high=1)


def test_joined_data_sets_keep_bounds_that_all_share(write, tiny):
    paths = [
        write(tiny, f"{i}.hdf5", action_low=-bound, action_high=bound)
        for i, bound in enumerate((2.0, 2.0, 3.0))
    ]
    two, same, three = map(load_source, paths)
    assert concatenate([two, same]).action_bounds == two.action_bounds
    assert concatenate([two, three]).action_bounds is None


def test_the_environments_own_bounds(write):
    arrays = reach_data(2)
    arrays["actions"] = 3 * arrays["actions"]
    by_env = from_arrays(
        **arrays, name="x", env_id="ReachWide-v0", action_low="env", action_high="env"
    )
    by_file = scaled(load_source(write(arrays, env_id="ReachWide-v0")), "env", "env")
    np.testing.assert_allclose(
        by_env.load().transitions.action, reach_data(2)["actions"], atol=1e-6
    )
    assert by_file.load().content_hash == by_env.load().content_hash
    with pytest.raises(InputError, match="does not name an environment to take action bounds from"):
        from_arrays(**arrays, name="x", action_low="env", action_high="env")


def test_parts_are_scaled_each(tiny):
    half = tiny | {"actions": tiny["actions"] / 2}
    both = concatenate([from_arrays(**half, name="a"), from_arrays(**half, name="b")])
    found = scaled(both, -0.5, 0.5).load().transitions.action
    np.testing.assert_allclose(found, np.concatenate([tiny["actions"]] * 2), atol=1e-6)
    assert both.load().transitions.action.max() == np.float32(0.3)  # the original is unchanged


RNG = np.random.default_rng(0)
VERDICTS = {  # actions, low, high, and the expected `scaled` and `environments`
    "as needed": (RNG.uniform(-1, 1, (99, 2)), -2, 2, True, False),
    "the same box": (RNG.uniform(-1, 1, (99, 2)), -1, 1, True, False),
    "from 0 to 1": (RNG.uniform(0, 1, (99, 2)), 0, 1, True, True),
    "wider": (RNG.uniform(-2, 2, (99, 2)), -2, 2, False, True),
    "narrower": (RNG.uniform(-0.4, 0.4, (99, 2)), -0.4, 0.4, True, True),
    "scaled for a narrower box": (RNG.uniform(-1, 1, (99, 2)), -0.4, 0.4, True, False),
    "one dimension": (RNG.uniform([-1, 0], [1, 9], (99, 2)), [-1, 0], [1, 9], False, True),
    "half of the same box": (RNG.uniform(0, 1, (99, 2)), -1, 1, True, False),
    "neither": (RNG.uniform(-9, 9, (99, 2)), -2, 2, False, False),
    "no box": (RNG.uniform(-1, 1, (99, 2)), 1, 1, True, False),
}


@pytest.mark.parametrize("what", VERDICTS)
def test_units_are_told(what):
    actions, low, high, is_scaled, environments = VERDICTS[what]
    found = action_units(actions, np.array(low), np.array(high))
    assert (found.scaled, found.environments) == (is_scaled, environments)
    assert ("fit the environment's own bounds" in found.note) == environments


def test_units_are_noted_by_check_data_and_at_the_start_of_a_run(write):
    arrays = reach_data(3)
    path = str(write(arrays | {"actions": arrays["actions"] * 3}))
    report = check.inspect(path, env_id="ReachWide-v0")
    assert report.findings[0].error and "action_low" in report.findings[0].text
    assert "fit the environment's own bounds [-3, 3] better" in report.findings[-1].text
    report = check.inspect(path, env_id="ReachWide-v0", action_low="env", action_high="env")
    assert report.verdict == "usable, 1 note"  # the note is about the time limit
    assert "actions: scaled from [-3, 3] to [-1, 1]" in contents.lines(report)
    narrow = from_arrays(**arrays | {"actions": arrays["actions"] * 0.4}, name="narrow")
    lines = contents.opening_lines(narrow, narrow.load(), (np.float32([-0.4]), np.float32([0.4])))
    assert any("fit the environment's own bounds [-0.4, 0.4]" in line for line in lines)
