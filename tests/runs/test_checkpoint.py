"""Checkpoints: what was saved is restored, the newest first; damage is reported in one line."""

import json

import jax
import numpy as np
import pytest

from enoto_jax.runs import checkpoint, checksums
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.packing import pack, unpack
from enoto_jax.types import InputError, RunError
from tests.helpers import assert_same, largest_file


def state(value: float = 1.0):
    """A state with every kind of array that runs save."""
    return {
        "params": {"kernel": np.full((2, 3), value, np.float32)},
        "step": np.asarray([7, 8], np.int32),
        "flag": np.asarray([True, False]),
        "odd": np.asarray([np.inf, np.nan, -0.0], np.float32),
    }


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path)
    yield made
    made.close()


def saved(checkpoints, *numbers: int):
    for number in numbers:
        checkpoints.save(number, state(number), {"phase": "offline", "step": number})
    checkpoints.wait()


def test_nothing_saved_yet(checkpoints):
    assert checkpoints.record() is None and checkpoints.record("handover") is None


def test_what_was_saved_comes_back_to_another_process(checkpoints, tmp_path):
    about = {"phase": "online", "step": 5, "timing": {"env_s": 0.25, "updates": 3}}
    checkpoints.save(5, state(), about)
    checkpoints.wait()
    again = Checkpoints(tmp_path)
    assert {**again.record(), **about} == again.record()
    found = again.restore(jax.tree.map(np.zeros_like, state()))
    again.close()
    assert_same(found, state())
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(found))


def test_the_newest_comes_back_and_only_a_few_are_kept(checkpoints, tmp_path):
    saved(checkpoints, 3, 10, 200)
    assert checkpoints.record()["step"] == 200
    assert_same(checkpoints.restore(state()), state(200))
    assert {path.name for path in (tmp_path / "latest").iterdir()} == {"10", "200"}


def test_the_handover_is_kept_beside_them(checkpoints, tmp_path):
    checkpoints.save_handover(state(0.5), {"phase": "offline", "step": 2})
    saved(checkpoints, 3, 4, 5, 6)
    assert checkpoints.record("handover")["step"] == 2
    assert_same(checkpoints.restore(state(), "handover"), state(0.5))
    again = Checkpoints(tmp_path)  # a killed run may save its hand-over again
    again.save_handover(state(0.5), {"phase": "offline", "step": 2})
    assert_same(again.restore(state(), "handover"), state(0.5))
    again.close()


def test_saving_takes_its_own_copy(checkpoints):
    """Writing happens in the background while training continues."""
    mine = state(1.0)
    checkpoints.save(1, mine, {"phase": "offline", "step": 1})
    checkpoints.wait()
    mine["params"]["kernel"][:] = 2.0
    assert_same(checkpoints.restore(state())["params"], state(1.0)["params"])


