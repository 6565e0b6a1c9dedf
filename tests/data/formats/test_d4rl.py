"""Every layout of D4RL's files against literal transitions, and every file that must be refused."""

import re

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enoto_jax.data import files, succession, words
from enoto_jax.data.formats import d4rl
from enoto_jax.types import InputError

T, F = True, False


def transitions(path, max_episode_steps=1000):
    return succession.to_transitions(files.read(d4rl.opened, path).arrays, max_episode_steps, path)


def check(found, *, observation, reward, terminated, truncated, following):
    assert found.observation.dtype == found.reward.dtype == np.float32
    assert found.terminated.dtype == found.truncated.dtype == bool
    assert found.extras == {}
    np.testing.assert_array_equal(found.observation, np.array(observation)[:, None])
    np.testing.assert_array_equal(found.reward, reward)
    np.testing.assert_array_equal(found.terminated, terminated)
    np.testing.assert_array_equal(found.truncated, truncated)
    np.testing.assert_array_equal(found.next_observation, np.array(following)[:, None])
    np.testing.assert_allclose(found.action[:, 0], (found.reward - 1) / 10, atol=1e-7)


WITH_NEXT = dict(
    observation=[0, 1, 2, 10, 11, 12, 20],
    reward=[1, 2, 3, 4, 5, 6, 7],
    terminated=[F, F, T, F, F, F, F],
    truncated=[F, F, F, F, F, T, T],
    following=[1, 2, 3, 11, 12, 13, 21],
)
WITHOUT_NEXT = dict(  # the time-out (12) and the last row (20) have no known successor
    observation=[0, 1, 2, 10, 11],
    reward=[1, 2, 3, 4, 5],
    terminated=[F, F, T, F, F],
    truncated=[F, F, F, F, T],
    following=[1, 2, 2, 11, 12],
)


def test_v2_layout_keeps_every_row(write, tiny):
    check(transitions(write(tiny)), **WITH_NEXT)


def test_replay_layout_is_float64_with_column_rewards_and_float_flags(write, tiny):
    arrays = {key: array.astype(np.float64) for key, array in tiny.items()}
    arrays["rewards"] = arrays["rewards"][:, None]
    arrays["terminals"] = arrays["terminals"][:, None]
    check(transitions(write(arrays)), **WITH_NEXT)


def test_v0_layout_drops_rows_without_a_successor(write, tiny):
    del tiny["next_observations"]
    check(transitions(write(tiny)), **WITHOUT_NEXT)


def test_without_timeouts_steps_are_counted_from_the_last_end(write, tiny):
    del tiny["next_observations"], tiny["timeouts"]
    check(transitions(write(tiny), max_episode_steps=3), **WITHOUT_NEXT)


def test_counted_limit_repeats_and_a_terminal_resets_it(write, tiny):
    del tiny["next_observations"], tiny["timeouts"]
    found = transitions(write(tiny), max_episode_steps=2)  # drops rows 1, 4 and 6
    np.testing.assert_array_equal(found.reward, [1, 3, 4, 6])
    np.testing.assert_array_equal(found.truncated, [T, F, T, T])


