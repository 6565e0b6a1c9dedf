"""Lose a host of a run over two processes again and again, and compare with one process.

python -m experiments.hosttest --kills=4 --out=runs/hosttest

Two processes on this machine train one small run, two seeds each. In turn the second and the first
of them is killed (SIGKILL), offline and online; the other must end by itself, with exit code 1 and
one line, and the same command on both must go on to the very files that one process writes. The
table is `<out>/hosts.csv`. Exit code 1: something differs.
"""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from enoto_jax.types import RunError
from experiments import command, crashtest

FLAGS = flags.FLAGS
RUN = (
    "--method=td3_bc", "--preset=smoke", "--set=algorithm.hidden=8,8", "--offline_steps=4000",
    "--online_steps=2000", "--warmup=100", "--eval_every=500", "--eval_episodes=2",
    "--batch_size=32", "--seeds=4",
)  # fmt: skip
COLUMNS = ("run", "killed_host", "died_in", "exit_code", "seconds_to_exit", "last_line")
LONGEST_S = 600.0
# The command itself, saving as often as it can.
_TRAIN = """
import runpy
from enoto_jax.train import offline, record
record.SAVE_EVERY_S, record.SAVE_SHARE, offline.PATIENCE_S = 0.5, 0.2, 0.2
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
"""


def define() -> None:
    """The command's flags."""
    flags.DEFINE_integer("kills", 4, "How many in all.")
    flags.DEFINE_integer("seed", 0, "Of the moments.")
    flags.DEFINE_string("out", "runs/hosttest", "Folder of the runs; must be new.")


def main() -> None:
    """One process in peace, two in peace, two under fire."""
    out = command.new_folder(FLAGS.out)
    differences = lose(out, range(1, FLAGS.kills + 2), FLAGS.seed)
    if differences:
        raise RunError(f"{out}: {'; '.join(differences)}")


def lose(
    out: Path, numbers: Sequence[int], seed: int, arguments: tuple[str, ...] = RUN
) -> list[str]:
    """What differs from one process in runs of two: number 1 in peace, the others lose a host."""
    out.mkdir(parents=True)
    _end(start(out / "one", arguments, 1))
    rng, rows, differences = np.random.default_rng(seed), [], []
    for number in numbers:
        folder = out / f"run-{number}"
        if number > 1:
            host, phase = number % 2, ("offline", "online")[(number // 2) % 2]
            rows.append((number, host, *_kill(folder, arguments, host, phase, rng.uniform())))
            print(*rows[-1], sep=", ", flush=True)
        _end(start(folder, arguments, 2))
        found = list(crashtest.compare(out / "one", folder))
        print(f"{folder}: {'; '.join(found) or 'the same, bit for bit'}", flush=True)
        differences += [f"run {number}: {what}" for what in found]
    with open(out / "hosts.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return differences


def start(folder: Path, arguments: tuple[str, ...], count: int) -> list[subprocess.Popen]:
    """The run's processes; host i writes what it says to `<folder>.<i>.txt`."""
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(folder.parent.resolve() / "compiled")}
    compiled["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    compiled["JAX_NUM_CPU_DEVICES"] = "1"  # as a host of two has, so that one has the same bits
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
    """A port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _end(processes: list[subprocess.Popen]) -> None:
    codes = [process.wait(LONGEST_S) for process in processes]
    if any(codes):
        raise RunError(f"exit codes {codes}; see the log files")


def _kill(
    folder: Path, arguments: tuple[str, ...], host: int, phase: str, delay: float
) -> tuple[str, int, str, str]:
    """Kill one host; in which phase, and how the other one ended: code, seconds, last line."""
    processes = start(folder, arguments, 2)
    while crashtest.doing(folder) != phase:
        if any(process.poll() is not None for process in processes):
            raise RunError(f"{folder}: ended before it was killed; see the log files")
        time.sleep(0.01)
    time.sleep(2 * delay)
    died = crashtest.doing(folder)
    processes[host].kill()
    processes[host].wait()
    begun = time.monotonic()
    code = processes[1 - host].wait(LONGEST_S)
    took = time.monotonic() - begun
    said = Path(f"{folder}.{1 - host}.txt").read_text().strip().splitlines()
    if code != 1 or "is lost" not in said[-1]:
        raise RunError(f"{folder}: the other host ended with {code}: {said[-1]}")
    return died, code, f"{took:.1f}", said[-1]


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
