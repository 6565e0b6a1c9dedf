"""Notes on data that can be used; `test_check` tests the findings on whole files."""

import h5py
import numpy as np
import pytest

from enoto_jax.data import check, contents, from_arrays, load_source, notes
from tests.helpers import reach_data


@pytest.mark.parametrize("entrance", ["from_arrays", "hdf5", "npz"])
def test_numbers_that_float32_cannot_hold(tmp_path, entrance):
    rows = np.arange(1000)
    arrays = {
        "observations": np.stack([rows / 1000, 1.7e9 + rows * 2.5], axis=1),
        "actions": np.sin(rows)[:, None],
        "rewards": 3e8 + rows.astype(np.int64),
        "terminals": rows % 100 == 99,
    }
    if entrance == "from_arrays":
        source = from_arrays(**arrays, name="mine")
    elif entrance == "npz":
        np.savez(tmp_path / "mine.npz", **arrays)
        source = load_source(tmp_path / "mine.npz")
    else:
        with h5py.File(tmp_path / "mine.hdf5", "w") as file:
            for key, array in arrays.items():
                file[key] = array
        source = load_source(tmp_path / "mine.hdf5")
    kept = [len(np.unique(np.float32(arrays[key]))) for key in ("observations", "rewards")]
    seconds = len(np.unique(np.float32(arrays["observations"][:, 1])))
    assert seconds < 25 and kept[1] < 40
    assert source.load().notes == (
        f"column 1 of observations: 1,000 different numbers become {seconds} in float32; "
        "subtract an offset, or leave the column out",
        f"rewards: 1,000 different numbers become {kept[1]} in float32; "
        "subtract an offset, or leave the column out",
    )
    assert all(
        f"note: {note}" in contents.opening_lines(source, source.load())
        for note in source.load().notes
    )
    if source.path:
        texts = [f.text for f in check.inspect(str(source.path), env_id="none").findings]
        assert set(source.load().notes) <= set(texts)


def test_numbers_that_float32_holds_are_no_note():
    arrays = reach_data(2)
    arrays["observations"] = arrays["observations"].astype(np.float64) + 1e-9
    arrays["rewards"] = np.zeros(40)
    assert from_arrays(**arrays, name="mine").load().notes == ()


def test_successors_across_resets_are_noted_though_they_are_stored():
    arrays = reach_data(10)
    arrays["observations"] = np.cumsum(np.ones((200, 2)), axis=0, dtype=np.float32)
    arrays["observations"][100:] += 5000
    arrays["next_observations"] = np.append(arrays["observations"][1:], [[5201, 5201]], axis=0)
    arrays["timeouts"][:] = False
    source = from_arrays(**arrays, name="mine")
    (line,) = (x for x in contents.opening_lines(source, source.load()) if "jump" in x)
    assert "1 transition inside episodes jumps" in line and "first transition 99" in line


def test_opening_lines_say_what_check_data_says():
    arrays = reach_data(10)
    arrays["terminals"] = arrays["timeouts"].copy()
    arrays["observations"][:, 1] = arrays["next_observations"][:, 1] = 0.5
    source = from_arrays(**arrays, name="mine", env_id="Reach-v0")
    lines = contents.opening_lines(source, source.load())
    assert lines[0] == "data: 200 rows; episodes: 10, 10 end in a terminal state, 0 are cut"
    low, high = arrays["rewards"].min(), arrays["rewards"].max()
    assert lines[1].startswith(f"rewards: {low:g} to {high:g}, mean ")
    assert lines[2].startswith("WARNING: 10 of 10 terminals are at step 20, the time limit")
    rest = "\n".join(lines[3:])
    for words in (
        "10 rows are both terminal and a time-out",
        "observations are constant in column 1",
    ):
        assert f"note: {words}" in rest


def test_duplicates_are_counted_exactly():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 3, (500, 3)).astype("f4"), rng.integers(0, 2, 500).astype("f4")
    rows = np.concatenate([x, y[:, None]], axis=1)
    assert notes.duplicates(x, y) == 500 - len(np.unique(rows, axis=0))
    assert notes.duplicates(np.arange(5.0)[:, None]) == 0
