"""Measure the parts of a step of the online loop, and compare the loop with their sum.

python -m experiments.benchmarks.step_parts --method=enoto_cql,iql --env=HalfCheetah-v4

Every round measures in turn: the environments alone; the update alone, with its inputs already on
the device; the loop itself, as `enoto train` runs it; and the loop with --overlap. Medians are
reported, in milliseconds per environment step of all seeds:

  env       one step of every environment
  update    from the call of the step's program until its action and its parameters are ready
  dispatch  the part of `update` until the call returns: Python and the runtime
  loop      a whole step
  host      the rest of a step, without its environments and its update: copies, bookkeeping
  overlap   a whole step with --overlap

The last two columns are loop / (env + update), and overlap / the larger of env and update.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from absl import flags

from enoto_jax.cli import command
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.recipes import units
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.training import online
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import Transform, transform
from enoto_jax.types import Spec
from experiments.benchmarks import rates, updates

FLAGS = flags.FLAGS
PARTS = ("env", "update", "dispatch", "host", "loop", "overlap")
HEAD = (
    "row                    N     B  S"
    + "".join(f"{part:>9}" for part in PARTS)
    + "  ms   loop/(env+update)  overlap/larger"
)


def define() -> None:
    """Define the command's flags."""
    updates.define_rows()
    flags.DEFINE_bool("json", False, "JSON lines instead of a table.")
    flags.DEFINE_string("env", "HalfCheetah-v4", "Gymnasium id.")


def main() -> None:
    """Measure every combination of the flags."""
    spec = updates.env_spec()
    if not FLAGS.json:
        print(HEAD)
    for method, row, seeds in updates.rows():
        _report({"method": method, **measure(row, seeds, spec)})


def measure(row: Recipe, seeds: int, spec: Spec) -> dict[str, Any]:
    """Return one line: medians over the rounds of the times and of the rounds' ratios."""
    seed_map = SeedMap(range(seeds))
    plain, overlapped = _Loop(row, seed_map, spec), _Loop(row, seed_map, spec, overlap=True)
    world = transform()(spec, None)
    update = _updates(row, seed_map, spec)
    envs = SeedEnvs(FLAGS.env, seed_map.seeds, world)
    envs.begin()
    for run in (plain, overlapped):  # compiles
        run(world, 1)
    found = defaultdict(list)
    for _ in range(FLAGS.rounds):
        env = _seconds(lambda: envs.step(np.zeros((seeds, spec.action_size), np.float32)))
        whole, dispatch = update()
        steps = max(2, int(FLAGS.seconds / (env + whole)))
        loop, beside = plain(world, steps), overlapped(world, steps)
        parts = (env, whole, dispatch, loop - env - whole, loop, beside)
        for part, seconds in zip(PARTS, parts):
            found[part].append(1e3 * seconds)
        found["loop_over_sum"].append(loop / (env + whole))
        found["overlap_over_larger"].append(beside / max(env, whole))
    envs.close()
    medians = {name: round(float(np.median(values)), 3) for name, values in found.items()}
    algorithm = units.children(row.online.algorithm)
    about = {"num_critics": algorithm.get("n", 0), "batch_size": row.online.batch_size}
    device = jax.devices()[0].device_kind
    return {**about, "seeds": seeds, **medians, "env_id": FLAGS.env, "device": device}


def _seconds(run: Callable[[], Any]) -> float:
    """Seconds of a call, measured over at least half of --seconds."""
    return 1.0 / rates.Clock(1, FLAGS.seconds / 2).rate(run, 1)


def _updates(row: Recipe, seeds: SeedMap, spec: Spec) -> Callable[[], tuple[float, float]]:
    """A measurement, over half of --seconds, of a step's program: whole, and until it returns."""
    run, updates, _ = rates.online_updates(build(row, spec), row.online, seeds, spec)
    calls = updates // row.online.utd

    def measured() -> tuple[float, float]:
        whole, returned, count = 0.0, 0.0, 0
        while count == 0 or whole < FLAGS.seconds / 2:
            begun = time.perf_counter()
            results = run()
            returned += time.perf_counter() - begun
            jax.block_until_ready(results)
            whole += time.perf_counter() - begun
            count += calls
        return whole / count, returned / count

    return measured


class _Loop:
    """`online.train` itself, run repeatedly from the start of its phase, without any files."""

    def __init__(self, row: Recipe, seeds: SeedMap, spec: Spec, overlap: bool = False):
        built = build(row, spec)
        # It learns once per step, from the first step on, as in the steady state.
        changes = {"warmup": 0, "catch_up": 0, "random_steps": 0, "overlap": overlap}
        self._phase = dataclasses.replace(row.online, **changes)
        self._built, self._seeds, self._program = built, seeds, None
        needed = rates.ROWS if built.replay.needs_data else 0
        self._data = seeds.share(rates.data_set(spec, built.online)) if needed else None
        replay = built.replay
        begin = online.begin(built.online, replay, spec, row.online.batch_size, needed)
        begin, numbers = seeds.compile(begin), seeds.put(seeds.seeds)
        self._online = begin(rates.fresh(built.online, seeds), numbers)

    def __call__(self, world: Transform, steps: int) -> float:
        """Return the seconds per step."""
        began = []

        @contextlib.contextmanager
        def timed(what: str):
            if what == "env" and not began:
                began.append(time.perf_counter())
            yield

        def compiled(program, *arguments):
            if self._program is None:
                self._program = program.lower(*arguments).compile()
            return self._program

        no, nothing = (lambda *_: False), (lambda *_: "")
        timing = SimpleNamespace(
            timed=timed,
            compiled=compiled,
            count=nothing,
            totals=defaultdict(float),
            wall=lambda: 0.0,
        )
        record = SimpleNamespace(
            seeds=self._seeds,
            transform=world,
            timing=timing,
            programs=nothing,
            due=no,
            evaluate=nothing,
            look=nothing,
            write=nothing,
            leave_if_asked=nothing,
            leave=nothing,
        )
        phase = dataclasses.replace(self._phase, steps=steps, eval_every=steps)
        built = self._built
        with contextlib.redirect_stderr(io.StringIO()):  # the progress bar
            self._online = online.train(
                phase, built.online, built.replay, self._online, self._data, FLAGS.env, record
            )
        jax.block_until_ready(self._online)
        return (time.perf_counter() - began[0]) / steps


def _report(line: dict[str, Any]) -> None:
    if FLAGS.json:
        print(json.dumps(line), flush=True)
        return
    print(
        f"{line['method']:20} {line['num_critics']:3} {line['batch_size']:5} {line['seeds']:2}"
        + "".join(f"{line[part]:9.2f}" for part in PARTS)
        + f" {line['loop_over_sum']:22.2f} {line['overlap_over_larger']:15.2f}",
        flush=True,
    )


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
