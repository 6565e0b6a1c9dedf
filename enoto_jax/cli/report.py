"""Write one self-contained HTML report: curves, scores, differences, aggregates, settings.

enoto report runs --out=report.html
enoto report runs/hopper --out=hopper.html
enoto report runs/hopper runs/walker2d --published=published.csv --out=report.html
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from absl import flags

from enoto_jax.atomic import written_whole
from enoto_jax.report import page
from enoto_jax.report.runs import find
from enoto_jax.types import InputError, plural

FLAGS = flags.FLAGS


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_list("runs", None, "Folders of runs or above them; also without the flag.")
    flags.DEFINE_string("out", "report.html", "The page.")
    flags.DEFINE_string(
        "published", None, "CSV of curves to lay over: task,method,env_steps,score."
    )


def published(path: str) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Read published curves: task -> "method (published)" -> points (env_steps, score).

    Raises:
      InputError: A column is missing, or a value is not a number.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--published: {path} cannot be read: {error}") from None
    for number, row in enumerate(rows, start=2):
        try:
            if None in row or None in row.values():
                raise ValueError("not as many cells as the header")
            point = float(row["env_steps"]), float(row["score"])
            found.setdefault(row["task"], {}).setdefault(f"{row['method']} (published)", []).append(
                point
            )
        except (KeyError, ValueError) as error:
            raise InputError(
                f"--published: {path}, line {number}: {error}; the columns must be "
                "task,method,env_steps,score, and the last two must be numbers"
            ) from None
    return found


def main() -> None:
    """Read the runs and write the page."""
    if not FLAGS.runs:
        raise InputError("no folder given: enoto report DIR... --out=report.html")
    over = published(FLAGS.published) if FLAGS.published else None
    runs, problems = find(FLAGS.runs)
    for line in problems:
        print(line, file=sys.stderr)
    text = page.build(runs, problems, over)
    out = Path(FLAGS.out)
    try:
        with written_whole(out) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out: {out} cannot be written: {error.strerror}") from None
    print(f"{out}: {plural(len(runs), 'run')}, {len(text) / 1e6:.1f} MB")
