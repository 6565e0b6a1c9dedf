"""Every benchmark of a device in one call, into one folder: what to run first on a new machine.

python -m experiments.benchmarks.all --out=runs/bench_all

Updates (updates.py, with the plain loop, in both precisions), steps of the online loop
(bench_online.py) and of evaluations (bench_eval.py), and what more of everything costs
(bench_scale.py), one process after the other, each with the device to itself. A part that is there
is not measured again: after a kill, call it once more. Every part's figures appear at once, when
they are whole.

  about.json     devices, versions, the driver's own words, XLA_FLAGS, and each part's command
  updates.jsonl  updates.py's lines;  roofline.png draws them
  online.jsonl   bench_online.py's
  eval.jsonl     bench_eval.py's, with 1, 2, 4, ... processes, up to a core for each
  scale/         bench_scale.py's scale.csv and scale.png
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from absl import flags

from enoto_jax.cli import command
from enoto_jax.runs import provenance
from enoto_jax.runs.files import read_json, write_json
from enoto_jax.training.seeds import cores
from enoto_jax.types import InputError, RunError
from experiments.benchmarks import updates

FLAGS = flags.FLAGS


def define() -> None:
    """The command's flags."""
    rows = ["sac_n", "cql", "td3_bc", "iql", "enoto_cql"]
    updates.define_rows(rows, seeds=["1", "4"], rounds=3, seconds=0.5)
    flags.DEFINE_list("precision", ["float32", "bf16"], "float32, bf16; of the updates.")
    flags.DEFINE_string("env", "HalfCheetah-v4", "Gymnasium id, for the online loop.")
    flags.DEFINE_string("out", "runs/bench_all", "Folder; what is there already is kept.")


def main() -> None:
    """Measure the parts that are missing."""
    out = Path(FLAGS.out)
    parts = commands(out)
    _same(out, parts)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "about.json", _about(parts))
    for name, arguments in parts.items():
        if (out / name).exists():
            print(f"{out / name}: there already", flush=True)
            continue
        print(shlex.join(arguments), flush=True)
        unfinished = out / f"{name}.part"
        with open(unfinished, "w") as file:
            done = subprocess.run([sys.executable, *arguments[1:]], stdout=file, check=False)
        if done.returncode:
            raise RunError(f"{arguments[2]} has failed, see above; the same command goes on there")
        if name != "scale":  # its own command makes the folder; what it prints is there too
            unfinished.rename(out / name)
        else:
            unfinished.unlink()


def _same(out: Path, parts: dict[str, list[str]]) -> None:
    """Refuse to keep what another command has measured."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {out} is a file; give a folder")
    if not (out / "about.json").exists():
        return
    before = read_json(out / "about.json")["commands"]
    for name, arguments in parts.items():
        if (out / name).exists() and before[name] != shlex.join(arguments):
            raise InputError(f"--out: {out / name} comes of {before[name]}; give a new folder")


def commands(out: Path) -> dict[str, list[str]]:
    """Of every part, by the name of what it leaves in `out`."""
    found = [row for _, row, _ in updates.rows()]  # what is wrong is refused here, before anything
    changes = [f"--set={text}" for text in FLAGS.set]
    shared = [f"--rounds={FLAGS.rounds}", f"--seconds={FLAGS.seconds}", *changes]
    lists = ("method", "num_critics", "batch_size", "seeds")
    several = [f"--{name}={','.join(FLAGS[name].value)}" for name in lists]
    python = ["python", "-m"]
    phase = "online" if found[0].offline is None else "offline"
    processes = [2**i for i in range(cores().bit_length())]
    return {
        "updates.jsonl": [
            *python,
            "experiments.benchmarks.updates",
            *several,
            f"--precision={','.join(FLAGS.precision)}",
            "--baseline",
            "--json",
            f"--picture={out / 'roofline.png'}",
            *shared,
        ],
        "online.jsonl": [
            *python,
            "experiments.benchmarks.step_parts",
            *several,
            f"--env={FLAGS.env}",
            "--json",
            *shared,
        ],
        "eval.jsonl": [
            *python,
            "experiments.benchmarks.evaluations",
            *several,
            f"--env={FLAGS.env}",
            "--json",
            *shared,
            f"--processes={','.join(map(str, processes))}",
        ],
        "scale": [
            *python,
            "experiments.benchmarks.scaling",
            f"--method={FLAGS.method[0]}",
            f"--phase={phase}",
            f"--out={out / 'scale'}",
            *shared,
        ],
    }


def _about(parts: dict[str, list[str]]) -> dict:
    # Asked in processes that end: one that holds a GPU leaves the others no memory.
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
