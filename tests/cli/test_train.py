"""`enoto train` without training: invalid input, dry runs, explanations and help.

Most tests call the command inside this process, which saves the seconds that imports take.
"""

import pytest

from enoto_jax.recipes import units
from enoto_jax.recipes.table import RECIPES
from tests.cli.called import MODULE
from tests.helpers import python

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
    "negative seed": (["--seed=-1"], ["--seed", "between 0 and"]),
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
    """Exit code 2, one line that names the mistake, and no files written."""
    arguments, words = BAD[what]
    arguments = [argument.format(files=files) for argument in arguments]
    # A new folder, and a small budget in case training begins after all.
    budget = [] if arguments[0].startswith("--config") else ["--preset=smoke"]
    out = [] if what == "output is a file" else ["--out=new"]
    called = call(*budget, *out, *arguments)
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
    assert "cql -> sac" in called.out  # what the hand-over changes
    assert not list(tmp_path.iterdir())


def test_without_an_environment_nothing_online_is_announced(call):
    called = call("--preset=smoke", "--env=none", "--dry_run")
    assert "; offline only" in called.out and "RAW RETURNS" not in called.out


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
    """Every hyper-parameter of the default method has a line of explanation."""
    for path, _, _ in units.leaves(RECIPES["enoto_cql"]):
        called = call(f"--explain={path}")
        assert called.code == 0, called.err
        value, meaning, *_ = called.out.splitlines()
        assert value.startswith(f"{path} = ")
        assert meaning.strip(), called.out


def test_help(call):
    """Users type this first."""
    called = call("--help")
    assert called.code == 0
    assert "--method" in called.out and "see enoto methods" in called.out
