"""Print the tables of the study of cheaper ensembles, and draw quality against cost.

python -m experiments.cheap
python -m experiments.cheap runs/halfcheetah-medium --figure=levers.png

Each run is in the folder NAME-sSEED. Cost is that of an offline update, relative to the base:
operations, as the compiler counts them in the program of the run's own recipe, and seconds, by the
rates that `experiments.benchmarks.levers --json` measured, if `rates.jsonl` in the parent folder
has them. The tables show finished runs only, and list the others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from enoto_jax.cli import command
from enoto_jax.recipes import registry
from enoto_jax.report import curves, paired, runs, stats
from enoto_jax.report.evaluations import Row
from enoto_jax.types import InputError
from experiments.benchmarks import levers
from experiments.cells import cell

FLAGS = flags.FLAGS
RESULTS = Path(__file__).parent / "results" / "cheap" / "halfcheetah-medium"
SCORE = 45.0  # the tables show when a run first reaches it
EARLY = 5_000  # online steps over which the drop is measured
BASE = "base"


class Lever(NamedTuple):
    """A row of the study.

    Attributes:
      label: The row's key in `levers.LEVERS`, or another label if it is not there.
      controls: Names of the rows that it is compared with.
    """

    label: str
    controls: tuple[str, ...] = ()


ROWS = {
    BASE: Lever("base"),
    "learners2": Lever("2 of 10 critics learn", ("w76",)),
    "learners5": Lever("5 of 10 critics learn", ("w98", "n5")),
    "rows32": Lever("penalty on 32 rows", ("w94", BASE)),
    "shared1": Lever("1 layer shared", ("w122",)),
    "shared2": Lever("2 layers shared", ("w38", "n2")),
    "dropout": Lever("2 critics, dropout", ("n2_ln",)),
    "distil": Lever("distilled to 2 critics", (BASE, "n2")),
    "layer_norm": Lever("layer_norm", (BASE,)),
    "subset2": Lever("penalty on 2 critics", (BASE,)),
    "n2": Lever("2 critics", (BASE,)),
    "n2_ln": Lever("2 critics, layer_norm"),
    "n5": Lever("5 critics"),
    **{f"w{w}": Lever(f"critics of 2 x {w}") for w in (122, 98, 94, 76, 38)},
}
NARROW = (BASE, "w122", "w98", "w94", "w76", "w38")  # joined by a line in the figure
QUANTITIES = {"handover": "hand-over", "drop": "drop", "area": "mean online", "final": "end"}
DRAWN = ("handover", "area")


class Cell(NamedTuple):
    """A finished row.

    Attributes:
      cost: "operations", and "seconds" if measured: an offline update's, relative to the base.
      reached: seed -> updates at the first evaluation that reaches `SCORE`; None if none does.
      values: Scores: key of `QUANTITIES` -> seed -> score.
      of: seed -> run.
    """

    cost: dict[str, float]
    reached: dict[int, int | None]
    values: dict[str, dict[int, float]]
    of: dict[int, runs.Run]


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("runs", str(RESULTS), "The folder of the runs on one data set.")
    flags.DEFINE_string("figure", None, "The image file; none by default.")


def main() -> None:
    """Print the tables, and draw the figure if --figure is given."""
    place = Path(FLAGS.runs)
    found, left = read(place)
    print(page(found))
    if left:
        print(f"\nNot finished: {', '.join(left)}.")
    if FLAGS.figure:
        draw(found, FLAGS.figure, place.name)
        print(FLAGS.figure, file=sys.stderr)


def read(place: Path) -> tuple[dict[str, Cell], list[str]]:
    """Return the finished rows in the study's order, and the names of unfinished runs.

    Raises:
      InputError: The base has no finished run, a folder belongs to no row, runs of a row have
        different settings, or a run cannot be read.
    """
    found: dict[str, list[runs.Run]] = {}
    left = []
    read_runs, problems = runs.find([place])
    if problems:
        raise InputError(problems[0])
    for run in read_runs:
        name, _, seed = run.folder.name.rpartition("-s")
        if name not in ROWS or not seed.isdigit():
            raise InputError(f"{run.folder}: is no row of the study; known: {', '.join(ROWS)}")
        if run.finished:
            found.setdefault(name, []).append(run)
            if run.row != (first := found[name][0]).row:
                raise InputError(f"{run.folder}: its settings are not those of {first.folder}")
        else:
            left.append(run.folder.name)
    if BASE not in found:
        raise InputError(f"{place}: has no finished run {BASE}-s0, the reference of all costs")
    rates = _rates(place.parent / "rates.jsonl")
    counted = {name: _operations(own[0]) for name, own in found.items()}
    cells = {}
    for name in (name for name in ROWS if name in found):
        cost = {"operations": counted[name] / counted[BASE]}
        rate = rates.get("base" if name == "distil" else ROWS[name].label)
        if rate is not None:
            cost["seconds"] = 1 / rate
        each = [_values(run) for run in found[name]]
        values = {key: {s: x for own in each for s, x in own[key].items()} for key in QUANTITIES}
        reached = {seed: _reached(run, seed) for run in found[name] for seed in sorted(run.seeds)}
        cells[name] = Cell(
            cost, reached, values, {seed: run for run in found[name] for seed in run.seeds}
        )
    return cells, left


def _rates(path: Path) -> dict[str, float]:
    """Updates per second relative to the base, by the lever's label."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {row["lever"]: row["ratio"] for row in map(json.loads, lines)}


