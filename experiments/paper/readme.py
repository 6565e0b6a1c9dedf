"""Draw the README's figure from the folders of runs on one task, or print the README's tables.

python -m experiments.paper.readme
python -m experiments.paper.readme runs/enoto_cql runs/cql_to_sac --out=runs/handover.png
python -m experiments.paper.readme --tables

Every number comes from files under experiments/results. Runs of one method count as its seeds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from enoto_jax.cli import command
from enoto_jax.recipes.table import recipe
from enoto_jax.report import curves
from enoto_jax.report.evaluations import evaluation_at, read_evaluations, series
from enoto_jax.runs.files import read_config
from enoto_jax.types import InputError
from experiments.paper import grid

FLAGS = flags.FLAGS
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results"
METHODS = ("enoto_cql", "cql_n_to_sac_n", "cql_to_sac")
FIGURE = [
    str(RESULTS / "paper" / "short_start" / "walker2d-medium-expert" / f"{method}-s0")
    for method in ("enoto_cql", "cql_to_sac")
]
PEERS = {
    "CORL": "CORL (PyTorch)",
    "JAX-CORL": "JAX-CORL",
    "sac-n-jax": "sac-n-jax",
    "unifloral": "Unifloral",
}


class Setting(NamedTuple):
    """Runs that the README's table of results shows together.

    Attributes:
      data: The runs' data set.
      folder: A folder under experiments/results, with a folder per method or per method and seed.
      critics: N of the methods that have an ensemble.
      budget: Updates, environment steps, and the networks' hidden layers.
    """

    data: str
    folder: str
    critics: int
    budget: str


SETTINGS = (
    Setting(
        "halfcheetah-medium", "paper/halfcheetah-medium", 10, "400k updates, 250k steps, 2 x 128"
    ),
    Setting(
        "the same, critics' rate 1e-3 offline",
        "paper/short_start/halfcheetah-medium",
        10,
        "280k updates, 100k steps, 2 x 128",
    ),
    Setting(
        "walker2d-medium-expert, the same rate",
        "paper/short_start/walker2d-medium-expert",
        10,
        "400k updates, 250k steps, 2 x 128",
    ),
)


def results() -> str:
    """Return scores at the hand-over, after it, and at the end, as a Markdown table.

    Raises:
      InputError: Not all runs of a setting end at the same step.
    """
    head = ("data set", "budget", "method", "N", "n", "hand-over", "lowest after", "mean after")
    lengths: dict[Setting, int] = {}  # the last step of all its runs
    lines = [f"| {' | '.join(head)} | last |", "| --- " * (len(head) + 1) + "|"]
    for setting in SETTINGS:
        page = f"experiments/results/{setting.folder.split('/')[0]}/README.md"
        first = (f"[{setting.data}]({page})", setting.budget)
        for method in METHODS:
            if not (folders := grid.seeds_of(RESULTS / setting.folder / method)):
                continue
            rows = [row for folder in folders for row in read_evaluations(folder)]
            ends = {row["step"] for row in evaluation_at(rows, "final")}
            if ends != {steps := max(ends)} or steps != lengths.setdefault(setting, steps):
                raise InputError(f"{RESULTS / setting.folder}: {method} has runs of another length")
            start, last = evaluation_at(rows, "handover"), evaluation_at(rows, "final")
            after = [y[step > 0] for step, _, y in series(rows, "online", "score").values()]
            cells = (
                *first,
                f"`{method}`",
                str(2 if recipe(method).online.algorithm.n == 2 else setting.critics),
                str(len(last)),
                scores([row["score"] for row in start]),
                scores([y.min() for y in after]),
                scores([y.mean() for y in after]),
                scores([row["score"] for row in last]),
            )
            lines.append(f"| {' | '.join(cells)} |")
            first = ("", "")  # as above
    return "\n".join(lines)


def scores(each: Sequence[float]) -> str:
    """Return the mean over seeds, and every seed if there are several."""
    seeds = f" ({', '.join(f'{score:z.0f}' for score in each)})" if len(each) > 1 else ""
    return f"{np.mean(each):.1f}{seeds}"


def speed() -> str:
    """Return our updates per second and those of other libraries' scripts, as a Markdown table."""
    text = (RESULTS / "peers" / "peers.jsonl").read_text()
    lines = [
        f"| updates/s | enoto_jax | enoto_jax, two seeds | {' | '.join(PEERS.values())} |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    found: dict[str, dict[str, float]] = {}
    for line in map(json.loads, text.splitlines()):
        if "failed" in line:
            continue
        case = found.setdefault(line["case"], {})
        who = line["who"].split("/")[0]
        case[who] = max(case.get(who, 0.0), line["updates_per_s"])  # sac-n-jax has two scripts
    for case, rate in found.items():
        method, comma, rest = case.partition(",")
        cells = [f"`{method}`{comma}{rest}"]
        for who in ("ours", "ours, two seeds", *PEERS):
            cells.append(f"{rate[who]:.1f}" if who in rate else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(runs: Sequence[str], title: str | None, out: str) -> None:
    """Draw the offline phase, the hand-over and the online phase of runs on one task.

    Args:
      runs: Folders, each with evaluations.csv. A run without config.json is named by its folder.
      title: The figure's title; None for the data set and the environment, from config.json.
      out: Path of the picture.

    Raises:
      InputError: A folder cannot be read, the runs have different tasks, or a seed occurs twice.
    """
    found: dict[str, list[str]] = {}
    seeds: set[tuple[str, int]] = set()
    tasks: dict[str, None] = {}
    for run in runs:
        config = Path(run) / "config.json"
        known = read_config(config) if config.exists() else {}
        method = known.get("method", Path(run).name)
        found.setdefault(method, []).append(run)
        if known:
            tasks[f"{known['task']} in {known['env']}"] = None
        for seed in sorted({row["seed"] for row in read_evaluations(run)}):
            if (method, seed) in seeds:
                raise InputError(f"{run}: seed {seed} of {method} is in another run already")
            seeds.add((method, seed))
    if len(tasks) > 1:
        raise InputError(f"--runs: {', '.join(tasks)}: a figure shows one task")
    curves.compare(found, out, title or next(iter(tasks), ""), offline=True)


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_list("runs", FIGURE, "Folders of runs on one task.")
    flags.DEFINE_string("title", None, "Title. Default: data set and environment.")
    flags.DEFINE_string("out", str(ROOT / "docs" / "handover.png"), "The picture.")
    flags.DEFINE_boolean("tables", False, "Print the tables instead of drawing.")


def main() -> None:
    """Draw the figure, or print the tables."""
    if FLAGS.tables:
        print(results(), speed(), sep="\n\n")
        return
    draw(FLAGS.runs, FLAGS.title, FLAGS.out)
    print(FLAGS.out)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv, positional="runs"))
