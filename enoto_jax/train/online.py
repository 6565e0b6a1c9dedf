"""The online loop's program: one dispatch per environment step for all seeds.

It inserts the transitions that have just happened, does the updates, and returns the next actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from enoto_jax import core
from enoto_jax.recipes import example_transition
from enoto_jax.replay import Replay, ring
from enoto_jax.train.seeds import SeedMap, stream
from enoto_jax.types import Array, Spec, Transition


@flax.struct.dataclass
class Online:
    """What a seed carries from step to step.

    Attributes:
      train: the train state.
      storage: its ring of new transitions.
      memory: the exploration rule's, of the running episode.
      totals: sums of the metrics since they were last read.
    """

    train: core.TrainState
    storage: Transition
    memory: Any
    totals: Any


def begin(algorithm: core.Algorithm, replay: Replay, spec: Spec, batch_size: int) -> Callable:
    """(train state, seed) -> Online with an empty ring."""

    def start(train: core.TrainState, seed: Array) -> Online:
        example = example_transition(spec, algorithm)
        batch = example_transition(spec, algorithm, batch_size)
        _, metrics = jax.eval_shape(
            lambda t, b, k: core.update(algorithm, t, b, k), train, batch, jax.random.key(0)
        )
        return Online(
            train=train,
            storage=ring.empty(example, replay.capacity),
            memory=algorithm.exploration.reset(stream(seed, "act"), algorithm.critics),
            totals=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics),
        )

    return start


def compile_step(
    algorithm: core.Algorithm,
    replay: Replay,
    batch_size: int,
    warmup: int,
    utd: int,
    random_steps: int,
    seeds: SeedMap,
) -> Callable[..., tuple[Online, Array]]:
    """(Online, seed, transition, observation, starts, t, data) -> Online, next action [A].

    The first call of a run has no transition yet: t is 0 and nothing is learnt from it. Call t > 0
    brings transition number t - 1. Updates begin after `warmup` steps.
    """
    rule = algorithm.exploration

    def step(
        online: Online,
        seed: Array,
        transition: Transition,
        observation: Array,
        starts: Array,
        t: Array,
        data: Transition | None,
    ) -> tuple[Online, Array]:
        learn_key, mask_key = jax.random.split(jax.random.fold_in(stream(seed, "online"), t))
        act_key, reset_key, random_key = jax.random.split(
            jax.random.fold_in(stream(seed, "act"), t), 3
        )
        if rule.mask is not None:
            mask = {"mask": rule.mask(mask_key, algorithm.critics)}
            transition = transition._replace(extras=mask)
        # Call 0 writes a transition of zeros that call 1 overwrites.
        storage = ring.insert(online.storage, transition, jnp.maximum(t - 1, 0))

        def learn(carried):
            def one(carried, key):
                train, totals = carried
                sample_key, update_key = jax.random.split(key)
                batch = replay.sample(storage, data, sample_key, batch_size, t)
                train, metrics = core.update(algorithm, train, batch, update_key)
                return (train, jax.tree.map(jnp.add, totals, metrics)), None

            return jax.lax.scan(one, carried, jax.random.split(learn_key, utd))[0]

        carried = (online.train, online.totals)
        ready = t > warmup
        train, totals = jax.lax.cond(ready, learn, lambda carried: carried, carried)
        memory = jax.tree.map(
            lambda new, old: jnp.where(starts, new, old),
            rule.reset(reset_key, algorithm.critics),
            online.memory,
        )
        action = rule.act(act_key, algorithm, train.params, memory, observation)
        if random_steps:
            uniform = jax.random.uniform(random_key, action.shape, minval=-1.0, maxval=1.0)
            action = jnp.where(t < random_steps, uniform, action)
        return Online(train, storage, memory, totals), action

    return seeds.compile(step, shared=(5, 6), donate=(0,))
