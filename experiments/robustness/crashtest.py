"""Kill a run again and again, and compare its files with those of an undisturbed run.

python -m experiments.robustness.crashtest --kills=20 --out=runs/crashtest

A small ENOTO-CQL run on the data set in the package is killed (SIGKILL) while it starts, trains
offline, hands over, trains online, saves and evaluates, at random moments. The same command then
resumes it. Parameters, optimisers, replay, environments, metrics.csv, summary.json and
evaluations.csv (except its clock) must be those of the undisturbed run, bit for bit. When a run
ends before the last kill, it is compared and the next run begins. The exit code is 1 if any run
differs.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import flags

from enoto_jax.cli import command, train
from enoto_jax.runs import saving
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.files import read_csv
from enoto_jax.training import offline
from enoto_jax.types import InputError, RunError

FLAGS = flags.FLAGS
PHASES = ("offline", "saving", "hand-over", "starting", "online", "evaluating")
RUN = (
    "--method=enoto_cql",
    "--preset=smoke",
    "--set=algorithm.hidden=16,16",
    "--num_critics=3",
    "--offline_steps=2000",
    "--online_steps=600",
    "--eval_every=200",
    "--eval_episodes=20",
    "--batch_size=32",
    "--seeds=2",
)
COLUMNS = ("run", "aimed_at", "delay_s", "died_in", "resumed_from")
LONGEST_S = 600.0  # a run that takes longer has hung
LOOK_EVERY_S = 0.01  # between looks at the files; a save, the shortest phase, takes about 50 ms
PRELOAD = (  # what each process would otherwise import itself
    "experiments.train",
    "gymnasium.envs.mujoco.inverted_double_pendulum_v5",
    "matplotlib.backends.backend_agg",
    "enoto_jax.report.curves",
)


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_integer("kills", 20, "How many kills in all.")
    flags.DEFINE_integer("seed", 0, "Seed of the moments of the kills.")
    flags.DEFINE_string("out", "runs/crashtest", "Folder of the runs; must be new.")


def main() -> None:
    """Run once undisturbed, then with kills, and compare."""
    if FLAGS.kills < 1:
        raise InputError("--kills must be at least 1")
    out = command.new_folder(FLAGS.out)
    differences = crash(out, FLAGS.kills, FLAGS.seed, RUN)
    if differences:
        raise RunError(f"{out}: {'; '.join(differences)}")


def crash(out: Path, kills: int, seed: int, arguments: tuple[str, ...]) -> list[str]:
    """Kill runs, and return what differs; `<out>/kills.csv` lists the kills."""
    rng, rows, differences, number = np.random.default_rng(seed), [], [], 0
    out.mkdir(parents=True)
    if _start(out / "peace", arguments).join(LONGEST_S) or not _finished(out / "peace"):
        raise RunError(f"{out / 'peace'}: the undisturbed run did not end; see log.txt there")
    while len(rows) < kills:
        number += 1
        folder, process = out / f"run-{number}", None
        while not _finished(folder):
            process = _start(folder, arguments)
            if len(rows) < kills:
                aim, delay = PHASES[len(rows) % len(PHASES)], float(rng.uniform(0.0, 1.0))
                died = _kill(process, folder, aim, delay)
                if died:
                    rows.append((number, aim, f"{delay:.2f}", died, resumed_from(folder)))
                    print(*rows[-1], file=sys.stderr, flush=True)
            process.join(LONGEST_S)
            if process.exitcode not in (0, -9):
                raise RunError(f"{folder}: exit code {process.exitcode}; see log.txt there")
        found = list(compare(out / "peace", folder))
        print(f"{folder}: {'; '.join(found) or 'the same, bit for bit'}", flush=True)
        differences += [f"run {number}: {what}" for what in found]
    with open(out / "kills.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    return differences


def compare(one: Path, two: Path) -> Iterator[str]:
    """Yield what differs between two finished runs, apart from clocks."""
    for name in ("metrics.csv", "summary.json"):
        if (one / name).read_bytes() != (two / name).read_bytes():
            yield name
    tables = (read_csv(folder / "evaluations.csv") for folder in (one, two))
    mine, theirs = ([{**row, "wall_s": ""} for row in table] for table in tables)
    if mine != theirs:
        yield "evaluations.csv"
    for kind in ("latest", "handover", "best"):
        if not _same(_state(one, kind), _state(two, kind)):
            yield f"the arrays of checkpoints/{kind}"
    positions = [_record(folder)["position"] for folder in (one, two)]
    if positions[0] != positions[1]:
        yield "environments or actions of the last checkpoint"


def _start(folder: Path, arguments: tuple[str, ...]) -> multiprocessing.Process:
    """Start the run in its own process, forked from one that has only done the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD])
    process = context.Process(target=_run, args=(folder, arguments))
    process.start()
    return process


