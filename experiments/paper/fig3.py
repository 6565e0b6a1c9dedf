"""Figure 3: five rules that turn N target critics into a Bellman target, without exploration.

python -m experiments.paper.fig3 --budget=laptop --seeds=2 --out=runs/paper
"""

from __future__ import annotations

import sys

from enoto_jax.cli import command
from experiments.paper import draw, grid
from experiments.paper.grid import Cell, Figure

TARGETS = {
    "mean_q": "MeanQ",
    "rem": "REM",
    "random_min_pair": "RandomMinPair",
    "weighted_min_pair": "WeightedMinPair",
}
CELLS = (
    Cell("cql_n_to_sac_n", "MinQ", offline="enoto_cql"),
    *(
        Cell("cql_n_to_sac_n", label, offline="enoto_cql", online={"target": target})
        for target, label in TARGETS.items()
    ),
)
FIGURE = Figure("fig3", grid.LOCOMOTION, CELLS, draw.scores)
define = grid.define


def main() -> None:
    """Train the missing runs, and draw."""
    grid.make(FIGURE)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
