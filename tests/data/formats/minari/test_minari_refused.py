"""Invalid, damaged and absent Minari data sets are refused in one line."""

import json

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enoto_jax.data import load_source
from enoto_jax.types import InputError
from tests.data.formats.minari.helpers import BOX, ENV, load, metadata_of, refused


def cut(key, rows):
    def change(episodes):
        episodes[1][key] = episodes[1][key][:rows]

    return change


def put(key, value):
    def change(episodes):
        episodes[1][key] = value

    return change


BAD = {
    "last observation": (
        cut("observations", 3),
        r"observations of episode_1 has shape \[3, 1\]; expected \[4, 1\]",
    ),
    "actions": (cut("actions", 2), r"actions of episode_1 has shape \[2, 1\]; expected \[3, 1\]"),
    "flags": (cut("truncations", 1), r"truncations of episode_1 has shape \[1\]; expected \[3\]"),
    "width": (put("observations", np.zeros((4, 2))), r"has shape \[4, 2\]; expected \[4, 1\]"),
    "images": (
        lambda e: [x.update(observations=np.zeros((len(x["rewards"]) + 1, 4, 4, 3))) for x in e],
        r"observations of episode_0 has shape \[4, 4, 4, 3\]; expected \[4, size\]",
    ),
    "discrete": (
        lambda e: [x.update(actions=x["actions"][:, 0]) for x in e],
        r"actions of episode_0 has shape \[3\]; expected \[3, size\]",
    ),
    "missing": (lambda e: e[2].pop("rewards"), "episode_2 has no rewards"),
    "text": (put("rewards", np.full(3, b"one")), r"rewards of episode_1 has type \|S3"),
    "nan": (put("rewards", [0.0, np.nan, 0.0]), "rewards is NaN or infinite .* first in row 4"),
    "overflow": (put("rewards", [0.0, 1e39, 0.0]), "rewards is NaN or infinite .* first in row 4"),
    "no flag": (put("terminations", [0.0, 0.5, 0.0]), "terminals must be 0 or 1, but row 4 is 0.5"),
    "dictionary in one": (put("observations/observation", np.zeros((4, 1))), "observations"),
    "no array": (lambda e: [one.pop("observations") for one in e], "episode_0 has no observations"),
    "no rows": (lambda e: e.__delitem__(slice(None)), "has no episode_0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_episodes_are_refused(write, episodes, case):
    change, message = BAD[case]
    if case == "dictionary in one":
        del episodes[1]["observations"]
    change(episodes)
    write(episodes)
    refused(message)


BAD_METADATA = {
    "arrow": ({"data_format": "arrow"}, "has no folder 0"),
    "kind": ({"data_format": "zarr"}, "data_format is 'zarr'; it must be hdf5, arrow or parquet"),
    "count": ({"total_episodes": 4}, "contains 3 episodes, but its metadata declares 4"),
    "discrete": (
        {"action_space": '{"type": "Discrete", "n": 2}'},
        "from a 'Discrete' space; a Box",
    ),
    "no count": ({"total_episodes": "a\tb"}, r"its metadata declares 'a\\tb'; copy"),
    "bounds": ({"action_space": json.dumps(BOX | {"low": [2.0]})}, "no bounds low < high for 1"),
    "wide bounds": ({"action_space": json.dumps(BOX | {"low": [0, 0]})}, "no bounds low < high"),
    "bounds of text": ({"action_space": json.dumps(BOX | {"low": ["a"]})}, "cannot be read"),
    "space of text": ({"action_space": "Box(1)"}, "metadata.json: cannot be read"),
    "list": ({"env_spec": [1]}, "env_spec in metadata.json cannot be read"),
    "references": ({"ref_min_score": 2.0, "ref_max_score": 1.0}, "the smaller first"),
    "one reference": ({"ref_min_score": 2.0}, "must both be given"),
    "limit": ({"env_spec": json.dumps(ENV | {"max_episode_steps": -1})}, "max_episode_steps must"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_bad_metadata_are_refused(write, episodes, case):
    changes, message = BAD_METADATA[case]
    write(episodes, **changes)
    refused(message)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": ' * 5000, "\udcff", "1" * 5000])
def test_metadata_that_are_none_are_refused(write, episodes, text):
    folder = write(episodes)
    (folder / "metadata.json").write_bytes(text.encode(errors="surrogateescape"))
    refused(r"metadata.json: (cannot be read|is not a JSON object)")


def test_missing_parts_are_refused(write, episodes):
    folder = write(episodes)
    (folder / "main_data.hdf5").unlink()
    refused("main_data.hdf5: no such file")
    (folder / "metadata.json").unlink()
    refused("metadata.json: no such file")


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "../x-v0",
        "/etc/x-v0",
        "a/../x-v0",
        "a//x-v0",
        "",
        "x",
        "x-v",
        "x-v0/",
        "~/x-v0",
        "x-v0\n",
        "http://host/x-v0",
        "é-v0",
    ],
)
def test_ids_cannot_leave_the_root(root, name):
    refused("is not a Minari id; ids look like minari:mujoco/hopper/medium-v0", name)


def test_a_dictionary_of_observations_that_is_empty(write, episodes):
    for one in episodes:
        del one["observations"]
    folder = write(episodes)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        for name in list(file):
            file[name].create_group("observations")
    refused("observations of episode_0 contain no array")


def test_a_name_too_long_for_a_folder_is_an_absent_one(root):
    with pytest.raises(InputError, match="not in .*; fetch it"):
        load_source(f"minari:a/{'x' * 300}-v0", download=False)


def test_absent_data_set_names_what_is_near(write, episodes):
    write(episodes)
    with pytest.raises(InputError, match=r"not in .*root \(which has tests/point/tiny-v3\)"):
        load_source("minari:tests/point/tiny-v2", download=False)


def test_trillion_rows_are_refused_before_they_are_allocated(write, episodes):
    folder = write(episodes)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        group = file["episode_0"]
        for key in list(group):
            del group[key]
            shape = (10**12 + (key == "observations"), 1)[: 2 if key[0] in "oa" else 1]
            group.create_dataset(key, shape, np.float32, chunks=(1000, 1)[: len(shape)])
        assert (folder / "main_data.hdf5").stat().st_size < 10**6
    refused("not all were written")
    with h5py.File(folder / "main_data.hdf5", "a") as file:  # a virtual data set hides this
        for key in list(file["episode_0"]):
            shape = file["episode_0"][key].shape
            del file["episode_0"][key]
            layout = h5py.VirtualLayout(shape, np.float32)
            file["episode_0"].create_virtual_dataset(key, layout)
    refused(r"header claims \S+e\+\d+ GB, but this machine has")


def test_group_that_is_none(write, episodes):
    folder = write(episodes)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file["episode_1"]
        file["episode_1"] = 3
    refused("episode_1 is not a group")


def test_groups_that_hold_each_other(write, episodes):
    folder = write(episodes)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file["episode_0/observations"]
        file["episode_0/observations"] = file["episode_0"]
    refused("cannot be read|observations")


FUZZ = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(
    name=st.sampled_from(["main_data.hdf5", "metadata.json"]),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    length=st.floats(0, 1),
    is_cut=st.booleans(),
)
def test_damaged_files_raise_nothing_but_input_error(write, episodes, name, edits, length, is_cut):
    path = write(episodes, ref_min_score=0.0, ref_max_score=1.0) / name
    content = bytearray(path.read_bytes())
    used = len(content.rstrip(b"\0"))
    for position, value in edits:
        content[int(position * used)] = value
    path.write_bytes(content[: int(length * len(content))] if is_cut else content)
    try:
        found = load().transitions
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(np.isfinite(array).all() for array in found[:6])
        assert np.abs(found.action).max() <= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@FUZZ
@given(key=st.sampled_from(sorted(metadata_of([], ref_min_score=0, requirements=[]))), value=JSON)
def test_strange_metadata_raise_nothing_but_input_error(write, episodes, key, value):
    write(episodes, **{key: value})
    try:
        load()
    except InputError as error:
        assert "\n" not in str(error)
