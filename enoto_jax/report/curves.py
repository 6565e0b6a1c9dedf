"""Learning curves: one run with its hand-over, or the online phases of several methods together."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot, which chooses a backend for everyone
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from enoto_jax.report.stats import (
    PHASES,
    Row,
    Rows,
    interval,
    metric_of,
    read_evaluations,
    series,
    summary,
)
from enoto_jax.types import InputError

# Okabe and Ito's colours, which the colour-blind can tell apart; then again with other dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
BAND = "95% interval of the mean"
WORD = {"score": ("normalised score", "score"), "return_mean": ("return", "return")}
AXIS = {"offline": "offline updates", "online": "online environment steps"}
STYLE = {
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "savefig.dpi": 200,
}
Curves = list[tuple[np.ndarray, np.ndarray]]  # a seed each: x [T], y [T]


def look(index: int) -> tuple[str, str]:
    """Colour and dash of the line with this number."""
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]


def phase_curves(rows: Sequence[Row], phase: str, metric: str) -> Curves:
    found = series(rows, phase, metric).values()
    return [(step if phase == "offline" else env_steps, y) for step, env_steps, y in found]


def together(curves: Curves) -> tuple[np.ndarray, np.ndarray]:
    """All seeds at the same places: x [T], y [S, T], up to where the shortest one ends.

    Runs may have been evaluated at different steps; between its own a seed's curve is a line. Past
    the shortest seed's end the mean would jump, because it would be one of fewer seeds.
    """
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    grid = grid[(grid >= low) & (grid <= high)]
    return grid, np.stack([np.interp(grid, x, y) for x, y in curves])


def draw(axes: Axes, curves: Curves, colour: str, dash: str = "-", *, seeds: bool) -> list[Any]:
    """Seeds thin (if asked for), their mean thick, its interval as a band; returns the handles."""
    several = len(curves) > 1
    handles: list[Any] = []
    if seeds and several:
        for x, y in curves:
            handles = axes.plot(x, y, color=colour, alpha=0.35, linewidth=0.9, label="each seed")
    grid, y = together(curves)
    (mean,) = axes.plot(grid, y.mean(0), color=colour, linestyle=dash, linewidth=2.2)
    mean.set_label(f"mean of {len(curves)} seeds" if several else "one seed")
    if len(grid) == 1:  # a line through one evaluation would be invisible
        mean.set(marker="o", clip_on=False)
    handles = [mean, *handles]
    if several:
        look = {"color": colour, "alpha": 0.18, "linewidth": 0, "label": BAND}
        handles.append(axes.fill_between(grid, *interval(y), **look))
    return handles


def _panels(figure: Figure, ends: Mapping[str, float], y_label: str) -> dict[str, Axes]:
    """Axes side by side, one a phase that is there: x axes of their own, one y axis, no gap.

    Args:
        figure: Gets the axes.
        ends: phase -> its last step.
        y_label: Of the shared axis.
    """
    shown = [phase for phase in PHASES if phase in ends]
    widths = [1.0]
    if len(shown) == 2:
        # True to scale where that can be read: the online part is what the figure is about.
        share = ends["offline"] / max(1.0, ends["offline"] + ends["online"])
        share = float(np.clip(share, 0.25, 0.4))
        widths = [share, 1 - share]
    # No gap between the panels, so the margin around them is the rectangle's.
    figure.set_layout_engine("constrained", w_pad=0, wspace=0, rect=(0.01, 0, 0.98, 1))
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False, width_ratios=widths)[0]
    panels = dict(zip(shown, grid, strict=True))
    for phase, axes in panels.items():
        end = max(1.0, float(ends[phase]))
        ticks = MaxNLocator(4 if phase == "offline" else 6).tick_values(0, end)
        axes.set(xlim=(0, end), xlabel=AXIS[phase], xticks=[t for t in ticks if 0 <= t <= end])
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    grid[0].set_ylabel(y_label)
    if len(shown) == 2:
        _mark_handover(*grid)
    return panels


def _mark_handover(left: Axes, right: Axes) -> None:
    """The line between the panels. Their outermost tick labels meet there, so each steps aside."""
    left.set_facecolor("#f6f6f6")
    right.spines["left"].set_visible(False)
    right.tick_params(axis="y", length=0)
    right.axvline(0, color="#444444", linewidth=1.4, clip_on=False, zorder=1.5, label="hand-over")
    aside = [(right.get_xticklabels()[0], "left", 3)]
    if left.get_xticks()[-1] > 0.9 * left.get_xlim()[1]:
        aside.append((left.get_xticklabels()[-1], "right", -3))
    for label, side, points in aside:
        label.set_horizontalalignment(side)
        move = ScaledTranslation(points / 72, 0, right.get_figure().dpi_scale_trans)
        label.set_transform(label.get_transform() + move)
    look = {"fontsize": 9.5, "color": "#444444", "ha": "center", "va": "bottom"}
    text = right.text(0, 1.01, "hand-over", transform=right.transAxes, **look)
    text.set_in_layout(False)  # else the panels would move apart to make room for it
    right.set_title(" ", fontsize=9.5)  # so this keeps its height free


def last_steps(curves: Mapping[str, Sequence[Curves]]) -> dict[str, float]:
    return {
        phase: max(x[-1] for own in groups for x, _ in own)
        for phase, groups in curves.items()
        if any(groups)
    }


def _title(source: Rows) -> str:
    """Method and task, from the run's own config."""
    config = Path(source) / "config.json" if isinstance(source, (str, os.PathLike)) else None
    if config is None or not config.is_file():
        return ""
    known = json.loads(config.read_text(encoding="utf-8"))
    parts = [known.get("method"), known.get("task")]
    return " on ".join(Path(str(part)).name for part in parts if part)