def _run(folder: Path, arguments: tuple[str, ...]) -> None:
    """Do what `experiments.train` does, with frequent saves and short calls."""
    jax.config.update("jax_compilation_cache_dir", str(folder.parent.resolve() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    saving.SAVE_EVERY_S, saving.SAVE_SHARE, offline.PATIENCE_S = 0.5, 0.2, 0.2
    command.define_only(train)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "a") as log, redirect_stdout(log), redirect_stderr(log):
        code = command.execute(train.main, ["experiments.train", *arguments, f"--out={folder}"])
    os._exit(code)


def _kill(process: multiprocessing.Process, folder: Path, aim: str, delay: float) -> str:
    """Kill the run in phase `aim`; what it was doing when it died, "" if it ended before that."""
    begun = time.monotonic()
    while aim != "starting" and doing(folder) != aim:
        if not process.is_alive() or time.monotonic() > begun + LONGEST_S:
            return ""
        time.sleep(LOOK_EVERY_S)
    if aim in ("offline", "online"):  # the other phases are too short to wait
        time.sleep(delay)
    elif aim == "evaluating":
        time.sleep(0.1 * delay)
    elif aim == "starting":
        time.sleep(4.0 * delay)
    died = "starting" if aim == "starting" else doing(folder)
    process.kill()
    process.join()
    return died if process.exitcode == -9 else ""


def doing(folder: Path) -> str:
    """Return what a run is doing at this moment, judged by its files."""
    checkpoints = folder / "checkpoints"
    if not (checkpoints / "best").exists():
        return "starting"
    if any((checkpoints / "handover").glob("*tmp*")):
        return "hand-over"
    if any((checkpoints / "latest").glob("*tmp*")):
        return "saving"
    measured, evaluated = (_last(folder / f"{name}.csv") for name in ("metrics", "evaluations"))
    if measured > evaluated and evaluated != (1, 0):
        return "evaluating"
    if (checkpoints / "handover" / "0").exists():
        return "online" if evaluated > (1, 0) else "hand-over"
    return "offline"


def _last(path: Path) -> tuple[int, int]:
    """The last whole row's phase (1 is online) and step."""
    rows = read_csv(path) if path.exists() else []
    if not rows:
        return 0, 0
    return "online" in rows[-1].get("phase", rows[-1].get("name", "")), int(rows[-1]["step"])


def resumed_from(folder: Path) -> str:
    found = _record(folder)
    return f"{found['phase']} {found['step']}" if found else "nothing"


def _record(folder: Path) -> dict[str, Any] | None:
    checkpoints = Checkpoints(folder / "checkpoints")
    found = checkpoints.record()
    checkpoints.close()
    return found


def _state(folder: Path, kind: str) -> Any:
    kept = [int(p.name) for p in (folder / "checkpoints" / kind).iterdir() if p.name.isdigit()]
    if not kept:  # a run without an offline phase has no hand-over
        return None
    path = folder / "checkpoints" / kind / str(max(kept)) / "state"
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path.resolve())


def _same(one: Any, two: Any) -> bool:
    if jax.tree.structure(one) != jax.tree.structure(two):
        return False
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(two))
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in leaves)


def _finished(folder: Path) -> bool:
    return (folder / "summary.json").exists()


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
