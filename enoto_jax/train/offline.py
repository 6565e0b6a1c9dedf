"""The offline loop: the data set lies on the device, a chunk of updates is one program."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from enoto_jax import core
from enoto_jax.replay import ring
from enoto_jax.train.seeds import SeedMap, stream
from enoto_jax.types import Array, Metrics, Transition


def chunk_length(steps: int, every: int, most: int = 500) -> int:
    """The largest number of updates, at most `most`, that divides both the budget and `every`."""
    together = math.gcd(steps, every)
    return max(d for d in range(1, min(most, together) + 1) if together % d == 0)


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

    return seeds.compile(chunk, shared=(2, 3), donate=(0,))
