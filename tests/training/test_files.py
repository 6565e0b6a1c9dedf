"""The files of a run, and folders that are refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from enoto_jax.runs import files, folder
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.training import run
from enoto_jax.training.record import Stopped, evaluation_number
from enoto_jax.types import InputError
from tests.helpers import RUN_FILES, assert_same, reach_source, successor, tiny
from tests.small_runs import (
    EPISODES,
    EVALUATED,
    MINE,
    REFERENCE,
    SEEDS,
    STEPS,
    UTD,
    WARMUP,
    contents,
    evaluations,
    kept_handover,
    last_state,
    table,
    train,
    watched,
)


def test_a_run_writes_the_files_of_the_contract(finished):
    found = {path.name for path in finished.folder.iterdir()}
    assert found == RUN_FILES
    assert (finished.folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((finished.folder / "summary.json").read_text()) == finished.summary


def test_config_says_what_was_run(finished, source):
    config = json.loads((finished.folder / "config.json").read_text())
    assert config["task"] == "reach" and config["env"] == "Reach-v0"
    assert config["seeds"] == list(SEEDS) and config["eval_episodes"] == EPISODES
    assert config["data_hash"] == source.load().content_hash
    assert config["reference"] == list(REFERENCE) and config["restore"] is None
    assert config["recipe"]["online"]["algorithm"]["exploration"]["mask"] == 0.7


def test_one_row_a_seed_and_evaluation_and_one_exactly_at_the_handover(finished):
    assert evaluations(finished.folder) == [(*at, seed) for at in EVALUATED for seed in SEEDS]


def test_evaluation_rows(finished):
    rows = table(finished.folder / "evaluations.csv")
    assert tuple(rows[0]) == files.EVALUATION_COLUMNS
    for row in rows:
        online_phase = row["phase"] == "online"
        assert int(row["env_steps"]) == (int(row["step"]) if online_phase else 0)
        assert int(row["episodes"]) == EPISODES
        low, high = REFERENCE
        wanted = 100 * (float(row["return_mean"]) - low) / (high - low)
        assert float(row["score"]) == pytest.approx(wanted)
        assert -40 < float(row["return_mean"]) < 0 <= float(row["return_std"])
    wall = [float(row["wall_s"]) for row in rows]
    assert wall == sorted(wall)


def test_evaluations_around_the_handover_begin_from_the_same_states(finished):
    """The policy is the same there, so the returns are too; later evaluations start elsewhere."""
    returns = {}
    for row in table(finished.folder / "evaluations.csv"):
        at = (row["phase"], int(row["step"]))
        returns.setdefault(at, []).append(float(row["return_mean"]))
    assert returns["online", 0] == pytest.approx(returns["offline", 20], rel=1e-5)
    numbers = [evaluation_number(*at, offline_steps=20) for at in EVALUATED]
    assert numbers == [20, 0, 0, 9, 17, 25]


PROBED = (
    *("action_distance", "temperature", "q_mean", "q_std", "q_policy", "policy_gap"),
    *("target", "weight"),
)


def test_metric_names_and_steps(finished):
    rows = table(finished.folder / "metrics.csv")
    assert tuple(rows[0]) == files.METRIC_COLUMNS
    critic = {"loss", "td_loss", "q_data", "q_std", "target", "weight"}
    actor, temperature = {"loss", "q_policy", "entropy", "std"}, {"loss", "value"}
    expected = {f"offline/critic/{name}" for name in {*critic, "gap"}}
    expected |= {f"online/critic/{name}" for name in critic}
    for phase in ("offline", "online"):
        expected |= {f"{phase}/actor/{name}" for name in actor}
        expected |= {f"{phase}/temperature/{name}" for name in temperature}
        expected |= {f"{phase}/data/{name}" for name in PROBED}
    assert {row["name"] for row in rows} == expected
    found = [(row["name"].split("/")[0], int(row["step"])) for row in rows]
    assert list(dict.fromkeys(found)) == EVALUATED
    keys = [(row["step"], row["seed"], row["name"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(np.isfinite(float(row["value"])) for row in rows)


def test_metrics_are_means_over_updates(finished):
    """The temperature starts at 1 and moves by at most its rate, 1e-4, per update."""
    for row in table(finished.folder / "metrics.csv"):
        if row["name"].endswith("temperature/value"):
            assert float(row["value"]) == pytest.approx(1.0, abs=0.01)


def test_a_delayed_actors_metrics_are_means_over_its_own_updates(source, tmp_path):
    """Of three updates, the actor of TD3+BC takes part in one or two."""
    found = {}
    for every in (1, 3):
        changes = {f"{x}__eval_every": every for x in ("offline", "online")}
        row = tiny("td3_bc", **changes, offline__steps=6, online__steps=6, online__warmup=0)
        train(source, tmp_path / str(every), row=row, seeds=SEEDS[:1], eval_episodes=1)
        for line in table(tmp_path / str(every) / "metrics.csv"):
            at = (every, line["name"], int(line["step"]))
            found[at] = float(line["value"])
    for name in ("offline/actor/lambda", "offline/actor/bc", "online/actor/bc"):
        own = {step: found[1, name, step] for step in (2, 4, 6)}
        assert not {(1, name, step) for step in (1, 3, 5)} & set(found)
        assert found[3, name, 3] == pytest.approx(own[2], rel=1e-5)
        assert found[3, name, 6] == pytest.approx((own[4] + own[6]) / 2, rel=1e-5)


def test_timing(finished):
    timing = json.loads((finished.folder / "timing.json").read_text())
    assert {"compile_s", "update_s", "env_s", "eval_s", "wall_s"} <= set(timing)
    assert timing["updates"] == len(SEEDS) * (20 + UTD * (STEPS - WARMUP))
    assert timing["env_steps"] == len(SEEDS) * STEPS
    assert timing["updates_per_s"] > 0 and timing["env_steps_per_s"] > 0


def test_each_phase_is_compiled_once(finished):
    # There are also 4 offline calls, and online one call per step and one before the first.
    assert finished.calls["compile"] == 2
    assert finished.calls["update"] == 4 + STEPS + 1
    assert finished.calls["eval"] == len(EVALUATED)


def test_the_online_phase_starts_from_the_offline_end(finished):
    before, start = kept_handover(finished.folder), finished.start.train
    assert before.step.tolist() == [20, 20]
    for part in ("params", "targets", "opt_states"):
        assert_same(getattr(start, part), dict(getattr(before, part)))
    assert not any(x.any() for x in jax.tree.leaves(finished.start.storage.ring))


def test_every_step_after_the_warmup_updates_utd_times(finished):
    assert last_state(finished.folder).train.step.tolist() == [UTD * (STEPS - WARMUP)] * 2


def test_the_ring_holds_what_the_environment_did(finished):
    stored = last_state(finished.folder).storage.ring
    assert stored.reward.shape == (2, STEPS)
    expected = successor(stored.observation, stored.action)
    np.testing.assert_allclose(stored.next_observation, expected, atol=1e-6)
    np.testing.assert_allclose(stored.reward, -abs(expected[..., 1]), atol=1e-6)
    np.testing.assert_array_equal(stored.observation[:, 1:], stored.next_observation[:, :-1])
    assert not stored.terminated.any() and not stored.truncated.any()  # shorter than an episode
    assert set(np.unique(stored.extras["mask"])) == {0.0, 1.0}
    assert stored.extras["mask"].any(axis=-1).all()


def test_a_finished_run_is_not_touched(finished, source):
    before = contents(finished.folder)
    assert train(source, finished.folder) == finished.summary
    assert contents(finished.folder) == before


def test_a_run_whose_description_changed_is_the_same(finished, source):
    row = dataclasses.replace(tiny("enoto_cql", **MINE), about="another description")
    assert train(source, finished.folder, row=row) == finished.summary


@pytest.mark.parametrize(
    "what, changes",
    [
        ("seeds", {"seeds": (3, 6)}),
        ("eval_episodes", {"eval_episodes": 3}),
        ("env", {"env": "ReachShort-v0"}),
        ("recipe.precision", {"row": tiny("enoto_cql", **MINE, precision="bf16")}),
        ("recipe.offline.batch_size", {"row": tiny("enoto_cql", **MINE, batch_size=9)}),
        ("recipe.online.utd", {"row": tiny("enoto_cql", **{**MINE, "online__utd": 1})}),
        ("recipe.online.overlap", {"row": tiny("enoto_cql", **MINE, online__overlap=True)}),
        ("data_hash", {"source": reach_source(seed=1)}),
    ],
)
def test_another_run_in_the_same_folder_is_refused(finished, source, what, changes):
    before = contents(finished.folder)
    settings = {"source": source, "folder": finished.folder, **changes}
    with pytest.raises(InputError, match=f"holds another run: its {what} is"):
        train(**settings)
    assert contents(finished.folder) == before


def test_a_run_may_move_to_a_device_that_is_more_deterministic(finished, tmp_path):
    config = json.loads((finished.folder / "config.json").read_text())
    gpu = {**config, "device": "1 x NVIDIA H200", "deterministic": False}
    files.write_json(tmp_path / "config.json", gpu)
    folder.same_run(tmp_path, config)
    with pytest.raises(InputError, match="its deterministic is False, now True"):
        folder.same_run(tmp_path, {**gpu, "deterministic": True})


def test_options_are_the_same_whatever_their_type(finished, source):
    about = {"data_file": finished.folder}
    summary = train(source, finished.folder, eval_episodes=np.int64(EPISODES), about=about)
    assert summary == finished.summary


def test_a_folder_whose_config_has_no_recipe_is_refused(source, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        InputError, match="its recipe.offline is none, now given; give another folder"
    ):
        train(source, tmp_path)
    assert contents(tmp_path).keys() == {"config.json"}


@pytest.mark.parametrize(
    "path, old, told",
    [
        ("offline.algorithm", None, "is none, now cql; give"),
        (
            "offline.algorithm.terms",
            [{"unit": "other", "x": 1}] * 20,
            r"is \[(other, ){9}oth\.\.\., now \[",
        ),
        ("online.algorithm.exploration", None, "is none, now sunrise; give"),
    ],
)
def test_a_part_that_an_old_recipe_lacks_is_told_in_a_few_words(
    finished, tmp_path, path, old, told
):
    config = json.loads((finished.folder / "config.json").read_text())
    *parents, last = path.split(".")
    part = now = json.loads(json.dumps(config["recipe"]))
    for name in parents:
        part = part[name]
    if old is None:
        del part[last]
    else:
        part[last] = old
    now["unknown"] = 1  # prevents filling in defaults
    files.write_json(tmp_path / "config.json", {**config, "recipe": now})
    with pytest.raises(InputError, match=rf"its recipe\.{path} {told}") as refusal:
        folder.same_run(tmp_path, config)
    assert len(str(refusal.value)) < 250 + len(str(tmp_path))


def test_the_best_train_state_is_kept(finished):
    rows = table(finished.folder / "evaluations.csv")
    means = {}
    for row in rows:
        means.setdefault((row["phase"], int(row["step"])), []).append(float(row["score"]))
    checkpoints = Checkpoints(finished.folder / "checkpoints")
    best = checkpoints.record("best")
    checkpoints.close()
    at = max(means, key=lambda key: np.mean(means[key]))  # the first maximum
    assert (best["phase"], best["step"]) == at
    assert best["mean"] == pytest.approx(np.mean(means[at]))


class Dashboard:
    def __init__(self):
        self.told, self.shown, self.closed = {}, {}, 0

    def log(self, step, values):
        for name, value in values.items():
            self.told.setdefault(name, []).append((step, value))

    def show(self, name, path):
        self.shown[name] = path.read_bytes()[:8]

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("at", [None, ("update", 3)], ids=["finished", "stopped"])
def test_dashboards_are_told_and_closed(source, tmp_path, monkeypatch, at):
    board = Dashboard()
    monkeypatch.setattr(run, "open_sinks", lambda names, folder, config: (board,))
    try:
        with watched(at):
            train(source, tmp_path, log=("tensorboard",))
    except Stopped:
        assert at is not None
    steps = [10] if at else [10, 20]
    assert [step for step, _ in board.told["offline/critic/loss"]] == steps
    assert [step for step, _ in board.told["offline/evaluation/score"]] == steps
    rows = [r for r in table(tmp_path / "metrics.csv") if r["name"] == "offline/critic/loss"]
    mean = np.mean([float(row["value"]) for row in rows[:2]])  # over seeds, at step 10
    assert board.told["offline/critic/loss"][0][1] == pytest.approx(mean, rel=1e-5)
    assert board.closed == 1
