"""Runs that are killed (SIGKILL) and go on, in processes of their own."""

import csv

from enoto_jax import logging
from experiments import crashtest

# Two lives and an undisturbed one; what compiles is kept between them.
SHORT = (
    *crashtest.RUN,
    "--offline_steps=400",
    "--online_steps=120",
    "--eval_every=40",
    "--seeds=1",
)


def test_killed_and_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(crashtest, "PHASES", ("saving", "online", "evaluating"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    assert crashtest.crash(tmp_path / "out", kills=3, seed=0, arguments=SHORT) == []
    with open(tmp_path / "out" / "kills.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["aimed_at"] for row in rows] == list(crashtest.PHASES)
    assert any(row["resumed_from"].startswith("online") for row in rows)
    # And the comparison sees what differs.
    one, two = tmp_path / "out" / "peace", tmp_path / "out" / "run-1"
    with open(two / "metrics.csv", "a") as file:
        file.write("1,0,online/critic/loss,0.0\n")
    table = logging.read_csv(two / "evaluations.csv")
    text = (two / "evaluations.csv").read_text()
    (two / "evaluations.csv").write_text(text.replace(table[0]["return_mean"], "1.0"))
    assert list(crashtest.compare(one, two)) == ["metrics.csv", "evaluations.csv"]