def test_a_save_that_a_kill_cut_short_does_not_count(checkpoints, tmp_path):
    saved(checkpoints, 3)
    unfinished = tmp_path / "latest" / "4.orbax-checkpoint-tmp-1"
    (unfinished / "state").mkdir(parents=True)
    again = Checkpoints(tmp_path)
    assert again.record()["step"] == 3
    saved(again, 4)
    assert again.record()["step"] == 4
    again.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: {**tree, "params": {"kernel": np.zeros((2, 4), np.float32)}},
        lambda tree: {**tree, "step": np.zeros(2, np.float32)},
        lambda tree: {**tree, "more": np.zeros(2, np.float32)},
        lambda tree: {name: x for name, x in tree.items() if name != "flag"},
        lambda tree: {**tree, "params": {"bias": np.zeros((2, 3), np.float32)}},
    ],
    ids=["shape", "type", "more", "less", "name"],
)
def test_other_arrays_than_expected_are_refused(checkpoints, tmp_path, change):
    saved(checkpoints, 3)
    with pytest.raises(InputError, match="cannot restore") as error:
        checkpoints.restore(change(state()))
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_damaged_files_are_refused(checkpoints, tmp_path):
    saved(checkpoints, 3)
    checkpoints.close()
    for path in (tmp_path / "latest" / "3" / "state").rglob("*"):
        if path.is_file() and path.stat().st_size > 20:
            path.write_bytes(path.read_bytes()[:10])
    again = Checkpoints(tmp_path)
    with pytest.raises(InputError, match="cannot restore") as error:
        again.restore(state())
    again.close()
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_version_is_refused(checkpoints, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", 99)
        saved(checkpoints, 3)
    with pytest.raises(InputError, match="version 99"):
        checkpoints.record()


def template(record):
    return state()


def newest(folder):
    """Return the checkpoint that a new process would resume from."""
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.newest(template)
    finally:
        checkpoints.close()


def flip(path):
    """Flip one bit in the middle of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


DAMAGES = {
    "a flipped bit": lambda folder: flip(largest(folder / "state")),
    "a flipped bit in the record": lambda folder: flip(folder / "record" / "metadata"),
    "cut short": lambda folder: largest(folder / "state").write_bytes(b""),
    "a file is gone": lambda folder: largest(folder / "state").unlink(),
    "half deleted": lambda folder: [p.unlink() for p in folder.rglob("*") if p.is_file()],
    "no record": lambda folder: (folder / "record" / "metadata").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(checkpoints, tmp_path, capsys, damage):
    checkpoints.save_handover(state(0.5), {"phase": "offline", "step": 1})
    saved(checkpoints, 3, 4)
    checkpoints.close()
    DAMAGES[damage](tmp_path / "latest" / "4")
    record, found = newest(tmp_path)
    assert record["step"] == 3
    assert_same(found, state(3))
    told = capsys.readouterr().err
    assert told.startswith(f"{tmp_path}/latest/4 is damaged, moved aside: "), told
    assert told.count("\n") == 1
    # The damaged checkpoint's number can be used again.
    again = Checkpoints(tmp_path)
    saved(again, 4)
    assert again.record()["step"] == 4
    again.close()
    # If none of them is intact, the hand-over is used, and without it the run is refused.
    for step in (3, 4):
        DAMAGES[damage](tmp_path / "latest" / str(step))
    record, found = newest(tmp_path)
    assert record["step"] == 1
    assert_same(found, state(0.5))
    DAMAGES[damage](tmp_path / "handover" / "0")
    with pytest.raises(InputError, match="no checkpoint is intact") as error:
        newest(tmp_path)
    assert "\n" not in str(error.value)


def test_version_2_is_compared_with_its_one_checksum(checkpoints, tmp_path):
    large = {"x": np.random.default_rng(0).normal(size=(2, 10_000))}
    checkpoints.save(3, large, {"phase": "online", "step": 3})
    checkpoints.wait()
    path = tmp_path / "latest" / "3" / "record" / "metadata"
    record = {**json.loads(path.read_text()), "version": 2}
    del record["checksums"]
    path.write_text(json.dumps({**record, "checksum": checksums.one_checksum(record, large)}))
    assert_same(checkpoints.restore(large), large)
    flip(largest(tmp_path / "latest" / "3" / "state"))
    with pytest.raises(InputError, match="its checksum does not match"):
        checkpoints.restore(large)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_refused_alone(checkpoints, tmp_path, damage):
    """The largest file belongs to the part; the rest of the state is neither read nor compared."""
    parts = {"train": {"x": np.random.default_rng(0).normal(size=(2, 10_000))}, "storage": state()}
    checkpoints.save(3, parts, {"phase": "online", "step": 3})
    checkpoints.wait()
    template = {"train": {"x": np.zeros((2, 10_000))}}
    assert_same(checkpoints.restore_part(template)["train"], parts["train"])
    with pytest.raises(InputError, match="cannot restore"):
        checkpoints.restore_part({"train": {"x": np.zeros((2, 9_999))}})
    DAMAGES[damage](tmp_path / "latest" / "3")
    with pytest.raises(InputError, match="cannot restore") as error:
        checkpoints.restore_part(template)
    assert "\n" not in str(error.value)


def test_what_a_kill_left_half_written_is_removed(checkpoints, tmp_path):
    saved(checkpoints, 3)
    (tmp_path / "latest" / "4.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    assert newest(tmp_path)[0]["step"] == 3
    assert [path.name for path in (tmp_path / "latest").iterdir()] == ["3"]


def test_a_full_disk_is_told_in_one_line_and_leaves_what_there_was(tmp_path, capfd):
    large = {"x": np.random.default_rng(0).normal(size=(2, 100_000))}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, large, {"phase": "offline", "step": 3})
    checkpoints.wait()
    with largest_file(200_000):
        with pytest.raises(RunError, match="File too large; earlier ones are intact") as error:
            checkpoints.save(4, large, {"phase": "offline", "step": 4})
            checkpoints.wait()
        assert "\n" not in str(error.value)
        checkpoints.close()
    assert "Traceback" not in capfd.readouterr().err
    again = Checkpoints(tmp_path)
    record, found = again.newest(lambda record: large)
    again.close()
    assert record["step"] == 3
    assert_same(found, large)


def test_the_best_stays_until_a_better_one_or_a_step_back(checkpoints):
    for number in (2, 5, 7):
        about = {"phase": "offline", "step": number, "mean": number}
        checkpoints.save(number, state(number), about, "best")
        checkpoints.wait()
    saved(checkpoints, 8, 9, 10)
    assert checkpoints.record("best")["mean"] == 7
    assert_same(checkpoints.restore(state(), "best"), state(7))
    checkpoints.forget_best(after=6)  # the run resumes from an earlier checkpoint
    assert checkpoints.record("best")["mean"] == 5
    checkpoints.forget_best(after=1)
    assert checkpoints.record("best") is None


@pytest.mark.parametrize("about", [{}, {"phase": "online", "step": "1"}, {"phase": 3, "step": 1}])
def test_a_record_of_no_step_is_damaged(checkpoints, about):
    """Records of version 1 may be like this, because they have no checksums."""
    saved(checkpoints, 1)
    checkpoints.save(2, state(), about)
    checkpoints.wait()
    record, _ = checkpoints.newest(lambda record: state())
    assert record["step"] == 1


def test_arrays_in_a_record_keep_every_bit(checkpoints):
    odd = np.asarray([np.nan, np.inf, -0.0, 1 / 3])
    tree = {"x": [odd, {"y": odd.astype(np.float32)}], "scalar": np.asarray(2.5), "n": 2**127}
    checkpoints.save(1, state(), {"phase": "offline", "step": 1, "position": tree})
    checkpoints.wait()
    found = unpack(checkpoints.record()["position"])
    assert pack(found) == pack(tree) and found["n"] == 2**127
    assert found["x"][0].tobytes() == odd.tobytes()
    assert found["scalar"].shape == () and found["x"][1]["y"].dtype == np.float32


@pytest.mark.parametrize("change", [{"dtype": "O"}, {"dtype": None}, {"shape": [2]}, {"base64": 1}])
def test_arrays_in_a_record_that_are_none_are_refused(change):
    packed = {"dtype": "<f4", "shape": [1], "base64": "AAAAAA==", **change}
    with pytest.raises(InputError, match="an array of a checkpoint's record"):
        unpack({"position": [packed]})
