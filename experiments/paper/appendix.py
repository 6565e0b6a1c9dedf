"""The appendix: RandomMinPair with each exploration, other numbers of critics, LAPO with two.

python -m experiments.paper.appendix --budget=laptop --seeds=2 --out=runs/paper
python -m experiments.paper.appendix --part=critics --critics=2,5,10 --out=runs/paper
"""

from __future__ import annotations

import sys

from absl import flags

from enoto_jax.cli import command
from experiments.paper import draw, grid
from experiments.paper.grid import Cell, Figure

FLAGS = flags.FLAGS
EXPLORATIONS = {"bootstrapped": "Bootstrapped DQN", "oac": "OAC", "sunrise": "SUNRISE"}
PARTS = ("pair", "critics", "lapo")


def define() -> None:
    """Define the command's flags."""
    grid.define()
    flags.DEFINE_enum("part", None, PARTS, "One of the three pictures; all by default.")
    flags.DEFINE_list("critics", ["2", "5", "10", "15"], "The numbers of critics.")


def figures() -> dict[str, Figure]:
    """Return the figures by --part."""
    pair = [
        Cell("cql_n_to_sac_n", "none", "enoto_cql", online={"target": "random_min_pair"}),
        *(
            Cell("enoto_cql", label, online={"target": "random_min_pair", "exploration": rule})
            for rule, label in EXPLORATIONS.items()
        ),
    ]
    critics = [Cell("enoto_cql", f"N = {n}", both={"num_critics": n}) for n in FLAGS.critics]
    lapo = [
        Cell("enoto_lapo", "ENOTO-LAPO"),
        Cell("enoto_lapo", "ENOTO-LAPO, N = 2", both={"num_critics": 2}),
        Cell("lapo", "LAPO"),
    ]
    return {
        "pair": Figure("appendix_pair", grid.LOCOMOTION, pair, draw.scores),
        "critics": Figure("appendix_critics", grid.LOCOMOTION, critics, draw.scores),
        "lapo": Figure("appendix_lapo", grid.ANTMAZE, lapo, draw.scores),
    }


def main() -> None:
    """Train the missing runs, and draw."""
    for part, figure in figures().items():
        if FLAGS.part in (None, part):
            grid.make(figure)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
