"""Kill or stop a host of a run on two processes, and compare with a run on one process.

python -m experiments.robustness.hosttest --kills=4 --freezes=2 --stops=6 --out=runs/hosttest

Two processes on this machine train one small run, two seeds each. For each kill, the second or the
first of them is killed (SIGKILL), offline or online. For each freeze, it is suspended with its
connections open (SIGSTOP), as if its machine had vanished. The other must end by itself, with exit
code 1 and one line. For each stop, the second, the first or, as Slurm does, both get SIGTERM: both
must save and end with exit code 75. Each time, the same command on both must resume and finish with
exactly the files that one process writes. The table is `<out>/hosts.csv`. The exit code is 1 if
something differs.
"""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from enoto_jax.cli import command
from enoto_jax.types import RunError
from experiments.robustness import crashtest

FLAGS = flags.FLAGS
RUN = (
    "--method=td3_bc",
    "--preset=smoke",
    "--set=algorithm.hidden=8,8",
    "--offline_steps=2000",
    "--online_steps=1000",
    "--warmup=100",
    "--eval_every=250",
    "--eval_episodes=2",
    "--batch_size=32",
    "--seeds=4",
)
COLUMNS = (
    "run",
    "signal",
    "hosts",
    "in",
    "exit_codes",
    "seconds_to_exit",
    "resumed_from",
    "last_line",
)
LONGEST_S = 600.0
# The command itself, with frequent saves.
_TRAIN = """
import runpy
from enoto_jax.runs import saving
from enoto_jax.training import offline
saving.SAVE_EVERY_S, saving.SAVE_SHARE, offline.PATIENCE_S = 0.5, 0.2, 0.2
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
"""


class Blow(NamedTuple):
    """A signal to some of a run's hosts, once it is in a phase."""

    signal: signal.Signals
    hosts: tuple[int, ...]
    phase: str


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_integer("kills", 4, "How many runs lose a host.")
    flags.DEFINE_integer("freezes", 2, "How many runs have a frozen host.")
    flags.DEFINE_integer("stops", 6, "How many runs are told to stop.")
    flags.DEFINE_integer("seed", 0, "Seed of the moments.")
    flags.DEFINE_string("out", "runs/hosttest", "Folder of the runs; must be new.")


def main() -> None:
    """Run one process, two undisturbed, and two with signals, and compare."""
    out = command.new_folder(FLAGS.out)
    differences = disturb(out, [[], *blows(FLAGS.kills, FLAGS.freezes, FLAGS.stops)], FLAGS.seed)
    if differences:
        raise RunError(f"{out}: {'; '.join(differences)}")


def blows(kills: int, freezes: int, stops: int) -> Iterator[list[Blow]]:
    """Yield the blows to each run."""
    for losing, count in ((signal.SIGKILL, kills), (signal.SIGSTOP, freezes)):
        for number in range(count):
            yield [Blow(losing, (1 - number % 2,), ("online", "offline")[number // 2 % 2])]
    for number in range(stops):
        at = ((1,), (0,), (0, 1))[number % 3]
        yield [Blow(signal.SIGTERM, at, ("offline", "online")[number % 2])]


def disturb(
    out: Path, runs: Sequence[Sequence[Blow]], seed: int, arguments: tuple[str, ...] = RUN
) -> list[str]:
    """Run two processes with each run's blows in turn; return what differs from one process."""
    out.mkdir(parents=True)
    _end(start(out / "one", arguments, 1))
    rng, rows, differences = np.random.default_rng(seed), [], []
    for number, suffered in enumerate(runs, 1):
        folder = out / f"run-{number}"
        for blow in suffered:
            rows.append((number, *_strike(folder, arguments, blow, 2 * rng.uniform())))
            print(*rows[-1], sep=", ", flush=True)
        _end(start(folder, arguments, 2))
        found = list(crashtest.compare(out / "one", folder))
        print(f"{folder}: {'; '.join(found) or 'the same, bit for bit'}", flush=True)
        differences += [f"run {number}: {what}" for what in found]
    with open(out / "hosts.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return differences


def start(folder: Path, arguments: tuple[str, ...], count: int) -> list[subprocess.Popen]:
    """Start the run's processes; the output of host i goes to `<folder>.<i>.txt`."""
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(folder.parent.resolve() / "compiled")}
    compiled["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    compiled["JAX_NUM_CPU_DEVICES"] = "1"  # as each of two hosts has, for the same bits
    processes, port = [], free_port()
    for index in range(count):
        hosts = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"]
        hosts = [*hosts, f"--process_id={index}"] if count > 1 else []
        with open(f"{folder}.{index}.txt", "a") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", _TRAIN, *arguments, f"--out={folder}", *hosts],
                    env={**os.environ, **compiled},
                    stdout=log,
                    stderr=log,
                )
            )
    return processes


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _end(processes: list[subprocess.Popen]) -> None:
    codes = [process.wait(LONGEST_S) for process in processes]
    if any(codes):
        raise RunError(f"exit codes {codes}; see the log files")


def _strike(folder: Path, arguments: tuple[str, ...], blow: Blow, delay: float) -> tuple:
    """Start the run, strike it `delay` seconds into the phase, and return its row."""
    processes = start(folder, arguments, 2)
    best = folder / "checkpoints" / "best"  # exists once the programs are compiled
    while crashtest.doing(folder) != blow.phase or not any(best.glob("[0-9]*")):
        if any(process.poll() is not None for process in processes):
            raise RunError(f"{folder}: ended before the signal; see the log files")
        time.sleep(0.01)
    time.sleep(delay)
    found_in, begun = crashtest.doing(folder), time.monotonic()
    for host in blow.hosts:
        processes[host].send_signal(blow.signal)
    stops = blow.signal == signal.SIGTERM
    left = [p for host, p in enumerate(processes) if stops or host not in blow.hosts]
    for process in left:
        process.wait(LONGEST_S)
    took = time.monotonic() - begun
    for process in processes:  # a frozen one does not end by itself
        process.kill()
    codes = [process.wait() for process in processes]
    speaker = processes.index(left[0])  # the first host, unless it was killed or frozen
    said = Path(f"{folder}.{speaker}.txt").read_text().strip().splitlines()[-1]
    wanted = [75 if stops else -9 if host in blow.hosts else 1 for host in (0, 1)]
    if codes != wanted or ("stopped at" if stops else "is lost") not in said:
        raise RunError(f"{folder}: the hosts ended with {codes}: {said}")
    at, name = " ".join(map(str, blow.hosts)), blow.signal.name
    ends = " ".join(map(str, codes))
    return name, at, found_in, ends, f"{took:.1f}", crashtest.resumed_from(folder), said


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
