"""Measure how long a data set takes to load, and its peak memory.

python -m experiments.benchmarks.data walker2d-medium.hdf5 --rows=1000000

With --rows the file's rows are repeated up to that number in a temporary file, compressed as D4RL's
files are. Loading runs in its own process. The peak is the highest resident memory according to
Linux (VmHWM) minus the resident memory before, and is compared with the transitions' size in
float32.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from absl import flags

from enoto_jax.cli import command
from enoto_jax.data import files
from enoto_jax.data.formats import d4rl
from enoto_jax.types import InputError

FLAGS = flags.FLAGS
_LOAD = """
import json, re, sys, time
from enoto_jax.data import load_source

def status(key):
    return 1024 * int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

source = load_source(sys.argv[1])
open("/proc/self/clear_refs", "w").write("5")  # the peak so far, of imports, is forgotten
before, begun = status("VmRSS"), time.perf_counter()
rows = len(source.load())
seconds = time.perf_counter() - begun
peak = status("VmHWM") - before
size = 4 * rows * (2 * source.spec.observation_size + source.spec.action_size + 1)
print(json.dumps({
    "rows": rows, "seconds": round(seconds, 2), "float32_mb": round(size / 1e6, 1),
    "peak_mb": round(peak / 1e6, 1), "ratio": round(peak / size, 3),
}))
"""


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("task", None, "As in experiments.train; may be given without the flag.")
    flags.DEFINE_integer("rows", None, "Repeat a file's rows up to this many.")


def main() -> None:
    """Load the file in a fresh process and print one JSON line."""
    if not FLAGS.task or not Path("/proc/self/clear_refs").exists():
        raise InputError("--task: give a data set; peaks are measured on Linux alone")
    with tempfile.TemporaryDirectory() as folder:
        task = FLAGS.task
        if FLAGS.rows is not None:
            if FLAGS.rows < 1:
                raise InputError("--rows must be at least 1")
            path = Path(task)
            task = repeat(path, FLAGS.rows, Path(folder) / path.with_suffix(".hdf5").name)
        print(json.dumps({"task": FLAGS.task, **measure(task)}))


def repeat(path: Path, wanted: int, out: Path) -> Path:
    """Write `out`, a file of `wanted` rows, which repeats the rows of `path`; return its path."""
    arrays = files.read(d4rl.opened, path).arrays
    take = np.arange(wanted) % len(arrays["rewards"])
    with h5py.File(out, "w") as file:
        for key, array in arrays.items():
            chunks = (min(wanted, 10_000), *array.shape[1:])
            file.create_dataset(
                key, data=array[take], chunks=chunks, compression="gzip", compression_opts=1
            )
    return out


def measure(task: str | Path) -> dict:
    """Return the seconds and the peak memory of loading a data set in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(task)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InputError(f"{task}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv, positional="task"))
