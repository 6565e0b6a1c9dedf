"""Measure a sweep's overhead and its runs per minute, against the number of workers.

python -m experiments.benchmarks.sweeps --workers=1,2,4 --rounds=2 --repeats=3 --out=runs/sweeps

For each number of workers, on a local Ray, every worker does `--rounds` runs of three kinds, each
of which adds to the one before: `process`, empty runs, each in its own process, which Ray starts;
`imports`, runs that import this package, and with it JAX; `train`, small runs that train, with
programs compiled before. `<out>/sweep.csv` has the seconds of each repeat. sweep.png draws the best
of them, because other load on the machine can only slow them down.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from pathlib import Path

import matplotlib
from absl import flags
from matplotlib.figure import Figure

from enoto_jax.cli import command, grid, sweep, worker
from enoto_jax.types import RunError

FLAGS = flags.FLAGS
RUN = (
    "--method=bc",
    "--preset=smoke",
    "--set=algorithm.hidden=8,8",
    "--offline_steps=200",
    "--online_steps=100",
    "--warmup=50",
    "--eval_every=100",
    "--eval_episodes=1",
    "--batch_size=16",
    "--seeds=1",
)
COLUMNS = ("what", "workers", "repeat", "runs", "seconds", "runs_per_minute", "cores")


def define() -> None:
    """Define the sweep's flags, and three more."""
    sweep.define()
    flags.DEFINE_list("workers", ["1", "2", "4"], "Numbers of concurrent runs.")
    flags.DEFINE_integer("rounds", 2, "Runs of each kind per worker.")
    flags.DEFINE_integer("repeats", 3, "How often to measure everything.")


def main() -> None:
    """Measure, write the table and draw it."""
    out = command.new_folder(FLAGS.out or "runs/bench_sweep").resolve()
    workers = [int(count) for count in FLAGS.workers]
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(out / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    FLAGS(["bench_sweep", *RUN, f"--seed_groups={FLAGS.rounds * max(workers)}"])
    _measure(out / "compiling", 1, 1)
    rows = []
    for repeat in range(1, FLAGS.repeats + 1):
        for count in workers:
            runs = FLAGS.rounds * count
            for what, seconds in _measure(out / f"{repeat}-{count}", count, runs).items():
                row = (what, count, repeat, runs, f"{seconds:.1f}", f"{60 * runs / seconds:.2f}")
                print(*row, flush=True)
                rows.append((*row, os.cpu_count()))
    with open(out / "sweep.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    draw(rows, out / "sweep.png")


def _measure(out: Path, workers: int, runs: int) -> dict[str, float]:
    """Seconds that a sweep of `runs` runs takes, for each kind."""
    ray, seconds = sweep.load_ray(), {}
    ray.init(
        "local",
        num_cpus=workers,
        include_dashboard=False,
        object_store_memory=2**27,
        log_to_driver=False,
        logging_level="ERROR",
    )
    # A function without a module of its own: calling it imports nothing.
    kinds = {"process": lambda *cell: 0, "imports": nothing, "train": worker.run_cell}
    for what, work in {"started by Ray beforehand": kinds["process"], **kinds}.items():
        folder = out / what
        cells = grid.cells(folder)[: runs if what in kinds else workers]
        folder.mkdir(parents=True)
        begun = time.monotonic()
        codes = sweep.Sweep(cells, folder, work).run()
        seconds[what] = time.monotonic() - begun
        if any(codes.values()):
            raise RunError(f"{folder}: {codes}")
    ray.shutdown()
    return {what: seconds[what] for what in kinds}


def nothing(arguments, folder, token, gpus, after=0) -> int:
    """Do a run that ends before it begins, as one whose predecessor was stopped."""
    worker.run_cell(arguments, folder, token, gpus, command.STOPPED)
    return command.DONE


def draw(rows: list[tuple], path: Path) -> None:
    """Draw runs per minute, and a worker's seconds per run, against the number of workers."""
    workers = sorted({int(row[1]) for row in rows})
    places, cores = range(len(workers)), int(rows[0][6])

    def rates(what: str) -> list[list[float]]:
        """Runs per minute of every repeat, for every number of workers."""
        mine = [(int(row[1]), float(row[5])) for row in rows if row[0] == what]
        return [[rate for count, rate in mine if count == c] for c in workers]

    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure((7.5, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        worst, best = zip(*((min(rate), max(rate)) for rate in rates("train")))
        ideal = [best[0] / workers[0] * min(count, cores) for count in workers]
        left.plot(workers, ideal, ":", color="0.5", label=f"in step, up to {cores} cores")
        left.plot(workers, best, "o-", label="measured, best of the repeats")
        left.vlines(workers, worst, best, color="C0", alpha=0.4)
        left.set(xlabel="workers", ylabel="small runs per minute", xticks=workers, ylim=(0, None))
        left.legend(frameon=False, loc="lower right")
        below = [0.0] * len(workers)
        kinds = {"process": "process, scheduling", "imports": "imports", "train": "the run"}
        for what, words in kinds.items():
            upto = [60 * count / max(rate) for count, rate in zip(workers, rates(what))]
            right.bar(places, [u - b for u, b in zip(upto, below)], 0.6, below, label=words)
            below = upto
        right.set(xlabel="workers", ylabel="seconds of a worker, a run", xticks=places)
        right.set_xticklabels(workers)
        right.legend(frameon=False)
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
