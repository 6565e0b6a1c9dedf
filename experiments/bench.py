"""Measure updates per second beside the device's own matrix-product rate, in one run.

python -m experiments.bench --method sac_n --num_critics 10

Every figure is a median over interleaved rounds: one round times a plain float32 product of
2048 x 2048, a sum of two long arrays, and a block of updates, so that a machine that slows down
slows all. On a machine that others use, pin one core and count its own seconds:

taskset -c 1 python -m experiments.bench --clock=cpu
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from enoto_jax import core, flops, registry
from enoto_jax.recipes import Phase, Recipe, build, example_batch, example_transition
from enoto_jax.rows import recipe
from enoto_jax.train import offline, online
from enoto_jax.train.seeds import SeedMap, stream, use_cores
from enoto_jax.types import InputError, Spec, Transition
from experiments import command

FLAGS = flags.FLAGS
SIZE = 2048
ROWS = 100_000
LONG = 2**24  # floats of an array that fits no cache
HEAD = "row                  phase      N     B  S precision updates/s of matmul of roofline"


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def define() -> None:
    """The command's flags."""
    flags.DEFINE_list("method", ["sac_n", "enoto_cql", "cql", "sac"], "Rows of the table.")
    flags.DEFINE_list("phase", ["offline", "online"], "offline, online.")
    flags.DEFINE_list("num_critics", [], "N; the row's own by default.")
    flags.DEFINE_list("batch_size", ["256"], "Transitions per update.")
    flags.DEFINE_list("seeds", ["1"], "Seeds side by side.")
    flags.DEFINE_list("precision", ["float32"], "float32, bf16.")
    flags.DEFINE_string("clock", "wall", "wall, or cpu: this process's own seconds (one core).")
    flags.DEFINE_multi_string("set", [], "path=value, as in experiments.train.")
    flags.DEFINE_list("sizes", ["17", "6"], "Observation and action size (HalfCheetah's).")
    flags.DEFINE_integer("rounds", 5, "Interleaved rounds; medians are reported.")
    flags.DEFINE_float("seconds", 1.0, "Least length of one measurement.")
    flags.DEFINE_bool("json", False, "JSON lines instead of a table.")


def main() -> None:
    """Measure every combination of the flags."""
    if FLAGS.clock not in CLOCKS:
        raise InputError(f"--clock: {FLAGS.clock!r}; choose {' or '.join(CLOCKS)}")
    spec = Spec(*_numbers("sizes"))
    use_cores(max(_numbers("seeds"), default=1))
    if not FLAGS.json:
        print(HEAD)
    for method in FLAGS.method:
        for phase in FLAGS.phase:
            if phase not in ("offline", "online"):
                raise InputError(f"--phase: {phase!r}; choose offline or online")
            for n in _numbers("num_critics") or [None]:
                for batch_size in _numbers("batch_size"):
                    row = _row(method, n, batch_size)
                    if getattr(row, phase) is None:
                        continue
                    for seeds in _numbers("seeds"):
                        for precision in FLAGS.precision:
                            row = registry.override(row, "precision", precision)
                            _report(method, measure(row, phase, seeds, spec))


def _numbers(flag: str) -> list[int]:
    try:
        return [int(text) for text in FLAGS[flag].value]
    except ValueError as error:
        raise InputError(f"--{flag}: {error}") from error


def _row(method: str, n: int | None, batch_size: int) -> Recipe:
    row = registry.override(recipe(method), "batch_size", batch_size)
    row = registry.override(row, "online.replay.capacity", ROWS)
    if n is not None:
        row = registry.override(row, "algorithm.n", n)
    for text in FLAGS.set:
        row = registry.override(row, *text.split("=", 1))
    return row


def measure(row: Recipe, phase: str, seeds: int, spec: Spec) -> dict[str, Any]:
    """One line of the benchmark: medians over interleaved rounds."""
    seed_map = SeedMap(range(seeds))
    built, settings = build(row, spec), getattr(row, phase)
    begun = time.perf_counter()
    make = _offline if phase == "offline" else _online
    run, updates, program = make(built, settings, seed_map, spec)
    compile_s = time.perf_counter() - begun
    product, stream_of = _matmul(), _addition()
    rates, products, streams = [], [], []
    for _ in range(FLAGS.rounds):
        products.append(_rate(product, 2 * SIZE**3))
        streams.append(_rate(stream_of, 3 * 4 * LONG))
        rates.append(_rate(run, updates * seeds))
    needed = flops.per_update(settings.algorithm, spec, settings.batch_size)
    moved = _moved(built, phase, settings.batch_size, spec)
    # An update takes at least its arithmetic at the product's rate, and its bytes at the stream's.
    limits = [max(needed / p, (moved or 0) / b) for p, b in zip(products, streams)]
    return {
        "phase": phase,
        "num_critics": settings.algorithm.resolved().get("n", 0),
        "batch_size": settings.batch_size,
        "seeds": seeds,
        "precision": row.precision,
        "updates_per_s": round(float(np.median(rates)), 2),
        "flop_per_update": needed,
        "matmul_rate": round(float(np.median(products)) / 1e9, 1),
        "fraction_of_matmul_rate": _fraction(needed * r / p for r, p in zip(rates, products)),
        "bytes_per_update": moved,
        "intensity": moved and round(needed / moved, 2),
        "bandwidth": round(float(np.median(streams)) / 1e9, 2),
        "fraction_of_roofline": _fraction(limit * r for limit, r in zip(limits, rates)),
        "clock": FLAGS.clock,
        "compile_s": round(compile_s, 2),
        "peak_bytes": _memory(program),
        "device": jax.devices()[0].device_kind,
    }


