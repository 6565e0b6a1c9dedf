"""What the benchmarks share: the rate of updates, compared with what the device can do.

Every value is a median over interleaved rounds: one round times a plain float32 product of
2048 x 2048, a sum of two long arrays, and the updates, so that a machine that slows down slows
all of them. `experiments/benchmarks/flops.py` counts the operations that an update needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax import core
from enoto_jax.recipes import examples
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import Phase, Recipe
from enoto_jax.runs.streams import stream
from enoto_jax.training import offline, online
from enoto_jax.training.seeds import SeedMap
from enoto_jax.types import Spec, Transition
from experiments.benchmarks import flops

SIZE = 2048
ROWS = 100_000
LONG = 2**24  # floats of an array that does not fit into a cache
BLOCK = 20  # updates in a call of the offline program
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Clock(NamedTuple):
    """How long and by which clock to measure.

    Attributes:
      rounds: The number of interleaved rounds; medians are reported.
      seconds: Minimum length of one measurement.
      now: Returns the clock's time, in seconds.
    """

    rounds: int
    seconds: float
    now: Callable[[], float] = time.perf_counter

    def rate(self, run: Callable[[], Any], amount: float) -> float:
        """Return the rate of a call that does `amount`, per second, over at least `seconds`."""
        count, begun = 0, self.now()
        while count == 0 or self.now() - begun < self.seconds:
            jax.block_until_ready(run())
            count += 1
        return count * amount / (self.now() - begun)


def measure(
    row: Recipe,
    phase: str,
    seeds: int,
    spec: Spec,
    clock: Clock,
    plain: bool = False,
    rows: int = ROWS,
) -> dict[str, Any]:
    """Measure one line of a benchmark.

    Args:
      row: The recipe of a method.
      phase: "offline" or "online".
      seeds: How many seeds train together.
      spec: Sizes of observations and actions.
      clock: How long to measure.
      plain: Also time the loop of `plain_loop`.
      rows: Rows of the data set.
    """
    seed_map = SeedMap(range(seeds))
    built, settings = build(row, spec), getattr(row, phase)
    begun = time.perf_counter()
    make = offline_updates if phase == "offline" else online_updates
    run, updates, program = make(built, settings, seed_map, spec, rows)
    compile_s = time.perf_counter() - begun
    product, stream_of = matmul(), addition()
    algorithm = getattr(built, phase)
    if phase == "online":  # batches with more than rows of the data are not compared
        batch = examples.batch(spec, algorithm, built.replay, settings.batch_size)
        plain = plain and not set(batch.extras) - set(examples.transition(spec, algorithm).extras)
    plain = plain and algorithm.chunk is None  # the plain loop draws single rows
    loop = plain_loop(algorithm, settings.batch_size, spec, rows) if plain else None
    rates, products, streams, loops = [], [], [], []
    for _ in range(clock.rounds):
        products.append(clock.rate(product, 2 * SIZE**3))
        streams.append(clock.rate(stream_of, 3 * 4 * LONG))
        rates.append(clock.rate(run, updates * seeds))
        if loop is not None:
            loops.append(clock.rate(loop, BLOCK))
    needed = flops.per_update(settings.algorithm, spec, settings.batch_size)
    moved = bytes_moved(built, phase, settings.batch_size, spec)
    # An update takes at least its arithmetic at the product's rate, and its bytes at the stream's.
    limits = [max(needed / p, (moved or 0) / b) for p, b in zip(products, streams)]
    return {
        "phase": phase,
        "num_critics": getattr(settings.algorithm, "n", 0),
        "batch_size": settings.batch_size,
        "seeds": seeds,
        "precision": row.precision,
        "rows": rows,
        "updates_per_s": round(float(np.median(rates)), 2),
        "flop_per_update": needed,
        "matmul_rate": round(float(np.median(products)) / 1e9, 1),
        "fraction_of_matmul_rate": median(needed * r / p for r, p in zip(rates, products)),
        "bytes_per_update": moved,
        "intensity": moved and round(needed / moved, 2),
        "bandwidth": round(float(np.median(streams)) / 1e9, 2),
        "fraction_of_roofline": median(limit * r for limit, r in zip(limits, rates)),
        "times_plain_loop": median(r / p for r, p in zip(rates, loops)) if loops else None,
        "clock": "cpu" if clock.now is time.process_time else "wall",
        "compile_s": round(compile_s, 2),
        "peak_bytes": _memory(program),
        "device": jax.devices()[0].device_kind,
        "devices": len(seed_map.devices),
    }


def median(parts) -> float:
    """Return the median to three significant digits."""
    return float(f"{np.median(list(parts)):.3g}")


def matmul() -> Callable[[], Any]:
    """Return a call that does a matrix product of 2 SIZE^3 operations."""
    x = jnp.ones((SIZE, SIZE))
    product = jax.jit(lambda x: x @ x)
    jax.block_until_ready(product(x))
    return lambda: product(x)


def addition() -> Callable[[], Any]:
    """Return a call that reads two arrays and writes one, 3 x 4 x LONG bytes."""
    x = jnp.ones(LONG)
    add = jax.jit(lambda x, y: x + y, donate_argnums=0)
    held = [add(x + 1.0, x)]

    def run():
        held[0] = add(held[0], x)
        return held[0]

    return run


def bytes_moved(built, phase: str, batch_size: int, spec: Spec) -> int | None:
    """Return the bytes that one update's operations read and write, as the compiler estimates.

    Sampling is left out: a gather would count the whole data set that it draws from. The result is
    None if the compiler has no estimate.
    """
    algorithm = getattr(built, phase)
    state = jax.eval_shape(lambda: core.init(algorithm, jax.random.key(0)))
    if phase == "offline":
        batch = examples.rows(spec, algorithm, batch_size)
    else:
        batch = examples.batch(spec, algorithm, built.replay, batch_size)
    key = jax.eval_shape(lambda: jax.random.key(0))
    update = jax.jit(lambda s, b, k: core.update(algorithm, s, b, k), donate_argnums=0)
    costs = update.lower(state, batch, key).compile().cost_analysis()
    found = (costs[0] if isinstance(costs, list) else costs or {}).get("bytes accessed")
    return found and int(found)


def data_set(spec: Spec, algorithm: core.Algorithm, rows: int = ROWS) -> Transition:
    """Return random transitions [rows, ...] in NumPy, without episode ends, with blank extras."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(2, rows, spec.observation_size)).astype(np.float32)
    action = rng.uniform(-1, 1, (rows, spec.action_size)).astype(np.float32)
    flags_off = np.zeros(rows, bool)
    reward = normal[0, :, 0].copy()
    extras = jax.tree.map(np.asarray, examples.data(spec, algorithm, rows).extras)
    return Transition(normal[0], action, reward, flags_off, flags_off.copy(), normal[1], extras)


