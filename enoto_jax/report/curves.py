"""Learning curves: one run with its hand-over, or the online phases of several methods."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot, which chooses a backend for everyone
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from enoto_jax.report import identity, intervals
from enoto_jax.report.evaluations import (
    PHASES,
    SUCCESS,
    Row,
    Rows,
    evaluation_at,
    metric_for,
    metric_of,
    read_evaluations,
    series,
)
from enoto_jax.runs.files import read_config
from enoto_jax.types import InputError

# Okabe and Ito's colours, which the colour-blind can distinguish; repeated with other dashes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
BAND = intervals.T_INTERVAL
WORD = {
    "score": ("score (0 random, 100 expert)", "score"),
    "return_mean": ("return", "return"),
    SUCCESS: ("success rate", "success rate"),
}
AXIS = {"offline": "offline updates", "online": "online environment steps"}
STYLE: Any = {
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
Curve = tuple[np.ndarray, np.ndarray]  # a seed's: x [T], y [T]
Curves = list[Curve]


def look(index: int) -> tuple[str, str]:
    """Return the colour and dash of the line with this number."""
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]


def phase_curves(rows: Sequence[Row], phase: str, metric: str) -> Curves:
    """Return one curve per seed over one phase: updates or environment steps, and the metric."""
    if metric == SUCCESS:  # some evaluations may not have it
        rows = [row for row in rows if np.isfinite(row[SUCCESS])]
    found = series(rows, phase, metric).values()
    return [(step if phase == "offline" else env_steps, y) for step, env_steps, y in found]


def together(curves: Curves) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate all seeds to the same steps, x [T] and y [S, T], up to the shortest seed's end.

    Runs may have been evaluated at different steps, between which curves are linear. Past the
    shortest seed's end the mean would jump, because it would be over fewer seeds.
    """
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    grid = grid[(grid >= low) & (grid <= high)]
    return grid, np.stack([np.interp(grid, x, y) for x, y in curves])


def draw(
    axes: Axes, curves: Curves, colour: str, dash: str = "-", *, seeds: bool = False
) -> list[Any]:
    """Draw the mean over seeds as a thick line, with its uncertainty, and return the handles.

    With fewer than five seeds every seed is a thin line. With five or more the interval is a band,
    and seeds are drawn only if `seeds` is true.
    """
    several, enough = len(curves) > 1, len(curves) >= intervals.ENOUGH
    handles: list[Any] = []
    if several and (seeds or not enough):
        thin: dict[str, Any] = {"color": colour, "alpha": 0.35 if enough else 0.6, "linewidth": 0.9}
        for x, y in curves:
            handles = axes.plot(x, y, linestyle=dash, label="each seed", **thin)
            if len(x) == 1:
                handles[0].set(marker=".", clip_on=False)
    grid, y = together(curves)
    (mean,) = axes.plot(grid, y.mean(0), color=colour, linestyle=dash, linewidth=2.2)
    mean.set_label(f"mean of {len(curves)} seeds" if several else "one seed")
    if len(grid) == 1:  # a line through one evaluation would be invisible
        mean.set(marker="o", clip_on=False)
    handles = [mean, *handles]
    if enough:
        look: dict[str, Any] = {"color": colour, "alpha": 0.18, "linewidth": 0, "label": BAND}
        handles.append(axes.fill_between(grid, *intervals.mean_interval(y), **look))
    return handles


def key(counts: Iterable[int]) -> list[Any]:
    """Return handles that explain bands and thin lines in a legend of several methods.

    Args:
      counts: Number of seeds of each method.
    """
    counts = list(counts)
    found: list[Any] = []
    if any(1 < n < intervals.ENOUGH for n in counts):
        found.append(Line2D([], [], color="#888888", linewidth=0.9, label="each seed"))
    if any(n >= intervals.ENOUGH for n in counts):
        found.append(Patch(color="#888888", alpha=0.3, linewidth=0, label=BAND))
    return found


def offline_share(ends: Mapping[str, float]) -> float:
    """Return the fraction of a figure's width for the offline phase.

    It is proportional to the steps, but leaves most of the width to the online phase.

    Args:
      ends: phase -> its last step, for both phases.
    """
    return float(np.clip(ends["offline"] / max(1.0, sum(ends.values())), 0.25, 0.4))


