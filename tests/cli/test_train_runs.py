"""`enoto train` in processes of its own: whole runs, resuming, and a run's configuration."""

import json
import re
import signal
import time

import numpy as np
import pytest

import enoto_jax
from enoto_jax.cli import command, evaluate
from enoto_jax.cli.command import define_only
from enoto_jax.recipes import units
from enoto_jax.runs import progress
from tests.cli.called import MODULE, Called
from tests.helpers import RUN_FILES, python

SHORT = (
    "--budget=smoke",
    "--offline_steps=400",
    "--online_steps=300",
    "--set=offline.eval_every=200",
    "--set=online.eval_every=100",
    "--eval_episodes=2",
    "--final_episodes=5",
    "--utd=1",
)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """start(*arguments) -> a process with a shared compilation cache; a finished run; its output."""
    folder = tmp_path_factory.mktemp("smoke")
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }

    def start(*arguments):
        return python("-m", MODULE, *SHORT, *arguments, env=environment)

    process = start(f"--out={folder / 'run'}")
    out, err = process.communicate(timeout=600)
    return start, folder / "run", Called(process.returncode, out, err)


def rows(folder) -> list[tuple[str, ...]]:
    lines = (folder / "evaluations.csv").read_text().splitlines()[1:]
    return [tuple(line.split(",")[i] for i in (0, 1, 3)) for line in lines]


EVALUATED = [("offline", "200"), ("offline", "400")]
EVALUATED += [("online", step) for step in ("0", "100", "200", "300")]
ROWS = [(*at, seed) for at in EVALUATED for seed in ("0", "1")]


def test_smoke(smoke):
    _, folder, called = smoke
    assert called.code == 0, called.err
    assert {path.name for path in folder.iterdir()} == RUN_FILES
    assert rows(folder) == ROWS
    headline, took, following = called.out.splitlines()
    assert headline.startswith(f"{folder}: score at the hand-over") and "final score" in headline
    assert headline.rstrip().endswith("(in InvertedDoublePendulum-v5)")
    assert headline.count("(seeds ") == 2 and "interval" not in headline
    assert took.startswith("  took ") and took.endswith(f"curve: {folder / 'curve.png'}")
    assert following.startswith(f"  next: enoto report {folder} ")
    assert "Traceback" not in called.err and "Warning" not in called.err
    assert "10,000 transitions in 429 episodes, memory about" in called.err
    assert "data: 10,000 rows; episodes: 429, 428 end in a terminal state" in called.err
    assert "rewards: -1.7" in called.err
    assert f"folder {folder}" in called.err


def test_where_a_run_comes_from(smoke):
    _, folder, _ = smoke
    config = json.loads((folder / "config.json").read_text())
    assert config["package_version"] == enoto_jax.__version__
    assert config["git_commit"] is None or len(config["git_commit"].split("-")[0]) == 40
    assert config["command"].startswith("enoto train --budget=smoke --offline_steps=400")


def test_an_evaluation_again_gives_the_runs_own_numbers(smoke, capsys, tmp_path):
    _, folder, _ = smoke
    kept = [line.split(",") for line in (folder / "evaluations.csv").read_text().splitlines()[1:]]
    for which, phase, step in (("latest", "online", "300"), ("handover", "offline", "400")):
        out = tmp_path / f"{which}.csv"
        define_only(evaluate)
        arguments = ["evaluate", str(folder), f"--which={which}", f"--out={out}"]
        assert command.execute(evaluate.main, arguments, "run") == command.DONE, capsys.readouterr()
        own = [row for row in kept if row[:2] == [phase, step]]
        again = [line.split(",") for line in out.read_text().splitlines()[1:]]
        for one, two in zip(own, again, strict=True):
            assert one[:4] == two[:4] and one[7:9] == two[7:9] == ["", "5"]
            np.testing.assert_allclose(np.float64(two[4:7]), np.float64(one[4:7]), rtol=1e-3)
    said = capsys.readouterr().out
    assert "  seed 1: score " in said and " (seeds " in said


