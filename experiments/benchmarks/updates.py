"""Measure updates per second, relative to the device's own matrix-product rate in the same run.

python -m experiments.benchmarks.updates --method sac_n --num_critics 10

Every value is a median over interleaved rounds, see rates.py. `--baseline` also times a plain loop,
with one jitted update per step; `--picture` draws the lines below the roofline. On a shared
machine, pin the process to one core and measure its CPU time:

taskset -c 1 python -m experiments.benchmarks.updates --clock=cpu
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from absl import flags
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from enoto_jax.cli import command, plans
from enoto_jax.envs import gym
from enoto_jax.recipes import registry
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.table import recipe
from enoto_jax.report import curves
from enoto_jax.training.seeds import use_cores
from enoto_jax.types import InputError, Spec
from experiments.benchmarks import rates

FLAGS = flags.FLAGS
HEAD = "row                  phase      N     B  S precision updates/s of matmul of roofline x loop"


def define_rows(
    method: Sequence[str] = ("sac_n", "enoto_cql", "cql", "sac"),
    seeds: Sequence[str] = ("1",),
    rounds: int = 5,
    seconds: float = 1.0,
) -> None:
    """Define the flags for what is measured and how long, with these defaults."""
    flags.DEFINE_list("method", list(method), "Rows of the table.")
    flags.DEFINE_list("num_critics", [], "N; the row's own by default.")
    flags.DEFINE_list("batch_size", ["256"], "Transitions per update.")
    flags.DEFINE_list("seeds", list(seeds), "How many seeds train together.")
    flags.DEFINE_multi_string("set", [], "path=value, as in experiments.train.")
    flags.DEFINE_integer("rounds", rounds, "Interleaved rounds; medians are reported.")
    flags.DEFINE_float("seconds", seconds, "Least length of one measurement.")


def define() -> None:
    """Define the command's flags."""
    define_rows()
    flags.DEFINE_bool("json", False, "JSON lines instead of a table.")
    flags.DEFINE_list("phase", ["offline", "online"], "offline, online.")
    flags.DEFINE_list("precision", ["float32"], "float32, bf16.")
    flags.DEFINE_list("sizes", ["17", "6"], "Observation and action size (HalfCheetah's).")
    flags.DEFINE_enum(
        "clock", "wall", [*rates.CLOCKS], "wall, or cpu: this process's own seconds (one core)."
    )
    flags.DEFINE_bool("baseline", False, "Also time a plain loop of one seed.")
    flags.DEFINE_string("picture", None, "A .png, .svg or .pdf file for the roofline.")


def main() -> None:
    """Measure every combination of the flags."""
    if unknown := set(FLAGS.phase) - {"offline", "online"}:
        raise InputError(f"--phase: {min(unknown)!r}; choose offline or online")
    if FLAGS.picture and Path(FLAGS.picture).suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--picture: {FLAGS.picture} is no .png, .svg or .pdf file")
    clock = rates.Clock(FLAGS.rounds, FLAGS.seconds, rates.CLOCKS[FLAGS.clock])
    spec = Spec(*numbers("sizes"))
    use_cores(max(numbers("seeds"), default=1))
    lines = []
    for method, phase, row, seeds in _combinations():
        line = rates.measure(row, phase, seeds, spec, clock, FLAGS.baseline)
        lines.append({"method": method, **line})
        report(lines)
    if FLAGS.picture:
        roofline(lines, Path(FLAGS.picture))


def _combinations() -> Iterator[tuple[str, str, Recipe, int]]:
    """(method, phase, row, seeds) of every combination of the flags."""
    for (method, own, seeds), phase, precision in itertools.product(
        rows(), FLAGS.phase, FLAGS.precision
    ):
        if getattr(own, phase) is not None:
            yield method, phase, registry.override(own, "precision", precision), seeds


def env_spec() -> Spec:
    """Return the sizes of --env, after making the cores devices as far as the seeds use them."""
    use_cores(max(numbers("seeds"), default=1))
    return gym.env_spec(FLAGS.env)


def rows() -> Iterator[tuple[str, Recipe, int]]:
    """Yield (method, row, seeds) of every combination of `define_rows`'s flags."""
    axes = (numbers("num_critics") or [None], numbers("batch_size"), numbers("seeds"))
    for method, n, batch_size, seeds in itertools.product(FLAGS.method, *axes):
        yield method, row(method, n, batch_size), seeds


def numbers(flag: str) -> list[int]:
    """Return a flag's whole numbers.

    Raises:
      InputError: The flag has something else.
    """
    try:
        return [int(text) for text in FLAGS[flag].value]
    except ValueError as error:
        raise InputError(f"--{flag}: {error}") from error


def row(method: str, n: int | None, batch_size: int) -> Recipe:
    """Return a row with --set, a replay of moderate size, and n critics (None: its own number)."""
    found = registry.override(recipe(method), "batch_size", batch_size)
    found = registry.override(found, "online.replay.capacity", rates.ROWS)
    if n is not None:
        found = registry.override(found, "algorithm.n", n)
    return plans.with_settings(found, FLAGS.set)


def report(lines: Sequence[dict[str, Any]]) -> None:
    """Print the last line, and the head of the table before the first."""
    line = lines[-1]
    if FLAGS.json:
        print(json.dumps(line), flush=True)
        return
    if len(lines) == 1:
        print(HEAD)
    times = line["times_plain_loop"]
    print(
        f"{line['method']:20} {line['phase']:8} {line['num_critics']:3} {line['batch_size']:5} "
        f"{line['seeds']:2} {line['precision']:9} {line['updates_per_s']:9.1f} "
        f"{line['fraction_of_matmul_rate']:9.0%} {line['fraction_of_roofline']:11.0%} "
        + (f"{times:6.2f}" if times else "     -"),
        flush=True,
    )


def roofline(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw operations per second against operations per byte, below the device's limits."""
    known = [line for line in lines if line["intensity"]]
    if not known:
        raise InputError(f"{path}: this device's compiler does not tell how many bytes move")
    peak, bandwidth = (np.median([x[k] for x in known]) for k in ("matmul_rate", "bandwidth"))
    at = np.array([line["intensity"] for line in known])
    with mpl.rc_context(curves.STYLE):
        figure = Figure((7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        kink = peak / bandwidth
        x = np.array([min(at.min(), kink) / 2, kink, max(at.max(), kink) * 2])
        axes.plot(x, np.minimum(peak, bandwidth * x), color="0.4")
        for index, line in enumerate(known):
            colour, _ = curves.look(index)
            rate = line["updates_per_s"] * line["flop_per_update"] / 1e9
            label = (
                f"{line['method']}, {line['phase']}, {line['precision']}, "
                f"N = {line['num_critics']}, B = {line['batch_size']}, S = {line['seeds']}"
            )
            axes.plot(line["intensity"], rate, "o", color=colour, label=label)
        axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
        axes.annotate(
            f"a 2048 x 2048 product, {peak:.0f} GFLOP/s",
            (x[-1], peak),
            (0, 5),
            textcoords="offset points",
            ha="right",
            color="0.3",
        )
        axes.annotate(
            f"memory, {bandwidth:.0f} GB/s",
            (x[0], bandwidth * x[0]),
            (14, 0),
            textcoords="offset points",
            color="0.3",
        )
        axes.set_ylim(top=2 * peak)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        figure.legend(loc="outside lower center", ncols=2)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
