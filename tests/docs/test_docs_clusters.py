"""The page on clusters: its commands run, or the programs accept their arguments."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from enoto_jax.cli import command, grid, sweep, train
from enoto_jax.cli.command import define_only
from enoto_jax.runs import hosts

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "clusters.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def calls(language: str, program: str) -> list[list[str]]:
    """The arguments of every line that starts the program, ignoring the rest of the line."""
    found = []
    for line in "".join(blocks(language)).splitlines():
        if match := re.search(rf"{re.escape(program)} ([^\"#]*(\"[^\"]*\"[^\"#]*)*)", line):
            quoted = match[1] if match[1].count('"') % 2 == 0 else match[1].split('"')[0]
            found.append(shlex.split(quoted))
    return found


def test_sweeps(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = calls("sh", "enoto sweep")
    assert len(lines) == 2
    for arguments in lines:
        define_only(sweep)
        assert command.execute(sweep.main, ["enoto_jax.cli.sweep", *arguments]) == command.DONE
        assert re.search(r"\d+ runs, [1-9]\d* from a shared offline phase", capsys.readouterr().out)
    assert len(calls("bash", "enoto sweep")) == 2


def test_the_grid_is_one(tmp_path):
    define_only(sweep)
    sweep.FLAGS(["enoto_jax.cli.sweep"])
    (tmp_path / "grid.yaml").write_text(blocks("yaml")[0])
    grid.read(tmp_path / "grid.yaml")
    assert sweep.FLAGS.task == "hopper-medium-v2,walker2d-medium-v2"
    assert sweep.FLAGS.vary == ["online.algorithm.exploration.ucb=1|10"]


def test_the_search_is_one(tmp_path):
    tune = pytest.importorskip("ray.tune")
    from enoto_jax.cli import search

    (tmp_path / "search.yaml").write_text(blocks("yaml")[1])
    samples, space = search.read(tmp_path / "search.yaml", tune)
    assert samples == 16 and set(space) == set(yaml.safe_load(blocks("yaml")[1])["space"])
    assert 1e-5 <= space["algorithm.actor_rate"].sample() <= 1e-3


def test_runs_over_hosts(monkeypatch, tmp_path):
    joined = []
    monkeypatch.setattr(hosts, "join", lambda *arguments: joined.append(arguments))
    monkeypatch.chdir(tmp_path)
    lines = calls("sh", "enoto train") + calls("bash", "enoto train")
    for arguments in lines:
        define_only(train)
        arguments = [a for a in arguments if not a.startswith("--task=")]  # a download
        arguments = ["experiments.train", *arguments, "--preset=smoke", "--dry_run"]
        assert command.execute(train.main, arguments) == command.DONE
    by_hand = [("127.0.0.1:9876", 2, 0), ("127.0.0.1:9876", 2, 1)]
    assert joined == [*by_hand, (None, None, None), (None, None, None)]