def _panels(
    figure: Figure, ends: Mapping[str, float], metrics: Sequence[str]
) -> list[dict[str, Axes]]:
    """Create one panel per phase, side by side without a gap: separate x axes, a shared y axis.

    Args:
      figure: The figure to add the axes to.
      ends: phase -> its last step.
      metrics: The metric of each row of panels; keys of `WORD`.

    Returns:
      For each row, phase -> its axes.
    """
    shown = [phase for phase in PHASES if phase in ends]
    widths = [1.0]
    if len(shown) == 2:
        share = offline_share(ends)
        widths = [share, 1 - share]
    # There is no gap between the panels, so the rectangle provides the margin.
    figure.set_layout_engine("constrained", w_pad=0, wspace=0, rect=(0.01, 0, 0.98, 1))
    grid = figure.subplots(
        len(metrics), len(shown), sharey="row", sharex="col", squeeze=False, width_ratios=widths
    )
    for row, metric in zip(grid, metrics, strict=True):
        for phase, axes in zip(shown, row, strict=True):
            end = max(1.0, float(ends[phase]))
            # The last label moves towards the others, so ticks are few.
            few: dict[str, Any] = {"nbins": 3, "steps": [1, 2, 5, 10]}
            locator = MaxNLocator(**few) if phase == "offline" else MaxNLocator(6)
            ticks = locator.tick_values(0, end)
            axes.set(xlim=(0, end), xticks=[t for t in ticks if 0 <= t <= end])
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        row[0].set_ylabel(WORD[metric][0])
        if metric == SUCCESS:
            # A t interval can extend beyond [0, 1].
            row[0].set_ylim(-0.03, 1.03)
        if len(shown) == 2:
            _mark_handover(*row)
    for phase, axes in zip(shown, grid[-1], strict=True):
        axes.set_xlabel(AXIS[phase])
    if len(shown) == 2:
        _step_aside(*grid[-1])
        _name_handover(grid[0][1])
    return [dict(zip(shown, row, strict=True)) for row in grid]


def _mark_handover(left: Axes, right: Axes) -> None:
    """Draw the line between the panels."""
    left.set_facecolor("#f6f6f6")
    right.spines["left"].set_visible(False)
    right.tick_params(axis="y", length=0)
    right.axvline(0, color="#444444", linewidth=1.4, clip_on=False, zorder=1.5, label="hand-over")


def _step_aside(left: Axes, right: Axes) -> None:
    """Move the tick labels that meet at the hand-over apart."""
    aside = [(right.get_xticklabels()[0], "left", 3)]
    if left.get_xticks()[-1] > 0.9 * left.get_xlim()[1]:
        aside.append((left.get_xticklabels()[-1], "right", -3))
    for label, side, points in aside:
        label.set(horizontalalignment=side)
        move = ScaledTranslation(points / 72, 0, right.figure.dpi_scale_trans)
        label.set_transform(label.get_transform() + move)


def _name_handover(right: Axes) -> None:
    look: dict[str, Any] = {"fontsize": 9.5, "color": "#444444", "ha": "center", "va": "bottom"}
    text = right.text(0, 1.01, "hand-over", transform=right.transAxes, **look)
    text.set_in_layout(False)  # otherwise the panels would move apart for it
    right.set_title(" ", fontsize=9.5)  # reserves its height instead


def last_steps(curves: Mapping[str, Sequence[Curves]]) -> dict[str, float]:
    return {
        phase: max(x[-1] for own in groups for x, _ in own)
        for phase, groups in curves.items()
        if any(groups)
    }


def title_of(source: Rows, seeds: Iterable[int]) -> str:
    """Return a title from the run's config: method with changes, task, environment and seeds."""
    config = Path(source) / "config.json" if isinstance(source, (str, os.PathLike)) else None
    if config is None or not config.is_file():
        return ""
    known = read_config(config)
    parts = [identity.label(known), Path(str(known.get("task") or "")).name]
    first = " on ".join(part for part in parts if part)
    env = known.get("env")
    second = [str(env)] if env not in (None, "none") else []
    return "\n".join([first, ", ".join([*second, seeds_in_words(seeds)])])


def drawable(text: str) -> str:
    """Make a text from a file safe to draw: no control characters, no mathematics."""
    shown = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return shown.replace("$", r"\$")


def seeds_in_words(seeds: Iterable[int]) -> str:
    """Name seeds in words: "seed 0", "seeds 0 and 2", "seeds 0 to 4"."""
    found = sorted(set(seeds))
    if len(found) == 1:
        return f"seed {found[0]}"
    if len(found) > 2 and found[-1] - found[0] == len(found) - 1:
        return f"seeds {found[0]} to {found[-1]}"
    return f"seeds {', '.join(map(str, found[:-1]))} and {found[-1]}"


