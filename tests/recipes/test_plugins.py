"""Units and methods of a custom module are trained, resumed, evaluated and exported."""

import json
import sys

import pytest

import enoto_jax
from enoto_jax.cli import collect, command, compiled, evaluate, train
from enoto_jax.cli.command import define_only
from enoto_jax.deploy import export
from enoto_jax.recipes import plugins, registry
from enoto_jax.recipes.table import RECIPES
from enoto_jax.types import InputError
from tests.helpers import quick_compiling, tiny

MODULE = """
import dataclasses
from typing import Annotated

import enoto_jax
from enoto_jax.targets import TargetRule


@enoto_jax.register
class between(TargetRule):
    \"\"\"A part of the way from the lowest critic to the highest.\"\"\"

    part: Annotated[float, "0 is the lowest critic, 1 the highest."] = 0.5

    def __call__(self, key, q):
        return q.min(0) + self.part * (q.max(0) - q.min(0))


row = enoto_jax.recipe("sac")
row = enoto_jax.override(row, "online.algorithm.target", between(part=0.25))
enoto_jax.register_method("sac_between", row)
"""
SMALL = (
    "--method=sac_between",
    "--env=Reach-v0",
    "--budget=smoke",
    "--online_steps=8",
    "--warmup=3",
    "--eval_every=4",
    "--eval_episodes=1",
    "--set=algorithm.hidden=8",
    "--set=batch_size=8",
    "--seeds=1",
)


def forget():
    """Unregister the module's unit and method, as in a new process."""
    sys.modules.pop("mine", None)
    registry.UNITS.pop("between", None)
    RECIPES.pop("sac_between", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that contains the module."""
    found = tmp_path_factory.mktemp("plugin")
    (found / "mine.py").write_text(MODULE)
    return found


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(compiled, "keep", lambda given: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    forget()
    with quick_compiling(folder / "compiled"):
        yield
    forget()


def call(program, *arguments, positional=None):
    define_only(program)
    arguments = [program.__name__, *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", arguments)
        return command.execute(program.main, arguments, positional)


def test_from_training_to_export(folder, capsys):
    assert call(train, "--plugin=mine", *SMALL, "--out=run") == 0, capsys.readouterr().err
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["plugins"] == ["mine"] and config["method"] == "sac_between"
    assert config["recipe"]["online"]["algorithm"]["target"] == {"unit": "between", "part": 0.25}
    forget()
    assert call(train, *SMALL, "--out=run") == 0  # the run's folder names the module
    assert "is finished" in capsys.readouterr().err
    forget()
    assert call(evaluate, "run", positional="run") == 0
    forget()
    assert call(collect, "--run=run", "--kinds=replay", "--out=sets") == 0
    forget()
    assert call(train, "--config=run/config.json", "--dry_run") == 0
    assert "online.algorithm.target.part = 0.25" in capsys.readouterr().out
    forget()
    assert export.export("run", folder / "policy.zip")["method"] == "sac_between"
    forget()
    assert enoto_jax.load_policy("run").act([0.0, 0.0]).shape == (1,)
    forget()
    (folder / "mine.py").rename(folder / "gone.py")
    try:
        with pytest.raises(InputError, match="run: cannot import mine: No module named 'mine'"):
            enoto_jax.load_policy("run")
        assert call(evaluate, "run", positional="run") == 2
        assert capsys.readouterr().err.count("\n") == 1
    finally:
        (folder / "gone.py").rename(folder / "mine.py")


def test_its_options_are_set_and_explained(capsys):
    more = ("--dry_run", "--set=online.algorithm.target.part=0.75")
    assert call(train, "--plugin=mine", *SMALL, *more) == 0
    assert "online.algorithm.target.part = 0.75" in capsys.readouterr().out
    assert call(train, "--plugin=mine", *SMALL, "--explain=target.part") == 0
    assert "0 is the lowest critic, 1 the highest." in capsys.readouterr().out
    assert call(train, "--plugin=mine", "--target=between", "--dry_run", "--budget=smoke") == 0
    assert "target: between() (was min_q())" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "--plugin: cannot import theirs: No module named 'theirs'; is its folder on"),
        ("1 / 0", "--plugin: cannot import theirs: ZeroDivisionError: division by zero"),
        ("import enoto_jax as e; e.register(int)", "register: <class 'int'> is not a unit"),
        (
            "import enoto_jax as e; e.register_method('cql', e.recipe('iql'))",
            "cql is already a method",
        ),
        ("import enoto_jax as e; e.register_method('a b', e.recipe('iql'))", "'a b' is not a name"),
        ("import enoto_jax as e; e.register_method('mine', e.sac())", "sac() is not a Recipe"),
    ],
)
def test_modules_that_cannot_be_imported(text, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("theirs", None)
    if text is not None:
        (tmp_path / "theirs.py").write_text(text)
    assert call(train, "--plugin=theirs", "--dry_run") == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["my module", "../mine", "", "mine.py/x"])
def test_names_that_are_no_modules(name):
    with pytest.raises(InputError, match="is not a module"):
        plugins.load([name])


def test_a_recipe_knows_the_modules_of_its_units():
    plugins.load(["mine"])
    row = tiny("cql")
    assert plugins.modules_of(row) == []
    made = registry.override(row, "online.algorithm.target", "between")
    assert plugins.modules_of(made) == ["mine"]
    plugins.check(made)
    registry.UNITS.pop("between")
    with pytest.raises(InputError, match="between is not registered.*enoto_jax.register"):
        plugins.check(made)


def test_a_method_of_ones_own_may_be_given_again():
    row = tiny("cql")
    assert enoto_jax.register_method("sac_between", row) is row
    other = tiny("iql")
    enoto_jax.register_method("sac_between", other)
    assert enoto_jax.recipe("sac_between") is other
