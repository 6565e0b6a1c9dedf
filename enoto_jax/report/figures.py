"""The page's figures as plain Plotly figures: `{"data": [...], "layout": {...}}`.

Every trace of a row has the row's name as its `legendgroup`; the page's own legend shows and hides
a row in all figures at once. Colours and dashes are those of `enoto_jax.report.curves`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from enoto_jax.report import aggregate
from enoto_jax.report import curves as lines
from enoto_jax.report.curves import AXIS, WORD, Curves, last_steps, phase_curves, together
from enoto_jax.report.evaluations import PHASES, Row
from enoto_jax.report.intervals import ENOUGH, mean_interval
from enoto_jax.report.metrics import Metrics

Figure = dict[str, Any]
_DASH = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}


def look(index: int) -> dict[str, str]:
    """Return the colour and dash of the row with this number."""
    colour, dash = lines.look(index)
    return {"color": colour, "dash": _DASH[dash]}


def _numbers(values: Any) -> list[float | None]:
    """Round to six digits, more than a screen shows, to keep the page small."""
    return [float(f"{x:.6g}") if np.isfinite(x) else None for x in np.ravel(values)]


def _band(x: Any, low: Any, high: Any, row: str, colour: str, **axes: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _numbers(np.concatenate([x, x[::-1]])),
        "y": _numbers(np.concatenate([low, high[::-1]])),
        "fill": "toself",
        "fillcolor": f"rgba({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))}, 0.16)",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "legendgroup": row,
        "meta": "band",
        **axes,
    }


def _line(x: Any, y: Any, row: str, style: Mapping[str, str], hover: Any, **more: Any) -> dict:
    return {
        "type": "scatter",
        "mode": "lines" if len(x) > 1 else "markers",
        "x": _numbers(x),
        "y": _numbers(y),
        "line": {"width": 2.2, **style},
        "marker": {"color": style["color"], "size": 8},
        "name": row,
        "legendgroup": row,
        "text": hover,
        "hovertemplate": f"{row}: %{{text}}<extra></extra>",
        "meta": "mean",
        "cliponaxis": len(x) > 1,
        **more,
    }


def _short(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"


def _text(value: Any, low: Any = None, high: Any = None) -> list[str]:
    if low is None:
        return [_short(y) for y in value]
    return [
        f"{_short(y)} [{_short(a)}, {_short(b)}]" for y, a, b in zip(value, low, high, strict=True)
    ]


def _over_seeds(y: np.ndarray) -> list[str]:
    """Text with the mean and its interval, or every seed, at each step; y is [S, T]."""
    if len(y) >= ENOUGH:
        texts = _text(y.mean(0), *mean_interval(y))
        return [f"{text}, n = {len(y)}" for text in texts]
    if len(y) == 1:
        return _text(y[0])
    each = [", ".join(map(_short, own)) for own in y.T]
    return [f"{_short(mean)} (seeds {own})" for mean, own in zip(y.mean(0), each, strict=True)]


def _panels(ends: Mapping[str, float], y_label: str) -> tuple[dict[str, Any], dict[str, dict]]:
    """Layout with the hand-over between the panels, and the axes of each phase."""
    shown = [phase for phase in PHASES if ends.get(phase, 0) > 0] or list(ends)[:1]
    share = 1.0
    if len(shown) == 2:
        share = lines.offline_share(ends)
    domains = {"offline": [0, share], "online": [share if len(shown) == 2 else 0, 1]}
    layout: dict[str, Any] = {"yaxis": {"title": {"text": y_label}}, "shapes": []}
    axes = {}
    for number, phase in enumerate(shown, start=1):
        suffix = "" if number == 1 else "2"
        axes[phase] = {"xaxis": f"x{suffix}", "yaxis": "y"}
        end = max(1.0, float(ends[phase]))
        ticks = MaxNLocator(3 if phase == "offline" else 5).tick_values(0, end)
        # At the hand-over the next panel's 0 would overlap a label of this one.
        last = 0.85 * end if number < len(shown) else end
        layout[f"xaxis{suffix}"] = {
            "domain": domains[phase],
            "range": [0, end],
            "title": {"text": AXIS[phase]},
            "tickformat": "~s",
            "tickvals": [float(tick) for tick in ticks if 0 <= tick <= last],
            "anchor": "y",
        }
    if len(shown) == 2:
        layout["shapes"] = [
            {
                "type": "line",
                "xref": "paper",
                "yref": "paper",
                "x0": share,
                "x1": share,
                "y0": 0,
                "y1": 1,
                "line": {"width": 1.4},
                "name": "hand-over",
            }
        ]
        note = {"text": "hand-over", "xref": "paper", "yref": "paper", "x": share, "y": 1}
        layout["annotations"] = [note | {"yanchor": "bottom", "showarrow": False}]
    return layout, axes


def curves(
    found: Mapping[str, Sequence[Sequence[Row]]],
    metric: str,
    styles: Mapping[str, Mapping[str, str]],
    published: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """Draw one task's learning curves: offline left, online right, seeds behind their mean.

    With five seeds or more, the interval of the mean is a band.

    Args:
      found: row -> its runs' evaluations.
      metric: The column to draw.
      styles: row -> `look`, including the published curves.
      published: name -> (online environment steps, score) pairs, drawn dashed.
    """
    drawn = {
        phase: {
            row: [c for run in own for c in phase_curves(run, phase, metric)]
            for row, own in found.items()
        }
        for phase in PHASES
    }
    return _lines(drawn, WORD[metric][0], styles, published)


def quantities(
    found: Mapping[str, Metrics], styles: Mapping[str, Mapping[str, str]]
) -> dict[str, Figure]:
    """Draw losses and values over time, in the style of the learning curves.

    Args:
      found: row -> the contents of its runs' metrics.csv.
      styles: row -> `look`.

    Returns:
      quantity -> its figure.
    """
    return {
        name: _lines(
            {
                phase: {
                    row: list(own.get(name, {}).get(phase, {}).values())
                    for row, own in found.items()
                }
                for phase in PHASES
            },
            name,
            styles,
        )
        for name in dict.fromkeys(name for own in found.values() for name in own)
    }


def _lines(
    drawn: Mapping[str, Mapping[str, Curves]],
    y_label: str,
    styles: Mapping[str, Mapping[str, str]],
    published: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """Draw phase -> row -> one curve per seed."""
    ends = last_steps({phase: list(own.values()) for phase, own in drawn.items()})
    layout, axes = _panels(ends, y_label)
    data = []
    for phase, where in axes.items():
        for row, own in drawn[phase].items():
            if not own:
                continue
            for x, y in own if len(own) > 1 else ():
                style = {"width": 0.9, "color": styles[row]["color"]}
                data.append(
                    {
                        "type": "scatter",
                        "mode": "lines",
                        "x": _numbers(x),
                        "y": _numbers(y),
                        "line": style,
                        "opacity": 0.35 if len(own) >= ENOUGH else 0.65,
                        "hoverinfo": "skip",
                        "legendgroup": row,
                        "meta": "seed",
                        **where,
                    }
                )
            grid, y = together(own)
            if len(own) >= ENOUGH:
                low, high = mean_interval(y)
                data.append(_band(grid, low, high, row, styles[row]["color"], **where))
            data.append(_line(grid, y.mean(0), row, styles[row], _over_seeds(y), **where))
    for name, points in (published or {}).items() if "online" in axes else ():
        x, y = np.array(sorted(points), float).T
        data.append(_line(x, y, name, styles[name], _text(y), opacity=0.8, **axes["online"]))
    return {"data": data, "layout": layout}


def aggregated(
    found: Mapping[str, Sequence[Sequence[Row]]], styles: Mapping[str, Mapping[str, str]]
) -> Figure:
    """Draw the IQM over runs and tasks at each step, up to the end of the shortest run.

    Its interval is a band if every task has at least five runs.

    Args:
      found: row -> for each task, the evaluations of all its runs.
      styles: row -> `look`.
    """
    drawn: dict[str, dict[str, Any]] = {phase: {} for phase in PHASES}
    for row, tasks in found.items():
        for phase in PHASES:
            own = [phase_curves(rows, phase, "score") for rows in tasks]
            if all(own):
                grid, _ = together([curve for task in own for curve in task])
                scores = [np.stack([np.interp(grid, x, y) for x, y in t]).T for t in own]
                if len(grid):  # a phase can end on one task before it is evaluated on another
                    drawn[phase][row] = (grid, aggregate.iqm(scores))
    ends = {phase: max(g[-1] for g, _ in own.values()) for phase, own in drawn.items() if own}
    layout, axes = _panels(ends, "IQM of the score")
    data = []
    for phase, where in axes.items():
        for row, (grid, (value, low, high)) in drawn[phase].items():
            if low is not None:
                data.append(_band(grid, low, high, row, styles[row]["color"], **where))
            data.append(_line(grid, value, row, styles[row], _text(value, low, high), **where))
    return {"data": data, "layout": layout}


def profiles(
    scores: Mapping[str, aggregate.Scores], styles: Mapping[str, Mapping[str, str]]
) -> Figure:
    """Draw performance profiles: for each row the share of runs above each score."""
    top = max(np.max(task) for own in scores.values() for task in own)
    levels = np.linspace(0, max(1.0, float(top)) * 1.02, 101)
    data = []
    for row, own in scores.items():
        value, low, high = aggregate.profile(own, levels)
        if low is not None:
            data.append(_band(levels, low, high, row, styles[row]["color"]))
        text = [f"{100 * y:.0f} % above {x:.0f}" for x, y in zip(levels, value, strict=True)]
        data.append(_line(levels, value, row, styles[row], text))
    axis = {"title": {"text": "final score τ"}, "range": [0, float(levels[-1])]}
    y = {"title": {"text": "share of runs with score > τ"}, "range": [-0.02, 1.02]}
    return {"data": data, "layout": {"xaxis": axis, "yaxis": y}}


def intervals(
    estimates: Mapping[str, Mapping[str, aggregate.Estimate]],
    styles: Mapping[str, Mapping[str, str]],
) -> Figure:
    """Draw points with intervals from quantity -> row -> estimate: a panel each, a line per row."""
    layout: dict[str, Any] = {"yaxis": {"automargin": True, "autorange": "reversed"}}
    data, width = [], 1 / len(estimates)
    for number, (quantity, rows) in enumerate(estimates.items()):
        suffix = str(number + 1) if number else ""
        domain = [number * width + 0.03 * (number > 0), (number + 1) * width]
        layout[f"xaxis{suffix}"] = {"title": {"text": quantity}, "domain": domain, "nticks": 5}
        for row, (value, low, high) in rows.items():
            point = _line([float(value)], [0], row, styles[row], _text([value]), xaxis=f"x{suffix}")
            point |= {"y": [row], "mode": "markers"}
            if low is not None:
                point["text"] = _text([value], [low], [high])
                around = {"array": _numbers(high - value), "arrayminus": _numbers(value - low)}
                point["error_x"] = {"type": "data", "symmetric": False, "thickness": 2} | around
            data.append(point)
    return {"data": data, "layout": layout | {"hovermode": "closest"}}
