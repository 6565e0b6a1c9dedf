"""Figure 4: three exploration rules for N critics, and none, with WeightedMinPair.

python -m experiments.paper.fig4 --budget=laptop --seeds=2 --out=runs/paper
"""

from __future__ import annotations

import sys

from enoto_jax.cli import command
from experiments.paper import draw, grid
from experiments.paper.grid import Cell, Figure

CELLS = (
    Cell("cql_n_to_sac_n", "none", offline="enoto_cql", online={"target": "weighted_min_pair"}),
    Cell("enoto_cql", "Bootstrapped DQN", online={"exploration": "bootstrapped"}),
    Cell("enoto_cql", "OAC", online={"exploration": "oac"}),
    Cell("enoto_cql", "SUNRISE"),
)
FIGURE = Figure("fig4", grid.LOCOMOTION, CELLS, draw.scores)
define = grid.define


def main() -> None:
    """Train the missing runs, and draw."""
    grid.make(FIGURE)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
