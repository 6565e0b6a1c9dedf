"""Compare updates per second with other libraries' own training scripts, in one run.

python -m experiments.benchmarks.peers --peers=FOLDER --python=PYTHON

FOLDER contains checkouts of tinkoff-ai/CORL, nissymori/JAX-CORL, EmptyJackson/unifloral,
Howuhh/sac-n-jax, seohongpark/fql and ColinQiyangLi/qc, from GitHub, each under its own name;
missing ones are left out. PYTHON is an interpreter that has what their scripts import. Every script
runs unchanged, by its own main, on random transitions (peer_scripts/script.py). Each is a process,
and only one of them runs at a time: a round times a product of 2048 x 2048, our row with one seed
and with two, and the scripts, in turn. Rates are medians over rounds, and ratios are medians of the
rounds' ratios.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from enoto_jax.cli import command
from enoto_jax.types import InputError, RunError
from experiments.benchmarks import flops, rates
from experiments.benchmarks.peer_scripts import CASES, SPEC, cpu_seconds, script

FLAGS = flags.FLAGS
OURS = {"ours": 1, "ours, two seeds": 2}  # seeds; the scripts train one
TICK = 0.01  # seconds, the resolution of a process's CPU time
WARM_UP = 3  # blocks after the first that are not counted: some scripts compile again
HEAD = f"{'case':30} {'who':38} updates/s of matmul  ours x  two seeds x"


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("peers", None, "Folder of the other libraries' checkouts.", required=True)
    flags.DEFINE_string("python", sys.executable, "Interpreter for their scripts.")
    flags.DEFINE_multi_string("case", list(CASES), "What to compare; repeatable. Default: all.")
    flags.DEFINE_integer("rounds", 5, "Interleaved rounds; medians are reported.")
    flags.DEFINE_enum(
        "clock", "wall", list(rates.CLOCKS), "wall, or cpu: the process's own seconds, all threads."
    )
    flags.DEFINE_bool("json", False, "JSON lines instead of a table.")


class Worker:
    """A process that trains one block of updates whenever it is asked for its rate.

    Args:
      arguments: Its command line.
      updates: Updates in a block, over all its seeds.
      clock: "wall", or "cpu": CPU seconds of all its threads.

    Raises:
      RunError: The process has stopped by itself; the text is its last line. `rate` raises it too.
    """

    def __init__(self, arguments: list[str], updates: int, clock: str) -> None:
        self._updates, self._clock = updates, clock
        self._words = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, text=True
        )
        try:
            self._seconds()  # compiled
            for _ in range(WARM_UP):
                self.rate()
        except RunError:
            self.stop()
            raise

    def rate(self) -> float:
        """Return the updates per second of one block."""
        before = cpu_seconds(self._process.pid)
        with suppress(BrokenPipeError):  # it has stopped; `_seconds` raises the error
            print(file=self._process.stdin, flush=True)
        seconds = self._seconds()
        if self._clock == "cpu":
            seconds = max(TICK, cpu_seconds(self._process.pid) - before)
        return self._updates / seconds

    def _seconds(self) -> float:
        if text := self._process.stdout.readline():
            return float(text)
        self._words.seek(0)
        raise RunError(self._words.read().strip().rpartition("\n")[2] or "stopped without a word")

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._words.close()


def main() -> None:
    """Compare the cases."""
    folder = Path(FLAGS.peers).absolute()
    if unknown := set(FLAGS.case) - set(CASES):
        raise InputError(f"--case: {min(unknown)!r}; choose of: {'; '.join(CASES)}")
    if shutil.which(FLAGS.python) is None:
        raise InputError(f"--python: {FLAGS.python} is not a Python interpreter")
    if not any(contenders(name, folder).keys() - OURS.keys() for name in FLAGS.case):
        wanted = CASES[FLAGS.case[0]].peers[0].script
        raise InputError(f"--peers: {folder} contains no script to compare with, such as {wanted}")
    if not FLAGS.json:
        print(HEAD)
    for name in FLAGS.case:
        for line in compare(name, folder):
            show(line)


def contenders(name: str, folder: Path) -> dict[str, tuple[list[str], int]]:
    """Return name -> (command line, updates in a block) of ours, then of the scripts found."""
    case = CASES[name]
    found = {}
    for who, seeds in OURS.items():
        arguments = [
            "-m",
            "experiments.benchmarks.peer_scripts.ours",
            case.method,
            str(seeds),
            str(case.updates),
        ]
        found[who] = [sys.executable, *arguments, *case.sets], case.updates * seeds
    for peer in case.peers:
        if (folder / peer.script).is_file():
            arguments = peer.arguments.format(updates=case.updates).split()
            arguments = [FLAGS.python, script.__file__, str(folder / peer.script), *arguments]
            found[peer.script] = arguments, case.updates * peer.per_step
    return found


def compare(name: str, folder: Path) -> list[dict[str, Any]]:
    """Return a line per contender of a case; one that fails has its last output, not rates."""
    product, clock = rates.matmul(), rates.Clock(FLAGS.rounds, 0.5, rates.CLOCKS[FLAGS.clock])
    lines, workers, rounds = [], {}, []
    with ExitStack() as stack:
        for who, contender in contenders(name, folder).items():
            lines.append({"case": name, "who": who, "commit": _commit(folder / who)})
            try:
                workers[who] = Worker(*contender, FLAGS.clock)
                stack.callback(workers[who].stop)
            except RunError as error:
                if who in OURS:
                    raise
                lines[-1]["failed"] = str(error)
        for _ in range(FLAGS.rounds):
            rounds.append({who: worker.rate() for who, worker in workers.items()})
            rounds[-1]["product"] = clock.rate(product, 2 * rates.SIZE**3)
    row = CASES[name].row()
    needed = flops.per_update(row.offline.algorithm, SPEC, row.offline.batch_size)

    for line in lines:
        if (who := line["who"]) in workers:
            line["updates_per_s"] = round(float(np.median([r[who] for r in rounds])), 1)
            line["fraction_of_matmul_rate"] = rates.median(
                needed * r[who] / r["product"] for r in rounds
            )
            if who not in OURS:
                line["times"], line["times_two_seeds"] = (
                    rates.median(r[ours] / r[who] for r in rounds) for ours in OURS
                )
    return lines


def _commit(path: Path) -> str | None:
    """The commit of the checkout that contains a script; None if there is none."""
    if not path.is_file():
        return None
    asked = ["git", "-C", str(path.parent), "rev-parse", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or None


def show(line: dict[str, Any]) -> None:
    """Print one contender's line."""
    if FLAGS.json:
        print(json.dumps(line), flush=True)
        return
    print(f"{line['case']:30} {line['who']:38} ", end="")
    if "failed" in line:
        print(f"failed: {line['failed']}", flush=True)
        return
    print(f"{line['updates_per_s']:9.1f} {line['fraction_of_matmul_rate']:9.0%}", end="")
    times = f"{line['times']:8.2f} {line['times_two_seeds']:12.2f}" if "times" in line else ""
    print(times, flush=True)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
