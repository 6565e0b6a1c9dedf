"""Other libraries' names, and contradictions among them, for every way to load data."""

import h5py
import numpy as np
import pytest

from enoto_jax.data import check, contents, from_arrays, load_source
from enoto_jax.types import InputError

ENDS = np.array([0, 0, 1, 0, 0, 1, 1])  # ends of TINY's episodes, of any kind
FALLS = np.array([0, 0, 1, 0, 0, 0, 0])


@pytest.fixture(params=["from_arrays", "hdf5", "npz"])
def opened(request, tmp_path):
    """opened(arrays) -> the source of these arrays, loaded in one of three ways."""

    def opened(arrays):
        if request.param == "from_arrays":
            return from_arrays(**arrays, name="set")
        path = tmp_path / f"set.{request.param}"
        if request.param == "npz":
            np.savez(path, **arrays)
        else:
            with h5py.File(path, "w") as file:
                for key, array in arrays.items():
                    file[key] = array
        return load_source(path)

    return opened


def renamed(tiny, **names):
    return {names.get(key, key): array for key, array in tiny.items()}


NAMES = {
    "Gymnasium": dict(
        observations="obs",
        actions="action",
        rewards="reward",
        next_observations="next_obs",
        terminals="terminated",
        timeouts="truncated",
    ),
    "Minari": dict(terminals="terminations", timeouts="truncations"),
    "imitation": dict(observations="obs", actions="acts", rewards="rews"),
    "Tianshou": dict(observations="obs", next_observations="obs_next", rewards="rew"),
    "Spinning Up": dict(observations="obs", next_observations="obs2", rewards="rew"),
    "RLlib": dict(terminals="terminateds", timeouts="truncateds"),
}


@pytest.mark.parametrize("library", NAMES)
def test_names_with_one_meaning_are_understood(opened, tiny, library):
    source = opened(renamed(tiny, **NAMES[library]))
    assert source.load().content_hash == from_arrays(**tiny, name="own").load().content_hash
    assert source.unread == () and source.load().notes == ()


@pytest.mark.parametrize("name", ["episode_terminals", "dones_float"])
@pytest.mark.parametrize("following", [True, False])
def test_ends_of_any_kind_cut_where_nothing_terminates(opened, tiny, name, following):
    del tiny["timeouts"]
    if following:  # a log may store every following row, even across resets
        tiny["next_observations"] = np.roll(tiny["observations"], -1, axis=0)
    else:
        del tiny["next_observations"]
    found = opened(tiny | {name: ENDS.astype(np.float32)}).load()
    lengths, terminated = ([3, 3, 1], [2]) if following else ([3, 2], [2])
    np.testing.assert_array_equal(found.episode_lengths, lengths)
    np.testing.assert_array_equal(np.flatnonzero(found.transitions.terminated), terminated)
    inside = ~(found.transitions.terminated | found.transitions.truncated)
    steps = found.transitions.next_observation - found.transitions.observation
    assert (steps[inside] == 1).all()  # no transition crosses a reset
    assert found.notes == ()


@pytest.mark.parametrize("name", ["masks", "not_done"])
@pytest.mark.parametrize("kind", [np.float32, bool, np.uint8])
def test_masks_are_the_contrary_of_terminals(opened, tiny, name, kind):
    wanted = from_arrays(**tiny, name="own").load().content_hash
    del tiny["terminals"]
    assert opened(tiny | {name: (1 - FALLS).astype(kind)}).load().content_hash == wanted


def test_iqls_names(opened, tiny):
    wanted = from_arrays(**tiny, name="own").load().content_hash
    del tiny["terminals"], tiny["timeouts"]
    flags = {"masks": 1.0 - FALLS, "dones_float": ENDS.astype(float)}
    assert opened(tiny | flags).load().content_hash == wanted


def test_equal_arrays_under_two_names_are_read_once(opened, tiny):
    source = opened(tiny | {"obs": tiny["observations"], "masks": 1 - FALLS})
    assert source.unread == () and len(source.load()) == 7


