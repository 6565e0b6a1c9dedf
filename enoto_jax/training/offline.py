"""The offline loop: the data set is resident on the device, and one call does many updates."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax import core
from enoto_jax.recipes.recipe import Phase
from enoto_jax.replay import chunks
from enoto_jax.runs import hosts
from enoto_jax.runs.progress import Clock, Progress, at
from enoto_jax.runs.saving import Place
from enoto_jax.runs.streams import stream
from enoto_jax.training.record import Record
from enoto_jax.training.seeds import SeedMap
from enoto_jax.training.unstack import restack, unstack
from enoto_jax.types import Array, Metrics, Transition

BLOCK = 50  # most updates in one scan of known length, which GPUs run without a pause
PATIENCE_S = 2.0  # about how long one call runs; between calls signals and the bar are handled


def block_length(steps: int, every: int) -> int:
    """Return the largest number of updates, up to BLOCK, that divides both `steps` and `every`."""
    together = math.gcd(steps, every)
    return max(d for d in range(1, min(BLOCK, together) + 1) if together % d == 0)


def compile_blocks(
    algorithm: core.Algorithm, batch_size: int, length: int, seeds: SeedMap
) -> Callable[..., tuple[core.TrainState, Metrics]]:
    """Compile (state, seed, start, blocks, data, sums) -> (state, sums).

    One call does blocks * length updates. The metrics are added to `sums` block by block, so that
    rounding does not depend on how blocks are grouped into calls; without `sums` they start at
    zero. Update t draws its rows and its noise from the seed's offline stream at t, so neither the
    blocks nor the other seeds change what a seed computes.
    """
    update = jax.jit(partial(core.update, algorithm))  # traced once, for shapes and in the scan

    def run(
        state: core.TrainState,
        seed: Array,
        start: Array,
        blocks: Array,
        data: Transition,
        sums: Metrics | None = None,
    ):
        size = jnp.int32(data.reward.shape[0])
        if seeds.on_cpu:
            state = unstack(algorithm, state)

        def step(state, t):
            rows_key, update_key = jax.random.split(jax.random.fold_in(stream(seed, "offline"), t))
            count = batch_size * algorithm.batches
            batch = chunks.sample(data, rows_key, count, size, algorithm.chunk)
            return update(state.replace(step=t), batch, update_key)

        def block(i, carried):
            state, totals = carried
            numbers = start + i * length + jnp.arange(length, dtype=jnp.int32)
            state, metrics = jax.lax.scan(step, state, numbers)
            return state, jax.tree.map(lambda total, x: total + jnp.sum(x), totals, metrics)

        if sums is None:
            _, shapes = jax.eval_shape(step, state, start)
            sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        state, sums = jax.lax.fori_loop(0, blocks, block, (state, sums))
        return restack(state), sums

    return seeds.compile(run, shared=(2, 3, 4), donate=(0,), long=True)


def train(
    phase: Phase,
    algorithm: core.Algorithm,
    state: core.TrainState,
    data: Transition,
    record: Record,
    place: Place = Place(),
) -> core.TrainState:
    """Train to the end of the phase, evaluating and saving on the way.

    Args:
      phase: The phase's budget.
      algorithm: The algorithm to train.
      state: The train states on the devices; their memory is reused.
      data: The data set, resident on the devices.
      record: Files, evaluation and checkpoints.
      place: Where to resume. Its position has the metrics' sums and the step at which they begin.

    Returns:
      The state at the phase's end, on the devices.
    """
    (step, position), seeds, timing = place, record.seeds, record.timing
    numbers, share = seeds.put(seeds.seeds), seeds.share
    length = block_length(phase.steps, phase.eval_every)
    program = compile_blocks(algorithm, phase.batch_size, length, seeds)
    arguments = (numbers, share(np.int32(step)), share(np.int32(1)), data)
    _, shapes = jax.eval_shape(program, state, *arguments)
    zeros = jax.tree.map(lambda x: np.zeros(len(seeds.seeds), x.dtype), shapes)
    sums, since = (position["sums"], position["since"]) if position else (zeros, step)
    sums, programs = seeds.put(sums), record.programs(algorithm)
    clock = Clock(timing, phase.eval_every, last=record.looks.evaluator is None)
    progress = Progress("offline", phase.steps, step, clock)
    if step:
        progress.note(f"resumed at {at('offline', step)}")
    if step < phase.steps:
        run = timing.compiled(program, state, *arguments, sums)
        progress.note(f"compiled in {timing.totals['compile_s']:.1f} s")

    def save():
        now = {"sums": seeds.get(sums), "since": since}
        record.save("offline", step, seeds.get(state), now)

    def report():
        nonlocal sums, since
        ends = step == phase.steps
        if record.due(ends):
            save()
        if ends or step % phase.eval_every == 0:
            means = core.means(algorithm, seeds.get(sums), since, step)
            record.write("offline", step, means)
            progress.score(record.evaluate(programs, state, "offline", step, save))
            sums, since = seeds.put(zeros), step

    if position is not None:
        report()
    blocks = 1
    while step < phase.steps:
        until = min(phase.steps, (step // phase.eval_every + 1) * phase.eval_every)
        blocks = min(blocks, (until - step) // length)
        with timing.timed("update") as took:
            arguments = (numbers, share(np.int32(step)), share(np.int32(blocks)), data)
            state, sums = run(state, *arguments, sums)
            host = seeds.get(sums)
        step += blocks * length
        record.check("offline", step, host)
        timing.count("updates", blocks * length * len(seeds.all))
        progress.advance(blocks * length)
        (seconds,) = hosts.most([took()])  # the same on all hosts, which keeps them in step
        blocks = max(1, int(PATIENCE_S / seconds * blocks))
        report()
    progress.close()
    return state
