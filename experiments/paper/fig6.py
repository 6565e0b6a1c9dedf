"""Figure 6: ENOTO-LAPO compared with other methods, in AntMaze.

python -m experiments.paper.fig6 --budget=laptop --seeds=2 --out=runs/paper
"""

from __future__ import annotations

import sys

from enoto_jax.cli import command
from experiments.paper import draw, grid
from experiments.paper.grid import Figure

ROWS = ("enoto_lapo", "lapo", "pex", "iql", "cal_ql", "awac")


def define() -> None:
    """Define the command's flags."""
    grid.define(ROWS)


def main() -> None:
    """Train the missing runs, and draw."""
    grid.make(Figure("fig6", grid.ANTMAZE, grid.rows(), draw.scores))


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
