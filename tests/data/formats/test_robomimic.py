"""robomimic's HDF5 files against literal transitions, and damaged files."""

import json

import h5py
import numpy as np
import pytest

from enoto_jax.data import check, load_source
from enoto_jax.data.formats import robomimic
from enoto_jax.types import Spec
from tests.helpers import refused_in_a_line

WIDTHS = {
    "robot0_eef_pos": 3,
    "robot0_eef_quat": 4,
    "robot0_gripper_qpos": 2,
    "object": 5,
    "robot0_joint_pos": 7,
}


def demonstration(number, steps=3, success=True):
    """A demonstration with images; observed numbers identify demonstration, row and key."""
    marks = 10.0 * number + np.arange(steps + 1)
    found = {}
    for i, (key, width) in enumerate(WIDTHS.items()):
        values = np.repeat(marks[:, None], width, axis=1) + i / 10
        found[f"obs/{key}"], found[f"next_obs/{key}"] = values[:-1], values[1:]
    for kind in ("obs", "next_obs"):
        found[f"{kind}/agentview_image"] = np.zeros((steps, 4, 4, 3), np.uint8)
    last = np.arange(steps) == steps - 1
    return found | {
        "actions": np.full((steps, 2), number / 100),
        "states": np.zeros((steps, 9)),
        "rewards": (last & success).astype(np.float64),
        "dones": last.astype(np.int64),  # set for failures too
    }


@pytest.fixture
def demonstrations():
    """Twelve demonstrations, of which number 3 fails."""
    return {f"demo_{i}": demonstration(i, steps=2 + i % 2, success=i != 3) for i in range(12)}


@pytest.fixture
def write(tmp_path):
    def write(demonstrations):
        path = tmp_path / "low_dim.hdf5"
        with h5py.File(path, "w") as file:
            for name, arrays in demonstrations.items():
                for key, array in arrays.items():
                    file[f"data/{name}/{key}"] = array
            file["mask/train"] = np.array([b"demo_0"])
            data = file.require_group("data")
            data.attrs["total"] = 30
            data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_type": 1})
        return path

    return write


def refused(message, path):
    with refused_in_a_line(message):
        load_source(path).load()


def test_transitions(write, demonstrations):
    source = load_source(write(demonstrations))
    data = source.load()
    found = data.transitions
    assert (source.name, source.spec, source.env_id) == ("low_dim", Spec(14, 2), None)
    steps = [2 + i % 2 for i in range(12)]
    assert data.episode_lengths.tolist() == steps  # demo_10 after demo_9
    marks = np.concatenate([10 * i + np.arange(n) for i, n in enumerate(steps)])
    shift = np.repeat([0, 0.1, 0.2, 0.3], [3, 4, 2, 5])  # position, rotation, gripper, object
    np.testing.assert_allclose(found.observation, marks[:, None] + shift, rtol=1e-6)
    np.testing.assert_allclose(found.next_observation, marks[:, None] + 1 + shift, rtol=1e-6)
    np.testing.assert_allclose(found.action[:, 1], np.repeat(np.arange(12) / 100, steps), rtol=1e-6)
    ends = np.cumsum(steps) - 1
    failed = np.arange(len(marks)) == ends[3]
    last = np.isin(np.arange(len(marks)), ends)
    np.testing.assert_array_equal(found.reward, last & ~failed)
    np.testing.assert_array_equal(found.terminated, last & ~failed)
    np.testing.assert_array_equal(found.truncated, failed)


def test_what_is_said_of_it(write, demonstrations):
    source = load_source(str(write(demonstrations)))
    assert source.notes == (
        "observations are robot0_eef_pos, robot0_eef_quat, robot0_gripper_qpos, object, concatenated",
        "images are left out: agentview_image",
        "the data are of robomimic's Lift",
    )
    assert source.unread == ("dones", "mask/", "obs/robot0_joint_pos", "states")
    report = check.inspect(str(write(demonstrations)), env_id="none")
    assert report.usable and "images are left out: agentview_image" in str(report.findings)


