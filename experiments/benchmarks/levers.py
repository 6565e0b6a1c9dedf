"""Measure the updates per second of every lever on an ensemble's cost, relative to one base.

python -m experiments.benchmarks.levers --clock=cpu --rounds=5 --seconds=0.5

The base is enoto_cql's offline phase at the laptop budget's sizes: N = 10 critics of 2 x 128, batch
128, one candidate per source. Each round times the base and every lever once, so that a machine
that slows down slows all of them. A ratio is the median over rounds of the lever's rate over the
base's rate in that round. `arithmetic` is the ratio of the operations of an update, as the compiler
counts them. `--only` selects levers. `--widths` measures no time: it prints the even width of two
hidden layers at which the base's ten critics need as many operations per update as the lever does,
in the program that the compiler is given. For what a lever costs in quality, see
experiments/results/cheap/PLAN.md.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import numpy as np
from absl import flags

from enoto_jax import core
from enoto_jax.cli import command
from enoto_jax.recipes import examples, registry
from enoto_jax.recipes.budgets import BUDGETS, with_budget
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.table import recipe
from enoto_jax.runs.streams import stream
from enoto_jax.training import offline
from enoto_jax.training.seeds import SeedMap, use_cores
from enoto_jax.types import InputError, Spec
from experiments.benchmarks import rates

FLAGS = flags.FLAGS
SPEC = Spec(17, 6)  # HalfCheetah's
FITTED = (32, 64, 128)  # widths that a quadratic is fitted to
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
    """Define the command's flags."""
    flags.DEFINE_integer("rounds", 5, "Interleaved rounds; medians are reported.")
    flags.DEFINE_float("seconds", 0.5, "Least length of one measurement.")
    flags.DEFINE_enum("clock", "wall", [*rates.CLOCKS], "wall, or cpu: this process's own seconds.")
    flags.DEFINE_list("only", [], "Names of levers to time with the base; all by default.")
    flags.DEFINE_bool("widths", False, "Find narrower critics of equal arithmetic; time nothing.")
    flags.DEFINE_bool("json", False, "JSON lines instead of a table.")


def main() -> None:
    """Measure and print."""
    if unknown := sorted(set(FLAGS.only) - set(LEVERS)):
        raise InputError(f"--only: no {unknown[0]!r}; known: {', '.join(LEVERS)}")
    use_cores(1)
    if FLAGS.widths:
        print_widths()
        return
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


def print_widths() -> None:
    """Print for each lever: its operations over the base's, the width, and the width's."""
    base, found = given(_row({})), list(map(given, map(_narrow, FITTED)))
    fit = np.polyfit(FITTED, found, 2)  # exactly quadratic in the width
    for name in (name for name in LEVERS if name != "base" and name in (FLAGS.only or LEVERS)):
        needed = given(_row(LEVERS[name]))
        root = max(np.roots(fit - [0.0, 0.0, needed]).real)
        low = 2 * int(root // 2)
        width = min(low, low + 2, key=lambda w: abs(np.polyval(fit, w) - needed))
        line = {
            "lever": name,
            "arithmetic": round(needed / base, 3),
            "width": width,
            "width_arithmetic": round(given(_narrow(width)) / base, 3),
        }
        text = "{lever:24} {arithmetic:6.3f} {width:5} {width_arithmetic:6.3f}"
        print(json.dumps(line) if FLAGS.json else text.format(**line), flush=True)


def given(row: Recipe) -> float:
    """Return the operations of an offline update in the program that the compiler is given."""
    algorithm, seeds = build(row, SPEC).offline, SeedMap([0])
    init = seeds.compile(lambda seed: core.init(algorithm, stream(seed, "init")))
    state, data = jax.eval_shape(init, seeds.seeds), examples.data(SPEC, algorithm, rates.ROWS)
    blocks = offline.compile_blocks(algorithm, row.offline.batch_size, rates.BLOCK, seeds)
    return _count(blocks.lower(state, seeds.seeds, np.int32(0), np.int32(1), data))


def _narrow(width: int) -> Recipe:
    return _row({"algorithm.critic_hidden": (width, width)})


def _row(changes: dict[str, Any]) -> Recipe:
    """enoto_cql at the laptop budget's sizes, with these changes of its offline phase."""
    row = with_budget(recipe("enoto_cql"), BUDGETS["laptop"])
    for path, value in changes.items():
        row = registry.override(row, f"offline.{path}", value)
        if path not in ("algorithm.penalty_rows",):  # the online phase must fit
            row = registry.override(row, f"online.{path}", value)
    return row


def _operations(run) -> float:
    return _count(run[2])


def _count(program) -> float:
    """Operations of a call as the compiler counts them: a loop's body once, so compare ratios."""
    costs = program.cost_analysis()
    return (costs[0] if isinstance(costs, list) else costs)["flops"]


def _updates(row: Recipe):
    return rates.offline_updates(build(row, SPEC), row.offline, SeedMap([0]), SPEC)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
