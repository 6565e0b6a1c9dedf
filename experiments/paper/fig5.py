"""Figure 5: ENOTO-CQL compared with other methods, on the nine locomotion data sets.

python -m experiments.paper.fig5 --budget=laptop --seeds=2 --out=runs/paper
"""

from __future__ import annotations

import sys

from enoto_jax.cli import command
from experiments.paper import draw, grid
from experiments.paper.grid import Figure

ROWS = ("enoto_cql", "br", "pex", "awac", "iql", "cal_ql", "scratch", "sac")


def define() -> None:
    """Define the command's flags."""
    grid.define(ROWS)


def main() -> None:
    """Train the missing runs, and draw."""
    grid.make(Figure("fig5", grid.LOCOMOTION, grid.rows(), draw.scores))


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