def finish(figure: Figure, title: str, handles: Sequence[Any], path: str | os.PathLike) -> Figure:
    """Add title and legend, and save the figure."""
    if title:
        figure.suptitle(drawable(title), wrap=True)
    _legend(figure, handles)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return figure


def _legend(figure: Figure, handles: Sequence) -> None:
    """Draw the legend below the panels, in at most four columns and as few lines as possible."""
    for lines in range(-(-len(handles) // 4), len(handles) + 1):
        columns = -(-len(handles) // lines)
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def curve(source: Rows, path: str | os.PathLike, title: str | None = None) -> Figure:
    """Draw one run: updates on the left, environment steps on the right, the hand-over between.

    Success rates, if the environment reports them, are a second row of panels.

    Args:
      source: As in `read_evaluations`.
      path: The picture to write; its suffix selects the format.
      title: The title; by default method, task, environment and seeds from the run's `config.json`.

    Returns:
      The saved figure.

    Raises:
      InputError: The evaluations cannot be read.
    """
    rows = read_evaluations(source)
    metrics = [metric_of(rows)]
    metrics += [SUCCESS] * any(np.isfinite(row[SUCCESS]) for row in rows)
    found = [{phase: phase_curves(rows, phase, metric) for phase in PHASES} for metric in metrics]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4 + 2.4 * (len(metrics) - 1)))
        ends = last_steps({phase: [own] for phase, own in found[0].items()})
        panels = _panels(figure, ends, metrics)
        handles: list[Any] = []
        for own, row in zip(found, panels, strict=True):
            for phase, axes in row.items():
                drawn = draw(axes, own[phase], COLOURS[0], seeds=True) if own[phase] else []
                handles = handles or (drawn if phase == list(row)[-1] else [])
        at = evaluation_at(rows, "handover")
        if len(ends) == 2 and len(at) == len({row["seed"] for row in rows}):
            level = float(np.mean([row[metrics[0]] for row in at]))
            look: dict[str, Any] = {
                "color": COLOURS[1],
                "linestyle": "--",
                "linewidth": 1.3,
                "zorder": 1.8,
            }
            if np.isfinite(level):
                lines = [axes.axhline(level, **look) for axes in panels[0].values()]
                lines[0].set_label(f"{WORD[metrics[0]][1]} at the hand-over")
                handles.append(lines[0])
        title = title_of(source, (row["seed"] for row in rows)) if title is None else title
        return finish(figure, title, handles, path)


def compare(
    runs: Mapping[str, Sequence[Rows]],
    path: str | os.PathLike,
    title: str = "",
    offline: bool = False,
    metric: str | None = None,
) -> Figure:
    """Draw methods together: the mean over all seeds of a method's runs, and seeds or interval.

    Args:
      runs: label -> its runs, each as in `read_evaluations`.
      path: The picture to write; its suffix selects the format.
      title: The title, usually the task.
      offline: Whether to draw the offline phases as well, on the left.
      metric: Metric to draw, such as `success`; by default the score, or the return if a run has no
        score.

    Returns:
      The saved figure.

    Raises:
      InputError: The evaluations of a run cannot be read, or none is online.
    """
    rows = {label: [read_evaluations(run) for run in own] for label, own in runs.items()}
    if metric is None:
        metric = metric_for(run for own in rows.values() for run in own)
    phases = PHASES if offline else ("online",)
    curves = {
        phase: [
            [seed for run in own for seed in phase_curves(run, phase, metric)]
            for own in rows.values()
        ]
        for phase in phases
    }
    if not any(curves["online"]):
        raise InputError(f"{', '.join(runs) or 'no run'}: has no online evaluation to compare")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.6))
        (panels,) = _panels(figure, last_steps(curves), [metric])
        handles: dict[str, Any] = {}
        for phase, axes in panels.items():
            for index, (label, own) in enumerate(zip(rows, curves[phase], strict=True)):
                if own:
                    line, *_ = draw(axes, own, *look(index))
                    line.set_label(drawable(f"{label} (n = {len(own)})"))
                    handles[label] = line
        counts = [len(own) for own in curves["online"]]
        return finish(figure, title, [*handles.values(), *key(counts)], path)
