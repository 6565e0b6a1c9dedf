"""The contents of the page's tables: scores with intervals, differences, aggregates, versions."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from enoto_jax.report import aggregate, figures, intervals, paired, stats
from enoto_jax.report.evaluations import COLUMNS, Row, metric_for
from enoto_jax.report.runs import Run

SCORES = {
    "final": "final",
    "offline": "offline, final",
    "handover": "at the hand-over",
    "worst_after": "lowest after it",
    "oracle_best": "oracle best",
}
HANDOVER = {
    "drop": "drop at the hand-over",
    "steps_to_recover": "steps to recover",
    "area": "area under the online curve",
    "regret": "regret",
}


def by_metric(table: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Separate scores from raw returns: heading -> the cells of its table."""
    found = {
        "Scores": [cell for cell in table if cell["metric"] == "score"],
        "Raw returns": [cell for cell in table if cell["metric"] != "score"],
    }
    return {heading: cells for heading, cells in found.items() if cells}


def shown_difference(found: paired.Difference) -> dict[str, Any]:
    """Return one row of the table of differences."""
    return {
        "ours": found.ours,
        "theirs": found.theirs,
        "quantity": found.quantity,
        "paired_by": found.paired_by,
        "mean": found.mean,
        "interval": found.interval,
        "range": (found.values.min(), found.values.max()),
        "per_seed": found.per_seed,
        "verdict": found.verdict,
    }


def pooled(own: Sequence[Run]) -> list[Row]:
    return [row for run in own for row in run.rows]


def summary(task: str, row: str, own: Sequence[Run], runs: Sequence[Run]) -> dict[str, Any]:
    """Summarise one row on one task: seeds pooled, each quantity as in `stats.summary`."""
    rows = pooled(own)
    metric = metric_for(run.rows for run in runs if run.task == task)
    if metric == "return_mean":  # a score and a return do not belong in one table
        rows = [r | {"score": float("nan")} for r in rows]
    found = stats.summary(rows)
    offline, online = found["offline"] or {}, found["online"] or {}
    # A run with no online steps has one online evaluation, at the hand-over, and no curve.
    moved = any(r["phase"] == "online" and r["step"] > 0 for r in rows)
    values = {**online, "offline": offline.get("final"), **found["overall"]}
    if not moved:
        values |= dict.fromkeys((*HANDOVER, "worst_after"))
    values["success"] = (found["success"] or {}).get("final")
    area = values.get("area")
    if area and area["mean"] is not None and metric == "score":
        # Nakamoto et al. (2023): by how much an expert's score lies above the curve, on average.
        low, high = area["high"], area["low"]
        values["regret"] = {
            "mean": aggregate.TARGET - area["mean"],
            "min": aggregate.TARGET - area["max"],
            "max": aggregate.TARGET - area["min"],
            "low": None if low is None else aggregate.TARGET - low,
            "high": None if high is None else aggregate.TARGET - high,
            "per_seed": {s: aggregate.TARGET - v for s, v in area["per_seed"].items()},
        }
    return {
        "task": task,
        "row": row,
        "seeds": found["seeds"],
        "metric": metric,
        "finished": all(run.finished for run in own),
        "values": {key: values.get(key) for key in (*SCORES, *HANDOVER, "success")},
    }


def aggregates(
    table: Sequence[dict], cells: Mapping, styles: Mapping, drawn: dict
) -> dict[str, Any]:
    """Aggregate over the largest complete block of finished rows and scored tasks."""
    finals: dict[str, dict[str, np.ndarray]] = {}
    for cell in table:
        final = list((cell["values"]["final"] or {"per_seed": {}})["per_seed"].values())
        if cell["finished"] and cell["metric"] == "score" and final and None not in final:
            finals.setdefault(cell["row"], {})[cell["task"]] = np.array(final)
    rows, tasks = aggregate.complete_block({row: set(own) for row, own in finals.items()})
    if len(tasks) < aggregate.TASKS:
        return {"rows": [], "tasks": tasks}
    scores = {row: [finals[row][task] for task in tasks] for row in rows}
    iqm = {row: aggregate.iqm(own) for row, own in scores.items()}
    gap = {row: aggregate.optimality_gap(own) for row, own in scores.items()}
    drawn["intervals"] = figures.intervals({"IQM": iqm, "optimality gap": gap}, styles)
    drawn["profiles"] = figures.profiles(scores, styles)
    joined = {row: [pooled(cells[task, row]) for task in tasks] for row in rows}
    drawn["aggregated"] = figures.aggregated(joined, styles)
    many = [row for row in rows if min(map(len, scores[row])) >= intervals.ENOUGH]
    better = {
        row: {
            other: aggregate.improvement(scores[row], scores[other])
            for other in many
            if other != row
        }
        for row in (many if len(many) > 1 else ())
    }
    left_out = sorted({cell["row"] for cell in table} - set(rows))
    other_tasks = sorted({cell["task"] for cell in table} - set(tasks))
    return {
        "rows": rows,
        "tasks": tasks,
        "iqm": iqm,
        "gap": gap,
        "better": better,
        "runs": {row: [len(task) for task in own] for row, own in scores.items()},
        "left_out": left_out,
        "other_tasks": other_tasks,
    }


_LETTERS = re.compile(r"(?<=^\w{12})\w+")  # of a commit, beyond the first twelve


def provenance(runs: Sequence[Run]) -> dict[str, str]:
    """Return the top of the page: versions of the package and of libraries, git commits."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        libraries = run.config.get("versions") or {}
        own = {
            "enoto_jax": run.config.get("package_version") or libraries.get("enoto_jax"),
            "git commit": _LETTERS.sub("", run.config.get("git_commit") or ""),
            **{name: libraries.get(name) for name in ("jax", "gymnasium", "mujoco")},
        }
        for name, value in own.items():
            if value:
                found.setdefault(name, {})[str(value)] = None
    return {name: " and ".join(values) for name, values in found.items()}


def versions(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the different versions of each package, and the devices."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        own = {**run.config.get("versions", {}), "device": run.config.get("device", "unknown")}
        for name, version in own.items():
            found.setdefault(name, {})[str(version)] = None
    return {name: list(versions) for name, versions in found.items()}


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return "data:text/csv;base64," + base64.b64encode(text.getvalue().encode()).decode()


def evaluations_csv(runs: Sequence[Run]) -> str:
    """Return all evaluations as a data: URI of CSV, with row, task and folder in front."""
    lines = (
        [run.row, run.task, run.folder.name] + ["" if row[c] != row[c] else row[c] for c in COLUMNS]
        for run in runs
        for row in run.rows
    )
    return _csv(("row", "task", "run", *COLUMNS), lines)


def scores_csv(table: Sequence[dict]) -> str:
    lines = [
        [cell["row"], cell["task"], seed, key, "" if value is None else value]
        for cell in table
        for key, found in cell["values"].items()
        for seed, value in (found["per_seed"] if found else {}).items()
    ]
    return _csv(("row", "task", "seed", "quantity", "value"), lines)
