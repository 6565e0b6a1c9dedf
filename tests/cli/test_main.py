"""`enoto` and the help of its commands."""

import re
import sys
from importlib import import_module

import pytest

import enoto_jax
from enoto_jax.cli import command, main
from enoto_jax.cli.command import define_only
from enoto_jax.recipes.table import RECIPES
from tests.helpers import python


@pytest.fixture
def enoto(monkeypatch, capsys):
    """enoto(*arguments) -> exit code, stdout, stderr."""

    def enoto(*arguments):
        monkeypatch.setattr(sys, "argv", ["enoto", *arguments])
        with pytest.raises(SystemExit) as left:
            main.main()
        return left.value.code, *capsys.readouterr()

    return enoto


def test_the_overview_has_a_line_for_every_command(enoto):
    code, out, _ = enoto("--help")
    assert code == 0 and enoto()[1] == enoto("help")[1] == out
    for name, each in main.COMMANDS.items():
        assert re.search(rf"^  enoto {name} +{re.escape(each.about)}$", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80


def test_the_version(enoto):
    assert enoto("--version")[:2] == (0, f"enoto_jax {enoto_jax.__version__}\n")


@pytest.mark.parametrize(
    "given, words",
    [
        ("trian", "nearest: train"),
        ("--method=iql", "the command comes first: enoto train --method=iql"),
    ],
)
def test_no_such_command(enoto, given, words):
    code, out, err = enoto(given)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and words in err and err.count("\n") == 1


@pytest.mark.parametrize("columns", ["80", "40"])
@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_help_of_a_command(name, columns, monkeypatch, capsys):
    """Three examples, only its own flags, and at most a screen and a half at 80 columns."""
    if name == "sweep":
        pytest.importorskip("ray")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "argv", [f"enoto {name}"])
    program = import_module(main.module(name))
    define_only(program)
    assert command.execute(program.main, [f"enoto {name}", "--help"]) == 0
    out = capsys.readouterr().out
    examples = [x for x in out.splitlines() if re.match(r"  (MUJOCO_GL=egl )?enoto ", x)]
    assert len(examples) >= 3
    assert "logtostderr" not in out and "chex" not in out and "Row" not in out
    lines = [line for line in out.splitlines() if line not in examples]
    assert max(map(len, lines)) <= int(columns)
    assert columns == "40" or len(lines) <= 62


def test_help_keeps_an_indented_list():
    doc = "Compare two things.\n\n  env     one step\n  update  from the call\n\nThe rest\nwraps."
    assert command._head(doc, 80) == [
        *("Compare two things.", "", "  env     one step", "  update  from the call", ""),
        "The rest wraps.",
    ]


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_flag_is_in_a_group(name):
    if name == "sweep":
        pytest.importorskip("ray")
    program = import_module(main.module(name))
    define_only(program)
    groups = getattr(program, "GROUPS", {})
    named = [flag for names in groups.values() for flag in names]
    modules = [program.__name__, *(["enoto_jax.cli.grid"] if name == "sweep" else [])]
    known = [f.name for each in modules for f in command.flags.FLAGS.get_flags_for_module(each)]
    assert not groups or sorted(named) == sorted(known)


def test_the_full_help_has_every_flag(monkeypatch, capsys):
    program = import_module(main.module("train"))
    define_only(program)
    assert command.execute(program.main, ["enoto train", "--helpfull"]) == 0
    assert "logtostderr" in capsys.readouterr().out


def test_methods(enoto):
    code, out, _ = enoto("methods")
    assert code == 0
    for name, row in RECIPES.items():
        assert re.search(rf"^{name} +{re.escape(row.about[:20])}", out, re.MULTILINE)


def test_tasks(enoto, monkeypatch, tmp_path):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    code, out, _ = enoto("tasks")
    assert code == 0 and out.count("nothing") == 2
    assert "pendulum-replay" in out and "antmaze-umaze-diverse-v2" in out
    kept = tmp_path / "minari" / "mujoco" / "hopper" / "medium-v0" / "data"
    kept.mkdir(parents=True)
    (kept / "main_data.hdf5").touch()
    (tmp_path / "d4rl").mkdir()
    (tmp_path / "d4rl" / "mine.hdf5").touch()
    (tmp_path / "d4rl" / "hopper_medium-v2.hdf5").touch()
    _, out, _ = enoto("tasks")
    assert f"In {tmp_path / 'd4rl'}:\n  hopper-medium-v2\n" in out
    assert "mine.hdf5" in out and "\n  minari:mujoco/hopper/medium-v0\n" in out


@pytest.mark.parametrize("name", ["--help", "methods", "tasks"])
def test_what_is_quick_imports_no_simulator(name):
    code = f"import sys; sys.argv = ['enoto', {name!r}]\n"
    code += "from enoto_jax.cli import main\ntry:\n  main.main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'mujoco', 'matplotlib', 'orbax', 'jax'} & set(sys.modules)))"
    out, err = python("-c", code).communicate(timeout=120)
    loaded = out.splitlines()[-1]
    assert loaded == ("[]" if name == "--help" else "['jax']"), err
