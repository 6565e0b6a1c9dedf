"""Whole runs on a tiny task: their files, where they may stop, and what is the same afterwards."""

import contextlib
import csv
import json
import time
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from enoto_jax import core, logging
from enoto_jax.checkpoint import Checkpoints
from enoto_jax.data.source import from_env
from enoto_jax.envs import state, vector
from enoto_jax.recipes import Recipe, build
from enoto_jax.train import offline, online, record, run
from enoto_jax.train.record import Record, Stopped
from enoto_jax.types import InputError, RunError
from tests.helpers import (
    REACH,
    assert_same,
    largest_file,
    quick_compiling,
    reach_source,
    successor,
    tiny,
)

# Offline: 20 updates, evaluated at 10 and 20. Online: 12 steps, evaluated at 0, 4, 8 and 12; the
# first update after step 4. One call is 5 updates or 1 step; UPDATES counts both phases' calls.
SEEDS, EPISODES = (3, 5), 2
WARMUP, UTD, STEPS = 3, 2, 12
MINE = {"online__utd": UTD, "online__algorithm__exploration__mask": 0.7}
ROW = tiny("enoto_cql", **MINE)
REFERENCE = (-15.0, -3.0)
EVALUATED = [("offline", 10), ("offline", 20), *(("online", step) for step in (0, 4, 8, 12))]


class Killed(BaseException):
    """As SIGKILL: nothing is saved."""


class Finished(NamedTuple):
    folder: Any
    summary: dict
    start: online.Online  # of the online phase
    calls: dict[str, int]  # how often each kind of work was done


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with (
        quick_compiling(tmp_path_factory.mktemp("compiled")),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(offline, "BLOCK", 5)
        patch.setattr(offline, "PATIENCE_S", 0.0)  # one block a call
        yield


@pytest.fixture(scope="module")
def source():
    return reach_source(reference=REFERENCE)


def train(source, folder, row: Recipe = ROW, **changes):
    settings = {"seeds": SEEDS, "eval_episodes": EPISODES, **changes}
    return run.train(row, source, folder, **settings)


@contextmanager
def watched(at: tuple[str, int] | None = None, kill: bool = False):
    """Counts what a run does; stops it, or kills it, after the n-th piece of one kind of work."""
    calls: dict[str, int] = {}
    plain = Record.timed

    @contextmanager
    def timed(self, what):
        with plain(self, what) as seconds:
            yield seconds
        calls[what] = calls.get(what, 0) + 1
        if at == (what, calls[what]):
            if kill:
                self.checkpoints.wait()  # in one process the threads that write would live on
                raise Killed
            self.stop = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "timed", timed)
        yield calls


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory) -> Finished:
    """One run from beginning to end, that most tests look at."""
    folder, starts = tmp_path_factory.mktemp("runs") / "whole", []
    plain = online.train

    def train_online(phase, algorithm, replay, carried, *rest):
        starts.append(rest[3].seeds.get(carried))
        return plain(phase, algorithm, replay, carried, *rest)

    with pytest.MonkeyPatch.context() as patch, watched() as calls:
        patch.setattr(online, "train", train_online)
        summary = train(source, folder)
    return Finished(folder, summary, starts[0], dict(calls))


