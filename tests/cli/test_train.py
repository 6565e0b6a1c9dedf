"""`enoto train` as a user sees it: exit codes, one line for each mistake, resuming.

Most tests call the command inside this process, which saves the seconds that imports take.
"""

import json
import re
import signal
import time
from typing import NamedTuple

import h5py
import numpy as np
import pytest

import enoto_jax
from enoto_jax.cli import command, compiled, evaluate, train
from enoto_jax.cli.command import define_only
from enoto_jax.recipes import budgets, units
from enoto_jax.recipes.table import RECIPES
from enoto_jax.runs import progress
from enoto_jax.training import offline, online, run
from enoto_jax.training.entrance import source_of
from tests.helpers import python, reach_data

MODULE = "experiments.train"
FILES = {
    "config.json",
    "evaluations.csv",
    "metrics.csv",
    "timing.json",
    "checkpoints",
    "summary.json",
    "curve.png",
    "training.png",
}


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


class Called(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """call(*arguments) runs the command in an empty folder; an error if training begins."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def begins(*arguments):
        raise AssertionError("training began")

    monkeypatch.setattr(offline, "compile_blocks", begins)
    monkeypatch.setattr(online, "compile_step", begins)
    monkeypatch.setattr(compiled, "keep", lambda given: None)  # this process has its own

    def call(*arguments) -> Called:
        arguments = [MODULE, *map(str, arguments)]
        define_only(train)
        monkeypatch.setattr("sys.argv", arguments)
        capsys.readouterr()
        code = command.execute(train.main, arguments)
        return Called(code, *capsys.readouterr())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def plan(monkeypatch, call):
    """plan(*arguments) -> the arguments that `run.train` would get."""
    given = {}

    def capture(recipe, source, folder, **settings):
        given.update(settings, recipe=recipe, task=source.name, folder=folder)
        return {}

    monkeypatch.setattr(run, "train", capture)

    def plan(*arguments) -> dict:
        given.clear()
        assert call(*arguments).code == 0
        return dict(given)

    return plan


def write(path, **attributes):
    """Write Reach's data to a file; an attribute with the name of an array replaces the array."""
    with h5py.File(path, "w") as file:
        for key, array in reach_data(episodes=2).items():
            file[key] = attributes.pop(key, array)
        file.attrs.update({"env_id": "Reach-v0", **attributes})
    return path


@pytest.fixture
def files(tmp_path_factory):
    """Invalid data sets and a valid one, and folders that are not runs."""
    folder, arrays = tmp_path_factory.mktemp("files"), reach_data(episodes=2)
    write(folder / "good.hdf5")
    whole = (folder / "good.hdf5").read_bytes()
    (folder / "cut.hdf5").write_bytes(whole[: len(whole) // 2])
    broken = arrays["rewards"].copy()
    broken[5] = np.nan
    write(folder / "nan.hdf5", rewards=broken)
    write(folder / "wide.hdf5", actions=3.0 * np.ones_like(arrays["actions"]))
    write(folder / "nameless.hdf5", env_id="")
    write(folder / "hopper.hdf5", env_id="Hopper-v4")
    (folder / "folder").mkdir()
    (folder / "file").write_text("")
    sac = units.to_json(RECIPES["sac"])
    whole = {"method": "sac", "recipe": sac, "seeds": [0], "eval_episodes": 1, "env": "Hopper-v4"}
    configs = {
        "empty": {},
        "list": [],
        "part": {name: x for name, x in whole.items() if name != "method"},
        "foreign": {**whole, "recipe": {**sac, "offline": 3}},
        "no_unit": {**whole, "recipe": {**sac, "handover": {"unit": "cary"}}},
        "no_argument": {**whole, "recipe": {**sac, "handover": {"unit": "carry", "all": True}}},
    }
    for name, content in configs.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "cut.json").write_text('{"method": ')
    return folder


BAD = {
    "unknown row": (["--method=enoto_cq"], ["--method", "enoto_cq", "nearest", "enoto_cql"]),
    "unknown flag": (["--metod=sac"], ["metod"]),
    "no flag at all": (["sac"], ["'sac'", "--name=value"]),
    "flag's type": (["--batch_size=many"], ["batch_size", "many"]),
    "unknown budget": (["--preset=smoky"], ["--budget", "smoky", "smoke"]),
    "unknown path": (
        ["--set=online.algorithm.exploration.ubc=1"],
        ["--set", "exploration.ubc", "online.algorithm.exploration.ucb"],
    ),
    "unknown short path": (["--set=algorithm.hiden=8,8"], ["--set", "hiden", "algorithm.hidden"]),
    "no path": (["--set=nonsense"], ["--set", "nonsense", "path=value"]),
    "text for a number": (["--set=offline.batch_size=many"], ["batch_size", "many", "64"]),
    "half a step": (["--set=online.steps=1.5"], ["online.steps", "1.5", "whole number"]),
    "text for a width": (["--set=algorithm.hidden=8,wide"], ["hidden", "wide"]),
    "half a unit": (["--set=algorithm.hidden=8,0.5"], ["hidden", "0.5"]),
    "no width": (["--set=algorithm.hidden=0"], ["hidden", "0"]),
    "number for a flag": (["--set=algorithm.layer_norm=3"], ["layer_norm", "3", "true or false"]),
    "unknown target": (["--target=weighted_min_par"], ["weighted_min_par", "weighted_min_pair"]),
    "unknown exploration": (["--exploration=ucb"], ["exploration", "ucb", "sunrise"]),
    "unknown replay": (["--replay=apend"], ["replay", "apend", "append"]),
    "unknown scope": (["--set=online.algorithm.exploration.scope=row"], ["scope", "row", "batch"]),
    "no probability": (["--set=online.algorithm.exploration.mask=2"], ["mask", "2", "probability"]),
    "no room": (["--set=online.replay.capacity=0"], ["capacity", "0"]),
    "unknown hand-over": (["--set=handover=carri"], ["handover", "carri", "carry"]),
    "nothing to carry": (["--method=sac", "--set=handover=carry"], ["carry", "offline", "fresh"]),
    "more drawn than there are": (
        ["--target=random_min_pair", "--set=online.algorithm.target.m=20"],
        ["random_min_pair", "20"],
    ),
    "groups that do not divide": (
        ["--target=independent", "--set=online.algorithm.target.group=4"],
        ["independent", "group", "4"],
    ),
    "no seeds": (["--seeds=0"], ["--seeds", "at least 1"]),
    "a trillion seeds": (["--seeds=1000000000000"], ["--seeds", "at most 10000"]),
    "fewer seeds": (["--seeds=-1"], ["--seeds", "at least 1"]),
    "negative seed": (["--seed=-1"], ["--seed", "at least 0"]),
    "huge seed": (["--seed=99999999999"], ["--seed", "2147483647"]),
    "negative updates": (["--offline_steps=-1"], ["offline", "steps", "-1"]),
    "negative steps": (["--online_steps=-5"], ["online", "steps", "-5"]),
    "no batch": (["--batch_size=0"], ["batch_size", "0"]),
    "no critics": (["--num_critics=0"], ["num_critics", "0"]),
    "one critic, which has no pairs": (["--num_critics=1"], ["weighted_min_pair", "--num_critics"]),
    "no updates": (["--utd=0"], ["utd", "0"]),
    "negative warm-up": (["--warmup=-1"], ["warmup", "-1"]),
    "never evaluated": (["--eval_every=0"], ["eval_every", "0"]),
    "no episodes": (["--eval_episodes=0"], ["--eval_episodes", "at least 1"]),
    "fewer episodes": (["--eval_episodes=-2"], ["--eval_episodes", "at least 1"]),
    "no offline phase": (
        ["--method=sac", "--offline_steps=5"],
        ["--offline_steps", "offline.steps"],
    ),
    "empty task": (["--task="], ["--task: ''", "leave out --task"]),
    "missing file": (["--task=no/such.hdf5"], ["no/such.hdf5", "no such file"]),
    "unknown task": (["--task=hoper-medium-v2"], ["hoper-medium-v2", "hopper-medium-v2"]),
    "no Minari id": (["--task=minari:../x"], ["minari:../x", "ids look like"]),
    "missing file of two": (
        ["--task={files}/good.hdf5+no/such.hdf5"],
        ["no/such.hdf5", "no such file"],
    ),
    "files of two tasks": (
        ["--task={files}/good.hdf5+{files}/hopper.hdf5"],
        ["hopper: only data sets of one task", "env_id"],
    ),
    "file cut short": (["--task={files}/cut.hdf5"], ["cut.hdf5", "damaged"]),
    "NaN in the data": (["--task={files}/nan.hdf5"], ["nan.hdf5", "rewards", "row 5"]),
    "actions out of bounds": (["--task={files}/wide.hdf5"], ["wide.hdf5", "actions", "[-1, 1]"]),
    "no environment named": (["--task={files}/nameless.hdf5"], ["--env", "nameless", "none"]),
    "unknown environment": (["--env=NoSuch-v0"], ["--env", "NoSuch"]),
    "another environment": (
        ["--task={files}/good.hdf5", "--env=InvertedPendulum-v4"],
        ["--env", "InvertedPendulum-v4", "observation size 4", "2", "good"],
    ),
    "nothing to learn from": (["--method=sac", "--env=none"], ["--env", "sac"]),
    "no run to restore": (["--restore={files}/folder"], ["--restore", "folder", "config.json"]),
    "missing run": (["--restore=no/such"], ["--restore", "no/such"]),
    "nothing to restore": (["--method=sac", "--restore={files}"], ["--restore", "sac"]),
    "unknown dashboard": (["--log=csv,tensorbord"], ["--log", "tensorbord", "tensorboard"]),
    "nothing to explain": (["--explain=online.algorithm.exploration.ubc"], ["--explain", "ucb"]),
    "missing configuration": (["--config=no/such.json"], ["--config", "no/such.json"]),
    "configuration cut short": (["--config={files}/cut.json"], ["--config", "cut.json"]),
    "empty configuration": (["--config={files}/empty.json"], ["--config"]),
    "no configuration": (["--config={files}/list.json"], ["--config"]),
    "part of a configuration": (["--config={files}/part.json"], ["--config", "part.json"]),
    "unknown argument": (["--config={files}/no_argument.json"], ["carry", "all"]),
    "foreign configuration": (["--config={files}/foreign.json"], ["--config"]),
    "unknown unit": (["--config={files}/no_unit.json"], ["--config", "cary", "carry"]),
    "output is a file": (["--out={files}/file"], ["--out", "file"]),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(call, files, tmp_path, what):
    """Exit code 2, one line that names what is wrong, and nothing is written."""
    arguments, words = BAD[what]
    arguments = [argument.format(files=files) for argument in arguments]
    # A folder of its own, and numbers that compile nothing large if all goes wrong.
    called = call(
        "--preset=smoke", *(() if what == "output is a file" else ("--out=new",)), *arguments
    )
    assert called.code == 2, called
    assert called.err.startswith("error: ") and called.err.endswith("\n")
    for word in words:
        assert word in called.err, f"{word!r} is not in: {called.err}"
    assert called.err.count("\n") == 1, called.err
    assert not list(tmp_path.iterdir())


def test_bad_input_of_a_process():
    process = python("-m", MODULE, "--method=enoto_cq")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: --method") and err.count("\n") == 1


def test_dry_run(call, tmp_path):
    flags = ("--num_critics=5", "--precision=bf16", "--deterministic")
    called = call("--preset=smoke", "--dry_run", "--out=new", *flags)
    assert called.code == 0
    assert "precision bf16; deterministic" in called.out
    assert "online.algorithm.n = 5" in called.out
    assert "online.algorithm.exploration.ucb = 10.0" in called.out
    assert "offline.steps = 2000" in called.out
    assert "parameters" in called.out and "MiB" in called.out
    assert "cql -> sac" in called.out  # what the switch changes
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_row_can_be_shown(call, name):
    row = RECIPES[name]
    alone = row.offline is None and not row.online.replay.needs_data
    env = ["--env=Hopper-v4"] if alone else []
    called = call(f"--method={name}", "--dry_run", *env)
    assert called.code == 0, called.err
    assert row.about in called.out


def test_explain(call):
    called = call("--explain=online.algorithm.exploration.ucb")
    assert called.code == 0
    assert "online.algorithm.exploration.ucb = 10.0" in called.out
    assert "lambda" in called.out and "SUNRISE" in called.out


def test_everything_can_be_explained(call):
    """Every hyper-parameter of the default row has a line on what it is."""
    for path, _, _ in units.leaves(RECIPES["enoto_cql"]):
        called = call(f"--explain={path}")
        assert called.code == 0, called.err
        value, meaning, *_ = called.out.splitlines()
        assert value.startswith(f"{path} = ")
        assert meaning.strip(), called.out


def test_help(call):
    """The first thing that anybody types."""
    called = call("--help")
    assert called.code == 0
    assert "--method" in called.out and "see enoto methods" in called.out


# What the flags come to.


def test_flags_change_what_they_say(plan):
    given = plan(
        "--preset=smoke",
        "--method=cql_to_sac",
        "--seeds=3",
        "--seed=7",
        "--eval_episodes=4",
        "--offline_steps=30",
        "--online_steps=40",
        "--eval_every=10",
        "--batch_size=16",
        "--utd=2",
        "--warmup=5",
        "--num_critics=6",
        "--target=mean_q",
        "--exploration=oac",
        "--replay=mixed",
        "--set=online.replay.fraction=0.25",
        "--set=algorithm.hidden=8,4",
        "--set=offline.algorithm.lagrange=1",
        "--precision=bf16",
        "--overlap",
        "--out=there",
        "--eval_processes=3",
    )
    assert given["eval_processes"] == 3
    assert given["seeds"] == (7, 8, 9) and given["eval_episodes"] == 4
    assert given["folder"].name == "there" and given["signals"] is True
    found = {path: value for path, value, _ in units.leaves(given["recipe"])}
    wanted = {
        "offline.steps": 30,
        "online.steps": 40,
        "offline.eval_every": 10,
        "online.eval_every": 10,
        "offline.batch_size": 16,
        "online.batch_size": 16,
        "online.utd": 2,
        "online.warmup": 5,
        "offline.algorithm.n": 6,
        "online.algorithm.n": 6,
        "online.replay.fraction": 0.25,
        "offline.algorithm.hidden": (8, 4),
        "online.algorithm.hidden": (8, 4),
        "offline.algorithm.lagrange": 1,
        "precision": "bf16",
        "online.overlap": True,
        "offline.overlap": False,
    }
    assert {path: found[path] for path in wanted} == wanted
    assert found["online.algorithm.target"].name == "mean_q"
    assert found["online.algorithm.exploration"].name == "oac"
    assert found["online.replay"].name == "mixed"
    assert found["offline.algorithm.target"].name == "min_q"  # the offline phase keeps its own


def test_several_files_are_one_task(plan, files):
    task = f"{files}/good.hdf5+{files}/nameless.hdf5"
    given = plan(f"--task={task}")
    assert given["task"] == "good+nameless" and given["env"] == "Reach-v0"
    assert given["about"]["task_given"] == task and given["about"]["data_physics"] == "unknown"


def test_an_environment_completes_the_task_of_a_file(files):
    source = source_of(str(files / "nameless.hdf5"), "Reach-v0", RECIPES["cql"])
    assert (source.env_id, source.max_episode_steps) == ("Reach-v0", 20)


def test_paper_is_the_row_itself(plan):
    given = plan("--budget=paper")
    assert given["recipe"] == RECIPES["enoto_cql"]
    assert given["seeds"] == (0, 1, 2, 3, 4) and given["eval_episodes"] == 10
    assert given["final_episodes"] == 100
    assert given["folder"].parts[0] == "runs" and "enoto_cql" in given["folder"].name


def test_an_online_row_needs_no_data(plan):
    given = plan("--method=sac", "--env=Hopper-v4")
    assert given["task"] == given["env"] == "Hopper-v4"


def test_the_budget_that_fits_the_device(plan, call, monkeypatch):
    """A bare command on a CPU never begins the paper's million updates, and says so."""
    given = plan()
    assert given["recipe"].offline.steps == 280_000 and given["seeds"] == (0,)
    assert "budget laptop, which fits a CPU: " in given["announce"]
    assert "--budget=paper" in given["announce"]
    monkeypatch.setattr(budgets, "fitting", lambda: "paper")  # as on an accelerator
    given = plan()
    assert given["recipe"] == RECIPES["enoto_cql"]
    assert "budget paper, which fits an accelerator: " in given["announce"]
    assert "budget" not in plan("--budget=smoke")["announce"]


def test_episodes_at_the_hand_over_and_at_the_end(plan):
    assert plan("--budget=smoke")["final_episodes"] == 5
    assert plan("--budget=cpu", "--eval_episodes=300")["final_episodes"] == 300
    given = plan("--budget=cpu", "--eval_episodes=2", "--final_episodes=7", "--eval_max_steps=50")
    assert [given[k] for k in ("eval_episodes", "final_episodes", "eval_max_steps")] == [2, 7, 50]


def test_the_bounds_that_actions_were_recorded_with(plan, call, files):
    given = plan(f"--task={files}/wide.hdf5", "--action_low=-3", "--action_high=3")
    assert given["about"]["action_low"] == "-3" and given["about"]["action_high"] == "3"
    called = call(f"--task={files}/wide.hdf5", "--action_low=-2", "--action_high=2", "--dry_run")
    assert called.code == 2 and called.err.count("\n") == 1
    assert "wide.hdf5" in called.err and "2" in called.err
    called = call(f"--task={files}/good.hdf5", "--action_low=1", "--action_high=-1")
    assert called.code == 2 and called.err.count("\n") == 1 and "1" in called.err


def test_the_laptop_budget_keeps_the_papers_regime(plan):
    """Ten critics that feel 0.5 each of a weight of 5; narrow, and with one candidate per source."""
    row = plan("--budget=laptop")["recipe"]
    offline, online = row.offline.algorithm, row.online.algorithm
    assert (offline.n, offline.weight, offline.reduction, offline.candidates) == (
        10,
        5.0,
        "mean",
        1,
    )
    assert (online.n, online.hidden, online.target.name) == (10, (128, 128), "weighted_min_pair")
    assert {a.actor_rate for a in (offline, online)} == {3e-4}
    assert (offline.critic_rate, online.critic_rate) == (1e-3, 3e-4)
    assert row.offline.batch_size == row.online.batch_size == 128
    assert (row.offline.steps, row.online.steps) == (280_000, 20_000)
    # A method's own weight is left to it, and its rate where the penalty is not averaged.
    other = plan("--method=cal_ql", "--budget=laptop")["recipe"].offline.algorithm
    assert (other.weight, other.critic_rate) == (10.0, 3e-4)


def test_the_budget_that_it_replaces_stays_for_earlier_results(plan):
    row = plan("--budget=cpu")["recipe"]
    offline = row.offline.algorithm
    assert (offline.n, offline.weight, offline.reduction) == (4, 10.0, "sum")
    assert row.offline.steps == 60_000


def test_the_old_name_of_the_budget(plan):
    assert plan("--preset=demo")["recipe"] == plan("--budget=demo")["recipe"]


# Whole runs, in processes of their own.


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """start(*arguments) -> a process, with a shared compilation cache; and a finished run's folder."""
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
    assert {path.name for path in folder.iterdir()} == FILES
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


@pytest.mark.parametrize(
    "method, warmup, random_steps, utd",
    [("sac", 100, 0, 4), ("cal_ql", 0, 0, 4), ("rlpd", 100, 100, 20), ("wsrl", 100, 0, 4)],
)
def test_a_budget_cuts_first_steps_and_never_updates(plan, method, warmup, random_steps, utd):
    row = plan("--preset=smoke", f"--method={method}")["recipe"]
    assert (row.online.warmup, row.online.random_steps) == (warmup, random_steps)
    assert row.online.utd == utd
    options = units.children(row.online.algorithm)
    assert options["hidden"] == (32, 32) and options["critic_hidden"] is None


def test_config_gives_the_same_run(smoke, plan, call, monkeypatch):
    _, folder, _ = smoke
    ours = plan(*SHORT)
    theirs = plan(f"--config={folder / 'config.json'}")
    same = ("recipe", "task", "seeds", "env", "eval_episodes", "final_episodes", "restore")
    for name in same[1:]:
        assert theirs[name] == ours[name], name
    assert units.to_json(theirs["recipe"]) == units.to_json(ours["recipe"])
    # Flags still count.
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
    """Else the offline phase, which that run had left out, would be trained after all."""
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
    # A stop at online step 0 leaves the hand-over, which is the offline phase's end.
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
    assert {path.name for path in folder.iterdir()} == FILES
