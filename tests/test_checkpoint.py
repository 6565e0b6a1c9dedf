"""Checkpoints: what was saved comes back, the newest first, and damage is told in one line."""

import jax
import numpy as np
import pytest

from enoto_jax import checkpoint
from enoto_jax.checkpoint import Checkpoints
from enoto_jax.types import InputError
from tests.helpers import assert_same


def state(value: float = 1.0):
    """One of everything that a run saves."""
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
    assert checkpoints.record() is None and checkpoints.record(handover=True) is None


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
    assert checkpoints.record(handover=True)["step"] == 2
    assert_same(checkpoints.restore(state(), handover=True), state(0.5))
    again = Checkpoints(tmp_path)  # a run that was killed after its hand-over gets there again
    again.save_handover(state(0.5), {"phase": "offline", "step": 2})
    assert_same(again.restore(state(), handover=True), state(0.5))
    again.close()


def test_saving_takes_its_own_copy(checkpoints):
    """It is written in the background: meanwhile training goes on."""
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
