"""The offline loop: the data set lies on the device, many updates are one call."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax import core
from enoto_jax.progress import Progress
from enoto_jax.recipes import Phase
from enoto_jax.replay import ring
from enoto_jax.train.record import Record
from enoto_jax.train.seeds import SeedMap, stream
from enoto_jax.types import Array, Metrics, Transition

BLOCK = 50  # at most so many updates in one scan of known length, which GPUs run without a pause
PATIENCE_S = 2.0  # about how long one call runs: a signal is answered, and the bar moves, so often


def block_length(steps: int, every: int) -> int:
    """The most updates, up to BLOCK, that divide both the budget and `every`."""
    together = math.gcd(steps, every)
    return max(d for d in range(1, min(BLOCK, together) + 1) if together % d == 0)


def compile_blocks(
    algorithm: core.Algorithm, batch_size: int, length: int, seeds: SeedMap
) -> Callable[..., tuple[core.TrainState, Metrics]]:
    """(state, seed, start, blocks, data) -> state after blocks * length updates, metrics' sums.

    Update number t draws its rows and its noise from the seed's offline stream at t, so that
    neither the blocks nor the other seeds change what a seed computes.
    """

    def run(state: core.TrainState, seed: Array, start: Array, blocks: Array, data: Transition):
        size = jnp.int32(data.reward.shape[0])

        def step(state, t):
            rows_key, update_key = jax.random.split(jax.random.fold_in(stream(seed, "offline"), t))
            batch = ring.sample(data, rows_key, batch_size * (algorithm.agents or 1), size)
            return core.update(algorithm, state, batch, update_key, number=t)

        def block(i, carried):
            state, totals = carried
            numbers = start + i * length + jnp.arange(length, dtype=jnp.int32)
            state, metrics = jax.lax.scan(step, state, numbers)
            return state, jax.tree.map(lambda total, x: total + jnp.sum(x), totals, metrics)

        _, shapes = jax.eval_shape(step, state, start)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.fori_loop(0, blocks, block, (state, zeros))

    return seeds.compile(run, shared=(2, 3, 4), donate=(0,), long=True)


def train(
    phase: Phase,
    algorithm: core.Algorithm,
    state: core.TrainState,
    data: Transition,
    step: int,
    record: Record,
) -> core.TrainState:
    """Train from update number `step` to the end of the phase, evaluating and saving on the way.

    Args:
      phase: its budget.
      algorithm: what is trained.
      state: on the devices; its memory is reused.
      data: resident on the devices.
      step: updates done before.
      record: files, evaluation and checkpoints.

    Returns:
      The state at the phase's end, on the devices.
    """
    seeds = record.seeds
    numbers, share = seeds.put(seeds.seeds), seeds.share
    length = block_length(phase.steps, phase.eval_every)
    run = record.compiled(
        compile_blocks(algorithm, phase.batch_size, length, seeds),
        *(state, numbers, share(np.int32(step)), share(np.int32(1)), data),
    )
    mode = seeds.compile(algorithm.mode)
    progress = Progress(phase.steps, "offline", initial=step)
    progress.note(f"compiled in {record.timing['compile_s']:.1f} s")
    totals, since, blocks = None, step, 1
    while step < phase.steps:
        until = min(phase.steps, (step // phase.eval_every + 1) * phase.eval_every)
        blocks = min(blocks, (until - step) // length)
        with record.timed("update") as took:
            state, sums = run(state, numbers, share(np.int32(step)), share(np.int32(blocks)), data)
            sums = seeds.get(sums)
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
        step += blocks * length
        record.timing["updates"] += blocks * length * len(seeds.seeds)
        progress.advance(blocks * length)
        blocks = max(1, int(PATIENCE_S / took() * blocks))
        ends, evaluated = step == phase.steps, step == until
        if evaluated:
            record.metrics("offline", step, totals, step - since)
            totals, since = None, step
            progress.score(record.evaluate(mode, state, "offline", step))
        if record.due(evaluated, ends):
            record.save("offline", step, seeds.get(state))
    progress.close()
    return state
