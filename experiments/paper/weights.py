"""Is it N that brings the stability, or the smaller weight that averaging leaves on each critic?

python -m experiments.paper.weights
python -m experiments.paper.weights --place=experiments/results/paper/halfcheetah-medium --out=x.png

Draws four cells, N in {2, 10} times weight per critic in {0.5, 2.5}, and prints their hand-overs as
a Markdown table. A cell without a run is left out. The question and the metrics are described in
experiments/results/paper/PLAN.md.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from enoto_jax.cli import command
from enoto_jax.report import curves, metrics, stats
from enoto_jax.report.evaluations import Row, read_evaluations
from enoto_jax.types import InputError
from experiments.paper import readme

FLAGS = flags.FLAGS
PLACE = Path(__file__).resolve().parents[1] / "results" / "paper" / "halfcheetah-medium"
# label -> the folders of its runs, one per seed
CELLS = {
    "N = 2, 0.5 per critic": "weights/cql_to_sac-w1-s*",
    "N = 10, 0.5 per critic": "cql_n_to_sac_n-s*",
    "N = 2, 2.5 per critic": "cql_to_sac-s*",
    "N = 10, 2.5 per critic": "weights/cql_n_to_sac_n-w25-s*",
}
STEPS = 20_000  # online steps of every cell that are used
SHOWN = {
    "handover": "hand-over",
    "worst_after": f"lowest of the first {STEPS:,} steps",
    "final": f"after {STEPS:,} steps",
}


class Seed(NamedTuple):
    """A run of one seed.

    Attributes:
      rows: Evaluations of both phases, the online phase cut to `STEPS`.
      spread: Standard deviation over critics of Q on the data at the hand-over; NaN if
        `metrics.csv` does not have it.
    """

    rows: list[Row]
    spread: float


def read(place: Path) -> dict[str, list[Seed]]:
    """Return every cell's runs with at least `STEPS` online steps.

    Raises:
      InputError: No cell has such a run.
    """
    found: dict[str, list[Seed]] = {}
    for label, pattern in CELLS.items():
        for run in sorted(place.glob(pattern)):
            rows = read_evaluations(run)
            online = max((row["step"] for row in rows if row["phase"] == "online"), default=0)
            if online < STEPS:  # unfinished
                continue
            before = run
            if rows[0]["phase"] == "online":  # its offline phase was another run
                before = place / run.name.replace("cql_n_to_sac_n", "enoto_cql")
                rows += [row for row in read_evaluations(before) if row["phase"] == "offline"]
            rows = [row for row in rows if row["phase"] == "offline" or row["step"] <= STEPS]
            found.setdefault(label, []).append(Seed(rows, _spread(before)))
    if not found:
        raise InputError(f"--place: {place} has no run of {', '.join(CELLS.values())}")
    return found


def _spread(run: Path) -> float:
    if not (run / "metrics.csv").exists():
        return float("nan")
    spread = metrics.read(run).get("data/q_std", {}).get("offline", {})
    return float(np.mean([values[-1] for _, values in spread.values()])) if spread else float("nan")


def table(found: Mapping[str, Sequence[Seed]]) -> str:
    """Return each cell's mean and every seed, as a Markdown table."""
    heads = ("", "n", *SHOWN.values(), "spread of the critics")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for label, runs in found.items():
        online = stats.summary([row for run in runs for row in run.rows])["online"]
        cells = [readme.scores(list(online[name]["per_seed"].values())) for name in SHOWN]
        cells.append(f"{np.mean([run.spread for run in runs]):.1f}")
        lines.append(f"| {label} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("place", str(PLACE), "Folder of the runs on one data set.")
    flags.DEFINE_string("out", None, "The picture. Default: weights.png in --place.")


def main() -> None:
    """Draw the figure, and print the table."""
    place = Path(FLAGS.place)
    found = read(place)
    out = FLAGS.out or place / "weights.png"
    shown = {label: [run.rows for run in runs] for label, runs in found.items()}
    curves.compare(shown, out, f"{place.name}, weight of CQL's penalty per critic", offline=True)
    print(table(found), f"\n{out}", sep="\n")


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