def _fraction(parts) -> float:
    return round(float(np.median(list(parts))), 3)


def _rate(run: Callable[[], Any], amount: int) -> float:
    """Amount per second, over at least --seconds."""
    clock = CLOCKS[FLAGS.clock]
    count, begun = 0, clock()
    while count == 0 or clock() - begun < FLAGS.seconds:
        jax.block_until_ready(run())
        count += 1
    return count * amount / (clock() - begun)


def _matmul() -> Callable[[], Any]:
    x = jnp.ones((SIZE, SIZE))
    product = jax.jit(lambda x: x @ x)
    jax.block_until_ready(product(x))
    return lambda: product(x)


def _addition() -> Callable[[], Any]:
    """Two arrays read and one written, 3 x 4 x LONG bytes."""
    x = jnp.ones(LONG)
    add = jax.jit(lambda x, y: x + y, donate_argnums=0)
    held = [add(x + 1.0, x)]

    def run():
        held[0] = add(held[0], x)
        return held[0]

    return run


def _moved(built, phase: str, batch_size: int, spec: Spec) -> int | None:
    """Bytes that one update's operations read and write, as the compiler estimates it.

    Of the update alone: a gather would count the whole data set that it draws from.
    """
    algorithm = getattr(built, phase)
    state = jax.eval_shape(lambda: core.init(algorithm, jax.random.key(0)))
    if phase == "offline":
        count = batch_size * (algorithm.agents or 1)
        batch = jax.eval_shape(lambda: example_transition(spec, algorithm, count))
    else:
        batch = example_batch(spec, algorithm, built.replay, batch_size)
    key = jax.eval_shape(lambda: jax.random.key(0))
    update = jax.jit(lambda s, b, k: core.update(algorithm, s, b, k), donate_argnums=0)
    costs = update.lower(state, batch, key).compile().cost_analysis()
    found = (costs[0] if isinstance(costs, list) else costs or {}).get("bytes accessed")
    return found and int(found)


def _data(spec: Spec) -> Transition:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(2, ROWS, spec.observation_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (ROWS, spec.action_size)).astype(np.float32)
    flags_off = np.zeros(ROWS, bool)
    reward = normal[0, :, 0].copy()
    return Transition(normal[0], action, reward, flags_off, flags_off.copy(), normal[1])


def _fresh(algorithm: core.Algorithm, seeds: SeedMap) -> core.TrainState:
    make = seeds.compile(lambda seed: core.init(algorithm, stream(seed, "init")))
    return make(seeds.put(seeds.seeds))


def _offline(built, phase: Phase, seeds: SeedMap, spec: Spec):
    length = 20
    state, data = _fresh(built.offline, seeds), seeds.share(_data(spec))
    numbers, start = seeds.put(seeds.seeds), seeds.share(np.int32(0))
    one = seeds.share(np.int32(1))
    blocks = offline.compile_blocks(built.offline, phase.batch_size, length, seeds)
    blocks = blocks.lower(state, numbers, start, one, data).compile()
    held = [state]

    def run():
        held[0], metrics = blocks(held[0], numbers, start, one, data)
        return metrics

    jax.block_until_ready(run())
    return run, length, blocks


def _online(built, phase: Phase, seeds: SeedMap, spec: Spec):
    algorithm, count = built.online, len(seeds.seeds)
    rows = ROWS if built.replay.needs_data else 0
    begin = online.begin(algorithm, built.replay, spec, phase.batch_size, rows)
    numbers = seeds.put(seeds.seeds)
    held = [seeds.compile(begin)(_fresh(algorithm, seeds), numbers)]
    one = example_transition(spec, algorithm)._replace(extras={})
    transition = seeds.put(jax.tree.map(lambda x: np.zeros((count, *x.shape), x.dtype), one))
    starts = seeds.put(np.zeros(count, bool))
    # As many steps as the longest delay, so that its rare updates have their share.
    period = max(algorithm.delays.values(), default=1)
    steps = [seeds.share(np.int32(phase.warmup + 1_000 + i)) for i in range(period)]
    data = seeds.share(_data(spec)) if built.replay.needs_data else None
    learn = seeds.share(np.bool_(True))
    before, after = (numbers, transition, transition.observation, starts), (learn, data)
    step = online.compile_step(phase, algorithm, built.replay, seeds)
    step = step.lower(held[0], *before, steps[0], *after).compile()

    def run():
        for t in steps:
            held[0], action = step(held[0], *before, t, *after)
        return action

    jax.block_until_ready(run())
    return run, period * phase.utd, step


def _memory(compiled) -> int | None:
    """Bytes of arguments and temporaries, where the backend tells."""
    analysis = compiled.memory_analysis()
    return analysis and analysis.argument_size_in_bytes + analysis.temp_size_in_bytes


def _report(method: str, line: dict[str, Any]) -> None:
    if FLAGS.json:
        print(json.dumps({"method": method, **line}), flush=True)
        return
    print(
        f"{method:20} {line['phase']:8} {line['num_critics']:3} {line['batch_size']:5} "
        f"{line['seeds']:2} {line['precision']:9} {line['updates_per_s']:9.1f} "
        f"{line['fraction_of_matmul_rate']:9.0%} {line['fraction_of_roofline']:11.0%}",
        flush=True,
    )


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
