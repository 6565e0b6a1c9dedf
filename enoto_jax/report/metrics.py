"""Read and draw metrics.csv: losses and values over time, with an explanation of each."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from enoto_jax.report import curves
from enoto_jax.report.curves import Curve
from enoto_jax.report.evaluations import PHASES
from enoto_jax.runs.files import read_csv
from enoto_jax.types import InputError

# <network>/<quantity> -> its explanation, in the order of drawing.
EXPLAINED = {
    "data/q_mean": "mean Q of the data's actions, on the same rows at every evaluation",
    "data/q_std": "spread of the critics (standard deviation over N) on those rows",
    "data/action_distance": "distance of the policy's action from the data's, on those rows",
    "data/policy_gap": "mean Q of the policy's actions minus that of the data's, on those rows",
    "data/q_policy": "mean Q of the policy's actions on those rows",
    "data/target": "the phase's mean Bellman target on those rows, always with the same noise",
    "data/weight": "mean weight of those rows in the critics' loss (SUNRISE; else 1)",
    "data/temperature": "SAC's temperature at that moment",
    "critic/q_data": "mean Q of the batch's actions",
    "critic/target": "mean Bellman target of the batch",
    "critic/q_std": "spread of the critics (standard deviation over N) on the batch",
    "critic/loss": "the critics' whole loss, summed over critics",
    "critic/td_loss": "its temporal-difference part",
    "critic/gap": "CQL: Q of sampled actions (log-sum-exp) minus Q of the data's",
    "critic/weight": "mean weight of a transition in the critics' loss (SUNRISE; else 1)",
    "critic/similarity": "EDAC: how alike the critics' action gradients are",
    "critic/bound_rate": "Cal-QL: share of Q below the return that the data reached",
    "critic/bc": "ReBRAC: squared distance of the next policy's actions from the data's",
    "critic/smoothness": "RO2O: how much Q changes between a state and noisy ones",
    "critic/disagreement": "RO2O: spread of the critics at noisy states",
    "multiplier/value": "CQL: the learned multiplier of its penalty",
    "actor/q_policy": "mean Q of the policy's own actions",
    "actor/loss": "the actor's loss",
    "actor/entropy": "the policy's entropy on the batch",
    "actor/std": "the policy's standard deviation before tanh",
    "actor/advantage": "mean advantage of the batch's actions",
    "actor/weight": "mean weight of an action in weighted cloning",
    "actor/log_prob": "log-likelihood of the batch's actions",
    "actor/bc": "squared distance from the batch's actions; in FQL, from the flow's",
    "actor/lambda": "weight of Q relative to that distance",
    "actor/alpha": "FQL: weight of that distance",
    "actor/cloning": "ReBRAC: weight of that distance",
    "actor/policy_change": "RO2O: how much the policy changes between a state and noisy ones",
    "flow/loss": "the flow's loss",
    "temperature/value": "SAC's temperature",
    "temperature/loss": "the temperature's loss",
    "value/loss": "the state value's loss",
    "value/v": "mean state value of the batch",
    "value/target": "mean target of the state value",
    "value/advantage": "mean of Q - V on the batch",
    "cvae/loss": "the action decoder's loss",
    "cvae/reconstruction": "its squared error on the batch's actions",
    "cvae/kl": "KL divergence of its latent code from a normal distribution",
    "cvae/advantage": "mean advantage that weighs its batch",
    "cvae/better": "share of the batch with a positive advantage",
    "ratio/loss": "the density ratio's loss",
    "ratio/offline": "mean density ratio (online over offline) of the data set",
    "ratio/online": "mean density ratio of the new transitions",
}
Metrics = dict[str, dict[str, dict[int, Curve]]]  # <network>/<quantity> -> phase -> seed -> x, y


def read(folder: str | os.PathLike) -> Metrics:
    """Read a run's metrics.csv: explained quantities first, in their order, then the others.

    Raises:
      InputError: The file is missing, or one of its rows cannot be read.
    """
    path = Path(folder) / "metrics.csv"
    points: dict[str, dict[str, dict[int, list[tuple[int, float]]]]] = {}
    for number, row in enumerate(read_csv(path), start=2):
        try:
            phase, _, name = row["name"].partition("/")
            point = int(row["step"]), float(row["value"] or "nan")
            seed = int(row["seed"])
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}, line {number}: {error}; fix or remove the row") from None
        if phase in PHASES and name:
            points.setdefault(name, {}).setdefault(phase, {}).setdefault(seed, []).append(point)
    known = [name for name in EXPLAINED if name in points]
    return {
        name: {
            phase: {seed: tuple(np.array(sorted(own), float).T) for seed, own in seeds.items()}
            for phase, seeds in points[name].items()
        }
        for name in [*known, *sorted(points.keys() - set(known))]
    }


def joined(runs: Sequence[Metrics]) -> Metrics:
    """Join the seeds of several runs, which must have no seed in common."""
    found: Metrics = {}
    for run in runs:
        for name, phases in run.items():
            for phase, own in phases.items():
                place = found.setdefault(name, {}).setdefault(phase, {})
                place.update(own)
    return found


def picture(folder: str | os.PathLike) -> Path | None:
    """Draw a run's metrics.csv as training.png; return its path, or None if there is nothing yet.

    Raises:
      InputError: The file cannot be read.
    """
    path = Path(folder) / "training.png"
    found = read(folder)
    if not found:
        return None
    seeds = {seed for phases in found.values() for own in phases.values() for seed in own}
    draw(found, path, curves.title_of(folder, seeds))
    return path


def draw(found: Metrics, path: str | os.PathLike, title: str) -> Figure:
    """Draw every quantity in a panel of its own: updates, the hand-over, environment steps.

    Args:
      found: What `read` returned; not empty.
      path: The picture to write; its suffix selects the format.
      title: The title above all panels.

    Returns:
      The saved figure.
    """
    ends = {
        phase: max(
            (x[-1] for own in found.values() for x, _ in own.get(phase, {}).values()), default=0.0
        )
        for phase in PHASES
    }
    places = _places(ends)
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    # Margins in inches: a layout engine would draw everything twice, which takes half a second.
    width, height, gap = 3.6 * columns, 1.4 * rows + 0.9 * (rows - 1) + 1.9, 0.9 / 1.4
    margins = {"left": 0.6 / width, "right": 1 - 0.15 / width, "hspace": gap, "wspace": 0.25}
    margins |= {"top": 1 - 1.2 / height, "bottom": 0.7 / height}
    with mpl.rc_context({**curves.STYLE, "font.size": 9, "savefig.dpi": 120}):
        figure = Figure(figsize=(width, height))
        grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=margins)
        for axes in grid.flat[len(found) :]:
            axes.set_visible(False)
        handles: list[Any] = []
        for axes, (name, phases) in zip(grid.flat, found.items(), strict=False):
            for phase, (begin, share) in places.items():
                own = phases.get(phase, {})
                shown = [(begin + share * x / max(1.0, ends[phase]), y) for x, y in own.values()]
                drawn = curves.draw(axes, shown, curves.COLOURS[0], seeds=True) if own else []
                handles = drawn if len(drawn) >= len(handles) else handles
            _scale(axes, ends, places)
            about = textwrap.fill(EXPLAINED.get(name, ""), 44)
            axes.set_title(curves.drawable(f"{name}\n{about}".strip()), loc="left", fontsize=8.5)
        words = " | ".join(curves.AXIS[phase] for phase in places)
        figure.suptitle(
            curves.drawable(f"{title}\n{words}".strip()), y=1 - 0.12 / height, fontsize=11
        )
        figure.legend(handles=handles, loc="lower center", ncols=len(handles))
        figure.savefig(path)
    return figure


def _places(ends: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """phase -> its start on the axis, and its width; the whole axis has width 1.

    As in a learning curve, a short online phase is drawn wider than to scale.
    """
    shown = [phase for phase in PHASES if ends[phase]] or ["online"]
    if len(shown) == 1:
        return {shown[0]: (0.0, 1.0)}
    share = curves.offline_share(ends)
    return {"offline": (0.0, share), "online": (share, 1 - share)}


def _scale(
    axes: Axes, ends: Mapping[str, float], places: Mapping[str, tuple[float, float]]
) -> None:
    """Set ticks in the steps of each phase, and draw the line at the hand-over."""
    ticks, words = [], EngFormatter(sep="")
    for phase, (begin, width) in places.items():
        end = max(1.0, ends[phase])
        for value in MaxNLocator(2 if phase == "offline" else 3).tick_values(0, end):
            # At the hand-over two labels would overlap.
            if (value or phase == next(iter(places))) and value <= (end if begin else 0.9 * end):
                ticks.append((begin + width * value / end, words(value)))
    axes.set(xlim=(0, 1), xticks=[place for place, _ in ticks])
    axes.set_xticklabels([text for _, text in ticks])
    if len(places) == 2:
        axes.axvline(places["online"][0], color="#444444", linewidth=1.2, zorder=1.5)
