"""Runs in their own processes that are killed (SIGKILL) and resumed."""

import csv
import shlex

from enoto_jax.cli import command
from enoto_jax.runs import files
from experiments.robustness import crashtest
from tests.docs.test_docs import blocks, call

# A method that is quick to trace, because every start traces again. Compiled programs are cached.
SHORT = (
    "--method=bc",
    "--preset=smoke",
    "--set=algorithm.hidden=8",
    "--offline_steps=400",
    "--online_steps=120",
    "--eval_every=40",
    "--eval_episodes=10",
    "--batch_size=8",
    "--seeds=1",
)
KILLS = 12


def test_killed_and_started_again(tmp_path, monkeypatch):
    """The command from the page on long runs, with fewer kills."""
    text = "".join(text for _, text in blocks("docs/long_runs.md"))
    (line,) = (line for line in text.splitlines() if line.startswith("python -m"))
    _, _, module, kills, out = shlex.split(line)
    assert (module, kills, out) == (
        "experiments.robustness.crashtest",
        "--kills=42",
        "--out=runs/crashtest",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(crashtest, "RUN", SHORT)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    assert call(module, None, [f"--kills={KILLS}", out]) == command.DONE
    folder = tmp_path / "runs" / "crashtest"
    with open(folder / "kills.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == KILLS and {row["aimed_at"] for row in rows} == set(crashtest.PHASES)
    assert len({row["died_in"] for row in rows}) > 3
    for phase in ("offline", "online"):
        assert any(row["resumed_from"].startswith(phase) for row in rows)
    # The comparison also detects differences.
    one, two = folder / "peace", folder / "run-1"
    with open(two / "metrics.csv", "a") as file:
        file.write("1,0,online/critic/loss,0.0\n")
    table = files.read_csv(two / "evaluations.csv")
    text = (two / "evaluations.csv").read_text()
    (two / "evaluations.csv").write_text(text.replace(table[0]["return_mean"], "1.0"))
    assert list(crashtest.compare(one, two)) == ["metrics.csv", "evaluations.csv"]
