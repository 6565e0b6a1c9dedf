"""What a sweep costs beside its runs, against the number of workers.

python -m experiments.bench_sweep --workers=1,2,4 --runs=4 --out=runs/bench_sweep

For each number of workers, on a local Ray: `overhead`, runs that return at once (a process is
started, this package imported), and `train`, small runs that train, with their programs compiled
before. `<out>/sweep.csv` has the runs a minute, sweep.png draws them.
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

from enoto_jax.types import RunError
from experiments import command, grid, sweep, worker

FLAGS = flags.FLAGS
RUN = (
    "--method=bc", "--preset=smoke", "--set=algorithm.hidden=8,8", "--offline_steps=200",
    "--online_steps=100", "--warmup=50", "--eval_every=100", "--eval_episodes=1",
    "--batch_size=16", "--seeds=1",
)  # fmt: skip
COLUMNS = ("what", "workers", "runs", "seconds", "runs_per_minute", "cores")


def define() -> None:
    """The sweep's flags, and two more."""
    sweep.define()
    flags.DEFINE_list("workers", ["1", "2", "4"], "How many runs at once.")
    flags.DEFINE_integer("runs", 4, "How many in all, of each kind.")


def main() -> None:
    """Measure, write the table and draw it."""
    out = command.new_folder(FLAGS.out or "runs/bench_sweep").resolve()
    workers, runs = [int(count) for count in FLAGS.workers], FLAGS.runs
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(out / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    FLAGS(["bench_sweep", *RUN, f"--seed_groups={runs}"])
    rows = []
    for number, count in enumerate([workers[0], *workers]):  # the first time compiles
        ray = sweep.load_ray()
        ray.init(
            "local", num_cpus=count, include_dashboard=False, object_store_memory=2**27,
            log_to_driver=False, logging_level="ERROR",
        )  # fmt: skip
        for what, work in (("overhead", nothing), ("train", worker.run_cell)):
            folder = out / f"{what}-{number}"
            cells = grid.cells(folder)[: runs if number else 1]
            folder.mkdir(parents=True)
            begun = time.monotonic()
            codes = sweep.Sweep(cells, folder, work).run()
            took = time.monotonic() - begun
            if any(codes.values()):
                raise RunError(f"{folder}: {codes}")
            row = (what, count, len(cells), f"{took:.1f}", f"{60 * len(cells) / took:.2f}")
            print(*row, flush=True)
            rows += [(*row, os.cpu_count())] if number else []
        ray.shutdown()
    with open(out / "sweep.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    draw(rows, out / "sweep.png")


def nothing(arguments, folder, token, gpus, after=0) -> int:
    """A run that is over before it begins: one whose predecessor was stopped."""
    worker.run_cell(arguments, folder, token, gpus, command.STOPPED)
    return command.DONE


def draw(rows: list[tuple], path: Path) -> None:
    """Runs a minute against workers, beside what one worker's rate would make of it."""
    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure((6, 3), layout="constrained")
        for axes, what in zip(figure.subplots(1, 2), ("overhead", "train")):
            mine = [(int(r[1]), float(r[4])) for r in rows if r[0] == what]
            workers, rates = zip(*mine)
            axes.plot(workers, rates, "o-", label="measured")
            axes.plot(workers, [rates[0] * w / workers[0] for w in workers], ":", label="in step")
            axes.set(xlabel="workers", ylabel="runs a minute", xticks=workers, ylim=(0, None))
            axes.set_title({"overhead": "runs that do nothing", "train": "small runs"}[what])
            axes.axvline(rows[0][5], color="0.8", zorder=0)
        axes.legend(frameon=False)
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
