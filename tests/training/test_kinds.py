"""Other kinds of runs: without a simulator, without data, with data in the replay."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from enoto_jax.data.loading import from_env
from enoto_jax.runs.policies import load_policy
from enoto_jax.training.record import Stopped
from enoto_jax.types import InputError, RunError
from tests.helpers import REACH, assert_same, reach_source, successor, tiny
from tests.small_runs import (
    MINE,
    SEEDS,
    STEPS,
    evaluations,
    kept_handover,
    last_state,
    table,
    train,
    watched,
)


def test_without_a_simulator_a_run_ends_at_the_handover(finished, source, tmp_path):
    assert train(source, tmp_path, env="none") == {}
    assert evaluations(tmp_path) == []
    assert {row["name"].split("/")[0] for row in table(tmp_path / "metrics.csv")} == {"offline"}
    assert_same(kept_handover(tmp_path), kept_handover(finished.folder))
    assert train(source, tmp_path, env="none") == {}


def test_without_a_simulator_a_policy_speaks_the_units_of_the_data(source, tmp_path):
    scaled_from = np.full(1, -5.0, np.float32), np.full(1, 3.0, np.float32)
    train(dataclasses.replace(source, action_bounds=scaled_from), tmp_path, env="none")
    policy = load_policy(tmp_path, which="handover")
    assert (policy.action_low, policy.action_high) == (-5.0, 3.0)


def test_without_online_steps_a_run_ends_with_the_handovers_evaluation(finished, source, tmp_path):
    row = tiny("enoto_cql", **MINE, online__steps=0)
    train(source, tmp_path, row=row, restore=finished.folder)
    assert evaluations(tmp_path) == [("online", 0, seed) for seed in SEEDS]
    # The probe measures the same on the data as in the run that held them on the devices.
    whole = table(finished.folder / "metrics.csv")
    first = [line for line in whole if "online/data/" in line["name"] and line["step"] == "0"]
    assert len(first) == 16 and table(tmp_path / "metrics.csv") == first


def test_the_processes_of_an_evaluation_change_no_score(finished, source, tmp_path):
    train(source, tmp_path, restore=finished.folder, eval_processes=3)
    wanted = [row for row in table(finished.folder / "evaluations.csv") if row["phase"] == "online"]
    for one, two in zip(table(tmp_path / "evaluations.csv"), wanted, strict=True):
        assert {**one, "wall_s": ""} == {**two, "wall_s": ""}


def test_an_online_row_needs_no_data(tmp_path, monkeypatch):
    """The run also covers a full ring and random first steps."""
    row = tiny("sac", online__replay__capacity=5, online__random_steps=2, online__utd=1)
    summary = train(from_env("ReachShort-v0", REACH), tmp_path, row=row)
    assert evaluations(tmp_path) == [
        ("online", step, seed) for step in (0, 4, 8, 12) for seed in SEEDS
    ]
    assert all(row["score"] == "" for row in table(tmp_path / "evaluations.csv"))
    assert summary["metric"] == "return_mean" and summary["offline"] is None
    assert not any("/data/" in line["name"] for line in table(tmp_path / "metrics.csv"))
    stored = last_state(tmp_path, row).storage.ring
    assert stored.reward.shape == (2, 5)
    # Steps 10 and 11 have overwritten rows 0 and 1; in time order, the rows are consecutive.
    order = np.asarray([2, 3, 4, 0, 1])
    story = jax.tree.map(lambda x: x[:, order], stored)
    np.testing.assert_allclose(
        story.next_observation, successor(story.observation, story.action), atol=1e-6
    )
    assert story.truncated.tolist() == [[False, False, True, False, False]] * 2  # step 9, the 10th


def test_the_data_set_joins_the_replay(source, tmp_path):
    """New transitions have masks here, and updates start after the first step."""
    row = tiny(
        "sac_n",
        offline__steps=5,
        offline__eval_every=5,
        online__steps=6,
        online__warmup=0,
        online__algorithm__exploration="sunrise",
        online__algorithm__exploration__mask=0.5,
    )
    train(source, tmp_path, row=row)
    state = last_state(tmp_path, row)
    assert state.train.step.tolist() == [6, 6]
    assert set(np.unique(state.storage.ring.extras["mask"])) == {0.0, 1.0}


def test_an_online_row_learns_from_data_and_goes_on_after_a_stop(source, tmp_path):
    """RLPD has no offline phase, but a data set next to the ring, and 20 updates per step."""
    row = tiny("rlpd", online__warmup=3, online__random_steps=2)
    with watched(("update", 7)), pytest.raises(Stopped, match="online step 6"):
        train(source, tmp_path, row=row)
    summary = train(source, tmp_path, row=row)
    assert summary["offline"] is None
    assert [line["phase"] for line in table(tmp_path / "evaluations.csv")] == ["online"] * 8
    state = last_state(tmp_path, row)
    # Steps 4 to 12 learn; the seventh call (step 6) had learned before the stop.
    assert state.train.step.tolist() == [20 * 9] * 2
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["data_hash"] == source.load().content_hash


def test_calibration_learns_from_whole_episodes_across_a_stop(tmp_path):
    """Episodes have 5 steps; the stop after step 7 is in the middle of one, which continues."""
    row = tiny("cal_ql", online__replay__longest=8, offline__steps=5, offline__eval_every=5)
    short = reach_source("ReachShort-v0")
    with watched(("update", 9)), pytest.raises(Stopped, match="online step 7"):
        train(short, tmp_path, row=row)
    train(short, tmp_path, row=row)
    stored = last_state(tmp_path, row).storage
    reward, found = np.asarray(stored.ring.reward), np.asarray(stored.ring.extras["mc_return"])
    for begin, end in ((0, 5), (5, 10), (10, 12)):
        for t in range(begin, end):
            expected = sum(0.99 ** (k - t) * reward[:, k] for k in range(t, end))
            np.testing.assert_allclose(found[:, t], expected, rtol=1e-5)
    assert (stored.own.begun.tolist(), stored.own.inserted.tolist()) == ([10, 10], [12, 12])
    names = {line["name"] for line in table(tmp_path / "metrics.csv")}
    assert {"offline/critic/bound_rate", "online/critic/bound_rate"} <= names


def test_an_online_row_without_an_environment_is_refused(tmp_path):
    with pytest.raises(InputError, match="online only"):
        train(reach_source(env_id=None), tmp_path / "new", row=tiny("sac"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("env, bound", [("ReachShort-v0", 1.0), ("ReachWide-v0", 3.0)])
def test_time_limits_are_no_terminals(tmp_path, env, bound):
    row = tiny("sac", online__warmup=20)  # it acts but never learns
    train(from_env(env, REACH), tmp_path, row=row)
    stored = last_state(tmp_path, row).storage.ring
    assert not stored.terminated.any()
    limits = [False] * 4 + [True]
    assert stored.truncated.tolist() == [(limits * 3)[:STEPS]] * 2
    assert (abs(stored.action) <= 1).all()  # the agent's units, not the environment's
    np.testing.assert_allclose(  # at an episode's end too: the successor, not the reset
        stored.next_observation, successor(stored.observation, stored.action, bound), atol=1e-6
    )
    goes_on = np.isclose(stored.observation[:, 1:], stored.next_observation[:, :-1]).all(axis=-1)
    np.testing.assert_array_equal(goes_on, ~stored.truncated[:, :-1])


def test_numbers_that_break_stop_the_run(source, tmp_path):
    row = tiny("cql", offline__algorithm__critic_rate=1e30)
    with pytest.raises(RunError, match=r"offline update 5: .*critic/\w+.* is NaN or infinite"):
        train(source, tmp_path, row=row, env="none")
    assert table(tmp_path / "metrics.csv") == []