def fresh(algorithm: core.Algorithm, seeds: SeedMap) -> core.TrainState:
    """Return untrained states of all seeds, on the devices."""
    make = seeds.compile(lambda seed: core.init(algorithm, stream(seed, "init")))
    return make(seeds.put(seeds.seeds))


def plain_loop(
    algorithm: core.Algorithm, batch_size: int, spec: Spec, rows: int = ROWS
) -> Callable[[], Any]:
    """Return a call that does BLOCK updates of one seed in a plain loop, for comparison.

    NumPy draws and gathers the rows, and each batch goes to one jitted update, with JAX's default
    options and nothing donated.
    """
    data, rng = data_set(spec, algorithm, rows), np.random.default_rng(0)
    update = jax.jit(partial(core.update, algorithm))
    held = [core.init(algorithm, jax.random.key(0)), jax.random.key(1)]
    size = batch_size * algorithm.batches

    def run():
        for _ in range(BLOCK):
            state, key = held
            key, own = jax.random.split(key)
            chosen = rng.integers(0, rows, size)
            batch = jax.tree.map(lambda x, chosen=chosen: jnp.asarray(x[chosen]), data)
            held[:] = update(state, batch, own)[0], key
        return held[0]

    jax.block_until_ready(run())
    return run


def offline_updates(built, phase: Phase, seeds: SeedMap, spec: Spec, rows: int = ROWS):
    """Return a call of the offline loop's program, its updates per seed, and the program."""
    state = fresh(built.offline, seeds)
    data = seeds.share(data_set(spec, built.offline, rows))
    numbers, start = seeds.put(seeds.seeds), seeds.share(np.int32(0))
    one = seeds.share(np.int32(1))
    blocks = offline.compile_blocks(built.offline, phase.batch_size, BLOCK, seeds)
    blocks = blocks.lower(state, numbers, start, one, data).compile()
    held = [state]

    def run():
        held[0], metrics = blocks(held[0], numbers, start, one, data)
        return metrics

    jax.block_until_ready(run())
    return run, BLOCK, blocks


def online_updates(built, phase: Phase, seeds: SeedMap, spec: Spec, rows: int = ROWS):
    """Return the same as `offline_updates` for the online loop's step, without environments."""
    algorithm, count = built.online, len(seeds.seeds)
    needed = rows if built.replay.needs_data else 0
    begin = online.begin(algorithm, built.replay, spec, phase.batch_size, needed)
    numbers = seeds.put(seeds.seeds)
    held = [seeds.compile(begin)(fresh(algorithm, seeds), numbers)]
    one = examples.transition(spec, algorithm)._replace(extras={})
    transition = seeds.put(jax.tree.map(lambda x: np.zeros((count, *x.shape), x.dtype), one))
    starts = seeds.put(np.zeros(count, bool))
    # As many steps as the longest delay, so that delayed updates have their share.
    period = max(algorithm.delays.values(), default=1)
    steps = [seeds.share(np.int32(phase.warmup + 1_000 + i)) for i in range(period)]
    data = seeds.share(data_set(spec, algorithm, rows)) if needed else None
    learn = seeds.share(np.bool_(True))
    before, after = (numbers, transition, transition.observation, starts), (learn, data)
    compiling = online.compile_overlapped if phase.overlap else online.compile_step
    step = compiling(phase, algorithm, built.replay, seeds)
    step = step.lower(held[0], *before, steps[0], *after).compile()

    def run():
        for t in steps:
            held[0], action = step(held[0], *before, t, *after)
        return held[0].count, action

    jax.block_until_ready(run())
    return run, period * phase.utd, step


def _memory(compiled) -> int | None:
    """Bytes of arguments and temporaries; None if the backend does not report them."""
    if not hasattr(compiled, "memory_analysis"):
        return None
    analysis = compiled.memory_analysis()
    return analysis and analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
