"""`enoto compare`: what it groups, prints and refuses."""

import pytest

from enoto_jax.cli import command, compare
from enoto_jax.cli.command import define_only
from tests.report.test_paired import run


@pytest.fixture
def folder(tmp_path):
    start = tmp_path / "start"
    run(start, "cql", (0, 1))
    run(tmp_path / "a", "ours", (0, 1), 3.0, start)
    run(tmp_path / "b", "theirs", (0, 1), 1.0, start)
    run(tmp_path / "more", "ours", (2,), 3.0, start)
    run(tmp_path / "copy", "ours", (1,), 3.0, start)
    rem = {"offline": {"algorithm": {"unit": "cql"}, "steps": 2000}}
    rem["online"] = {"algorithm": {"unit": "rem"}, "steps": 1000}
    run(tmp_path / "rem", "ours", (0, 1), 9.0, start, recipe=rem)
    return tmp_path


def call(folder, *names):
    define_only(compare)
    runs = ",".join(str(folder / name) for name in names)
    out = folder / "out.png"
    return command.execute(compare.main, ["compare", f"--runs={runs}", f"--out={out}"])


def test_it_prints_results_and_differences(folder, capsys):
    assert call(folder, "a", "b", "more") == command.DONE
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "reach:"
    assert out[1].startswith("  ours: score at the hand-over 40.0")
    assert "final score 54.7 (seeds 53.0, 54.0, 57.0)" in out[1]
    assert out[3] == (
        "  theirs - ours, final, by hand-over: -2.0 (from -2.0 to -2.0; seeds 0: -2.0, 1: -2.0): "
        "not distinguishable (2 seeds; 5 are needed to tell)"
    )
    assert out[-1] == str(folder / "out.png") and (folder / "out.png").stat().st_size > 10_000


def test_runs_of_other_settings_are_other_rows(folder, capsys):
    assert call(folder, "a", "rem") == command.DONE
    out = capsys.readouterr().out
    assert "  ours · algorithm=ours: " in out and "  ours · algorithm=rem: " in out


def test_a_seed_counts_once(folder, capsys):
    assert call(folder, "a", "copy") == command.BAD_INPUT
    error = capsys.readouterr().err
    assert "the same method, task and seed (1) as" in error and error.count("\n") == 1
    assert not (folder / "out.png").exists()


def test_runs_without_a_common_seed_are_named(folder, capsys):
    assert call(folder, "more", "b") == command.DONE
    assert "1 pair not compared: no seed in common" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["out.xyz", "/proc/none/out.png"])
def test_a_picture_that_cannot_be_written_is_one_line(folder, capsys, out):
    define_only(compare)
    arguments = ["compare", f"--runs={folder / 'a'},{folder / 'b'}", f"--out={folder / out}"]
    assert command.execute(compare.main, arguments) == command.BAD_INPUT
    error = capsys.readouterr().err
    assert f"--out: {folder / out} cannot be written" in error and error.count("\n") == 1
