"""Train a grid of runs on Ray: methods x tasks x seed groups x variations, each in its own folder.

enoto sweep --method=cql,enoto_cql --task=hopper-medium-v2 --out=runs/hopper
enoto sweep --method=enoto_cql "--vary=num_critics=2|5|10" --out=runs/critics --dry_run
enoto sweep --search=search.yaml --method=enoto_cql --out=runs/search

Without --ray_address, the runs share this machine. Offline phases that methods have in common are
trained once. If a worker or node is lost, its run resumes elsewhere from its last checkpoint, so
every node must mount --out. On SIGINT or SIGTERM, all runs save; repeat the command to resume. Exit
codes: 0 all runs are done, 1 some failed, 2 bad input, 75 stopped.
"""

from __future__ import annotations

import os
import shlex
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from enoto_jax.cli import command, grid, hints, search, train, worker
from enoto_jax.runs.files import read_csv
from enoto_jax.runs.signals import Signals
from enoto_jax.types import InputError, RunError, Stopped, plural

FLAGS = flags.FLAGS
unknown_flag = hints.unknown_flag
GROUPS = {
    "Which runs": ("seed_groups", "vary", "grid", "search"),
    "Where": ("ray_address", "cpus_per_run", "gpus_per_run", "retries"),
}
WORDS = {command.DONE: "done", command.BAD_INPUT: "refused", command.STOPPED: "stopped"}


def define() -> None:
    """Define the command's flags, and those of train."""
    train.define()
    grid.define()
    flags.DEFINE_string("ray_address", None, "A running cluster. Default: this machine alone.")
    flags.DEFINE_float("cpus_per_run", 1.0, "CPU cores that Ray reserves for a run.")
    flags.DEFINE_float("gpus_per_run", 0.0, "GPUs, or a part of one, that Ray reserves for a run.")
    flags.DEFINE_integer("retries", 3, "How often a lost or failed run is restarted.")
    flags.DEFINE_string("search", None, "YAML file: search hyper-parameters instead of a grid.")


def main() -> None:
    """Resolve every run, then show or start them."""
    if FLAGS.out is None:
        raise InputError("--out: give the folder of the runs' folders")
    if FLAGS.grid:
        grid.read(FLAGS.grid)
    if FLAGS.cpus_per_run < 0 or FLAGS.gpus_per_run < 0 or FLAGS.retries < 0:
        raise InputError("--cpus_per_run, --gpus_per_run and --retries cannot be negative")
    out = command.local(FLAGS.out).resolve()
    if FLAGS.search:
        for flag in ("dry_run", "vary", "seed_groups"):
            if FLAGS[flag].value != FLAGS[flag].default:
                raise InputError(f"--search: does not go together with --{flag}; leave one out")
        search.run(FLAGS.search, out, start_ray)
        return
    cells = grid.cells(out)
    if FLAGS.dry_run:
        show(cells, out)
        return
    out.mkdir(parents=True, exist_ok=True)
    codes = Sweep(cells, out).run()
    left = [name for name, code in codes.items() if code != command.DONE]
    failed = [n for n in left if codes[n] in (command.FAILED, command.BAD_INPUT)]
    if command.STOPPED in codes.values():
        raise Stopped(f"{len(cells) - len(left)} of {plural(len(cells), 'run')} done")
    if failed:
        raise RunError(
            f"{len(failed)} of {plural(len(cells), 'run')} failed; the first, {out / failed[0]}: "
            f"{worker.last_error(out / failed[0])}; see its log.txt"
        )
    print(f"{out}: {plural(len(cells), 'run')} done")


def show(cells: Sequence[grid.Cell], out: Path) -> None:
    """Print every run, what it waits for, and its command."""
    for cell in cells:
        state = "done" if grid.finished(cell, out) else "to do"
        print(f"{cell.name} ({state}{f', after {cell.after}' if cell.after else ''})")
        call = ["enoto", "train", *cell.arguments, f"--out={out / cell.name}"]
        print(f"  {shlex.join(call)}")
    shared = sum(bool(c.after) for c in cells)
    print(f"{plural(len(cells), 'run')}, {shared} from a shared offline phase")