def _operations(run: runs.Run) -> float:
    return levers.given(registry.from_json(run.config["recipe"]))


def _of(run: runs.Run, phase: str, seed: int) -> list[Row]:
    rows = [row for row in run.rows if row["phase"] == phase and row["seed"] == seed]
    return sorted(rows, key=lambda row: row["step"])


def _values(run: runs.Run) -> dict[str, dict[int, float]]:
    """key of `QUANTITIES` -> seed -> score; the drop is the plan's, over `EARLY` steps."""
    online = stats.summary(run.rows)["online"]
    found = {key: {int(s): x for s, x in online[key]["per_seed"].items()} for key in QUANTITIES}
    for seed in found["drop"]:
        early = [row["score"] for row in _of(run, "online", seed) if 0 < row["env_steps"] <= EARLY]
        found["drop"][seed] = found["handover"][seed] - min(early)
    return found


def _reached(run: runs.Run, seed: int) -> int | None:
    steps = (row["step"] for row in _of(run, "offline", seed) if row["score"] >= SCORE)
    return next(steps, None)


def page(found: Mapping[str, Cell]) -> str:
    """Return both tables in Markdown: every row, and every lever minus its controls."""
    heads = ("row", "", "n", "operations", "seconds", f"updates to {SCORE:g}", "operations to it")
    lines = _head(*heads, *QUANTITIES.values())
    for name, own in found.items():
        cost = [f"{own.cost[key]:.2f}" if key in own.cost else "" for key in heads[3:5]]
        reached = ", ".join("-" if x is None else f"{x:,}" for x in own.reached.values())
        cost += [reached, _operations_to(own, found[BASE])]
        scores = [cell(list(own.values[key].values()), ".1f") for key in QUANTITIES]
        lines.append(_line(f"`{name}`", ROWS[name].label, len(own.reached), *cost, *scores))
    lines += ["", *_head("difference", *QUANTITIES.values())]
    for name in found:
        for control in (x for x in ROWS[name].controls if x in found):
            cells = [difference(found, name, control, key) for key in QUANTITIES]
            lines.append(_line(f"`{name}` - `{control}`", *cells))
    return "\n".join(lines)


def _operations_to(own: Cell, base: Cell) -> str:
    """Operations to the score relative to the base, over shared seeds; "-" if one never had it."""
    both = [(own.reached[seed], base.reached[seed]) for seed in own.reached.keys() & base.reached]
    known = [(ours, bases) for ours, bases in both if ours is not None and bases is not None]
    if not both or len(known) < len(both):
        return "-"
    ours, bases = np.sum(known, axis=0)
    return f"{own.cost['operations'] * ours / bases:.2f}"


def difference(found: Mapping[str, Cell], ours: str, theirs: str, quantity: str) -> str:
    """Return a lever minus a control, seed by seed; "" if no seed's runs are alike."""
    one, two = (found[name].values[quantity] for name in (ours, theirs))
    a, b = found[ours].of, found[theirs].of
    seeds = [s for s in sorted(one.keys() & two.keys()) if paired.alike(a[s], b[s], s)]
    return cell([one[seed] - two[seed] for seed in seeds], "+.1f") if seeds else ""


def _head(*words: str) -> list[str]:
    return [_line(*words), "|" + " --- |" * len(words)]


def _line(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def draw(found: Mapping[str, Cell], path: str, title: str) -> Figure:
    """Draw quality against cost: narrower critics as a line, every lever as a named point.

    Returns:
      The figure, which is saved at `path`.
    """
    costs = [key for key in ("operations", "seconds") if any(key in x.cost for x in found.values())]
    with mpl.rc_context(curves.STYLE):
        figure = Figure(figsize=(9.0, 0.6 + 3.7 * len(costs)), layout="constrained")
        panels = figure.subplots(len(costs), len(DRAWN), sharex="row", sharey="col", squeeze=False)
        for row, cost in zip(panels, costs, strict=True):
            for axes, quantity in zip(row, DRAWN, strict=True):
                _panel(axes, found, cost, quantity)
        for axes, quantity in zip(panels[0], DRAWN, strict=True):
            axes.set_title(f"score, {QUANTITIES[quantity]}")
        return curves.finish(figure, title, panels[0][0].get_lines()[:1], path)


def _panel(axes: Any, found: Mapping[str, Cell], cost: str, quantity: str) -> None:
    points = {
        name: (own.cost[cost], float(np.mean(list(own.values[quantity].values()))))
        for name, own in found.items()
        if cost in own.cost and name != "distil"  # it is cheaper only online
    }
    narrow = sorted(points[name] for name in NARROW if name in points)
    look: dict[str, Any] = {"color": "#777777", "marker": "o", "markersize": 4}
    axes.plot(*zip(*narrow, strict=True), label="narrower critics, 2 x 38 to 2 x 128", **look)
    for index, name in enumerate(name for name in points if name not in NARROW):
        colour, _ = curves.look(index)
        axes.plot(*points[name], color=colour, marker="o", markersize=7, linestyle="")
        label = ROWS[name].label
        axes.annotate(label, points[name], (6, 5), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", xlabel=f"{cost} of an offline update (base = 1)")
    ticks = [0.1, 0.2, 0.5, 1, 2]
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.margins(y=0.1)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv, positional="runs"))
