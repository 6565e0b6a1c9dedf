"""A run that was stopped, killed or given fewer steps resumes as if uninterrupted."""

import contextlib
import time

import jax
import numpy as np
import pytest

from enoto_jax.data.loading import from_env
from enoto_jax.envs import state, vector
from enoto_jax.runs import files, saving
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.training.record import Record, Stopped
from enoto_jax.types import InputError, RunError
from tests.helpers import REACH, Reach, assert_same, largest_file, tiny
from tests.small_runs import (
    MINE,
    STEPS,
    UTD,
    WARMUP,
    Killed,
    assert_goes_on_as_uninterrupted,
    contents,
    evaluations,
    last_state,
    table,
    train,
    watched,
)


@pytest.mark.parametrize(
    "at, where",
    [
        (("update", 1), "offline update 5"),
        (("update", 2), "offline update 10"),
        (("update", 4), "offline update 20"),
        (("eval", 3), "online step 0"),
        (("env", 5), "online step 5"),
        (("update", 11), "online step 6"),
        (("update", 17), "online step 12"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_a_stopped_run_goes_on(finished, source, tmp_path, at, where):
    with watched(at), pytest.raises(Stopped, match=where):
        train(source, tmp_path)
    assert not (tmp_path / "summary.json").exists()
    train(source, tmp_path)
    assert_goes_on_as_uninterrupted(tmp_path, finished)


@pytest.mark.parametrize("at", [("eval", 2), ("eval", 4)], ids=["offline", "online"])
def test_a_killed_run_goes_on_from_its_newest_checkpoint(finished, source, tmp_path, at):
    with watched(at, kill=True), pytest.raises(Killed):
        train(source, tmp_path)
    with open(tmp_path / "evaluations.csv", "a") as file:
        file.write("online,4,4,3,-1")  # killed in the middle of a row
    train(source, tmp_path)
    assert_goes_on_as_uninterrupted(tmp_path, finished)


def test_with_overlap_actions_are_one_step_older_and_a_killed_run_goes_on(
    source, tmp_path, monkeypatch
):
    """One seed of an online-only method, saved after every call and killed while acting."""
    row, acted = tiny("sac", online__overlap=True), {}

    def run_of(folder, row, at=None):
        numbers = acted.setdefault(folder.name, [])

        def step(self, action):
            numbers.append(np.array(action))
            return stepped(self, action)

        stepped = vector.SeedEnvs.step
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vector.SeedEnvs, "step", step)
            if at is None:
                return train(source, folder, row, seeds=(3,))
            with watched(at, kill=True), pytest.raises(Killed):
                train(source, folder, row, seeds=(3,))

    run_of(tmp_path / "whole", row)
    run_of(tmp_path / "plain", tiny("sac"))
    monkeypatch.setattr(saving, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(saving, "SAVE_SHARE", np.inf)
    for at in (("env", 5), ("update", 4)):
        run_of(tmp_path / "killed", row, at)
    run_of(tmp_path / "killed", row)
    states = {name: last_state(tmp_path / name, row, 1) for name in ("whole", "killed")}
    assert_same(states["killed"], states["whole"])
    # The first update follows transition 4; the next plain action uses it, the overlapped one not.
    whole, without = np.array(acted["whole"]), np.array(acted["plain"])
    assert np.array_equal(whole[: WARMUP + 1], without[: WARMUP + 1])
    assert not np.array_equal(whole[WARMUP + 1], without[WARMUP + 1])


def test_a_stopped_run_has_saved_where_it_stopped(source, tmp_path):
    with watched(("update", 11)), pytest.raises(Stopped):
        train(source, tmp_path)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    about = checkpoints.record()
    checkpoints.close()
    assert (about["phase"], about["step"]) == ("online", 6)
    assert last_state(tmp_path).storage.ring.reward.shape == (2, 6)


def test_other_versions_than_it_began_with_are_told(source, tmp_path, capsys):
    about = {"versions": {"jax": "0.1", "numpy": "2.0"}, "device": "1 x cpu"}
    with watched(("update", 1)), pytest.raises(Stopped):
        train(source, tmp_path, about=about)
    assert "began with" not in capsys.readouterr().err
    with watched(("update", 2)), pytest.raises(Stopped):
        train(source, tmp_path, about={**about, "versions": {"jax": "0.2", "numpy": "2.0"}})
    assert f"{tmp_path} began with jax 0.1, now 0.2: results may differ" in capsys.readouterr().err
    assert files.read_config(tmp_path / "config.json")["versions"] == about["versions"]


def test_an_environment_that_cannot_be_saved_begins_a_new_episode(
    source, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(state, "capture", lambda env: None)
    with watched(("update", 11)), pytest.raises(Stopped, match="online step 6"):
        train(source, tmp_path)
    stopped = last_state(tmp_path)
    capsys.readouterr()
    train(source, tmp_path)
    assert (
        "Reach-v0 cannot be saved: new episodes begin at online step 6" in capsys.readouterr().err
    )
    went_on = last_state(tmp_path)
    # The stored steps stay, but the last one now ends an episode, and a new one starts.
    ring, before = went_on.storage.ring, stopped.storage.ring
    before.truncated[:, 5] = True
    assert_same(jax.tree.map(lambda x: x[:, :6], ring), before)
    assert not np.array_equal(ring.observation[:, 6], ring.next_observation[:, 5])
    assert went_on.train.step.tolist() == [UTD * (STEPS - WARMUP)] * 2


@pytest.mark.parametrize("number, where", [(1, "offline update 10"), (4, "online step 4")])
def test_a_signal_cuts_an_evaluation_short(finished, source, tmp_path, number, where):
    """Evaluations may take minutes, so the step is saved and evaluated after resuming."""
    begun, plain = [], Record.evaluate

    def evaluate(self, *arguments):
        begun.append(arguments)
        self.signals.stop = len(begun) == number
        return plain(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "evaluate", evaluate)
        with pytest.raises(Stopped, match=where):
            train(source, tmp_path)
    assert evaluations(tmp_path) == evaluations(finished.folder)[: 2 * (number - 1)]
    train(source, tmp_path)
    assert_goes_on_as_uninterrupted(tmp_path, finished)


def test_saved_in_the_middle_and_killed(finished, source, tmp_path, monkeypatch):
    """Saves are timed by the clock and can happen at any step; here after every call."""
    monkeypatch.setattr(saving, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(saving, "SAVE_SHARE", np.inf)
    for at in (("update", 3), ("env", 3), ("eval", 2)):
        with watched(at, kill=True), pytest.raises(Killed):
            train(source, tmp_path)
    train(source, tmp_path)
    assert_goes_on_as_uninterrupted(tmp_path, finished)


class TellsSuccess(Reach):
    """Reach that reports success, and never failure, where the goal is far to the right."""

    def step(self, action):
        *given, _ = super().step(action)
        return *given, {"success": True} if self._goal > 0.5 else {}


def test_a_failure_is_known_as_one_after_a_resume(tmp_path):
    """The environment has reported success before the stop, but not yet after it."""
    row = tiny("sac", online__eval_every=1)
    how = {"env": TellsSuccess, "seeds": (3,), "eval_episodes": 1, "eval_max_steps": 2}

    def rates(folder, at=None):
        with watched(at), contextlib.suppress(Stopped):
            train(from_env("Reach-v0", REACH), folder, row, **how)
        return [r["success"] for r in table(folder / "evaluations.csv")]

    whole = rates(tmp_path / "whole")
    assert whole[0] == "" and whole[-5:] == ["1.0", "0.0", "0.0", "0.0", "0.0"]
    assert rates(tmp_path / "stopped", ("eval", len(whole) - 4)) == whole[:-4]
    assert rates(tmp_path / "stopped") == whole
    summaries = [(tmp_path / name / "summary.json").read_text() for name in ("whole", "stopped")]
    assert summaries[0] == summaries[1]


def test_a_full_disk_stops_the_run_and_loses_nothing(finished, source, tmp_path):
    with contextlib.ExitStack() as full:

        def watch(phase, step, *rest):
            if (phase, step) == ("online", 4):
                full.enter_context(largest_file(4_000))

        with pytest.raises(RunError, match="File too large") as error:
            train(source, tmp_path, watch=watch)
    assert "\n" not in str(error.value) and not (tmp_path / "summary.json").exists()
    train(source, tmp_path)
    assert_goes_on_as_uninterrupted(tmp_path, finished)


def test_clocks_may_jump(finished, source, tmp_path, monkeypatch):
    jumps = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    train(source, tmp_path)
    assert_goes_on_as_uninterrupted(tmp_path, finished)
    wall = [float(row["wall_s"]) for row in table(tmp_path / "evaluations.csv")]
    assert wall == sorted(wall) and wall[0] > 0 and wall[-1] < 600


@pytest.mark.parametrize("steps", [0, 7])
def test_more_online_steps_go_on_as_if_given_from_the_start(
    finished, source, tmp_path, capsys, steps
):
    short = tiny("enoto_cql", **MINE, online__steps=steps)
    train(source, tmp_path, row=short)
    (tmp_path / "summary.json").write_text("{}")  # killed just after extending the run
    train(source, tmp_path)
    assert "is finished" not in capsys.readouterr().err
    assert_goes_on_as_uninterrupted(tmp_path, finished)
    assert files.read_config(tmp_path / "config.json")["recipe"]["online"]["steps"] == STEPS
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"its recipe.online.steps is 12, now {steps}"):
        train(source, tmp_path, row=short)
    assert contents(tmp_path) == before
