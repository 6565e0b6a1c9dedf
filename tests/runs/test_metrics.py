"""Metrics of all seeds in files and on dashboards, cut back when resuming."""

import csv

import numpy as np

from enoto_jax.runs.metrics import Rows

UNTOLD = np.full((2, 2), np.nan)  # the environment reports no success


class Dashboard:
    def __init__(self):
        self.told, self.closed = [], False

    def log(self, step, values):
        self.told.append((step, values))

    def close(self):
        self.closed = True


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_quantities_and_evaluations(tmp_path):
    board = Dashboard()
    written = Rows(tmp_path, (3, 5), (board,))
    written.quantities("offline", 10, {"critic": {"loss": np.float32([1.0, 2.0])}})
    returns = np.asarray([[1.0, 3.0], [5.0, 5.0]])
    assert written.evaluation("offline", 10, returns, UNTOLD, None, 1.234) == ("return", 3.5)
    assert written.evaluation("online", 4, returns, UNTOLD, [20.0, 40.0], 2.0) == ("score", 30.0)
    written.close()
    assert [(r["seed"], r["name"], r["value"]) for r in rows(tmp_path / "metrics.csv")] == [
        ("3", "offline/critic/loss", "1.0"),
        ("5", "offline/critic/loss", "2.0"),
    ]
    found = rows(tmp_path / "evaluations.csv")
    assert [(r["phase"], r["env_steps"], r["seed"], r["score"]) for r in found] == [
        ("offline", "0", "3", ""),
        ("offline", "0", "5", ""),
        ("online", "4", "3", "20.0"),
        ("online", "4", "5", "40.0"),
    ]
    assert [(r["return_mean"], r["return_std"]) for r in found[:2]] == [
        ("2.0", "1.0"),
        ("5.0", "0.0"),
    ]
    assert board.closed and board.told == [
        (10, {"offline/critic/loss": 1.5}),
        (10, {"offline/evaluation/return": 3.5}),
        (4, {"online/evaluation/score": 30.0}),
    ]


def test_cutting_back_keeps_the_phase_before(tmp_path):
    written, returns = Rows(tmp_path, (3,)), np.zeros((1, 1))
    at = [("offline", 10), ("offline", 20), ("online", 0), ("online", 4), ("online", 8)]
    for phase, step in at:
        written.quantities(phase, step, {"critic": {"loss": np.zeros(1)}})
        written.evaluation(phase, step, returns, UNTOLD, None, 0.0)

    def left():
        evaluations = [(r["phase"], int(r["step"])) for r in rows(tmp_path / "evaluations.csv")]
        kept = rows(tmp_path / "metrics.csv")
        assert [(r["name"].split("/")[0], int(r["step"])) for r in kept] == evaluations
        return evaluations

    written.cut_back("online", 4)
    assert left() == at[:4]
    written.cut_back("offline", 19)
    assert left() == at[:1]
