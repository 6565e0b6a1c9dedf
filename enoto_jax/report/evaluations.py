"""A run's evaluations.csv, read: rows with numbers, and the parts of them that are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax.runs.files import EVALUATION_COLUMNS, read_csv
from enoto_jax.types import InputError

Row = dict[str, Any]
Rows = str | os.PathLike | Iterable[Mapping[str, Any]]

PHASES = ("offline", "online")
_LARGEST = 1e30  # of a number in a table
SUCCESS = "success"  # a column of newer runs, empty where the environment tells of no success
COLUMNS = (*(name for name in EVALUATION_COLUMNS if name != SUCCESS), SUCCESS)
_WHOLE = {"step", "env_steps", "seed", "episodes"}


def _value(column: str, cell: Any) -> Any:
    if column == "phase":
        if cell not in PHASES:
            raise ValueError(f"phase is {cell!r}, not one of {', '.join(PHASES)}")
        return str(cell)
    if column in _WHOLE:
        return int(cell)
    value = float("nan") if cell is None or cell == "" else float(cell)
    if column == SUCCESS and not (np.isnan(value) or 0 <= value <= 1):
        raise ValueError(f"success is {cell}, and a share of episodes lies between 0 and 1")
    if abs(value) > _LARGEST:
        raise ValueError(f"{column} is {cell}, which no run can have written")
    return value


def read_evaluations(source: Rows) -> list[Row]:
    """Evaluations with numbers as numbers; an empty cell is NaN, and so is a missing `success`.

    Args:
      source: A run's folder, its `evaluations.csv`, or rows that are in memory already.

    Raises:
      InputError: There is no such file, no evaluation in it, or a cell that cannot be read.
    """
    where: Any = "evaluations"
    if isinstance(source, (str, os.PathLike)):
        where = Path(source)
        where = where / "evaluations.csv" if where.is_dir() else where
        source = read_csv(where)
    rows = []
    for number, row in enumerate(source, start=1):
        row = {SUCCESS: None, **row}
        try:
            rows.append({column: _value(column, row[column]) for column in COLUMNS})
        except KeyError as error:
            raise InputError(f"{where}: has no column {error}; is it a run's file?") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}, row {number}: {error}; fix or remove the row") from None
    if not rows:
        raise InputError(f"{where}: holds no evaluation yet")
    return rows


def metric_of(rows: Sequence[Row]) -> str:
    """The column to judge by: "score" where the task has reference returns, else "return_mean"."""
    return "score" if any(np.isfinite(row["score"]) for row in rows) else "return_mean"


def metric_for(evaluations: Iterable[Sequence[Row]]) -> str:
    """The score if all runs have one, else the return: the two do not belong on one axis."""
    return "score" if {metric_of(rows) for rows in evaluations} == {"score"} else "return_mean"


def series(
    rows: Sequence[Row], phase: str, metric: str
) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """One phase seed by seed, in the order of its steps.

    Returns:
      seed -> steps of the phase [T], environment steps [T], the metric [T]; {} without the phase.
    """
    found: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["seed"], row["step"])):
        if row["phase"] == phase:
            found.setdefault(row["seed"], []).append(row)

    def column(own: list[Row], name: str) -> np.ndarray:
        return np.array([row[name] for row in own])

    return {
        seed: (column(own, "step"), column(own, "env_steps"), column(own, metric))
        for seed, own in found.items()
    }


def evaluation_at(rows: Sequence[Row], where: str) -> list[Row]:
    """One evaluation of every seed.

    Args:
      rows: A run's.
      where: "offline" (the last of the offline phase), "handover" (online step 0; in a run
        without an offline phase the first one) or "final" (the last of all).

    Returns:
      A row per seed; fewer where a seed has none.
    """
    found = {}
    offline = {row["seed"] for row in rows if row["phase"] == "offline"}
    for row in sorted(rows, key=lambda row: (PHASES.index(row["phase"]), row["step"])):
        if where == "final" or (where == "offline" and row["phase"] == "offline"):
            found[row["seed"]] = row
        elif (
            where == "handover"
            and row["phase"] == "online"
            and (row["step"] == 0 or row["seed"] not in offline)
        ):
            found.setdefault(row["seed"], row)
    return [found[seed] for seed in sorted(found)]


def slope(rows: Sequence[Row], metric: str) -> float | None:
    """How much the metric changes with the return; None where the rows do not tell.

    A score is linear in the return, so two evaluations with different returns give it.
    """
    if metric == "return_mean":
        return 1.0
    known = [row for row in rows if np.isfinite(row[metric]) and np.isfinite(row["return_mean"])]
    if not known:
        return None
    low = min(known, key=lambda row: row["return_mean"])
    high = max(known, key=lambda row: row["return_mean"])
    difference = high["return_mean"] - low["return_mean"]
    return abs(high[metric] - low[metric]) / difference if difference > 0 else None
