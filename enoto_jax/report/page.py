"""One HTML page out of runs; nothing in it is loaded from anywhere else."""

from __future__ import annotations

import base64
import csv
import importlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from enoto_jax.report import aggregate, figures, stats
from enoto_jax.report.runs import Run, differences, flat
from enoto_jax.runs.files import EVALUATION_COLUMNS, plain
from enoto_jax.types import InputError

Published = Mapping[str, Mapping[str, list[tuple[float, float]]]]
SCORES = {
    "offline": "offline, final",
    "handover": "at the hand-over",
    "worst_after": "worst after it",
    "final": "final",
    "oracle_best": "oracle best",
}
HANDOVER = {
    "drop": "drop at the hand-over",
    "steps_to_recover": "steps to recover",
    "area": "area under the online curve",
    "regret": "regret",
}
_NOT_SETTINGS = ("command", "versions", "device", "seeds")


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"a report cannot import {module} ({error}): pip install {module}, "
            "or this package with its extra [report]"
        ) from None


def build(
    runs: Sequence[Run], problems: Sequence[str] = (), published: Published | None = None
) -> str:
    """The page.

    Args:
        runs: Of `runs.find`.
        problems: Lines on what was left out.
        published: task -> name -> (online environment steps, score) pairs to lay over.

    Raises:
        InputError: Plotly or Jinja is not installed.
    """
    jinja, plotly = _optional("jinja2"), _optional("plotly.offline")
    # Papers leave D4RL's version out of a task's name.
    bare = {run.task: re.sub(r"-v\d$", "", run.config["task"]) for run in runs}
    published = {task: published[name] for task, name in bare.items() if name in (published or {})}
    rows = list(dict.fromkeys(run.row for run in sorted(runs, key=lambda run: run.row)))
    names = dict.fromkeys(name for own in published.values() for name in own)
    styles = {row: figures.look(index) for index, row in enumerate(rows)}
    styles |= {
        name: figures.look(index + len(rows)) | {"dash": "longdash"}
        for index, name in enumerate(names)
    }
    tasks = sorted({run.task for run in runs})
    cells = {
        (task, row): [run for run in runs if (run.task, run.row) == (task, row)]
        for task in tasks
        for row in rows
    }
    cells = {key: own for key, own in cells.items() if own}
    drawn, sections = {}, []
    for number, task in enumerate(tasks):
        own = {row: [run.rows for run in cells[task, row]] for row in rows if (task, row) in cells}
        metric = _metric(r for evaluations in own.values() for r in evaluations)
        drawn[f"task-{number}"] = figures.curves(own, metric, styles, published.get(task))
        first = next(run for run in runs if run.task == task)
        sections.append({"id": f"task-{number}", "task": task, "env": first.config.get("env")})
    table = [_summary(task, row, own, runs) for (task, row), own in cells.items()]
    whole = _aggregates(table, cells, styles, drawn)
    environment = jinja.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files(__package__)
    text = {name: (folder / f"page.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    settings = [
        flat({k: v for k, v in run.config.items() if k not in _NOT_SETTINGS}) for run in runs
    ]
    return environment.from_string(text["html"]).render(
        css=text["css"],
        script=text["js"],
        plotly=plotly.get_plotlyjs(),
        # "<" would let a name end the script element.
        figures=json.dumps(plain(drawn)).replace("<", "\\u003c"),
        legend=[(name, styles[name]) for name in styles],
        published=list(names),
        sections=sections,
        table=table,
        scores=SCORES,
        handover=HANDOVER,
        whole=whole,
        runs=runs,
        problems=problems,
        differences=differences(settings),
        versions=_versions(runs),
        configs=[json.dumps(run.config, indent=2) for run in runs],
        downloads={"evaluations.csv": evaluations_csv(runs), "scores.csv": _scores_csv(table)},
    )


def _metric(evaluations: Iterable[Sequence[stats.Row]]) -> str:
    return (
        "score" if {stats.metric_of(rows) for rows in evaluations} == {"score"} else "return_mean"
    )


def _pooled(own: Sequence[Run]) -> list[stats.Row]:
    return [row for run in own for row in run.rows]


def _summary(task: str, row: str, own: Sequence[Run], runs: Sequence[Run]) -> dict[str, Any]:
    """One row and task: seeds pooled, each quantity as in `stats.summary`."""
    rows = _pooled(own)
    metric = _metric(run.rows for run in runs if run.task == task)
    if metric == "return_mean":  # a score and a return do not belong in one table
        rows = [r | {"score": float("nan")} for r in rows]
    found = stats.summary(rows)
    offline, online = found["offline"] or {}, found["online"] or {}
    # A run with no online steps has one online evaluation, at the hand-over: no curve.
    moved = any(r["phase"] == "online" and r["step"] > 0 for r in rows)
    values = {**online, "offline": offline.get("final"), **found["overall"]}
    if not moved:
        values |= dict.fromkeys((*HANDOVER, "worst_after"))
    area = values.get("area")
    if area and area["mean"] is not None and metric == "score":
        # Nakamoto et al. (2023): by how much an expert's score lies above the curve, on average.
        low, high = area["high"], area["low"]
        values["regret"] = {
            "mean": aggregate.TARGET - area["mean"],
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
        "values": {key: values.get(key) for key in (*SCORES, *HANDOVER)},
    }


def _aggregates(
    table: Sequence[dict], cells: Mapping, styles: Mapping, drawn: dict
) -> dict[str, Any]:
    """The aggregates over the largest complete block of finished rows and scored tasks."""
    finals: dict[str, dict[str, np.ndarray]] = {}
    for cell in table:
        final = list((cell["values"]["final"] or {"per_seed": {}})["per_seed"].values())
        if cell["finished"] and cell["metric"] == "score" and final and None not in final:
            finals.setdefault(cell["row"], {})[cell["task"]] = np.array(final)
    rows, tasks = aggregate.complete_block({row: set(own) for row, own in finals.items()})
    if not rows:
        return {"rows": [], "tasks": []}
    scores = {row: [finals[row][task] for task in tasks] for row in rows}
    iqm = {row: aggregate.iqm(own) for row, own in scores.items()}
    gap = {row: aggregate.optimality_gap(own) for row, own in scores.items()}
    drawn["intervals"] = figures.intervals({"IQM": iqm, "optimality gap": gap}, styles)
    drawn["profiles"] = figures.profiles(scores, styles)
    if len(tasks) > 1:
        joined = {row: [_pooled(cells[task, row]) for task in tasks] for row in rows}
        drawn["aggregated"] = figures.aggregated(joined, styles)
    better = {
        row: {
            other: aggregate.improvement(scores[row], scores[other])
            for other in rows
            if other != row
        }
        for row in rows
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


def _versions(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Package or device -> its different versions."""
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
    """All evaluations as a data: URI, with row, task and folder in front."""
    lines = (
        [run.row, run.task, run.folder.name]
        + ["" if row[c] != row[c] else row[c] for c in EVALUATION_COLUMNS]
        for run in runs
        for row in run.rows
    )
    return _csv(("row", "task", "run", *EVALUATION_COLUMNS), lines)


def _scores_csv(table: Sequence[dict]) -> str:
    lines = [
        [cell["row"], cell["task"], seed, key, "" if value is None else value]
        for cell in table
        for key, found in cell["values"].items()
        for seed, value in (found["per_seed"] if found else {}).items()
    ]
    return _csv(("row", "task", "seed", "quantity", "value"), lines)
