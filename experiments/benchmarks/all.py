"""Run every benchmark of a device into one folder: what to run first on a new machine.

python -m experiments.benchmarks.all --out=runs/bench_all
python -m experiments.benchmarks.all --out=runs/bench_all --minutes=8

It measures updates (with the plain loop, in both precisions), steps of the online loop and of
evaluations, each method in a process that has the device to itself, and how the cost grows with
each size. Finished parts are not measured again, so the same command continues after a kill or
after `--minutes`, for a machine that is available for a limited time.

  about.json      devices, versions, the driver, XLA_FLAGS, and the command of each part
  updates/        output of updates.py, a file per method;  roofline.png draws all of it
  online/         output of step_parts.py
  evaluations/    output of evaluations.py with 1, 2, 4, ... processes, up to one per core
  scale/          scale.csv and scale.png of scaling.py
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from enoto_jax.cli import command
from enoto_jax.runs import provenance
from enoto_jax.runs.files import read_json, write_json
from enoto_jax.training.seeds import cores
from enoto_jax.types import InputError, RunError
from experiments.benchmarks import updates

FLAGS = flags.FLAGS
SIZES = ("num_critics", "batch_size", "seeds")


def define() -> None:
    """Define the command's flags."""
    rows = ["sac_n", "cql", "td3_bc", "iql", "enoto_cql"]
    updates.define_rows(rows, seeds=["1", "4"], rounds=3, seconds=0.5)
    flags.DEFINE_list("precision", ["float32", "bf16"], "float32, bf16: of the updates.")
    flags.DEFINE_string("env", "HalfCheetah-v4", "Gymnasium id, for the online loop.")
    flags.DEFINE_string("out", "runs/bench_all", "Folder; what is there already is kept.")
    about = "Stop after this many minutes; the same command continues."
    flags.DEFINE_float("minutes", None, about, 0.0)


def main() -> None:
    """Measure the parts that are missing."""
    until = None if FLAGS.minutes is None else time.monotonic() + 60.0 * FLAGS.minutes
    out = Path(FLAGS.out)
    parts = commands(out)
    about = _about(parts)
    _same(out, parts, about)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "about.json", about)
    missing = [name for name in parts if not _whole(out / name)]
    for number, name in enumerate(missing):
        print(shlex.join(parts[name]), flush=True)
        if not _measure(out / name, parts[name], until):
            if number == 0:
                raise RunError(f"{name} alone takes longer than --minutes={FLAGS.minutes:g}")
            print(f"time is up; left: {', '.join(missing[number:])}; the same command continues")
            break
    files = sorted((out / "updates").glob("*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    if lines:
        updates.roofline(lines, out / "roofline.png")


def _unfinished(part: Path) -> Path:
    """The file of a part's output until the part is complete; while it exists, the part is not."""
    return part.with_name(f"{part.name}.part")


def _whole(part: Path) -> bool:
    return part.exists() and not _unfinished(part).exists()


def _measure(part: Path, arguments: list[str], until: float | None) -> bool:
    """Measure one part; False if the time is up before it is complete.

    Raises:
      RunError: The part's command has failed.
    """
    part.parent.mkdir(exist_ok=True)
    shutil.rmtree(part, ignore_errors=True)  # left by an incomplete part
    left = None if until is None else max(0.0, until - time.monotonic())
    with open(_unfinished(part), "w") as file:
        try:
            own = [sys.executable, *arguments[1:]]
            done = subprocess.run(own, stdout=file, check=False, timeout=left)
        except subprocess.TimeoutExpired:
            return False
    if done.returncode:
        raise RunError(f"{arguments[2]} failed, see above; the same command continues there")
    if part.is_dir():  # made by its own command
        _unfinished(part).unlink()
    else:
        _unfinished(part).rename(part)
    return True


def _same(out: Path, parts: dict[str, list[str]], about: dict) -> None:
    """Refuse to keep what another command, device or version has measured."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {out} is a file; give a folder")
    if not (out / "about.json").exists():
        return
    old = read_json(out / "about.json")
    before = old["commands"]
    for key in ("devices", "driver", "versions") if any(_whole(out / x) for x in parts) else ():
        if old.get(key) != about[key]:
            raise InputError(
                f"--out: {out} was measured with other {key}: {old.get(key)}, now {about[key]}; "
                "give a new folder"
            )
    for name, arguments in parts.items():
        if _whole(out / name) and before.get(name) != shlex.join(arguments):
            raise InputError(f"--out: {out / name} comes of {before.get(name)}; give a new folder")


def commands(out: Path) -> dict[str, list[str]]:
    """Return the command of every part, by the name of its file or folder in `out`."""
    found = [row for _, row, _ in updates.rows()]  # refuses wrong flags before anything is measured
    shared = [f"--rounds={FLAGS.rounds}", f"--seconds={FLAGS.seconds}"]
    shared += [f"--set={text}" for text in FLAGS.set]
    several = [f"--{name}={','.join(FLAGS[name].value)}" for name in SIZES]
    processes = [2**i for i in range(cores().bit_length())]
    precision = f"--precision={','.join(FLAGS.precision)}"
    own = {
        "updates": ["updates", precision, "--baseline"],
        "online": ["step_parts", f"--env={FLAGS.env}"],
        "evaluations": [
            "evaluations",
            f"--env={FLAGS.env}",
            f"--processes={','.join(map(str, processes))}",
        ],
    }
    parts = {
        f"{place}/{method}.jsonl": [program, f"--method={method}", *several, *flags_, "--json"]
        for place, (program, *flags_) in own.items()
        for method in FLAGS.method
    }
    phase = "online" if found[0].offline is None else "offline"
    parts["scale"] = ["scaling", f"--method={FLAGS.method[0]}", f"--phase={phase}"]
    parts["scale"] += [f"--out={out / 'scale'}"]
    return {
        name: ["python", "-m", f"experiments.benchmarks.{program}", *flags_, *shared]
        for name, (program, *flags_) in parts.items()
    }


def _about(parts: dict[str, list[str]]) -> dict:
    # Ask in a process that ends: one that holds a GPU leaves no memory for others.
    devices = _said([sys.executable, "-c", "import jax; print(*jax.devices(), sep='\\n')"])
    ask = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return {
        "devices": devices,
        "driver": _said(ask) if shutil.which(ask[0]) else [],
        "cores": os.cpu_count(),
        "versions": provenance.versions(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "commands": {name: shlex.join(arguments) for name, arguments in parts.items()},
    }


def _said(arguments: list[str]) -> list[str]:
    """The lines that a command prints."""
    return subprocess.run(
        arguments, capture_output=True, text=True, check=False
    ).stdout.splitlines()


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