def test_all_vectors_by_name_where_a_usual_one_is_missing(write, demonstrations):
    for arrays in demonstrations.values():
        del arrays["obs/object"], arrays["next_obs/object"]
    source = load_source(write(demonstrations))
    assert source.spec == Spec(16, 2)
    order = "robot0_eef_pos, robot0_eef_quat, robot0_gripper_qpos, robot0_joint_pos"
    assert source.notes[0] == f"observations are {order}, concatenated"


def test_without_next_observations_a_failures_last_row_is_left_out(write, demonstrations):
    for arrays in demonstrations.values():
        for key in [key for key in arrays if key.startswith("next_obs")]:
            del arrays[key]
    source = load_source(write(demonstrations))
    data = source.load()
    lengths = [2 + i % 2 - (i == 3) for i in range(12)]
    assert data.episode_lengths.tolist() == lengths
    assert data.transitions.truncated.sum() == 1 and data.transitions.terminated.sum() == 11
    assert "a demonstration's last row is left out unless it is a success" in source.notes[-1]


def test_other_hdf5_files_are_none(tmp_path, tiny):
    with h5py.File(tmp_path / "flat.hdf5", "w") as file:
        for key, array in tiny.items():
            file[key] = array
        file["data/other"] = 1
    assert not robomimic.is_one(tmp_path / "flat.hdf5")
    assert not robomimic.is_one(tmp_path)
    (tmp_path / "text.hdf5").write_text("none")
    assert not robomimic.is_one(tmp_path / "text.hdf5")
    with h5py.File(tmp_path / "link.hdf5", "w") as file:
        file["data"] = h5py.ExternalLink("flat.hdf5", "/")
    assert not robomimic.is_one(tmp_path / "link.hdf5")


def change(number, key, value):
    def act(demonstrations):
        demonstrations[f"demo_{number}"][key] = value

    return act


def without(number, *keys):
    def act(demonstrations):
        for key in keys:
            del demonstrations[f"demo_{number}"][key]

    return act


NAN = np.full((2, 5), np.nan)
BAD = {
    "dense": (change(2, "rewards", [0.3, 1.0]), "rewards must be 0 or 1, .* row 5 is 0.3: dense"),
    "nan": (change(2, "obs/object", NAN), "observations is NaN or infinite .* first in row 5"),
    "reward": (change(2, "rewards", [0.0, np.nan]), "rewards is NaN .* first in row 6"),
    "lengths": (change(2, "actions", np.zeros((3, 2))), r"actions of data/demo_2 has shape \[3, 2"),
    "rows": (change(11, "next_obs/object", NAN), r"demo_11 has shape \[2, 5\]; expected \[3, 5\]"),
    "width": (change(2, "obs/object", np.zeros((2, 4))), r"obs/object .* expected \[2, 5\]"),
    "no rewards": (without(4, "rewards"), "data/demo_4 has no rewards"),
    "no actions": (without(0, "actions"), "data/demo_0 has no actions"),
    "no next": (without(7, "next_obs/object"), "data/demo_7 has no next_obs/object"),
    "bounds": (change(2, "actions", np.full((2, 2), 3.0)), "row 5, action 0: 3 is above 1"),
    "no observations": (
        lambda d: d.update(demo_5={"states": np.zeros((2, 1))}),
        "data/demo_5 has no obs; .*dataset_states_to_obs",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_a_line(write, demonstrations, case):
    act, message = BAD[case]
    act(demonstrations)
    refused(message, write(demonstrations))


def test_only_images(write):
    arrays = demonstration(0)
    for key in WIDTHS:
        del arrays[f"obs/{key}"], arrays[f"next_obs/{key}"]
    refused(r"no vectors in data/demo_0/obs \(keys: obs/agentview_image", write({"demo_0": arrays}))


def test_a_truncated_file_is_refused(write, demonstrations):
    path = write(demonstrations)
    path.write_bytes(path.read_bytes()[:3000])
    refused("cannot be read", path)


def test_a_name_that_is_no_text_is_refused(write, demonstrations):
    path = write(demonstrations)
    with h5py.File(path, "a") as file:
        file["data/demo_0/obs"].create_dataset(b"\xff", data=np.zeros((2, 1)))
    refused(r"the name b'\\xff' is not printable text; the file is damaged", path)
