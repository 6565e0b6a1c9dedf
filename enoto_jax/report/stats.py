"""What a run's evaluations say: final score, drop at the hand-over, recovery, area, over seeds.

The *last* evaluation is the result. The best of a run needs an oracle to pick it, hence its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax.runs.files import ADDED_COLUMNS, EVALUATION_COLUMNS, read_csv
from enoto_jax.types import InputError

Row = dict[str, Any]
Rows = str | os.PathLike | Iterable[Mapping[str, Any]]

PHASES = ("offline", "online")
EARLY = 0.2  # the part of the online phase in which a drop counts as the hand-over's
_LARGEST = 1e30  # of a number in a table
_WHOLE = {"step", "env_steps", "seed", "episodes"}


def _value(column: str, cell: Any) -> Any:
    if column == "phase":
        if cell not in PHASES:
            raise ValueError(f"phase is {cell!r}, not one of {', '.join(PHASES)}")
        return str(cell)
    if column in _WHOLE:
        return int(cell)
    value = float("nan") if cell is None or cell == "" else float(cell)
    if abs(value) > _LARGEST:
        raise ValueError(f"{column} is {cell}, which no run can have written")
    return value


def read_evaluations(source: Rows) -> list[Row]:
    """Evaluations with numbers as numbers; an empty cell is NaN.

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
        row = {**dict.fromkeys(ADDED_COLUMNS, ""), **row}
        try:
            rows.append({column: _value(column, row[column]) for column in EVALUATION_COLUMNS})
        except KeyError as error:
            raise InputError(f"{where}: has no column {error}; is it a run's file?") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}, row {number}: {error}; mend or remove the row") from None
    if not rows:
        raise InputError(f"{where}: holds no evaluation yet")
    return rows


def metric_of(rows: Sequence[Row]) -> str:
    """The column to judge by: "score" where the task has reference returns, else "return_mean"."""
    return "score" if any(np.isfinite(row["score"]) for row in rows) else "return_mean"


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
    return {
        seed: tuple(np.array([row[name] for row in own]) for name in ("step", "env_steps", metric))
        for seed, own in found.items()
    }


def interval(values: np.ndarray, samples: int = 2000, seed: int = 0) -> np.ndarray:
    """The 95% percentile bootstrap interval of the mean over seeds.

    Args:
        values: [S, ...], S > 1: from one seed nothing is known about the others.
        samples: Resamples of the seeds.
        seed: The same seed gives the same interval.

    Returns:
        [2, ...], low and high.

    Raises:
        ValueError: Fewer than two seeds.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        raise ValueError("an interval over seeds needs at least two seeds")
    drawn = np.random.default_rng(seed).integers(len(values), size=(samples, len(values)))
    # How often each seed was drawn, times the values: no [samples, S, ...] in memory.
    counts = np.stack([(drawn == member).sum(1) for member in range(len(values))], axis=1)
    means = np.tensordot(counts / len(values), values, axes=1)
    return np.percentile(means, [2.5, 97.5], axis=0)


def _online(env_steps: np.ndarray, y: np.ndarray, known: bool) -> dict[str, float | None]:
    """One seed's online phase. `known`: its first evaluation is the hand-over's."""
    covered = float(env_steps[-1] - env_steps[0])
    found: dict[str, float | None] = {
        "final": y[-1],
        "oracle_best": y.max(),
        "area": np.trapezoid(y, env_steps) / covered if covered > 0 else None,
        **dict.fromkeys(("handover", "worst_after", "drop", "steps_to_recover")),
    }
    if not known:
        return found
    found["handover"] = y[0]
    if len(y) > 1:
        # With rare evaluations the first one after the hand-over may lie beyond the early part.
        early = max(2, int(np.sum(env_steps <= env_steps[0] + EARLY * covered)))
        lowest = 1 + int(np.argmin(y[1:early]))
        found["worst_after"] = y[1:].min()
        found["drop"] = y[0] - y[lowest]
        after = [0] if found["drop"] <= 0 else lowest + np.flatnonzero(y[lowest:] >= y[0])
        found["steps_to_recover"] = env_steps[after[0]] - env_steps[0] if len(after) else None
    return found


def summary(rows: Rows, samples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """The content of `summary.json`.

    The hand-over's evaluation is the online one at step 0; in a run without an offline phase, the
    first one. Where it is missing, what is measured against it is null.

    * `final`, `oracle_best`: the last evaluation and the highest of all.
    * `handover`, `worst_after`: the score at the hand-over, the lowest after it.
    * `drop`: `handover` minus the lowest score in the first 20% of the online phase (at least one
      evaluation); a drop is positive, a gain negative.
    * `steps_to_recover`: environment steps from the hand-over to the first evaluation after that
      lowest one which is no worse than the hand-over's; 0 without a drop, null when never.
    * `area`: the area under the online curve (trapezoids) over its environment steps: a mean score.

    Each is `{"mean", "low", "high", "per_seed"}`. One seed has no interval (null). Where a seed has
    no value, for example because it never recovered, neither has the mean: leaving that seed out
    would flatter the method.

    Args:
        rows: As in `read_evaluations`.
        samples: Bootstrap resamples.
        seed: Of the resampling; equal arguments give equal results.

    Raises:
        InputError: The evaluations cannot be read.
    """
    rows = read_evaluations(rows)
    metric = metric_of(rows)
    offline, online = (series(rows, phase, metric) for phase in PHASES)
    found: dict[str, dict[int, dict[str, Any]]] = {"offline": {}, "online": {}, "overall": {}}
    for member in sorted(offline.keys() | online.keys()):
        scores = []
        if member in offline:
            scores.append(offline[member][2])
            found["offline"][member] = {"final": scores[-1][-1], "oracle_best": scores[-1].max()}
        if member in online:
            steps, env_steps, y = online[member]
            scores.append(y)
            found["online"][member] = _online(env_steps, y, steps[0] == 0 or member not in offline)
        best = np.concatenate(scores).max()
        found["overall"][member] = {"final": scores[-1][-1], "oracle_best": best}

    def estimate(by_seed: dict[int, Any]) -> dict[str, Any]:
        known = {
            str(member): None if value is None or not np.isfinite(value) else float(value)
            for member, value in by_seed.items()
        }
        values = list(known.values())
        mean = low = high = None
        if None not in values:
            mean = float(np.mean(values))
            if len(values) > 1:
                low, high = (float(bound) for bound in interval(values, samples, seed))
        return {"mean": mean, "low": low, "high": high, "per_seed": known}

    def phase(by_seed: dict[int, dict[str, Any]]) -> dict[str, Any] | None:
        names = next(iter(by_seed.values()), {})
        estimates = {
            name: estimate({member: of[name] for member, of in by_seed.items()}) for name in names
        }
        return estimates or None

    return {
        "metric": metric,
        "seeds": len(found["overall"]),
        "interval": f"95% percentile bootstrap of the mean over seeds, {samples} samples",
        **{name: phase(by_seed) for name, by_seed in found.items()},
    }
