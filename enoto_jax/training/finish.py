"""What a run writes at its end: statistics, the curve, and what dashboards show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from enoto_jax.report import stats
from enoto_jax.runs import files, hosts
from enoto_jax.training.record import Record
from enoto_jax.types import InputError


def finish(record: Record) -> dict[str, Any]:
    """Close a run's record and write its picture, timing.json and summary.json.

    Returns:
      The contents of summary.json.
    """
    summary = hosts.from_first(lambda: _summarise(record))
    record.close()
    if hosts.first():
        files.write_json(record.folder / "timing.json", record.timing.summary())
        files.write_json(record.folder / "summary.json", summary)
    return summary


def _summarise(record: Record) -> dict[str, Any]:
    from enoto_jax.report import curves, metrics  # matplotlib, which would delay every start

    metrics.picture(record.folder)
    if record.looks.evaluator is None:
        return {}
    curves.curve(record.folder, record.folder / "curve.png")
    if record.rows.has_dashboards:
        record.saving.checkpoints.wait()
        record.rows.show(_pictures(record.folder))
    return stats.summary(stats.read_evaluations(record.folder))


def _pictures(folder: Path) -> dict[str, Path]:
    """Draw the curve and film the policy; without a renderer, report it and make no film."""
    from enoto_jax.report import film  # it needs libraries that nothing else needs

    found = {"curve": folder / "curve.png"}
    try:
        path = folder / "film.gif"
        found["film"] = film.before_and_after(folder, path, fps=10, height=240)
    except InputError as error:
        print(f"no film on the dashboards: {error}", file=sys.stderr)
    return found
