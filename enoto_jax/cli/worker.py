"""What a Ray worker does: one run of a sweep, in its own process, with the train command."""

from __future__ import annotations

import csv
import os
import socket
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

import jax

from enoto_jax.cli import command, train
from enoto_jax.runs.lock import locked
from enoto_jax.types import InputError

COLUMNS = ("time", "node", "pid", "event")
LOCK_S = 180.0  # how long a file system may take to release the lock of a lost machine


class Failed(Exception):
    """The run ended with exit code 1 and is worth another attempt."""


def run_cell(
    arguments: tuple[str, ...], folder: Path, token: str, gpus: float, after: int = 0
) -> int:
    """Train one cell, or resume it; return the exit code.

    Args:
      arguments: The arguments of `enoto train`, without --out.
      folder: The run's folder; `attempts.csv` and `log.txt` in it record what happened.
      token: What the sweep wrote into its folder, which must also be this node's folder.
      gpus: The fraction of a GPU for this run.
      after: Exit code of the run that it waited for; unless it is 0, this run does not begin.

    Raises:
      Failed: The exit code is 1, or this node does not see the sweep's folder.
    """
    if after != command.DONE:
        return after
    if not (folder.parent / ".sweep").exists() or (folder.parent / ".sweep").read_text() != token:
        raise Failed(f"node {socket.gethostname()} cannot see {folder.parent}: it must be shared")
    if 0 < gpus < 1:  # JAX would take three quarters of the memory for every run
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 * gpus:.3f}")
    keep_compiled(folder.parent)
    until_free(folder)
    _note(folder, "begun")
    command.define_only(train)
    sys.argv = ["enoto train", *arguments, f"--out={folder}"]
    with (
        open(folder / "log.txt", "a", buffering=1) as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        code = command.execute(train.main, sys.argv)
    _note(folder, f"exit {code}")
    if code == command.FAILED:
        raise Failed(last_error(folder))
    return code


def keep_compiled(out: Path) -> None:
    """Let a machine's runs share their compiled programs, unless JAX already has a folder."""
    # One folder per machine, because programs fit its processor.
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = out / ".compiled" / socket.gethostname()
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def until_free(folder: Path) -> None:
    """Make the folder, or wait for an earlier attempt's lock, which may outlive its machine."""
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + LOCK_S
    while time.monotonic() < until:
        try:
            with locked(folder):
                return
        except InputError:
            time.sleep(1.0)


def attempts(folder: Path) -> list[dict[str, str]]:
    """Return the beginnings and ends of a run, oldest first; a killed attempt has no end."""
    try:
        with open(folder / "attempts.csv", newline="") as file:
            return list(csv.DictReader(file))
    except OSError:
        return []


def last_error(folder: Path) -> str:
    """Return the last error in the run's log."""
    try:
        lines = (folder / "log.txt").read_text(errors="replace").splitlines()
    except OSError:
        return "it never started"
    return next(
        (line for line in reversed(lines) if line.startswith("error:")), "no error reported"
    )


def _note(folder: Path, event: str) -> None:
    import ray  # installed only where there is a worker

    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    node = f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:6]}"
    with open(folder / "attempts.csv", "a", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            rows.writerow(COLUMNS)
        rows.writerow((now, node, os.getpid(), event))
