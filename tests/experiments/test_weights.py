"""N against the weight per critic: cells are found, cut to one length, and compared."""

import csv

import pytest

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from enoto_jax.runs.files import EVALUATION_COLUMNS
from experiments.paper import weights


def call(*arguments) -> int:
    define_only(weights)
    return command.execute(weights.main, ["weights", *map(str, arguments)])


def write(run, seed, scores, offline=(50.0,)):
    """Write a run with evaluations every 10,000 steps, the first of them at the hand-over."""
    run.mkdir(parents=True)
    rows = [
        *(("offline", 400_000, y) for y in offline),
        *(("online", 10_000 * i, y) for i, y in enumerate(scores)),
    ]
    with open(run / "evaluations.csv", "w", newline="") as file:
        table = csv.DictWriter(file, EVALUATION_COLUMNS, restval=0)
        table.writeheader()
        for phase, step, score in rows:
            row = {"phase": phase, "step": step, "env_steps": step, "seed": seed, "score": score}
            table.writerow({**row, "episodes": 10, "success": ""})


def test_a_cell_is_cut_to_the_shortest(tmp_path, capsys):
    write(tmp_path / "weights" / "cql_to_sac-w1-s0", 0, (48, 20, 30))
    write(tmp_path / "enoto_cql-s0", 0, (50, 99), offline=(45.0,))
    write(tmp_path / "cql_n_to_sac_n-s0", 0, (50, 60, 70, 10), offline=())  # from enoto_cql
    write(tmp_path / "cql_n_to_sac_n-s1", 1, (52, 51, 62, 80))
    write(tmp_path / "cql_to_sac-s0", 0, (40, 5))  # unfinished
    for run, spread in (("enoto_cql-s0", 1.0), ("cql_n_to_sac_n-s1", 2.0)):
        lines = f"0,0,offline/data/q_std,9\n400000,0,offline/data/q_std,{spread}\n"
        (tmp_path / run / "metrics.csv").write_text(f"step,seed,name,value\n{lines}")
    assert call(f"--place={tmp_path}") == 0
    assert (tmp_path / "weights.png").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == [
        "| N = 2, 0.5 per critic | 1 | 48.0 | 20.0 | 30.0 | nan |",
        "| N = 10, 0.5 per critic | 2 | 51.0 (50, 52) | 55.5 (60, 51) | 66.0 (70, 62) | 1.5 |",
    ]
    assert not any("2.5 per critic" in line for line in lines)
    shared, own = weights.read(tmp_path)["N = 10, 0.5 per critic"]
    assert [row["score"] for row in shared.rows if row["phase"] == "offline"] == [45.0]
    assert [row["score"] for row in own.rows if row["phase"] == "offline"] == [50.0]


def test_no_run(tmp_path, capsys):
    assert call(f"--place={tmp_path}") == command.BAD_INPUT
    assert "has no run of weights/cql_to_sac-w1-s*" in capsys.readouterr().err


@pytest.mark.parametrize("label, pattern", weights.CELLS.items())
def test_a_label_says_the_weight_that_its_runs_have(label, pattern):
    """It is the weight divided by N, because the penalty is averaged over critics."""
    weight = float(pattern.split("-w")[1].split("-")[0]) if "-w" in pattern else 5.0
    n = 10 if "sac_n" in pattern else 2
    assert label == f"N = {n}, {weight / n:g} per critic"
