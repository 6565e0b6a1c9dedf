"""Figure 2: ENOTO-CQL assembled step by step, averaged over the nine locomotion data sets.

python -m experiments.paper.fig2 --budget=laptop --seeds=2 --out=runs/paper
"""

from __future__ import annotations

import sys

from enoto_jax.cli import command
from experiments.paper import draw, grid
from experiments.paper.grid import Cell, Figure

CELLS = (
    Cell("cql_to_sac", "CQL → SAC", offline="cql"),
    Cell("cql_n_to_sac_n", "CQL-N → SAC-N", offline="enoto_cql"),
    Cell(
        "cql_n_to_sac_n",
        "+ WeightedMinPair",
        offline="enoto_cql",
        online={"target": "weighted_min_pair"},
    ),
    Cell("enoto_cql", "+ SUNRISE = ENOTO-CQL"),
)
FIGURE = Figure("fig2", grid.LOCOMOTION, CELLS, draw.aggregate)
define = grid.define


def main() -> None:
    """Train the missing runs, and draw."""
    grid.make(FIGURE)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
