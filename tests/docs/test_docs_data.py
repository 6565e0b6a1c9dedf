"""The pages on data: their code and commands run unchanged, and their numbers are right."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from experiments.benchmarks import data
from tests.helpers import parse_shell, quick_compiling

DOCS = Path(__file__).resolve().parents[2] / "docs"
TINY = {
    "enoto_jax.cli.train": (
        "--set=algorithm.hidden=8,8",
        "--offline_steps=20",
        "--eval_every=20",
        "--seeds=1",
    ),
    "enoto_jax.cli.check_data": (),
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def run(line: str) -> int:
    module, positional, arguments = parse_shell(line)
    program = import_module(module)
    define_only(program)
    arguments = [module, *arguments, *TINY[module]]
    return command.execute(program.main, arguments, positional=positional)


def test_own_data(tmp_path, monkeypatch):
    """The Python block writes the file that the following commands read."""
    monkeypatch.chdir(tmp_path)
    code, pushed = blocks("own_data.md", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 22
    tiny = 'recipe = enoto_jax.override(recipe, "algorithm.hidden", "8,8")\nenoto_jax.train('
    with quick_compiling():
        exec(code.replace("enoto_jax.train(", tiny), {})
        smaller = 'recipe = enoto_jax.override(recipe, "online.replay.capacity", 100)\nagent ='
        exec(pushed.replace("agent =", smaller), {})
        assert (tmp_path / "runs/on_the_robot/checkpoints/latest").is_dir()
        assert (tmp_path / "runs/my_robot/metrics.csv").read_text().count("\n") > 1
        assert (tmp_path / "runs/my_robot/checkpoints").is_dir()
        commands, session = blocks("own_data.md", "sh")
        lines = commands.splitlines()
        assert len(lines) == 2 and session.startswith("python -m experiments.agent_session --run=")
        for line in lines:
            assert run(line) == command.DONE, line


@pytest.mark.parametrize("page", ["data.md", "own_data.md"])
def test_links_exist(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text()):
        assert (DOCS / target).exists(), target


def test_rows_of_walker2d_take_little_more_than_their_size(tmp_path):
    """The number in docs/data.md, on fewer synthetic rows that each end an episode."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peaks are measured on Linux alone")
    import h5py
    import numpy as np

    rng, rows = np.random.default_rng(0), 500_000
    with h5py.File(tmp_path / "walker2d.hdf5", "w") as file:
        for key, width in (("observations", 17), ("actions", 6), ("next_observations", 17)):
            block = rng.uniform(-1, 1, (10_000, width)).astype(np.float32)
            array = file.create_dataset(key, (rows, width), np.float32, chunks=block.shape)
            for start in range(0, rows, len(block)):
                array[start : start + len(block)] = block
        file["rewards"] = np.ones(rows, np.float32)
        file["terminals"], file["timeouts"] = np.zeros((2, rows), bool)
    found = data.measure(tmp_path / "walker2d.hdf5")
    assert found["rows"] == rows and found["float32_mb"] == 82.0
    assert found["ratio"] <= 1.3, found
    assert found["seconds"] < 60, found


def test_rows_are_repeated(tmp_path, monkeypatch, capsys):
    from enoto_jax.data import load_source
    from enoto_jax.data.places import ASSETS

    (path,) = ASSETS.glob("*.hdf5")
    define_only(data)
    arguments = ["data", str(path), "--rows=25000"]
    assert command.execute(data.main, arguments, positional="task") == command.DONE
    assert '"rows": 25000' in capsys.readouterr().out
    out = data.repeat(path, 25_000, tmp_path / "out.hdf5")
    once, again = (load_source(p).load().transitions.reward for p in (path, out))
    assert (again[:10_000] == once).all() and (again[20_000:] == once[:5_000]).all()


def test_nothing_to_measure(capsys):
    define_only(data)
    assert command.execute(data.main, ["data"], positional="task") == command.BAD_INPUT
    assert capsys.readouterr().err.startswith("error: --task")
