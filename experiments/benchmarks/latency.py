"""Measure the seconds from a process's start to the end of its first update, and their parts.

python -m experiments.benchmarks.latency --task=halfcheetah-medium.hdf5 --rounds=5

Each measurement is a fresh process that runs `enoto train` and is ended after its first call of
updates. A round has one cold start, with an empty compilation cache, and warm starts, which use the
cache of the cold one. `total` is what a user waits. The parts can overlap, when the command does
several things at once: `imports`, until the command is imported; `data`, reading and hashing;
`tracing`, up to the compiler's input; `compiling`, including reading the cache; `updates`, the
first call, of one block; `cpu`, CPU seconds of all threads. All values are medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from enoto_jax.types import RunError

PARTS = ("total", "imports", "data", "tracing", "compiling", "updates", "cpu")
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "tracing",
    "/jax/core/compile/backend_compile_duration": "compiling",
}
FLAGS = flags.FLAGS


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("task", None, "Data set, as enoto train takes it.")
    flags.DEFINE_string("method", "enoto_cql", "A name of the table.")
    flags.DEFINE_string("budget", "laptop", "Budget of enoto train.")
    flags.DEFINE_multi_string("flag", [], "One more flag of enoto train, without --; repeatable.")
    flags.DEFINE_integer("rounds", 3, "Interleaved rounds.")
    flags.DEFINE_integer("warm", 1, "Warm starts in a round.")
    flags.DEFINE_bool("json", False, "A JSON line per start instead of the table.")


def main() -> None:
    """Measure and print."""
    found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(FLAGS.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for number in range(1 + FLAGS.warm):
                found["warm" if number else "cold"].append(start(Path(folder), number))
    if FLAGS.json:
        for kind, starts in found.items():
            print("\n".join(json.dumps({"start": kind, **each}) for each in starts))
        return
    print(f"{'start':6}", *(f"{part:>10}" for part in PARTS))
    middle = {kind: medians(starts) for kind, starts in found.items() if starts}
    for kind, parts in middle.items():
        print(f"{kind:6}", *(f"{parts[part]:10.2f}" for part in PARTS))
    if len(middle) > 1:
        print("ratio ", *(f"{ratio(*middle.values(), part):>10}" for part in PARTS))


def medians(starts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each part."""
    return {part: statistics.median(each[part] for each in starts) for part in PARTS}


def ratio(cold: dict[str, float], warm: dict[str, float], part: str) -> str:
    """Return cold over warm; "-" if the part takes no time when warm."""
    return f"{cold[part] / warm[part]:.2f}" if warm[part] else "-"


def start(folder: Path, number: int) -> dict[str, float]:
    """Return one start's parts, in seconds.

    Raises:
      RunError: The start has failed; the text is the last line of its stderr.
    """
    arguments = [f"--method={FLAGS.method}", f"--budget={FLAGS.budget}", f"--out={folder}/{number}"]
    arguments += [f"--compilation_cache={folder}/compiled"]
    arguments += [f"--task={FLAGS.task}"] if FLAGS.task else []
    arguments += [f"--{text}" for text in FLAGS.flag]
    code = f"from {__spec__.name} import trained; trained({time.time()!r})"
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    if process.returncode or not process.stdout:
        raise RunError(process.stderr.strip().rpartition("\n")[2] or "ended without a word")
    return json.loads(process.stdout.splitlines()[-1])


def trained(begun: float) -> None:
    """Run `enoto train` with this process's arguments, and print the parts of its start as JSON."""
    sys.argv = ["enoto train", *sys.argv[1:]]
    from enoto_jax.cli import train

    spans: dict[str, list[tuple[float, float]]] = {part: [] for part in PARTS}
    spans["imports"].append((begun, time.time()))
    import jax

    from enoto_jax.data.source import Source
    from enoto_jax.runs.timing import Timing

    def heard(event: str, seconds: float, **_: Any) -> None:
        if event in EVENTS:
            spans[EVENTS[event]].append((time.time() - seconds, time.time()))

    def load(source: Source) -> Any:
        before = time.time()
        loaded = loads(source)
        spans["data"].append((before, time.time()))
        return loaded

    def count(timing: Timing, what: str, many: int) -> None:
        now = time.time()
        parts = {part: union(spans[part]) for part in PARTS}
        parts |= {"total": now - begun, "updates": timing.totals["update_s"]}
        print(json.dumps(parts | {"cpu": time.process_time()}), flush=True)
        os._exit(0)

    loads: Callable = Source.load
    Source.load, Timing.count = load, count  # type: ignore[method-assign]
    jax.monitoring.register_event_duration_secs_listener(heard)
    train.run_command()


def union(spans: Sequence[tuple[float, float]]) -> float:
    """Return the seconds that at least one of the spans covers."""
    total, until = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, until))
        until = max(until, ended)
    return total


if __name__ == "__main__":
    from enoto_jax.cli import command

    define()
    sys.exit(command.execute(main, sys.argv))
