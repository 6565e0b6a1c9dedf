"""Names that are misspelt, or that belong elsewhere, give one line with a hint."""

import json
from pathlib import Path

import pytest

from enoto_jax.cli import command, compiled, hints, train
from enoto_jax.cli.command import define_only
from enoto_jax.recipes import budgets, units
from enoto_jax.recipes.table import RECIPES, recipe
from enoto_jax.training import resume


@pytest.fixture
def said(monkeypatch, tmp_path, capsys):
    """said(*arguments) -> exit code and output of `enoto train --dry_run`, both streams together."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compiled, "keep", lambda given: pytest.fail("training began"))

    def said(*arguments):
        define_only(train)
        monkeypatch.setattr("sys.argv", ["enoto train", "--budget=smoke", "--dry_run", *arguments])
        code = command.execute(train.main, ["enoto train", "--budget=smoke", *arguments])
        out, err = capsys.readouterr()
        return code, out + err

    return said


# The arguments, and what the one line must contain.
MISTAKES = {
    "a learning rate": (
        ["--learning_rate=1e-3"],
        ["--learning_rate: there is no such flag", "--set=algorithm.actor_rate=", "critic_rate"],
    ),
    "a discount": (["--gamma=0.9"], ["--set=algorithm.discount=VALUE"]),
    "a hyper-parameter as a flag": (
        ["--ucb=3"],
        ["--ucb", "--set=online.algorithm.exploration.ucb=VALUE"],
    ),
    "a hyper-parameter of one method": (
        ["--method=iql", "--expectile=0.9"],
        ["--set=algorithm.expectile=VALUE"],
    ),
    "a flag with a slip": (["--num_critic=3"], ["--num_critic: ", "nearest: --num_critics"]),
    "an environment as the task": (
        ["--task=Hopper-v4"],
        ["--task: Hopper-v4 is an environment", "hopper-medium", "--method=sac --env=Hopper-v4"],
    ),
    "an environment without data": (
        ["--task=CartPole-v1"],
        ["CartPole-v1 is an environment", "enoto tasks"],
    ),
    "critics of a method without": (
        ["--method=bc", "--num_critics=3"],
        ["--num_critics: bc has no algorithm.n: it has no critics"],
    ),
    "a target of a method without": (
        ["--method=bc", "--target=mean_q"],
        ["--target: bc has no online.algorithm.target"],
    ),
    "an offline phase of a method without": (
        ["--method=sac", "--env=Hopper-v4", "--offline_steps=5"],
        ["--offline_steps: sac has no offline phase"],
    ),
    "a path without a value": (
        ["--set=algorithm.hidden="],
        ["--set: algorithm.hidden has no value", "--set=algorithm.hidden=VALUE"],
    ),
    "a path alone": (["--set=algorithm.hidden"], ["--set", "path=value"]),
    "nothing set": (["--set"], ["--set has no value; write --set=VALUE"]),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes(said, what):
    arguments, words = MISTAKES[what]
    code, text = said(*arguments)
    assert code == command.BAD_INPUT
    assert text.startswith("error: ") and text.count("\n") == 1, text
    for word in words:
        assert word in text, text


def test_explain_by_the_end_of_a_path(said):
    code, text = said("--explain=ucb")
    assert code == command.DONE
    assert text.startswith("online.algorithm.exploration.ucb = 10.0\n") and "SUNRISE" in text
    assert "--budget=paper: 10.0" in text


def test_explain_lists_what_a_name_may_mean(said):
    code, text = said("--explain=discount")
    assert code == command.DONE
    assert "  offline.algorithm.discount = 0.98\n  online.algorithm.discount = 0.98" in text


def test_explain_a_unit(said):
    code, text = said("--explain=oac")
    assert (
        code == command.DONE
        and text.startswith("oac (exploration): ")
        and "\n  upper: beta_UB" in text
    )


def test_explain_the_flag_of_a_hyper_parameter(said):
    code, text = said("--explain=num_critics")
    assert code == command.DONE and "algorithm.n" in text


def test_explain_a_flag(said):
    code, text = said("--explain=seeds")
    assert (
        code == command.BAD_INPUT and "seeds is a flag, not a hyper-parameter; see --help" in text
    )


def test_explain_of_nothing(said):
    code, text = said("--explain=ubc")
    assert code == command.BAD_INPUT and "no hyper-parameter 'ubc'" in text


def test_shortened():
    paths = ["offline.algorithm.tau", "online.algorithm.tau", "online.utd"]
    assert hints.shortened(paths) == ["algorithm.tau", "online.utd"]


@pytest.fixture
def unread(monkeypatch):
    """Whatever is restored has a checkpoint."""
    found = resume.Restored(Path("start"), "handover", 20, None, [0, 1])
    monkeypatch.setattr(resume, "restored", lambda folder, seeds: found)


@pytest.fixture
def trained(tmp_path, unread):
    """trained(method) -> the folder of a run, with config.json only."""

    def trained(method):
        folder = tmp_path / method
        folder.mkdir()
        row = budgets.with_budget(recipe(method), budgets.named("smoke"))
        config = {"method": method, "recipe": units.to_json(row)}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return trained


def test_a_method_that_cannot_start_from_another(said, trained):
    code, text = said("--method=iql", f"--restore={trained('cql')}")
    assert code == command.BAD_INPUT and text.count("\n") == 1
    assert "was trained with cql; iql needs an offline phase of its own" in text
    code, text = said("--method=iql", f"--restore={trained('sac')}")
    assert code == command.BAD_INPUT
    assert "was trained with sac, which has no offline phase" in text


def test_a_method_with_another_transform(said, trained):
    start = trained("iql")
    code, text = said("--method=pex", f"--restore={start}", "--dry_run")
    assert code == command.BAD_INPUT and text.count("\n") == 1
    assert "was trained with another transform" in text
    given = text[text.index("--set=") :].partition(" ")[0]
    code, text = said("--method=pex", f"--restore={start}", given, "--dry_run")
    assert code == command.DONE, text


def test_a_method_that_can(said, trained):
    code, text = said("--method=enoto_cql", f"--restore={trained('cql_n_to_sac_n')}", "--dry_run")
    assert code == command.DONE, text


def test_a_run_that_has_begun_does_not_need_the_run_that_it_restored(said, unread, tmp_path):
    given = ("--restore=gone", f"--out={tmp_path / 'run'}", "--dry_run")
    assert said(*given)[0] == command.BAD_INPUT
    (tmp_path / "run" / "checkpoints" / "handover" / "0").mkdir(parents=True)
    code, text = said(*given)
    assert code == command.DONE, text


def test_every_synonym_is_of_use():
    """Each stands for a hyper-parameter of the default method, and is not a flag itself."""
    known = {path.rpartition(".")[2] for path, _, _ in units.leaves(RECIPES["enoto_cql"])}
    for name, ending in hints._ELSEWHERE.items():
        assert any(word.endswith(ending) for word in known), name
        assert hints.unknown_flag(name, []) is not None