def test_without_timeouts_or_limit_only_terminals_end_episodes(write, tiny):
    del tiny["next_observations"], tiny["timeouts"]
    found = transitions(write(tiny), max_episode_steps=None)
    np.testing.assert_array_equal(found.reward, [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(found.truncated, [F, F, F, F, F, T])


def test_gap_in_stored_successors_ends_an_episode(write, tiny):
    del tiny["timeouts"]
    check(transitions(write(tiny), max_episode_steps=1000), **WITH_NEXT)
    tiny["next_observations"][0] += 1e-7  # a rounding error, not a gap
    assert not transitions(write(tiny, "rounded.hdf5")).truncated[0]


def test_row_that_is_terminal_and_timeout_is_terminated(write, tiny):
    tiny["timeouts"][2] = True
    check(transitions(write(tiny)), **WITH_NEXT)
    del tiny["next_observations"]
    check(transitions(write(tiny, "v0.hdf5")), **WITHOUT_NEXT)


def test_terminal_row_before_a_dropped_one_stays_terminated_alone(write, tiny):
    del tiny["next_observations"]
    tiny["terminals"][4] = True  # row 5, the time-out, is dropped with its one-step episode
    found = transitions(write(tiny))
    np.testing.assert_array_equal(found.terminated, [F, F, T, F, T])
    np.testing.assert_array_equal(found.truncated, [F, F, F, F, F])


def test_terminal_last_row_is_kept(write, tiny):
    tiny["terminals"][6] = True
    del tiny["next_observations"]
    found = transitions(write(tiny))
    np.testing.assert_array_equal(found.reward, [1, 2, 3, 4, 5, 7])
    np.testing.assert_array_equal(found.terminated, [F, F, T, F, F, T])
    np.testing.assert_array_equal(found.truncated, [F, F, F, F, T, F])


def test_antmaze_goal_rows_are_terminal_one_by_one(write, tiny):
    del tiny["next_observations"]
    tiny["terminals"][:] = [0, 1, 1, 0, 0, 0, 0]  # the trajectory continues to row 5
    tiny["rewards"] = tiny["rewards"].astype(np.float64)
    found = transitions(write(tiny))
    np.testing.assert_array_equal(found.terminated, [F, T, T, F, F])
    np.testing.assert_array_equal(found.truncated, [F, F, F, F, T])


def test_tiny_overshoot_of_actions_is_clipped(write, tiny):
    tiny["actions"][3] = 1.00005
    assert transitions(write(tiny)).action.max() == 1.0


def test_virtual_rows_are_read_from_the_file_beside_it(write, tiny, tmp_path):
    write(tiny, "part.hdf5")
    with h5py.File(tmp_path / "joined.hdf5", "w") as file:
        for key, array in tiny.items():
            layout = h5py.VirtualLayout(array.shape, array.dtype)
            layout[:] = h5py.VirtualSource("part.hdf5", key, array.shape, array.dtype)
            file.create_virtual_dataset(key, layout)
    check(transitions(tmp_path / "joined.hdf5"), **WITH_NEXT)
    (tmp_path / "part.hdf5").unlink()
    refused(tmp_path / "joined.hdf5", r"observations points at rows of part.hdf5.*same folder")


def test_npz_reads_like_hdf5(tmp_path, tiny):
    np.savez_compressed(tmp_path / "tiny.npz", **tiny)
    check(transitions(tmp_path / "tiny.npz"), **WITH_NEXT)
    header = files.peek(d4rl.opened, tmp_path / "tiny.npz")
    assert (header.rows, *header.spec) == (7, 1, 1)


def test_peek_reads_sizes_and_attributes_but_no_numbers(write, tiny):
    tiny["rewards"][2] = np.nan
    path = write(tiny, env_id="Hopper-v4", seed=3)
    assert files.peek(d4rl.opened, path) == (7, (1, 1), {"env_id": "Hopper-v4"})
    refused(path, "rewards is NaN")


# What must be refused.


def refused(path, message):
    with pytest.raises(InputError) as caught:
        files.read(d4rl.opened, path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text
    assert re.search(message, text), text


def set_row(key, row, value):
    def change(arrays):
        arrays[key][row] = value

    return change


def replace(key, function):
    def change(arrays):
        arrays[key] = function(arrays[key])

    return change


BAD_ARRAYS = {
    "missing key": (
        lambda arrays: arrays.pop("rewards"),
        r"no rewards \(keys found: actions, .*timeouts\); D4RL's layout needs observations, ",
    ),
    "lengths": (replace("actions", lambda a: a[:5]), r"actions has 5 rows but observations has 7"),
    "rank": (
        replace("observations", lambda a: a[:, :, None]),
        r"observations has shape \[7, 1, 1\]; expected \[N, size\]",
    ),
    "flat observations": (
        replace("observations", lambda a: a[:, 0]),
        r"observations has shape \[7\]; expected \[N, size\]",
    ),
    "scalar": (
        replace("rewards", lambda a: a[0]),
        r"rewards has shape \[\]; expected \[N\] or \[N, 1\]",
    ),
    "no columns": (replace("actions", lambda a: a[:, :0]), r"actions has shape \[7, 0\]"),
    "wide rewards": (
        replace("rewards", lambda a: np.stack([a, a], 1)),
        r"rewards has shape \[7, 2\]; expected \[N\] or \[N, 1\]",
    ),
    "next size": (
        replace("next_observations", lambda a: np.hstack([a, a])),
        r"next_observations has shape \[7, 2\] but observations has \[7, 1\]",
    ),
    "text": (
        replace("rewards", lambda a: np.full(7, b"one")),
        r"rewards has type \|S3; expected real numbers",
    ),
    "complex": (replace("actions", lambda a: a + 1j), r"actions has type complex64"),
    "nan": (set_row("observations", [2, 4], np.nan), r"observations is NaN.* in 2 of 7 .*row 2;"),
    "infinite": (set_row("rewards", 5, -np.inf), r"rewards is NaN or infinite.*first in row 5;"),
    "float32 overflow": (
        replace("rewards", lambda a: a * np.float64(1e39)),
        r"rewards is NaN or infinite \(as float32\) in 7 of 7 rows",
    ),
    "actions": (
        set_row("actions", 4, -2.5),
        r"actions range from -2.5 to 0.6: row 4, action 0: -2.5 is below -1 \(1 row\); rescale",
    ),
    "small overshoot": (set_row("actions", 1, 1.001), r"actions range from .* to 1.001: row 1, "),
    "flags": (
        replace("terminals", lambda a: a * 2.0),
        r"terminals must be 0 or 1, but row 2 is 2.0 \(1 such row\)",
    ),
    "nan flag": (
        replace("timeouts", lambda a: np.where(a, np.nan, 0.0)),
        r"timeouts must be 0 or 1, but row 5 is nan",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused(write, tiny, case):
    change, message = BAD_ARRAYS[case]
    change(tiny)
    refused(write(tiny), message)


def test_boolean_byte_that_is_no_boolean_is_refused(write, tiny):
    tiny["terminals"] = np.array([0, 0, 7, 0, 0, 0, 0], np.uint8).view(bool)
    refused(write(tiny), r"terminals must be 0 or 1, but row 2 is 7")


def test_empty_data_set_is_refused(write, tiny):
    refused(write({key: array[:0] for key, array in tiny.items()}), "has no rows")


def test_data_without_any_successor_are_refused(write, tiny):
    path = write({key: tiny[key][:1] for key in words.REQUIRED})
    with pytest.raises(InputError, match="no transition is left.*store next_observations"):
        transitions(path)


def test_paths_that_are_no_data_set_are_refused(tmp_path):
    refused(tmp_path / "absent.hdf5", "no such file")
    refused(tmp_path, "is a folder")
    for name in ("text.hdf5", "text.npz"):
        (tmp_path / name).write_text("observations, actions\n1, 2\n")
        refused(tmp_path / name, r"cannot be read \(.*\); it is damaged, incomplete or of another")


def test_truncated_file_is_refused(write, tiny):
    path = write(tiny)
    path.write_bytes(path.read_bytes()[:-200])
    refused(path, r"cannot be read \(.*truncated file.*copy or download it again")


def test_group_in_place_of_an_array_is_refused(write, tiny):
    tiny["observations/inner"] = tiny.pop("observations")
    refused(write(tiny), "no observations")


def test_npz_with_pickled_objects_is_refused(tmp_path, tiny):
    tiny["rewards"] = tiny["rewards"].astype(object)
    np.savez(tmp_path / "pickled.npz", **tiny)
    refused(tmp_path / "pickled.npz", "rewards has type object; expected real numbers")


def test_claimed_size_is_refused_before_it_is_allocated(write, tiny, tmp_path):
    path = write({key: tiny[key] for key in words.REQUIRED if key != "observations"})
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (10**12, 100), np.float32, chunks=(1000, 100))
        assert path.stat().st_size < 10**5
    with pytest.raises(InputError, match=r"header claims 4e\+05 GB, but this machine has"):
        files.read(d4rl.opened, path)


@pytest.mark.parametrize("chunks", [None, (2, 1)], ids=["contiguous", "chunked"])
def test_rows_that_were_never_written_are_refused(write, tiny, chunks):
    array = tiny.pop("observations")
    path = write(tiny)
    with h5py.File(path, "a") as file:
        stored = file.create_dataset("observations", array.shape, array.dtype, chunks=chunks)
        if chunks:
            stored[:5] = array[:5]
    refused(path, "observations claims 7 rows but not all were written")


@pytest.fixture
def valid_bytes(write, tiny):
    attributes = {"env_id": "Hopper-v4", "ref_min_score": 0.0}  # the text is stored in a heap
    path = write({key: tiny[key] for key in tiny if key != "rewards"}, **attributes)
    with h5py.File(path, "a") as file:
        file.create_dataset("rewards", data=tiny["rewards"], compression="gzip", shuffle=True)
    return path.read_bytes()


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    length=st.floats(0, 1),
    cut=st.booleans(),
)
def test_damaged_files_raise_nothing_but_input_error(valid_bytes, tmp_path, edits, length, cut):
    content = bytearray(valid_bytes)
    used = len(content.rstrip(b"\0"))
    for position, value in edits:
        content[int(position * used)] = value
    path = tmp_path / "damaged.hdf5"
    path.write_bytes(content[: int(length * len(content))] if cut else content)
    try:
        found = transitions(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(np.isfinite(array).all() for array in found[:6])
        assert np.abs(found.action).max() <= 1


# Real files.


SAMPLES = {  # rows kept, terminated, truncated, episode lengths (ALGORITHMS 2.4)
    "hopper_medium-v2": (911, 2, 0, [470, 441]),
    "halfcheetah_medium-v2": (2000, 0, 2, [1000, 1000]),
    "walker2d_medium-v2": (2000, 0, 2, [1000, 1000]),
    "hopper_medium_replay-v1": (49, 2, 0, [40, 9]),
    "walker2d_medium_replay-v1": (31, 2, 0, [10, 21]),
    "antmaze-umaze-v0": (1400, 0, 2, [700, 700]),
    "antmaze-medium-diverse-v0": (67, 3, 0, [65, 1, 1]),
    "antmaze-large-diverse-v0": (1996, 0, 2, [998, 998]),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_real_samples(shared_data, name):
    path = shared_data / "d4rl_samples" / f"{name}.hdf5"
    found = transitions(path)
    rows, terminated, truncated, lengths = SAMPLES[name]
    assert len(found.reward) == rows
    assert (found.terminated.sum(), found.truncated.sum()) == (terminated, truncated)
    ends = np.flatnonzero(found.terminated | found.truncated)
    np.testing.assert_array_equal(np.diff(ends, prepend=-1), lengths)
    inside = np.setdiff1d(np.arange(rows), ends)
    np.testing.assert_array_equal(found.next_observation[inside], found.observation[inside + 1])
    with h5py.File(path) as file:
        stored = file["observations" if "antmaze" in name else "next_observations"][:]
        kept = np.flatnonzero(~found.terminated)
        if "antmaze" not in name:
            np.testing.assert_array_equal(found.next_observation, stored.astype(np.float32))
        elif truncated:  # the dropped row's observation is its predecessor's successor
            np.testing.assert_array_equal(found.next_observation[kept[-1]], stored[-1])
