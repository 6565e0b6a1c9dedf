"""Draw the figures: a panel per task, a line per method, published scores as a dotted line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from absl import flags
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from enoto_jax.report import curves, intervals, metrics
from enoto_jax.report.aggregate import TASKS
from enoto_jax.report.evaluations import metric_for, read_evaluations, series
from enoto_jax.runs.files import read_csv
from enoto_jax.types import InputError
from experiments.paper.grid import Folders

FLAGS = flags.FLAGS
Lines = Mapping[str, curves.Curves]  # label -> one curve per seed


def scores(folders: Folders, path: Path) -> list[Path]:
    """Draw the online curves, one panel per task."""
    column = _column(folders)
    tasks = {
        task: {label: list(score_curves(runs, column).values()) for label, runs in own.items()}
        for task, own in folders.items()
    }
    return [panels(tasks, path, curves.WORD[column][0])]


def aggregate(folders: Folders, path: Path) -> list[Path]:
    """Draw all tasks together: a seed's curve is its mean over the tasks that every line has.

    It needs the seed on each of them. With fewer than three tasks, each has its own panel instead.

    Raises:
      InputError: No task has all lines, one of several tasks has no score, or a line has no seed
        that was trained on all tasks.
    """
    labels = {label: None for own in folders.values() for label in own}
    whole = {task: own for task, own in folders.items() if len(own) == len(labels)}
    if not whole:
        raise InputError(f"{path}: no task has a run of every line; train the others")
    if 1 < len(whole) < TASKS:
        return scores(whole, path)
    column = _column(whole)
    if len(whole) > 1 and column != "score":
        raise InputError(
            f"{path}: {', '.join(whole)}: not all have scores, and returns of "
            "different tasks have no mean; draw each alone"
        )
    lines = {}
    for label in labels:
        by_seed = [score_curves(own[label], column) for own in whole.values()]
        seeds = sorted(set.intersection(*(set(own) for own in by_seed)))
        if not seeds:
            raise InputError(f"{path}: {label} has no seed that was trained on all tasks")
        grid, y = curves.together([own[seed] for own in by_seed for seed in seeds])
        lines[label] = [(grid, one) for one in y.reshape(len(whole), len(seeds), -1).mean(axis=0)]
    title = next(iter(whole)) if len(whole) == 1 else f"mean over {len(whole)} tasks"
    return [panels({title: lines}, path, curves.WORD[column][0])]


def metric(folders: Folders, path: Path, quantity: str, y_label: str) -> list[Path]:
    """Draw a quantity of metrics.csv over the online phase."""
    tasks = {
        task: {label: metric_curves(runs, quantity) for label, runs in own.items()}
        for task, own in folders.items()
    }
    return [panels(tasks, path, y_label)]


def score_curves(runs: Sequence[Path], column: str) -> dict[int, curves.Curve]:
    """Return the online evaluations of a cell's runs as seed -> curve of this column."""
    found = series([row for run in runs for row in read_evaluations(run)], "online", column)
    return {seed: (env_steps, y) for seed, (_, env_steps, y) in found.items()}


def metric_curves(runs: Sequence[Path], quantity: str) -> curves.Curves:
    """Return one curve per seed: a quantity of metrics.csv in a cell's runs."""
    phase, _, name = quantity.partition("/")
    found = [metrics.read(run).get(name, {}).get(phase, {}) for run in runs]
    return [curve for own in found for curve in own.values()]


def panels(tasks: Mapping[str, Lines], path: Path, y_label: str) -> Path:
    """Draw lines in a grid of panels that share one legend."""
    labels = list(dict.fromkeys(label for lines in tasks.values() for label in lines))
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    published = _published()
    with mpl.rc_context(curves.STYLE):
        # A single panel is as large as that of curves.compare; several are smaller.
        size = (7.2, 4.4) if len(tasks) == 1 else (3.3 * columns, 2.6 * rows + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        handles: dict[str, Line2D] = {}
        for axes in grid.flat[len(tasks) :]:
            axes.set_visible(False)
        for axes, (task, lines) in zip(grid.flat, tasks.items()):
            for label, found in lines.items():
                if found:
                    look = curves.look(labels.index(label))
                    line, *_ = curves.draw(axes, found, *look)
                    line.set_label(label)
                    handles.setdefault(label, line)
            end = max((x[-1] for own in lines.values() for x, _ in own), default=1)
            axes.set(title=task, xlim=(0, max(1, end)))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            handles |= _overlay(axes, task, labels, published)
        for row in grid:
            row[0].set_ylabel(y_label if len(tasks) == 1 else y_label.replace(" (", "\n("))
        for axes in grid[-1]:
            axes.set_xlabel("online environment steps")
        if not handles:
            raise InputError(f"{path}: no run has this quantity; train with this version")
        counts = [len(own) for lines in tasks.values() for own in lines.values()]
        curves.finish(figure, "", [*handles.values(), *_key(counts)], path)
    return path


def _key(counts: Sequence[int]) -> list[Artist]:
    """Legend entries for bands and thin lines, with the number of seeds."""
    handles = curves.key(counts)
    for handle in handles:
        banded = handle.get_label() == curves.BAND
        own = sorted({n for n in counts if n > 1 and (n >= intervals.ENOUGH) == banded})
        seeds = str(own[0]) if len(own) == 1 else f"{own[0]} to {own[-1]}"
        handle.set_label(f"{handle.get_label()}, n = {seeds}")
    return handles


def _overlay(axes: Axes, task: str, labels: Sequence[str], published) -> dict[str, Line2D]:
    """Draw the published scores of the panel's task, up to the end of our own curves."""
    drawn = {}
    for index, label in enumerate(labels):
        for name in _tasks_of(task):
            points = published.get((name, label), [])
            x, y = np.array(points, float).reshape(-1, 2).T
            inside = x <= axes.get_xlim()[1]
            if inside.any():
                colour, _ = curves.look(index)
                (line,) = axes.plot(
                    x[inside],
                    y[inside],
                    color=colour,
                    linestyle=":",
                    marker="o",
                    markersize=4,
                    markerfacecolor="white",
                    label=f"{label} (published)",
                    zorder=3,
                    clip_on=False,
                )
                drawn[line.get_label()] = line
    return drawn


def _tasks_of(task: str) -> list[str]:
    """A task's names in published scores: without its version and, for SAC, without its data."""
    plain = task.removesuffix("-v2")
    return [plain, plain.split("-")[0]]


def _published() -> dict[tuple[str, str], list[tuple[float, float]]]:
    """(task, method) -> points (environment steps, score), sorted by steps."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in read_csv(FLAGS.published) if FLAGS.published else []:
        try:
            point = (float(row["env_steps"]), float(row["score"]))
            found.setdefault((row["task"], row["method"]), []).append(point)
        except (KeyError, ValueError) as error:
            raise InputError(
                f"--published: {FLAGS.published}: {error}; it needs the columns task, method, "
                "env_steps, score"
            ) from None
    return {key: sorted(points) for key, points in found.items()}


def _column(folders: Folders) -> str:
    """The column that all panels show: scores, or returns if a run has no scores."""
    runs = (run for own in folders.values() for runs in own.values() for run in runs)
    return metric_for(map(read_evaluations, runs))
