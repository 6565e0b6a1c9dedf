"""Feed mutated data sets, flags and run folders to the real loaders, and count the outcomes.

python -m experiments.robustness.fuzz --cases=5000 --seed=0 --out=runs/fuzz

A case depends only on the seed and its own number: valid input of one of the TARGETS, one or two
mutations of it (mutations), and the loader or command through which a user would read it. Only two
outcomes are allowed: the input is accepted, or it is refused by an InputError of one line. Both
must stay within the time limit and in bounded memory, and read and write nothing outside the case's
own folder. Every other outcome is a finding, and its input is kept in `<out>/findings`. Cases run
in separate processes, so that the crash of a native library is a finding too. `<out>/counts.csv`
counts cases by target, mutation and outcome. The exit code is 1 if there are findings.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import resource
import shutil
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple

from absl import flags

from enoto_jax.cli import command
from enoto_jax.types import InputError, RunError
from experiments.robustness import fuzz_targets

FLAGS = flags.FLAGS
COLUMNS = ("target", "mutation", "outcome", "cases")
ACCEPTED, REFUSED = "accepted", "refused"
MEMORY_MB = 400  # limit for one small case; a chunk of HDF5 that unpacks to 256 MB is refused
ADDRESSES = 1 << 32  # bytes that a worker may allocate beyond what it starts with


class Result(NamedTuple):
    """The outcome of one case."""

    number: int
    target: str
    mutation: str
    outcome: str
    text: str = ""  # the line of the refusal, or the trace of a finding


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_integer("cases", 5000, "How many inputs.")
    flags.DEFINE_integer("seed", 0, "Seed of everything random.")
    flags.DEFINE_integer("workers", 1, "How many processes.")
    flags.DEFINE_float("limit_s", 60.0, "A case that takes longer counts as hung.")
    flags.DEFINE_list("targets", None, "Loaders and commands, in turn. Default: all of them.")
    flags.DEFINE_string("out", "runs/fuzz", "Folder of counts and findings; must be new.")


def main() -> None:
    """Run all cases, count the outcomes, and keep the findings."""
    out = command.new_folder(FLAGS.out)
    if FLAGS.cases < 1 or FLAGS.workers < 1 or FLAGS.limit_s <= 0:
        raise InputError("--cases and --workers must be at least 1, --limit_s above 0")
    targets = FLAGS.targets or list(fuzz_targets.TURNS)
    if unknown := set(targets) - set(fuzz_targets.TARGETS):
        known = ", ".join(fuzz_targets.TARGETS)
        raise InputError(f"--targets: no {', '.join(sorted(unknown))}; known: {known}")
    results = fuzz(out, FLAGS.cases, FLAGS.seed, targets, FLAGS.workers, FLAGS.limit_s)
    totals = Counter(r.outcome for r in results)
    print("\n".join(f"{n:6,} {outcome}" for outcome, n in totals.most_common()))
    if bad := sum(n for outcome, n in totals.items() if outcome not in (ACCEPTED, REFUSED)):
        raise RunError(f"{bad} findings in {out / 'findings'}")


def fuzz(
    out: Path, cases: int, seed: int, targets: list[str], workers: int = 1, limit_s: float = 60.0
) -> list[Result]:
    """Run all cases, and return their results in no particular order.

    Args:
      out: New folder for the counts and findings.
      cases: The number of cases.
      seed: Seed of everything that is drawn.
      targets: Names of TARGETS, used in turn.
      workers: The number of parallel processes.
      limit_s: CPU seconds after which a case has hung, or ten times as many seconds of waiting.
    """
    out.mkdir(parents=True)
    fuzz_targets.make_corpus(out / "corpus", targets)
    numbers, results, pool = iter(range(cases)), [], []
    for _ in range(workers):
        pool.append(_Worker(out, seed, targets))
    try:
        while busy := [w for w in pool if w.number is not None or w.give(next(numbers, None))]:
            wait([w.connection for w in busy], timeout=0.2)
            for worker in busy:
                result = worker.result(limit_s)
                if result is None:
                    continue
                results.append(result)
                if len(results) % 100 == 0 or len(results) == cases:
                    _count(out, results)
                if result.outcome not in (ACCEPTED, REFUSED):
                    print(*result[:4], file=sys.stderr, flush=True)
                    _keep(out, result)
                shutil.rmtree(out / "cases" / str(result.number), ignore_errors=True)
    finally:
        for worker in pool:
            worker.end()
    shutil.rmtree(out / "corpus")
    shutil.rmtree(out / "cases")
    return results


class _Worker:
    """A process that runs one case after another, and is replaced when it dies or hangs."""

    def __init__(self, out: Path, seed: int, targets: list[str]):
        self._arguments = (out, seed, targets)
        self.number, self._process = None, None
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["experiments.robustness.fuzz_targets"])
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, number: int | None) -> bool:
        if number is not None:
            self.number, self._since = number, (time.monotonic(), self._computed())
            self.connection.send(number)
        return number is not None

    def result(self, limit_s: float) -> Result | None:
        """Return the case's result, None while it runs; a dead or hung process is a result too."""
        result = None
        with suppress(EOFError):
            if self.connection.poll():
                result = Result(*self.connection.recv())
        if result is None:
            waited, computed = time.monotonic() - self._since[0], self._computed() - self._since[1]
            hangs = max(computed, waited / 10) > limit_s  # on a busy machine a case waits longer
            if self._process.is_alive() and not hangs:
                return None
            self.end()
            outcome = "hangs" if hangs else f"crash, exit code {self._process.exitcode}"
            _, seed, targets = self._arguments
            result = Result(self.number, *fuzz_targets.drawn(seed, self.number, targets), outcome)
            self._begin()
        self.number = None
        return result

    def _computed(self) -> float:
        """CPU seconds that the process has used."""
        with suppress(OSError):
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _work(connection: Connection, out: Path, seed: int, targets: list[str]) -> None:
    """Run the cases that arrive, in the worker's process, with a limit on its memory."""
    fuzz_targets.quiet()
    os.dup2(os.open(out / "workers.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    before = _status("VmSize") + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (before, before))
    with suppress(EOFError):
        while True:
            connection.send(tuple(run(out, seed, connection.recv(), targets)))


def run(out: Path, seed: int, number: int, targets: list[str]) -> Result:
    """Run one case in this process."""
    target, mutation = fuzz_targets.drawn(seed, number, targets)
    folder = out / "cases" / str(number)
    use = fuzz_targets.make_case(out / "corpus", folder, seed, number, targets)
    outside, before = fuzz_targets.outside(folder), _status("VmRSS")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    outcome, text = ACCEPTED, ""
    try:
        use()
    except InputError as error:
        outcome, text = REFUSED, str(error)
        if len(text.splitlines()) != 1 or not text.isprintable():
            outcome = "refused in other than one printable line"
        cause: BaseException | None = error
        while (cause := cause.__cause__) is not None:
            if isinstance(cause, MemoryError):
                outcome = "refused after asking for memory"
    except fuzz_targets.Leaked as leak:
        outcome = str(leak)
    except Exception as error:  # a finding
        outcome, text = type(error).__name__, traceback.format_exc()
    taken = (_status("VmHWM") - before) >> 20
    if taken > MEMORY_MB:
        outcome = "took too much memory"
        text += f"\n{taken} MB"
    if fuzz_targets.outside(folder) != outside:
        outcome = "wrote outside"
    return Result(number, target, mutation, outcome, text)


def _status(key: str) -> int:
    """A field of /proc/self/status, in bytes; 0 if it is not there."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])
    return 0


def _count(out: Path, results: list[Result]) -> None:
    """Write the table of the results so far."""
    counts = Counter((r.target, r.mutation, r.outcome) for r in results)
    rows = ((*key, n) for key, n in sorted(counts.items()))
    with open(out / "counts.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def _keep(out: Path, result: Result) -> None:
    name = f"{result.number}-{result.target}-{result.mutation}".replace(" ", "-")
    kept = out / "findings" / name
    shutil.copytree(out / "cases" / str(result.number), kept, symlinks=True)
    (kept / "outcome.txt").write_text(f"{result.outcome}\n{result.text}\n")


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