def table(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def evaluations(folder) -> list[tuple[str, int, int]]:
    return [
        (row["phase"], int(row["step"]), int(row["seed"]))
        for row in table(folder / "evaluations.csv")
    ]


def kept_handover(folder, row: Recipe = ROW, seeds: int = 2) -> core.TrainState:
    algorithm = build(row, REACH).offline
    shapes = jax.eval_shape(lambda: core.init(algorithm, jax.random.key(0)))
    checkpoints = Checkpoints(folder / "checkpoints")
    template = jax.tree.map(lambda x: np.zeros((seeds, *x.shape), x.dtype), shapes)
    state = checkpoints.restore(template, handover=True)
    checkpoints.close()
    return state


def last_state(folder, row: Recipe = ROW, seeds: int = 2) -> online.Online:
    """The newest checkpoint, which is of the online phase."""
    built = build(row, REACH)
    begin = online.begin(built.online, built.replay, REACH, row.online.batch_size)
    shapes = jax.eval_shape(lambda: begin(core.init(built.online, jax.random.key(0)), np.int32(0)))
    template = jax.tree.map(lambda x: np.zeros((seeds, *x.shape), x.dtype), shapes)
    checkpoints = Checkpoints(folder / "checkpoints")
    about = checkpoints.record()
    assert about["phase"] == "online"
    ring = jax.tree.map(lambda x: x[:, : about["step"]], template.storage.ring)
    found = checkpoints.restore(template.replace(storage=template.storage._replace(ring=ring)))
    checkpoints.close()
    return found


def contents(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# What a run writes.


def test_a_run_writes_the_files_of_the_contract(finished):
    found = {path.name for path in finished.folder.iterdir()}
    assert found == {
        "config.json", "evaluations.csv", "metrics.csv", "timing.json", "checkpoints",
        "summary.json", "curve.png",
    }  # fmt: skip
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
    assert tuple(rows[0]) == logging.EVALUATION_COLUMNS
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


def test_metric_names_and_steps(finished):
    rows = table(finished.folder / "metrics.csv")
    assert tuple(rows[0]) == logging.METRIC_COLUMNS
    critic = {"loss", "td_loss", "q_data", "q_std", "target", "weight"}
    actor, temperature = {"loss", "q_policy", "entropy", "std"}, {"loss", "value"}
    expected = {f"offline/critic/{name}" for name in {*critic, "gap"}}
    expected |= {f"online/critic/{name}" for name in critic}
    for phase in ("offline", "online"):
        expected |= {f"{phase}/actor/{name}" for name in actor}
        expected |= {f"{phase}/temperature/{name}" for name in temperature}
        expected |= {f"{phase}/data/{name}" for name in ("q_mean", "q_std", "action_distance")}
    assert {row["name"] for row in rows} == expected
    found = [(row["name"].split("/")[0], int(row["step"])) for row in rows]
    assert list(dict.fromkeys(found)) == EVALUATED
    keys = [(row["step"], row["seed"], row["name"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(np.isfinite(float(row["value"])) for row in rows)


def test_metrics_are_means_over_updates(finished):
    """The temperature starts at 1 and moves by at most its rate, 1e-4, an update."""
    for row in table(finished.folder / "metrics.csv"):
        if row["name"].endswith("temperature/value"):
            assert float(row["value"]) == pytest.approx(1.0, abs=0.01)


def test_timing(finished):
    timing = json.loads((finished.folder / "timing.json").read_text())
    assert {"compile_s", "update_s", "env_s", "eval_s", "wall_s"} <= set(timing)
    assert timing["updates"] == len(SEEDS) * (20 + UTD * (STEPS - WARMUP))
    assert timing["env_steps"] == len(SEEDS) * STEPS
    assert timing["updates_per_s"] > 0 and timing["env_steps_per_s"] > 0


def test_each_phase_is_compiled_once(finished):
    # Beside them, 4 offline calls and, online, one call a step and one before the first.
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


@pytest.mark.parametrize("steps", [0, 7])
def test_more_online_steps_go_on_as_if_given_from_the_start(
    finished, source, tmp_path, capsys, steps
):
    short = tiny("enoto_cql", **MINE, online__steps=steps)
    train(source, tmp_path, row=short)
    (tmp_path / "summary.json").write_text("{}")  # a kill right after it has begun to go on
    train(source, tmp_path)
    assert "is finished" not in capsys.readouterr().err
    assert_goes_on_as_uninterrupted(tmp_path, finished)
    assert logging.read_config(tmp_path / "config.json")["recipe"]["online"]["steps"] == STEPS
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"its recipe.online.steps is 12, now {steps}"):
        train(source, tmp_path, row=short)
    assert contents(tmp_path) == before


# Stopped and started again.


@pytest.mark.parametrize(
    "at, where",
    [
        (("update", 1), "offline step 5"),
        (("update", 2), "offline step 10"),
        (("update", 4), "offline step 20"),
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
        file.write("online,4,4,3,-1")  # the kill came in the middle of a row
    train(source, tmp_path)
    assert_goes_on_as_uninterrupted(tmp_path, finished)


def assert_goes_on_as_uninterrupted(folder, finished):
    """To the last bit: rows, parameters, optimisers, replay, counters; only clocks may differ."""
    assert_same(kept_handover(folder), kept_handover(finished.folder))
    assert_same(last_state(folder), last_state(finished.folder))
    mine, whole = (table(f / "evaluations.csv") for f in (folder, finished.folder))
    assert [{**row, "wall_s": ""} for row in mine] == [{**row, "wall_s": ""} for row in whole]
    names = ("metrics.csv", "summary.json")
    assert [(folder / n).read_text() for n in names] == [
        (finished.folder / n).read_text() for n in names
    ]
    timing, whole = (json.loads((f / "timing.json").read_text()) for f in (folder, finished.folder))
    for name in ("updates", "env_steps"):
        assert timing[name] == whole[name]


def test_with_overlap_actions_are_one_step_older_and_a_killed_run_goes_on(
    source, tmp_path, monkeypatch
):
    """One seed of a row that starts from scratch; saved after every call, killed while acting."""
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
    monkeypatch.setattr(record, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(record, "SAVE_SHARE", np.inf)
    for at in (("env", 5), ("update", 4)):
        run_of(tmp_path / "killed", row, at)
    run_of(tmp_path / "killed", row)
    states = {name: last_state(tmp_path / name, row, 1) for name in ("whole", "killed")}
    assert_same(states["killed"], states["whole"])
    # The first update follows transition 4: the plain action after it has seen it, ours has not.
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
    # What had happened stays, but the last step is now an episode's; what follows begins a new one.
    ring, before = went_on.storage.ring, stopped.storage.ring
    before.truncated[:, 5] = True
    assert_same(jax.tree.map(lambda x: x[:, :6], ring), before)
    assert not np.array_equal(ring.observation[:, 6], ring.next_observation[:, 5])
    assert went_on.train.step.tolist() == [UTD * (STEPS - WARMUP)] * 2


@pytest.mark.parametrize("number, where", [(1, "offline step 10"), (4, "online step 4")])
def test_a_signal_cuts_an_evaluation_short(finished, source, tmp_path, number, where):
    """Evaluations may take minutes; the step is saved and evaluated later."""
    begun, plain = [], Record.evaluate

    def evaluate(self, *arguments):
        begun.append(arguments)
        self.stop = len(begun) == number
        return plain(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Record, "evaluate", evaluate)
        with pytest.raises(Stopped, match=where):
            train(source, tmp_path)
    assert evaluations(tmp_path) == evaluations(finished.folder)[: 2 * (number - 1)]
    train(source, tmp_path)
    assert_goes_on_as_uninterrupted(tmp_path, finished)


def test_saved_in_the_middle_and_killed(finished, source, tmp_path, monkeypatch):
    """Saves happen at any step, by the clock: here after every call."""
    monkeypatch.setattr(record, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(record, "SAVE_SHARE", np.inf)
    for at in (("update", 3), ("env", 3), ("eval", 2)):
        with watched(at, kill=True), pytest.raises(Killed):
            train(source, tmp_path)
    train(source, tmp_path)
    assert_goes_on_as_uninterrupted(tmp_path, finished)


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


def test_the_best_train_state_is_kept(finished):
    rows = table(finished.folder / "evaluations.csv")
    means = {}
    for row in rows:
        means.setdefault((row["phase"], int(row["step"])), []).append(float(row["score"]))
    checkpoints = Checkpoints(finished.folder / "checkpoints")
    best = checkpoints.record(best=True)
    checkpoints.close()
    at = max(means, key=lambda key: np.mean(means[key]))  # the first of them
    assert (best["phase"], best["step"]) == at
    assert best["mean"] == pytest.approx(np.mean(means[at]))


def test_clocks_may_jump(finished, source, tmp_path, monkeypatch):
    jumps = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    train(source, tmp_path)
    assert_goes_on_as_uninterrupted(tmp_path, finished)
    wall = [float(row["wall_s"]) for row in table(tmp_path / "evaluations.csv")]
    assert wall == sorted(wall) and wall[0] > 0 and wall[-1] < 600


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
    mean = np.mean([float(row["value"]) for row in rows[:2]])  # of the seeds, at step 10
    assert board.told["offline/critic/loss"][0][1] == pytest.approx(mean, rel=1e-5)
    assert board.closed == 1


# From another run's hand-over.


def starts_of(patch) -> list:
    """Keeps what each run's online phase would begin with, and ends the run there."""
    found = []

    def capture(phase, algorithm, replay, carried, *rest):
        found.append(rest[3].seeds.get(carried))
        raise Killed

    patch.setattr(online, "train", capture)
    return found


def test_restore_starts_where_the_run_itself_started(finished, source, tmp_path, monkeypatch):
    found = starts_of(monkeypatch)
    with pytest.raises(Killed):
        train(source, tmp_path / "same", restore=finished.folder)
    assert_same(found[0], finished.start)
    # Another row with the same offline phase, of one of the seeds.
    other = tiny("cql_n_to_sac_n")
    with pytest.raises(Killed):
        train(source, tmp_path / "other", row=other, seeds=(5,), restore=finished.folder)
    mine = jax.tree.map(lambda x: x[1:], finished.start.train)
    for part in ("params", "targets", "opt_states"):
        assert_same(getattr(found[1].train, part), getattr(mine, part))
    assert not (tmp_path / "other" / "checkpoints" / "handover" / "0").exists()


def test_restore_evaluates_the_handover_as_the_run_itself_did(finished, source, tmp_path):
    """The same parameters, the same seeds, the same moment: the same row."""
    row = tiny("cql_n_to_sac_n", online__steps=2, online__warmup=9)
    train(source, tmp_path, restore=finished.folder, row=row)
    mine = [row for row in table(tmp_path / "evaluations.csv") if row["step"] == "0"]
    whole = [
        row
        for row in table(finished.folder / "evaluations.csv")
        if (row["phase"], row["step"]) == ("online", "0")
    ]
    assert [row["phase"] for row in mine] == ["online"] * 2
    assert [row["return_mean"] for row in mine] == [row["return_mean"] for row in whole]


@pytest.mark.parametrize(
    "message, changes",
    [
        (r"trained seeds \[3, 5\], not \[4\]", {"seeds": (3, 4)}),
        ("cannot restore|differ", {"row": tiny("enoto_cql", **MINE, algorithm__hidden=(9,))}),
        ("cannot restore|differ", {"row": tiny("cql_to_sac")}),
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


# Other shapes of a run.


def test_without_a_simulator_a_run_ends_at_the_handover(finished, source, tmp_path):
    assert train(source, tmp_path, env="none") == {}
    assert evaluations(tmp_path) == []
    assert {row["name"].split("/")[0] for row in table(tmp_path / "metrics.csv")} == {"offline"}
    assert_same(kept_handover(tmp_path), kept_handover(finished.folder))
    assert train(source, tmp_path, env="none") == {}


def test_without_online_steps_a_run_ends_with_the_handovers_evaluation(finished, source, tmp_path):
    row = tiny("enoto_cql", **MINE, online__steps=0)
    train(source, tmp_path, row=row, restore=finished.folder)
    assert evaluations(tmp_path) == [("online", 0, seed) for seed in SEEDS]
    # The data set is looked at as it is in the run that had it on the devices.
    whole = table(finished.folder / "metrics.csv")
    first = [line for line in whole if "online/data/" in line["name"] and line["step"] == "0"]
    assert len(first) == 6 and table(tmp_path / "metrics.csv") == first


def test_an_online_row_needs_no_data(tmp_path, monkeypatch):
    """Also: a ring that is full, and random first steps."""
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
    # Steps 10 and 11 have overwritten rows 0 and 1; in time order the rows are one history.
    order = np.asarray([2, 3, 4, 0, 1])
    story = jax.tree.map(lambda x: x[:, order], stored)
    np.testing.assert_allclose(
        story.next_observation, successor(story.observation, story.action), atol=1e-6
    )
    assert story.truncated.tolist() == [[False, False, True, False, False]] * 2  # step 9, the 10th


def test_the_data_set_joins_the_replay(source, tmp_path):
    """Also where new transitions have masks; and a first update after the first step."""
    row = tiny(
        "sac_n", offline__steps=5, offline__eval_every=5, online__steps=6, online__warmup=0,
        online__algorithm__exploration="sunrise", online__algorithm__exploration__mask=0.5,
    )  # fmt: skip
    train(source, tmp_path, row=row)
    state = last_state(tmp_path, row)
    assert state.train.step.tolist() == [6, 6]
    assert set(np.unique(state.storage.ring.extras["mask"])) == {0.0, 1.0}


def test_an_online_row_learns_from_data_and_goes_on_after_a_stop(source, tmp_path):
    """RLPD: no offline phase, but a data set beside the ring, and 20 updates a step."""
    row = tiny("rlpd", online__warmup=3, online__random_steps=2)
    with watched(("update", 7)), pytest.raises(Stopped, match="online step 6"):
        train(source, tmp_path, row=row)
    summary = train(source, tmp_path, row=row)
    assert summary["offline"] is None
    assert [line["phase"] for line in table(tmp_path / "evaluations.csv")] == ["online"] * 8
    state = last_state(tmp_path, row)
    # Steps 4 to 12 learn; the seventh call, step 6 again, has learned before the stop.
    assert state.train.step.tolist() == [20 * 9] * 2
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["data_hash"] == source.load().content_hash


def test_calibration_learns_from_whole_episodes_across_a_stop(tmp_path):
    """Episodes of 5 steps; the stop after step 7 is in the middle of one, which goes on."""
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
    row = tiny("sac", online__warmup=20)  # acts, never learns
    train(from_env(env, REACH), tmp_path, row=row)
    stored = last_state(tmp_path, row).storage.ring
    assert not stored.terminated.any()
    limits = [False] * 4 + [True]
    assert stored.truncated.tolist() == [(limits * 3)[:STEPS]] * 2
    assert (abs(stored.action) <= 1).all()  # as the agent chose, not as the environment took
    np.testing.assert_allclose(  # also at an episode's end: the successor, not the reset
        stored.next_observation, successor(stored.observation, stored.action, bound), atol=1e-6
    )
    goes_on = np.isclose(stored.observation[:, 1:], stored.next_observation[:, :-1]).all(axis=-1)
    np.testing.assert_array_equal(goes_on, ~stored.truncated[:, :-1])


def test_numbers_that_break_stop_the_run(source, tmp_path):
    row = tiny("cql", offline__algorithm__critic_rate=1e30)
    with pytest.raises(RunError, match=r"offline step 5: .*critic/\w+.* is no longer a number"):
        train(source, tmp_path, row=row, env="none")
    assert table(tmp_path / "metrics.csv") == []
