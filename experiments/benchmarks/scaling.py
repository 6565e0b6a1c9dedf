"""Measure an update's cost against critics, batch, seeds and rows of data, each varied alone.

python -m experiments.benchmarks.scaling --method=sac_n --out=runs/bench_scale

For every value of --num_critics, --batch_size, --seeds and --rows, it measures the milliseconds of
one update of one seed, and those that its arithmetic would take at the device's matrix-product rate
in the same rounds (rates.py). The others are then the row's own N, B = 256, one seed and 100,000
rows. `<out>/scale.csv` has the lines, and scale.png draws them.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from absl import flags
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, NullLocator

from enoto_jax.cli import command
from enoto_jax.report import curves
from enoto_jax.training.seeds import use_cores
from enoto_jax.types import InputError, Spec
from experiments.benchmarks import rates, updates

FLAGS = flags.FLAGS
AXES = {
    "num_critics": "critics N",
    "batch_size": "batch B",
    "seeds": "seeds S",
    "rows": "rows of the data set",
}
COLUMNS = ("axis", "value", "ms", "arithmetic_ms", "matmul_gflops", "peak_bytes")


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("method", "sac_n", "Row of the table.")
    flags.DEFINE_multi_string("set", [], "path=value, as in experiments.train.")
    flags.DEFINE_string("phase", "offline", "offline or online.")
    flags.DEFINE_list("num_critics", ["2", "5", "10", "20"], "Values of N.")
    flags.DEFINE_list("batch_size", ["64", "256", "1024"], "Values of B; 256 in the other scans.")
    flags.DEFINE_list("seeds", ["1", "2", "4"], "Values of S; 1 in the other scans.")
    flags.DEFINE_list("rows", ["10000", "100000", "1000000"], "Sizes; 100,000 in the other scans.")
    flags.DEFINE_list("sizes", ["17", "6"], "Observation and action size (HalfCheetah's).")
    flags.DEFINE_integer("rounds", 3, "Interleaved rounds; medians are reported.")
    flags.DEFINE_float("seconds", 0.5, "Least length of one measurement.")
    flags.DEFINE_string("out", None, "A new folder.")


def main() -> None:
    """Measure, write the table and draw it."""
    if FLAGS.phase not in ("offline", "online"):
        raise InputError(f"--phase: {FLAGS.phase!r}; choose offline or online")
    values = {axis: updates.numbers(axis) for axis in AXES}
    spec, clock = Spec(*updates.numbers("sizes")), rates.Clock(FLAGS.rounds, FLAGS.seconds)
    out = command.new_folder(FLAGS.out or "runs/bench_scale")
    use_cores(max(values["seeds"], default=1))
    lines = []
    for axis, own in values.items():
        for value in own:
            given = {"num_critics": None, "batch_size": 256, "seeds": 1, "rows": rates.ROWS}
            given[axis] = value
            row = updates.row(FLAGS.method, given["num_critics"], given["batch_size"])
            if getattr(row, FLAGS.phase) is None:
                raise InputError(f"--phase: {FLAGS.method} has none that is {FLAGS.phase}")
            found = rates.measure(row, FLAGS.phase, given["seeds"], spec, clock, rows=given["rows"])
            lines.append((axis, value, *_costs(found)))
            print(*lines[-1], flush=True)
    out.mkdir(parents=True)
    with open(out / "scale.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *lines])
    draw(lines, out / "scale.png")


def _costs(found: dict[str, Any]) -> tuple[float, float, float, int | None]:
    """Milliseconds of an update and of its arithmetic, the product's rate, and memory."""
    ms = 1e3 / found["updates_per_s"]
    return (
        float(f"{ms:.4g}"),
        float(f"{ms * found['fraction_of_matmul_rate']:.4g}"),
        found["matmul_rate"],
        found["peak_bytes"],
    )


def draw(lines: Sequence[tuple], path: Path) -> None:
    """Draw a panel per axis: the measured time, and the arithmetic alone."""
    with mpl.rc_context(curves.STYLE):
        figure = Figure((11.0, 3.2), layout="constrained")
        for axes, (axis, words) in zip(figure.subplots(1, len(AXES), sharey=True), AXES.items()):
            own = [line for line in lines if line[0] == axis]
            x = [line[1] for line in own]
            axes.plot(x, [line[2] for line in own], "o-", label="measured")
            axes.plot(
                x,
                [line[3] for line in own],
                ":",
                color="0.4",
                label="its arithmetic at the product's rate",
            )
            axes.set(xscale="log", yscale="log", xlabel=words, xticks=x)
            axes.xaxis.set_major_formatter(EngFormatter(sep="") if max(x) > 9_999 else "{x:g}")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_minor_formatter(NullFormatter())
        figure.axes[0].set_ylabel("ms an update of a seed")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        figure.savefig(path)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
