"""What `experiments.benchmarks.latency` reports for the start of a small run."""

import json

import pytest

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from experiments.benchmarks import latency

SMALL = ("--budget=smoke", "--method=bc", "--rounds=1", "--flag=set=algorithm.hidden=8,8")


def run(*arguments) -> int:
    define_only(latency)
    return command.execute(latency.main, ["latency", *arguments])


def test_a_cold_and_a_warm_start(capsys):
    assert run(*SMALL, "--json") == command.DONE
    cold, warm = map(json.loads, capsys.readouterr().out.splitlines())
    assert (cold.pop("start"), warm.pop("start")) == ("cold", "warm")
    for parts in (cold, warm):
        assert tuple(sorted(parts)) == tuple(sorted(latency.PARTS))
        assert all(seconds > 0 for seconds in parts.values())
        assert parts["imports"] + parts["data"] + parts["updates"] < parts["total"]
    assert warm["compiling"] < cold["compiling"]


def test_a_start_that_fails_says_why(capsys):
    assert run(*SMALL, "--task=nowhere.hdf5") == command.FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "nowhere.hdf5" in line


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [([], 0.0), ([(0.0, 1.0), (3.0, 4.0)], 2.0), ([(1.0, 3.0), (0.0, 2.0), (1.5, 1.6)], 3.0)],
)
def test_what_overlaps_counts_once(spans, seconds):
    assert latency.union(spans) == seconds


def test_a_part_without_time_has_no_ratio():
    cold, warm = {"data": 3.0}, {"data": 0.0}
    assert latency.ratio(cold, warm, "data") == "-"
    assert latency.ratio(cold, {"data": 2.0}, "data") == "1.50"
