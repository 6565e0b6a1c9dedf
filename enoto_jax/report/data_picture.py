"""The picture of a data set: lengths and returns of its episodes, rewards and actions."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot, which chooses a backend for everyone
from matplotlib.ticker import MaxNLocator

from enoto_jax.data.check import Report
from enoto_jax.report.curves import COLOURS, STYLE
from enoto_jax.types import InputError

_BINS = 40


def picture(report: Report, path: str | os.PathLike) -> Path:
    """Draw histograms of lengths, returns and rewards, and a heat map of the actions.

    Args:
      report: A report of `data.check.inspect`; what could not be read is left out.
      path: The picture to write; its suffix selects the format.

    Returns:
      The path.

    Raises:
      InputError: The picture cannot be written.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 6.4), layout="constrained")
        axes = dict(zip(("lengths", "returns", "rewards", "actions"), figure.subplots(2, 2).flat))
        if report.dataset is not None:
            _histogram(axes["lengths"], report.dataset.episode_lengths, "episodes")
            _histogram(axes["returns"], report.dataset.episode_returns, "episodes")
        if "rewards" in report.arrays:
            _histogram(axes["rewards"], report.arrays["rewards"], "rows")
        if "actions" in report.arrays:
            _heat_map(figure, axes["actions"], report.arrays["actions"])
        titles = ("steps of an episode", "return of an episode", "reward of a step", "actions")
        for place, title in zip(axes.values(), titles, strict=True):
            place.set_title(title)
            if not place.has_data():
                place.set_axis_off()
                place.text(
                    0.5,
                    0.5,
                    "not drawn: the data have errors",
                    ha="center",
                    transform=place.transAxes,
                )
        figure.suptitle(report.name)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be written: {error}") from error
    return Path(path)


def bins(values: np.ndarray) -> np.ndarray:
    """Return the edges of a histogram's bins: between whole numbers if all values are whole.

    The last bin then ends just above the largest value, as many episodes end at the time limit.

    Args:
      values: At least one finite value.
    """
    low, high = float(values.min()), float(values.max())
    if np.array_equal(values, np.round(values)) and max(abs(low), high) < 2**31:
        span = int(high - low) + 1
        width = -(-span // _BINS)
        return high + 0.5 - width * np.arange(-(-span // width), -1, -1)
    if np.spacing(max(abs(low), abs(high))) * _BINS > high - low:
        return np.array([low - abs(low) / 2, high + abs(high) / 2])
    return np.linspace(low, high, _BINS + 1)


def _histogram(axes: Axes, values: np.ndarray, of: str) -> None:
    """Draw a histogram on linear axes that start at zero counts."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return
    counts, edges = np.histogram(finite, bins(finite))
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[0])
    if len(counts) < 5:  # a few bars are not stretched to the whole width
        axes.set_xlim(*(edges.mean() + np.array([-5, 5]) * (edges[1] - edges[0])))
    axes.set_ylabel(of)
    axes.set_ylim(0, 1.05 * counts.max())
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=bool((edges[:1] % 1 == 0.5).all())))
    axes.grid(axis="x", visible=False)


def _heat_map(figure: Figure, axes: Axes, actions: np.ndarray) -> None:
    """Draw the share of rows in every bin of every dimension."""
    actions = actions.reshape(len(actions), -1)
    finite = np.abs(actions[np.isfinite(actions)]).max(initial=0.0)
    widest = 1.0 if finite <= 1.001 else min(max(finite, 1.0), 1e30)
    edges = np.linspace(-widest, widest, _BINS + 1)
    columns = [np.clip(column[np.isfinite(column)], -widest, widest) for column in actions.T]
    shares = np.array([np.histogram(c, edges)[0] / max(len(c), 1) for c in columns])
    place = (-widest, widest, len(shares) - 0.5, -0.5)
    image = axes.imshow(
        100 * shares, aspect="auto", interpolation="nearest", extent=place, cmap="Blues", vmin=0
    )
    for bound in (-1, 1) if widest > 1 else ():
        axes.axvline(bound, color=COLOURS[1], linewidth=1)
    axes.set(xlabel="value", ylabel="dimension")
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="% of the rows")
