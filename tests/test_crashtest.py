"""Runs that are killed (SIGKILL) and go on, in processes of their own."""

import csv
import shlex

from enoto_jax import logging
from experiments import command, crashtest
from tests.test_docs import call, commands

# Two lives and an undisturbed one; what compiles is kept between them.
SHORT = (
    *crashtest.RUN,
    "--offline_steps=400",
    "--online_steps=120",
    "--eval_every=40",
    "--seeds=1",
)


def test_killed_and_started_again(tmp_path, monkeypatch):
    """The command of the page on long runs, with fewer kills."""
    (line,) = commands("docs/long_runs.md")
    _, _, module, kills, out = shlex.split(line)
    assert (module, kills, out) == (
        "experiments.crashtest", "--kills=42", "--out=runs/crashtest",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(crashtest, "RUN", SHORT)
    monkeypatch.setattr(crashtest, "PHASES", ("saving", "online", "evaluating"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    assert call(module, ["--kills=3", out]) == command.DONE
    folder = tmp_path / "runs" / "crashtest"
    with open(folder / "kills.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["aimed_at"] for row in rows] == list(crashtest.PHASES)
    assert any(row["resumed_from"].startswith("online") for row in rows)
    # And the comparison sees what differs.
    one, two = folder / "peace", folder / "run-1"
    with open(two / "metrics.csv", "a") as file:
        file.write("1,0,online/critic/loss,0.0\n")
    table = logging.read_csv(two / "evaluations.csv")
    text = (two / "evaluations.csv").read_text()
    (two / "evaluations.csv").write_text(text.replace(table[0]["return_mean"], "1.0"))
    assert list(crashtest.compare(one, two)) == ["metrics.csv", "evaluations.csv"]