def test_an_evaluation_of_what_is_no_run(smoke, capsys, tmp_path):
    _, folder, _ = smoke
    for arguments, words in (
        ([str(tmp_path)], "config.json"),
        ([str(folder), "--episodes=0"], "--episodes"),
        ([str(folder), f"--out={folder / 'evaluations.csv'}"], "already exists"),
        ([str(folder), "--env=Hopper-v4"], "observation size 11"),
        ([str(folder), "--which=first"], "--which"),
    ):
        define_only(evaluate)
        code = command.execute(evaluate.main, ["evaluate", *arguments], "run")
        err = capsys.readouterr().err
        assert code == command.BAD_INPUT and words in err and err.count("\n") == 1, err


def test_a_finished_run_says_so(smoke, call):
    _, folder, _ = smoke
    before = (folder / "evaluations.csv").stat().st_mtime_ns
    called = call(*SHORT, f"--out={folder}")
    assert called.code == 0 and "is finished" in called.err
    assert called.out.startswith(f"{folder}: ")
    assert (folder / "evaluations.csv").stat().st_mtime_ns == before


def test_other_flags_on_the_same_folder_are_refused(smoke, call):
    _, folder, _ = smoke
    called = call(*SHORT, "--batch_size=32", f"--out={folder}")
    assert called.code == 2
    assert "batch_size is 64, now 32" in called.err
    assert called.err.startswith("error: --out") and called.err.count("\n") == 1


def test_config_gives_the_same_run(smoke, plan, call, monkeypatch):
    _, folder, _ = smoke
    ours = plan(*SHORT)
    theirs = plan(f"--config={folder / 'config.json'}")
    same = ("recipe", "task", "seeds", "env", "eval_episodes", "final_episodes", "restore")
    for name in same[1:]:
        assert theirs[name] == ours[name], name
    assert units.to_json(theirs["recipe"]) == units.to_json(ours["recipe"])
    # Flags still override the configuration.
    assert plan(f"--config={folder / 'config.json'}", "--utd=3")["recipe"].online.utd == 3


def test_config_goes_on_in_the_same_folder(smoke, call):
    _, folder, _ = smoke
    called = call(f"--config={folder / 'config.json'}", f"--out={folder}")
    assert called.code == 0 and "is finished" in called.err


def test_config_keeps_the_seeds_themselves(smoke, plan, tmp_path):
    _, folder, _ = smoke
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**config, "seeds": [3, 4, 5]}))
    assert plan("--config=other.json")["seeds"] == (3, 4, 5)


def test_config_keeps_the_run_that_was_restored(smoke, plan, tmp_path):
    """Otherwise it would train the offline phase that the restored run had skipped."""
    _, folder, _ = smoke
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**config, "restore": str(folder)}))
    assert plan("--config=other.json")["restore"] == folder


def test_another_first_seed_for_a_configuration(smoke, plan):
    _, folder, _ = smoke
    assert plan(f"--config={folder / 'config.json'}", "--seed=5")["seeds"] == (5, 6)


@pytest.mark.parametrize("phase", ["offline", "online"])
def test_stopped_by_a_signal_and_started_again(smoke, tmp_path, phase):
    start, _, _ = smoke
    folder = tmp_path / "run"
    row = {"offline": "offline,200,", "online": "online,0,"}[phase]
    process = start(f"--out={folder}")
    until = time.monotonic() + 400
    while (
        not (folder / "evaluations.csv").exists()
        or row not in (folder / "evaluations.csv").read_text()
    ):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 75, err
    assert f"stopped at {phase} {progress.UNITS[phase]} " in err and "Traceback" not in err
    # After a stop at online step 0, the newest checkpoint is the end of the offline phase.
    resumed = "offline" if re.search(r"stopped at online step 0\b", err) else phase
    assert not (folder / "summary.json").exists()
    stopped = rows(folder)
    assert stopped == ROWS[: len(stopped)] and len(stopped) < len(ROWS)
    process = start(f"--out={folder}")
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert f"resumed at {resumed} {progress.UNITS[resumed]} " in err or phase == "offline"
    assert rows(folder) == ROWS
    assert "final score" in out
    assert {path.name for path in folder.iterdir()} == RUN_FILES
