"""Read a run's evaluations.csv into rows of numbers, and select parts of them."""

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
_LARGEST = 1e30  # largest number that a table may contain
SUCCESS = "success"  # a column of newer runs, empty if the environment does not report success
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
        raise ValueError(f"success is {cell}; a share of episodes must lie between 0 and 1")
    if abs(value) > _LARGEST:
        raise ValueError(f"{column} is {cell}, which no run writes")
    return value


def read_evaluations(source: Rows) -> list[Row]:
    """Read evaluations, with cells as numbers; an empty cell or a missing `success` is NaN.

    Args:
      source: A run's folder, its `evaluations.csv`, or rows in memory.

    Raises:
      InputError: The file is missing, has no evaluation, or has a cell that cannot be read.
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
        raise InputError(f"{where}: has no evaluation yet")
    return rows


def metric_of(rows: Sequence[Row]) -> str:
    """Return the column to judge by: "score" if the rows have scores, else "return_mean"."""
    return "score" if any(np.isfinite(row["score"]) for row in rows) else "return_mean"


def metric_for(evaluations: Iterable[Sequence[Row]]) -> str:
    """Return "score" if all runs have scores, else "return_mean": they do not share an axis."""
    return "score" if {metric_of(rows) for rows in evaluations} == {"score"} else "return_mean"


def series(
    rows: Sequence[Row], phase: str, metric: str
) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Collect one phase's evaluations by seed, in the order of steps.

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
    """Select one evaluation of every seed.

    Args:
      rows: A run's evaluations.
      where: "offline" (the last of the offline phase), "handover" (online step 0, or the first one
        of a seed without an offline phase) or "final" (the last of all).

    Returns:
      One row per seed that has such an evaluation.
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
    """Return how much the metric changes with the return; None if the rows do not determine it.

    A score is linear in the return, so two evaluations with different returns suffice.
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