def finish(figure: Figure, title: str, handles: Sequence[Any], path: str | os.PathLike) -> Figure:
    if title:
        figure.suptitle(title, wrap=True)
    _legend(figure, handles)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return figure


def _legend(figure: Figure, handles: Sequence) -> None:
    """Below everything, at most four columns, in as few lines as fit the figure's width."""
    for lines in range(-(-len(handles) // 4), len(handles) + 1):
        columns = -(-len(handles) // lines)
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def curve(source: Rows, path: str | os.PathLike, title: str | None = None) -> Figure:
    """Draws one run: updates on the left, environment steps on the right, the hand-over between.

    Args:
        source: As in `stats.read_evaluations`.
        path: The picture; its ending says which kind.
        title: "method on task" out of the run's `config.json` when None.

    Returns:
        The figure, saved.

    Raises:
        InputError: The evaluations cannot be read.
    """
    rows = read_evaluations(source)
    metric = metric_of(rows)
    curves = {phase: phase_curves(rows, phase, metric) for phase in PHASES}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.2))
        ends = last_steps({phase: [own] for phase, own in curves.items()})
        panels = _panels(figure, ends, WORD[metric][0])
        handles = []
        for phase, axes in panels.items():
            handles = draw(axes, curves[phase], COLOURS[0], seeds=True)
        if len(panels) == 2:
            level = summary(rows, samples=1)["online"]["handover"]["mean"]
            look = {"color": COLOURS[1], "linestyle": "--", "linewidth": 1.3, "zorder": 1.8}
            if level is not None:
                lines = [axes.axhline(level, **look) for axes in panels.values()]
                lines[0].set_label(f"{WORD[metric][1]} at the hand-over")
                handles.append(lines[0])
        return finish(figure, _title(source) if title is None else title, handles, path)


def compare(
    runs: Mapping[str, Sequence[Rows]],
    path: str | os.PathLike,
    title: str = "",
    offline: bool = False,
) -> Figure:
    """Draws methods together: the mean over all seeds of a method's runs, and its interval.

    Args:
        runs: label -> its runs, each as in `stats.read_evaluations`.
        path: The picture; its ending says which kind.
        title: Usually the task.
        offline: Whether the offline phases are drawn as well, on the left.

    Returns:
        The figure, saved.

    Raises:
        InputError: The evaluations of a run cannot be read, or none is online.
    """
    rows = {label: [read_evaluations(run) for run in own] for label, own in runs.items()}
    # A score and a return do not belong on one axis.
    metrics = {metric_of(run) for own in rows.values() for run in own}
    metric = "score" if metrics == {"score"} else "return_mean"
    phases = PHASES if offline else ("online",)
    curves = {
        phase: [
            [seed for run in own for seed in phase_curves(run, phase, metric)]
            for own in rows.values()
        ]
        for phase in phases
    }
    if not any(curves["online"]):
        raise InputError(f"{', '.join(runs) or 'no run'}: holds no online evaluation to compare")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4))
        panels = _panels(figure, last_steps(curves), WORD[metric][0])
        handles: dict[str, Any] = {}
        for phase, axes in panels.items():
            for index, (label, own) in enumerate(zip(rows, curves[phase], strict=True)):
                if own:
                    line, *_ = draw(axes, own, *look(index), seeds=False)
                    line.set_label(f"{label} ({len(own)} seed{'s' * (len(own) > 1)})")
                    handles[label] = line
        band = [Patch(color="#888888", alpha=0.3, linewidth=0, label=BAND)]
        several = any(len(own) > 1 for own in curves["online"])
        return finish(figure, title, [*handles.values(), *band * several], path)