def load_ray() -> Any:
    """Import Ray; return its module.

    Raises:
      InputError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(f"the sweep needs Ray ({error}): pip install enoto_jax[cluster]") from None
    return ray


def start_ray() -> Any:
    """Connect to Ray; return its module.

    Raises:
      InputError: It is not installed, or there is no cluster at --ray_address.
      RunError: Ray does not start.
    """
    ray = load_ray()
    if ray.is_initialized():
        return ray
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address := FLAGS.ray_address or os.environ.get("RAY_ADDRESS"):
            ray.init(address, **quiet)
        else:
            ray.init("local", include_dashboard=False, object_store_memory=2**27, **quiet)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"--ray_address: {error}") from error
    except Exception as error:  # Ray has no exception for a node that starts too slowly
        raise RunError(f"Ray did not start: {error}") from error
    return ray


class Sweep:
    """A grid's runs on Ray.

    Args:
      cells: The cells, each after those that it depends on.
      out: The folder that contains their folders.
      work: The function that a worker runs.
    """

    def __init__(
        self, cells: Sequence[grid.Cell], out: Path, work: Callable[..., int] = worker.run_cell
    ):
        self._cells, self._out, self._work = cells, out, work
        self.codes: dict[str, int] = {}
        self._signals, self._cancelled = Signals("saving all runs"), False

    def run(self) -> dict[str, int]:
        """Run all cells; return each one's exit code once all have ended."""
        self.codes = {c.name: 0 for c in self._cells if grid.finished(c, self._out)}
        waiting = self._submit() if len(self.codes) < len(self._cells) else {}
        self._signals.catch()
        console, told = Console(stderr=True), ""
        try:
            with Live(console=console, auto_refresh=False, transient=False) as live:
                while waiting:
                    self._collect(waiting)
                    if console.is_terminal:
                        live.update(self._table(), refresh=True)
                    elif (line := self._line()) != told:
                        told = line
                        print(line, file=sys.stderr, flush=True)
        finally:
            self._signals.release()
        return self.codes

    def _submit(self) -> dict[Any, str]:
        """Submit everything to Ray, which keeps the order; return reference -> name."""
        ray = self._ray = start_ray()
        references: dict[str, Any] = {}
        token = uuid.uuid4().hex
        (self._out / ".sweep").write_text(token)
        remote = ray.remote(
            num_cpus=FLAGS.cpus_per_run,
            num_gpus=FLAGS.gpus_per_run,
            max_calls=1,  # one process per run
            max_retries=FLAGS.retries,
            retry_exceptions=[worker.Failed],
        )(self._work)
        for cell in self._cells:
            if cell.name not in self.codes:
                after = references.get(cell.after, command.DONE)
                what = (cell.arguments, self._out / cell.name, token, FLAGS.gpus_per_run, after)
                references[cell.name] = remote.options(name=cell.name).remote(*what)
        return {reference: name for name, reference in references.items()}

    def _collect(self, waiting: dict[Any, str]) -> None:
        """Wait a moment; record which runs have ended."""
        if self._signals.stop and not self._cancelled:
            self._cancelled = True
            for reference in waiting:
                self._ray.cancel(reference)  # sends SIGINT to a run that has begun
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=1.0)
        for reference in ready:
            name = waiting.pop(reference)
            try:
                code = self._ray.get(reference)
            except self._ray.exceptions.TaskCancelledError:
                code = command.STOPPED
            except self._ray.exceptions.RayError:
                code = command.STOPPED if self._signals.stop else command.FAILED
            self.codes[name] = code

    def _state(self, cell: grid.Cell) -> tuple[str, str, str, str, str]:
        """Return state, node, attempts, step and score."""
        folder = self._out / cell.name
        begun = [a for a in worker.attempts(folder) if a["event"] == "begun"]
        state = "running" if begun else f"after {cell.after}" if cell.after else "waits"
        if cell.name in self.codes:
            state = WORDS.get(self.codes[cell.name], "failed")
        step = score = ""
        path = folder / "evaluations.csv"
        if begun and path.exists() and (rows := read_csv(path)):
            step = f"{rows[-1]['phase']} {int(rows[-1]['step']):,}"
            score = f"{float(rows[-1]['score'] or rows[-1]['return_mean']):.1f}"
        return state, begun[-1]["node"] if begun else "", str(len(begun)), step, score

    def _table(self) -> Table:
        name = Column("run", overflow="fold")  # names differ at their ends
        table = Table(name, "state", "node", "attempts", "evaluated", "score or return")
        for cell in self._cells:
            table.add_row(cell.name, *self._state(cell))
        return table

    def _line(self) -> str:
        states = [self._state(cell)[0].split()[0] for cell in self._cells]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
