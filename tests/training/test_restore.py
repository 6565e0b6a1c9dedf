"""Runs that start from another run's hand-over."""

import json
import shutil

import jax
import pytest

import enoto_jax
from enoto_jax.training import online
from enoto_jax.training.result import load_run
from enoto_jax.types import InputError, Stopped
from tests.helpers import assert_same, tiny
from tests.small_runs import MINE, Killed, contents, kept_handover, table, train, watched


def starts_of(patch) -> list:
    """Return a list that collects each run's initial online state; runs end there."""
    found = []

    def capture(phase, algorithm, replay, carried, *rest):
        found.append(rest[2].seeds.get(carried))
        raise Killed

    patch.setattr(online, "train", capture)
    return found


def test_restore_starts_where_the_run_itself_started(finished, source, tmp_path, monkeypatch):
    found = starts_of(monkeypatch)
    with pytest.raises(Killed):
        train(source, tmp_path / "same", restore=finished.folder)
    assert_same(found[0], finished.start)
    # Another method with the same offline phase, and one of the seeds.
    other = tiny("cql_n_to_sac_n")
    with pytest.raises(Killed):
        train(source, tmp_path / "other", row=other, seeds=(5,), restore=finished.folder)
    mine = jax.tree.map(lambda x: x[1:], finished.start.train)
    for part in ("params", "targets", "opt_states"):
        assert_same(getattr(found[1].train, part), getattr(mine, part))
    # Each keeps the offline state of its own seeds.
    assert_same(kept_handover(tmp_path / "same"), kept_handover(finished.folder))
    kept = kept_handover(tmp_path / "other", other, seeds=1)
    assert_same(kept.params, jax.tree.map(lambda x: x[1:], kept_handover(finished.folder).params))


def test_restore_evaluates_the_handover_as_the_run_itself_did(finished, source, tmp_path):
    """Equal parameters, seeds and evaluation number give equal results."""
    row = tiny("cql_n_to_sac_n", offline__steps=30, online__steps=2, online__warmup=9)
    train(source, tmp_path, restore=finished.folder, row=row)
    mine = [row for row in table(tmp_path / "evaluations.csv") if row["step"] == "0"]
    whole = [
        row
        for row in table(finished.folder / "evaluations.csv")
        if (row["phase"], row["step"]) == ("online", "0")
    ]
    assert [row["phase"] for row in mine] == ["online"] * 2
    assert [row["return_mean"] for row in mine] == [row["return_mean"] for row in whole]
    again = load_run(tmp_path).evaluate(which="handover")  # its recipe has other offline steps
    assert [str(row["return_mean"]) for row in again] == [row["return_mean"] for row in mine]
    # It has learned from the same data as the restored run and records their hash.
    config = json.loads((tmp_path / "config.json").read_text())
    known = json.loads((finished.folder / "config.json").read_text())
    assert config["data_hash"] == known["data_hash"] and config["data_hash"] is not None
    assert config["package_version"] == enoto_jax.__version__
    # Older runs did not record it; their folders resume too.
    (tmp_path / "config.json").write_text(json.dumps({**config, "data_hash": None}))
    train(source, tmp_path, restore=finished.folder, row=row)


@pytest.mark.parametrize(
    "message, changes",
    [
        (r"trained seeds \[3, 5\], not \[4\]", {"seeds": (3, 4)}),
        ("cannot restore|differ", {"row": tiny("enoto_cql", **MINE, algorithm__hidden=(9,))}),
        ("cannot restore|differ", {"row": tiny("cql_to_sac")}),
        (
            "another transform, which this run must keep: give --set=transform.reward_scale=1.0 ",
            {"row": tiny("enoto_cql", **MINE, transform__reward_scale=50.0)},
        ),
        ("--restore: this method starts from scratch", {"row": tiny("sac")}),
    ],
)
def test_restore_refuses_what_does_not_fit_and_writes_nothing(
    finished, source, tmp_path, message, changes
):
    before = contents(finished.folder)
    with pytest.raises(InputError, match=message):
        train(source, tmp_path / "new", restore=finished.folder, **changes)
    assert contents(finished.folder) == before
    assert not (tmp_path / "new").exists()


def test_restore_from_no_run_leaves_no_trace(source, tmp_path):
    with pytest.raises(InputError, match="nothing-here"):
        train(source, tmp_path / "new", restore=tmp_path / "nothing-here")
    assert not list(tmp_path.iterdir())


def test_a_damaged_copy_of_the_start_stops_no_run_that_is_online(finished, source, tmp_path):
    row = tiny("cql_n_to_sac_n", online__steps=2, online__warmup=9)
    with watched(("env", 2)), pytest.raises(Stopped):
        train(source, tmp_path / "run", row=row, restore=finished.folder)
    for path in (tmp_path / "run" / "checkpoints" / "handover").rglob("d/*"):
        path.write_bytes(b"damaged")
    train(source, tmp_path / "run", row=row, restore=finished.folder)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["restored_step"] == 20


def test_without_an_environment_nothing_is_restored(finished, source, tmp_path):
    with pytest.raises(InputError, match="trains online only; give an environment, or leave out"):
        train(source, tmp_path / "run", restore=finished.folder, env="none")
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_begun_needs_its_start_no_longer(finished, source, tmp_path):
    """Both are moved, then the start is deleted."""
    start, moved = tmp_path / "a" / "start", tmp_path / "b"
    shutil.copytree(finished.folder, start)
    row = tiny("cql_n_to_sac_n", online__steps=2, online__warmup=9)
    with watched(("save", 1), kill=True), pytest.raises(Killed):  # the hand-over is saved
        train(source, start.with_name("run"), row=row, restore=start)
    start.parent.rename(moved)
    with watched(("env", 1)), pytest.raises(Stopped):
        train(source, moved / "run", row=row, restore=moved / "start")
    shutil.rmtree(moved / "start")
    train(source, moved / "run", row=row, restore=start)
    again = load_run(moved / "run").evaluate(which="handover")
    mine = [row for row in table(moved / "run" / "evaluations.csv") if row["step"] == "0"]
    assert [(row["phase"], row["step"]) for row in again] == [("offline", 20)] * 2
    assert [str(row["return_mean"]) for row in again] == [row["return_mean"] for row in mine]
    with pytest.raises(InputError, match="start: not a run's folder"):
        train(source, moved / "new", row=row, restore=start)
