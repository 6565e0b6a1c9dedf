"""Updates per second of every lever on an ensemble's cost, as ratios to the same base in one run.

python -m experiments.benchmarks.levers --clock=cpu --rounds=5 --seconds=0.5

The base is enoto_cql's offline phase at the laptop budget's sizes: N = 10 critics of 2 x 128, batch
128, one candidate a source. Each round times the base and every lever once, so that a machine that
slows down slows all; a ratio is the median over rounds of the lever's rate by that round's base.
`arithmetic` is the ratio of the operations of an update as the compiler counts them.
`--only` names some of them. How much a lever costs in quality is another question, see
experiments/results/cheap/PLAN.md.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from absl import flags

from enoto_jax.cli import command, plans
from enoto_jax.recipes import registry
from enoto_jax.recipes.budgets import BUDGETS
from enoto_jax.recipes.recipe import Recipe, build
from enoto_jax.recipes.table import recipe
from enoto_jax.training.seeds import SeedMap, use_cores
from enoto_jax.types import InputError, Spec
from experiments.benchmarks import rates

FLAGS = flags.FLAGS
SPEC = Spec(17, 6)  # HalfCheetah's
# name -> overrides of the offline phase
LEVERS: dict[str, dict[str, Any]] = {
    "base": {},
    "layer_norm": {"algorithm.layer_norm": True},
    "penalty on 32 rows": {"algorithm.penalty_rows": 32},
    "penalty on 64 rows": {"algorithm.penalty_rows": 64},
    "5 of 10 critics learn": {"algorithm.learners": 5},
    "2 of 10 critics learn": {"algorithm.learners": 2},
    "1 layer shared": {"algorithm.shared_layers": 1},
    "2 layers shared": {"algorithm.shared_layers": 2},
    "2 critics, dropout": {
        "algorithm.n": 2,
        "algorithm.layer_norm": True,
        "algorithm.dropout": 0.01,
    },
    "2 critics": {"algorithm.n": 2},
    "critics of 2 x 64": {"algorithm.critic_hidden": (64, 64)},
}


def define() -> None:
    """The command's flags."""
    flags.DEFINE_integer("rounds", 5, "Interleaved rounds; medians are reported.")
    flags.DEFINE_float("seconds", 0.5, "Least length of one measurement.")
    flags.DEFINE_string("clock", "wall", "wall, or cpu: this process's own seconds.")
    flags.DEFINE_list("only", [], "Names of levers, beside the base; all by default.")
    flags.DEFINE_bool("json", False, "JSON lines instead of a table.")


def main() -> None:
    """Measure and print."""
    if unknown := sorted(set(FLAGS.only) - set(LEVERS)):
        raise InputError(f"--only: no {unknown[0]!r}; known: {', '.join(LEVERS)}")
    if FLAGS.clock not in rates.CLOCKS:
        raise InputError(f"--clock: {FLAGS.clock!r}; choose {' or '.join(rates.CLOCKS)}")
    use_cores(1)
    clock = rates.Clock(FLAGS.rounds, FLAGS.seconds, rates.CLOCKS[FLAGS.clock])
    names = ["base", *(name for name in LEVERS if name in FLAGS.only or not FLAGS.only)]
    names = list(dict.fromkeys(names))
    runs = {name: _updates(_row(LEVERS[name])) for name in names}
    measured: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(clock.rounds):
        for name, (run, updates, _) in runs.items():
            measured[name].append(clock.rate(run, updates))
    for name, found in measured.items():
        ratios = np.divide(found, measured["base"])
        line = {
            "lever": name,
            "updates_per_s": round(float(np.median(found)), 1),
            "ratio": rates.median(ratios),
            "arithmetic": rates.median([_operations(runs[name]) / _operations(runs["base"])]),
            "lowest": round(float(ratios.min()), 2),
            "highest": round(float(ratios.max()), 2),
        }
        if FLAGS.json:
            print(json.dumps({**line, "rounds": clock.rounds, "clock": FLAGS.clock}))
        else:
            text = "{lever:24} {updates_per_s:8.1f} {ratio:6.2f} ({lowest} to {highest})"
            print((text + " {arithmetic:6.2f}").format(**line))


def _row(changes: dict[str, Any]) -> Recipe:
    """enoto_cql at the laptop budget's sizes, with these changes of its offline phase."""
    row = plans.with_budget(recipe("enoto_cql"), BUDGETS["laptop"])
    for path, value in changes.items():
        row = registry.override(row, f"offline.{path}", value)
        if path not in ("algorithm.penalty_rows",):  # the online phase must fit
            row = registry.override(row, f"online.{path}", value)
    return row


def _operations(run) -> float:
    """What the compiler counts in a call; loops' bodies once, so only ratios mean something."""
    costs = run[2].cost_analysis()
    return (costs[0] if isinstance(costs, list) else costs)["flops"]


def _updates(row: Recipe):
    return rates.offline_updates(build(row, SPEC), row.offline, SeedMap([0]), SPEC)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
