"""Figure 1: what the switch from CQL to SAC does, with two critics and with N.

python -m experiments.paper.fig1 --budget=laptop --seeds=2 --out=runs/paper

(a) Scores after the switch; (b) the critics' average value of the data set over the same steps;
(c) how far the actions of SAC-N, CQL and a random policy are from the data's, after the offline
phase.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
from absl import flags
from matplotlib.figure import Figure as Canvas

from enoto_jax.cli import command
from enoto_jax.data.loading import load_source
from enoto_jax.recipes import registry
from enoto_jax.recipes.building import build
from enoto_jax.report import curves
from enoto_jax.runs.files import read_csv
from enoto_jax.runs.folder import config_of
from enoto_jax.training import resume
from enoto_jax.training.probe import ROWS, action_distances
from enoto_jax.training.seeds import SeedMap
from experiments.paper import draw, grid
from experiments.paper.grid import Cell, Figure, Folders

FLAGS = flags.FLAGS
BINS = 60
DISTANCES = "action_distances.csv"
COLUMNS = ("policy", "seed", "low", "high", "rows")

OFFLINE = (Cell("sac_n", "SAC-N"), Cell("cql", "CQL"))
CELLS = (
    Cell("cql", "CQL → CQL"),
    Cell("cql_to_sac", "CQL → SAC", offline="cql"),
    Cell("cql_n_to_sac_n", "CQL-N → SAC-N", offline="enoto_cql"),
)


def pictures(folders: Folders, path: Path) -> Iterator[Path]:
    """Draw (a), (b) and (c), one picture each."""
    yield from draw.scores(folders, path.with_stem(f"{path.stem}a"))
    b = path.with_stem(f"{path.stem}b")
    yield from draw.metric(folders, b, "online/data/q_mean", "average Q over the data set")
    places = [path.parent / task for task in folders]
    if not FLAGS.draw_only:
        for place in places:
            measure(place)
    if measured := [place for place in places if (place / DISTANCES).exists()]:
        yield histograms(measured, path.with_stem(f"{path.stem}c"))


def measure(place: Path) -> None:
    """Write histograms of the actions' distances to the data's, after the offline phases."""
    found, sample = {}, None
    for cell in OFFLINE:
        folder = place / cell.start
        config = config_of(folder)
        source = load_source(config["task_given"])
        algorithm = build(registry.from_json(config["recipe"]), source.spec).offline
        seeds = SeedMap(config["seeds"])
        start = resume.restored(folder, config["seeds"])
        state, transform = start.state(algorithm, seeds), start.transform
        sample = source.sample(ROWS) if sample is None else sample
        program = seeds.compile(partial(action_distances, algorithm, transform), shared=(1,))
        distances = seeds.get(program(state, seeds.share(transform.transitions(sample))))
        found |= {(cell.label, seed): own for seed, own in zip(seeds.seeds, distances)}
    random = np.random.default_rng(0).uniform(-1.0, 1.0, sample.action.shape)
    found["random", 0] = np.linalg.norm(random - sample.action, axis=-1)
    edges = np.linspace(0.0, 2.0 * np.sqrt(sample.action.shape[-1]), BINS + 1)
    with open(place / DISTANCES, "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for (label, seed), own in found.items():
            counts, _ = np.histogram(own, edges)
            table.writerows(zip([label] * BINS, [seed] * BINS, edges, edges[1:], counts))


def histograms(places: Sequence[Path], path: Path) -> Path:
    """Draw the histograms that `measure` wrote: seeds pooled, one panel per task."""
    with mpl.rc_context(curves.STYLE):
        figure = Canvas(figsize=(5.2 * len(places), 3.9), layout="constrained")
        handles = {}
        for axes, place in zip(figure.subplots(1, len(places), squeeze=False)[0], places):
            shares: dict[str, dict[tuple[float, float], float]] = {}
            for row in read_csv(place / DISTANCES):
                own = shares.setdefault(row["policy"], {})
                bin_ = (float(row["low"]), float(row["high"]))
                own[bin_] = own.get(bin_, 0.0) + float(row["rows"])
            for index, (label, own) in enumerate(shares.items()):
                edges = [low for low, _ in own] + [max(high for _, high in own)]
                share = np.array(list(own.values())) / sum(own.values())
                look = {"fill": True, "alpha": 0.45, "color": curves.COLOURS[index], "label": label}
                handles[label] = axes.stairs(share, edges, **look)
            axes.set(title=place.name, xlim=(0, edges[-1]), xlabel="distance to the data's action")
        figure.axes[0].set_ylabel("share of the data set")
        curves.finish(figure, "", list(handles.values()), path)
    return path


FIGURE = Figure("fig1", ("walker2d-medium-expert-v2",), CELLS, pictures, OFFLINE)
define = grid.define


def main() -> None:
    """Train the missing runs, and draw."""
    grid.make(FIGURE)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
