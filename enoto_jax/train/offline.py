"""The offline loop: the data set lies on the device, a chunk of updates is one program."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax import core
from enoto_jax.logging import Progress
from enoto_jax.recipes import Phase
from enoto_jax.replay import ring
from enoto_jax.train.record import Record, mean_metrics
from enoto_jax.train.seeds import SeedMap, stream
from enoto_jax.types import Array, Metrics, Transition

LONGEST_CHUNK = 500  # updates; a signal is answered within one chunk


def chunk_length(steps: int, every: int) -> int:
    """The most updates, up to LONGEST_CHUNK, that divide both the budget and `every`."""
    together = math.gcd(steps, every)
    return max(d for d in range(1, min(LONGEST_CHUNK, together) + 1) if together % d == 0)


def compile_chunk(
    algorithm: core.Algorithm, batch_size: int, length: int, seeds: SeedMap
) -> Callable[..., tuple[core.TrainState, Metrics]]:
    """(state, seed, start, data) -> state after `length` updates, metrics' means over them.

    Update number t draws its rows and its noise from the seed's offline stream at t, so that
    neither the chunks nor the other seeds change what a seed computes.
    """

    def chunk(state: core.TrainState, seed: Array, start: Array, data: Transition):
        size = jnp.int32(data.reward.shape[0])

        def step(state, t):
            rows_key, update_key = jax.random.split(jax.random.fold_in(stream(seed, "offline"), t))
            batch = ring.sample(data, rows_key, batch_size, size)
            return core.update(algorithm, state, batch, update_key)

        state, metrics = jax.lax.scan(step, state, start + jnp.arange(length, dtype=jnp.int32))
        return state, jax.tree.map(jnp.mean, metrics)

    return seeds.compile(chunk, shared=(2, 3), donate=(0,), long=True)


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
      The state at the phase's end, on the devices; also kept as the run's hand-over.
    """
    seeds = record.seeds
    numbers = seeds.put(seeds.seeds)
    length = chunk_length(phase.steps, phase.eval_every)
    chunk = record.compiled(
        compile_chunk(algorithm, phase.batch_size, length, seeds),
        *(state, numbers, seeds.share(np.int32(step)), data),
    )
    mode = seeds.compile(algorithm.mode)
    progress = Progress(phase.steps, "offline", initial=step)
    progress.note(f"compiled in {record.timing['compile_s']:.1f} s")
    collected = []
    while step < phase.steps:
        with record.timed("update"):
            state, metrics = chunk(state, numbers, seeds.share(np.int32(step)), data)
            collected.append(seeds.get(metrics))
        step += length
        record.timing["updates"] += length * len(seeds.seeds)
        progress.advance(length)
        ends = step == phase.steps
        evaluated = ends or step % phase.eval_every == 0
        if evaluated:
            record.metrics("offline", step, mean_metrics(collected))
            collected.clear()
            progress.score(record.evaluate(mode, state.params, "offline", step))
        if record.due(evaluated, ends):
            record.save("offline", step, seeds.get(state))
    progress.close()
    record.checkpoints.save_handover(seeds.get(state), {"phase": "offline", "step": step})
    return state
