"""Write one self-contained HTML page from runs."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from enoto_jax.report import aggregate, figures, intervals, metrics, paired, tables
from enoto_jax.report.evaluations import metric_for
from enoto_jax.report.identity import differences
from enoto_jax.report.runs import Run
from enoto_jax.runs.files import flat, plain
from enoto_jax.types import InputError, optional

Published = Mapping[str, Mapping[str, list[tuple[float, float]]]]
_NOT_SETTINGS = ("command", "versions", "device", "seeds")


def _bare(task: str) -> str:
    return re.sub(r"-v\d$", "", task)


def build(
    runs: Sequence[Run],
    problems: Sequence[str] = (),
    published: Published | None = None,
) -> str:
    """Build the page's HTML.

    Args:
      runs: The runs, as `runs.find` returns them.
      problems: Lines on what was left out.
      published: task -> name -> (online environment steps, score) pairs to draw over the curves.

    Raises:
      InputError: Plotly or Jinja is not installed.
    """
    problems = list(problems)
    jinja, plotly = (optional(x, "report", "a report") for x in ("jinja2", "plotly.offline"))
    # Papers leave D4RL's version out of a task's name.
    bare = {run.task: _bare(run.config["task"]) for run in runs}
    given: dict[str, dict[str, Any]] = {}
    for name, methods in (published or {}).items():
        given.setdefault(_bare(name), {}).update(methods)
    published = {task: given[name] for task, name in bare.items() if name in given}
    problems += [
        f"published curves of {name} are not drawn: no run has this task"
        for name in given
        if name not in bare.values()
    ]
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
    drawn, training, sections = {}, {}, []
    for number, task in enumerate(tasks):
        own = {row: [run.rows for run in cells[task, row]] for row in rows if (task, row) in cells}
        metric = metric_for(r for evaluations in own.values() for r in evaluations)
        drawn[f"task-{number}"] = figures.curves(own, metric, styles, published.get(task))
        first = next(run for run in runs if run.task == task)
        by_row = {row: cells[task, row] for row in own}
        section = {
            "id": f"task-{number}",
            "task": task,
            "env": first.config.get("env"),
            "counts": {row: len(set().union(*(r.seeds for r in rs))) for row, rs in by_row.items()},
            "scored": metric == "score",
            "differences": [tables.shown_difference(d) for d in paired.every(by_row)],
        }
        if quantities := figures.quantities(_metrics(by_row, problems), styles):
            training[f"training-{number}"] = quantities
            section["quantities"] = list(quantities)
        sections.append(section)
    table = [tables.summary(task, row, own, runs) for (task, row), own in cells.items()]
    whole = tables.aggregates(table, cells, styles, drawn)
    environment = jinja.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breaks"] = lambda name: _breaks(jinja.utils.markupsafe, name)
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
        tables=tables.by_metric(table),
        training=json.dumps(plain(training)).replace("<", "\\u003c"),
        explained=metrics.EXPLAINED,
        made=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        provenance=tables.provenance(runs),
        commands=list(dict.fromkeys(filter(None, (run.config.get("command") for run in runs)))),
        enough=intervals.ENOUGH,
        fewest_tasks=aggregate.TASKS,
        scores=tables.SCORES,
        handover=tables.HANDOVER,
        whole=whole,
        runs=runs,
        problems=problems,
        differences=differences(settings),
        versions=tables.versions(runs),
        configs=[json.dumps(run.config, indent=2) for run in runs],
        downloads={
            "evaluations.csv": tables.evaluations_csv(runs),
            "scores.csv": tables.scores_csv(table),
        },
    )


def _breaks(markupsafe: Any, name: str) -> Any:
    """A name that allows line breaks after underscores and equals signs."""
    parts = re.split(r"(?<=[_=])", name)
    return markupsafe.Markup("<wbr>").join(parts)


def _metrics(rows: Mapping[str, Sequence[Run]], problems: list[str]) -> dict[str, metrics.Metrics]:
    """The contents of each row's metrics.csv files; rows without one are left out."""
    found = {}
    for row, runs in rows.items():
        read = []
        for folder in (run.folder for run in runs if (run.folder / "metrics.csv").is_file()):
            try:
                read.append(metrics.read(folder))
            except InputError as error:
                problems.append(f"losses left out: {error}")
        if read:
            found[row] = metrics.joined(read)
    return found