CONTRADICTIONS = {
    "time-outs": (
        {"truncations": np.roll(ENDS, 1)},
        "timeouts and truncations mean the same but differ in 4 rows, first in row 0",
    ),
    "numbers": (
        {"obs": np.zeros((7, 1), np.float32)},
        "observations and obs mean the same but differ in 6 rows, first in row 1",
    ),
    "sizes": ({"obs": np.zeros((7, 2), np.float32)}, "observations and obs .* different sizes"),
    "masks": (
        {"masks": 1 - ENDS},  # also 0 at time-outs
        "masks must be 0 where terminals is 1, .*not in 2 rows, first in row 5; .*timeouts",
    ),
    "ends without the fall": (
        {"episode_terminals": np.array([0, 0, 0, 0, 0, 1, 1])},
        "episode_terminals must be 1 in the last row .*terminals and timeouts contradict it in 1 "
        "row, first in row 2",
    ),
    "ends elsewhere": ({"dones_float": np.array([0, 1, 1, 0, 0, 1, 1])}, "first in row 1"),
    "bad length": ({"truncations": ENDS[:3]}, "truncations has 3 rows but observations has 7"),
    "bad shape": (
        {"masks": np.ones((7, 2))},
        r"masks has shape \[7, 2\]; expected \[N\] or \[N, 1\]",
    ),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_contradictions_are_refused(opened, tiny, what):
    more, message = CONTRADICTIONS[what]
    with pytest.raises(InputError, match=message) as error:
        opened(tiny | more).load()
    assert "\n" not in str(error.value)


def test_ends_contradict_terminals_also_without_timeouts(opened, tiny):
    del tiny["timeouts"]
    with pytest.raises(InputError, match="and terminals contradict it in 1 row, first in row 2"):
        opened(tiny | {"episode_terminals": np.zeros(7)}).load()


def test_messages_name_the_array_that_was_given(opened, tiny):
    del tiny["timeouts"]
    with pytest.raises(InputError, match=r"timeouts must be .*row 1 is 3.*read from truncations\)"):
        opened(tiny | {"truncations": np.array([0, 3, 0, 0, 0, 0, 0])}).load()
    tiny["reward"] = tiny.pop("rewards") * np.nan
    with pytest.raises(InputError, match=r"rewards is NaN .*\(rewards read from reward\)"):
        opened(tiny).load()
    del tiny["terminals"]
    with pytest.raises(InputError, match=r"row 0 is 2.*\(terminals read from 1 - masks\)"):
        opened(tiny | {"reward": np.zeros(7), "masks": np.full(7, 2)}).load()


def test_arrays_that_are_not_read_are_named(opened, tiny):
    source = opened(tiny | {"dones": ENDS, "is_first": ENDS, "version": np.array(2.0)})
    assert source.unread == ("dones", "is_first", "version")
    assert "not read: dones, is_first, version" in contents.opening_lines(source, source.load())


def test_a_name_with_two_meanings_is_not_guessed(opened, tiny):
    del tiny["terminals"]
    with pytest.raises(InputError, match="no terminals.*dones has two meanings: call it terminals"):
        opened(tiny | {"dones": ENDS})


def test_groups_and_links_of_a_file_are_named_and_not_followed(write, tiny):
    path = write(tiny | {"infos/qpos": np.zeros(7), "extra": np.zeros(7)})
    with h5py.File(path, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
    assert load_source(path).unread == ("elsewhere", "extra", "infos/")
    texts = [finding.text for finding in check.inspect(str(path), env_id="none").findings]
    assert texts == ["not read: elsewhere, extra"]  # infos describe the recording


def test_a_link_under_another_librarys_name_is_not_followed(write, tiny):
    path = write(tiny)
    with h5py.File(path, "a") as file:
        file["obs"] = h5py.SoftLink("/observations")
        file.create_group("acts")
    source = load_source(path)
    assert source.unread == ("acts/", "obs") and len(source.load()) == 7


def test_many_names_are_cut_short(write, tiny):
    unread = load_source(write(tiny | {f"x{i:02}": np.zeros(1) for i in range(25)})).unread
    assert len(unread) == 21 and unread[-1] == "5 more"


def test_what_is_no_array_is_no_argument(tiny):
    with pytest.raises(InputError, match="no argument 'enviroment_id', and it is not an array"):
        from_arrays(**tiny, name="mine", enviroment_id="Hopper-v4")
    with pytest.raises(InputError, match="observations is a dictionary of arm, hand; put its"):
        from_arrays(**tiny | {"observations": {"arm": 1, "hand": 2}}, name="mine")
