"""Minari's arrow and parquet files against the same episodes in HDF5, and damaged files."""

import json
import sys

import h5py
import numpy as np
import pytest

from enoto_jax.data import load_source
from enoto_jax.types import Spec
from tests.helpers import refused_in_a_line

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ID = "tests/point/tiny-v3"
BOX = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-2.0], "high": [2.0]}
EYE = {"type": "Box", "dtype": "uint8", "shape": [2, 2, 3], "low": 0, "high": 255}


def episode(number, steps):
    """An episode whose values identify it and the row; even ones terminate, odd ones do not."""
    mark = 10.0 * number + np.arange(steps + 1)
    return {
        "observations": {"b": np.stack([mark, -mark], 1), "a": mark[:, None] / 10},
        "actions": np.full((steps, 1), number / 10, np.float32),
        "rewards": mark[1:],
        "terminations": (np.arange(steps) == steps - 1) & (number % 2 == 0),
        "truncations": np.zeros(steps, bool),
    }


@pytest.fixture
def episodes():
    return [episode(number, 2 + number % 3) for number in range(12)]


def vectors(values):
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def batch(episode, images=False):
    """A batch as Minari 0.5.4 writes it: all but observations are padded with a row of zeros."""
    parts = {key: vectors(values) for key, values in episode["observations"].items()}
    rows = len(episode["rewards"]) + 1
    if images:
        parts |= {"eye": vectors(np.zeros((rows, 12), np.uint8)), "jpeg": pa.array([b"..."] * rows)}
    padded = {
        k: np.concatenate([v, np.zeros_like(v[:1])])
        for k, v in episode.items()
        if k != "observations"
    }
    arrays = {k: pa.array(v) if v.ndim == 1 else vectors(v) for k, v in padded.items()}
    arrays["observations"] = pa.StructArray.from_arrays(list(parts.values()), names=list(parts))
    info = pa.StructArray.from_arrays([pa.array(np.zeros(rows))], names=["speed"])
    return pa.RecordBatch.from_pydict(arrays | {"infos": info})


def put(path, batch):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_batches([batch]), path)
        return
    with pa.ipc.new_file(str(path), batch.schema) as file:
        file.write_batch(batch)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(episodes, kind, **metadata) -> the folder of the data."""

    def write(episodes, kind, images=False, **changes):
        folder = tmp_path / kind / ID / "data"
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / kind))
        folder.mkdir(parents=True)
        if kind == "hdf5":
            with h5py.File(folder / "main_data.hdf5", "w") as file:
                for number, arrays in enumerate(episodes):
                    for key, values in arrays.items():
                        parts = values.items() if isinstance(values, dict) else [("", values)]
                        for part, array in parts:
                            file[f"episode_{number}/{key}/{part}".rstrip("/")] = array
        else:
            for number, arrays in enumerate(episodes):
                put(folder / str(number) / f"part-0.{kind}", batch(arrays, images))
                (folder / str(number) / "metadata.json").write_text('{"id": 0, "total_steps": 9}')
        inner = {"a": BOX, "b": BOX | {"shape": [2]}, "eye": EYE, "jpeg": EYE}
        metadata = {
            "total_episodes": len(episodes),
            "data_format": kind,
            "action_space": json.dumps(BOX),
            "observation_space": json.dumps({"type": "Dict", "subspaces": inner}),
        }
        (folder / "metadata.json").write_text(json.dumps(metadata | changes))
        return folder

    return write


def load():
    return load_source(f"minari:{ID}").load()


def refused(message):
    with refused_in_a_line(message):
        load()


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_the_same_transitions_as_in_hdf5(write, episodes, kind):
    write(episodes, "hdf5")
    wanted = load()
    write(episodes, kind)
    found = load()
    assert found.content_hash == wanted.content_hash  # the hash covers all arrays
    assert found.episode_lengths.tolist() == [2 + i % 3 for i in range(12)]  # 10 after 9
    assert found.transitions.observation[2].tolist() == [1.0, 10.0, -10.0]  # a, then b
    assert found.transitions.next_observation[1].tolist() == np.float32([0.2, 2, -2]).tolist()
    np.testing.assert_allclose(found.transitions.action[2], 0.05, atol=1e-6)  # of [-2, 2]
    assert found.transitions.terminated.sum() == found.transitions.truncated.sum() == 6


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_images_are_named_and_left_out(write, episodes, kind):
    write(episodes, kind, images=True)
    source = load_source(f"minari:{ID}")
    assert source.spec == Spec(3, 1)
    assert source.notes == ("observations are a, b, concatenated", "images are left out: eye, jpeg")
    assert source.unread == ("infos",)


def test_antmaze_sees_no_goal(write, episodes):
    for arrays in episodes:
        whole = arrays["observations"]
        arrays["observations"] = {"observation": whole["b"], "achieved_goal": whole["a"]}
        arrays["observations"]["desired_goal"] = whole["a"]
    write(episodes, "arrow", env_spec=json.dumps({"id": "AntMaze_UMaze-v4"}))
    source = load_source(f"minari:{ID}")
    assert source.notes == ("observations are achieved_goal, observation, concatenated",)
    assert source.unread == ("infos", "observations/desired_goal")
    assert source.load().transitions.observation[0].tolist() == [0, 0, 0]
    assert source.load().transitions.observation[1].tolist() == np.float32([0.1, 1, -1]).tolist()


def rewards(arrays, values):
    arrays["rewards"] = values


BAD = {
    "nan": (
        lambda e: rewards(e[1], np.array([0.0, np.nan, 0.0])),
        "rewards is NaN .* first in row 3",
    ),
    "text": (lambda e: rewards(e[2], np.array(["a"] * 4)), "rewards of episode 2 is of another"),
    "width": (
        lambda e: e[3]["observations"].update(b=np.zeros((3, 3))),
        "observations/b of episode 3 is 3 x float64; expected a vector of one size per row",
    ),
    "missing": (lambda e: e[11].pop("terminations"), "terminations of episode 11 is missing"),
    "discrete": (
        lambda e: [x.update(actions=x["actions"][:, 0]) for x in e],
        "actions of episode 0 is float32; expected a vector",
    ),
    "bounds": (lambda e: e[1].update(actions=np.full((3, 1), 9.0)), "is above 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_episodes_are_refused_in_a_line(write, episodes, case):
    change, message = BAD[case]
    change(episodes)
    write(episodes, "arrow")
    refused(message)


def test_only_images(write, episodes):
    for arrays in episodes:
        arrays["observations"] = {}
    write(episodes, "arrow", images=True)
    refused("no vectors among the observations, only observations/eye, observations/jpeg")


def test_damaged_and_missing_files(write, episodes):
    for kind in ("arrow", "parquet"):
        folder = write(episodes, kind)
        path = folder / "7" / f"part-0.{kind}"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        refused("cannot be read")
        path.unlink()
        refused(f"no 7/part-0.{kind}; copy or download it again")
        path.parent.joinpath("metadata.json").unlink()
        path.parent.rmdir()
        refused("contains 11 episodes, but its metadata declares 12")
    put(path, batch(episodes[7]).slice(0, 0))
    refused("episode 7 has no rows")


def test_without_pyarrow_the_line_says_what_to_install(write, episodes, monkeypatch):
    write(episodes, "arrow")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(r"reading it needs pyarrow; pip install 'enoto_jax\[robots\]'")
