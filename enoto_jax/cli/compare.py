"""Draw the online curves of several runs on one axis, and print their differences seed by seed.

enoto compare --runs=runs/cql,runs/enoto --out=compare.png
enoto compare --runs=runs/cql,runs/enoto --offline --out=both_phases.png
enoto compare --runs=runs/hopper,runs/walker2d --title="two tasks" --out=compare.pdf
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from enoto_jax.report import curves, paired, runs, stats
from enoto_jax.types import InputError, plural

FLAGS = flags.FLAGS


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_list("runs", None, "Folders of runs; seeds of the same method are pooled.")
    flags.DEFINE_string("out", None, "The image file.")
    flags.DEFINE_bool("offline", False, "Draw the offline phases too.")
    flags.DEFINE_string("title", None, "Title. Default: the task.")
    flags.mark_flags_as_required(["runs", "out"])


def main() -> None:
    """Group the runs by task and method, draw them, and print their differences."""
    found = [runs.read(Path(folder)) for folder in FLAGS.runs]
    runs.name(found)
    if repeated := runs.twice(found):
        raise InputError(
            f"--runs: {runs.counted_twice(*repeated[0])}; a seed counts once, leave one out"
        )
    tasks: dict[str, dict[str, list[runs.Run]]] = {}
    for run in found:
        tasks.setdefault(run.task, {}).setdefault(run.row, []).append(run)
    if len(tasks) > 1 and FLAGS.title is None:
        raise InputError(
            f"--runs: the runs have different tasks ({', '.join(sorted(tasks))}); give --title"
        )
    groups = {
        row if len(tasks) == 1 else f"{row} on {task}": [run.rows for run in own]
        for task, rows in tasks.items()
        for row, own in rows.items()
    }
    envs = sorted({str(run.config.get("env")) for run in found} - {"None", "none"})
    title = FLAGS.title or "\n".join([*tasks, *envs[:1]])
    try:
        curves.compare(groups, FLAGS.out, title, FLAGS.offline)
    except (OSError, ValueError) as error:  # Matplotlib raises ValueError for unknown formats
        raise InputError(f"--out: {FLAGS.out} cannot be written: {error}") from error
    for task, rows in tasks.items():
        print("\n".join(_report(task, rows)))
    print(FLAGS.out)


def _report(task: str, rows: dict[str, list[runs.Run]]) -> list[str]:
    """The final result of every method, then the differences of all pairs."""
    lines = [f"{task}:"]
    for row, own in rows.items():
        summary = stats.summary([evaluation for run in own for evaluation in run.rows])
        lines.append(f"  {row}: {stats.headline(summary)}")
    differences = list(paired.every(rows))
    lines += [f"  {paired.line(difference)}" for difference in differences]
    told = {frozenset((d.ours, d.theirs)) for d in differences}
    if missing := len(rows) * (len(rows) - 1) // 2 - len(told):
        lines.append(
            f"  {plural(missing, 'pair')} not compared: no seed in common, "
            "or online phases of different lengths"
        )
    return lines
