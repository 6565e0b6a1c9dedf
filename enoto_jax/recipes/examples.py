"""Examples of what a phase stores, has as its data, and draws: zeros, or only their shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from enoto_jax import core, replay
from enoto_jax.exploration import policy
from enoto_jax.types import Spec, Transition


def transition(spec: Spec, algorithm: core.Algorithm, count: int | None = None) -> Transition:
    """Return a transition as the online phase stores it, or [count, ...] of them."""
    lead = () if count is None else (count,)
    extras = {}
    if algorithm.exploration.masks:
        extras["mask"] = jnp.ones((*lead, algorithm.critics))
    if algorithm.monte_carlo is not None:
        extras["mc_return"] = jnp.zeros(lead)
    if algorithm.next_actions:
        extras["next_action"] = jnp.zeros((*lead, spec.action_size))
    return Transition(
        observation=jnp.zeros((*lead, spec.observation_size)),
        action=jnp.zeros((*lead, spec.action_size)),
        reward=jnp.zeros(lead),
        terminated=jnp.zeros(lead, bool),
        truncated=jnp.zeros(lead, bool),
        next_observation=jnp.zeros((*lead, spec.observation_size)),
        extras=extras,
    )


def data(spec: Spec, algorithm: core.Algorithm, count: int) -> Transition:
    """Return a data set of `count` transitions, with its extra columns."""
    found = transition(spec, algorithm, count)
    if algorithm.chunk is None:
        return found
    return found._replace(extras={**found.extras, "ends": jnp.zeros(count, bool)})


def stored(
    spec: Spec, algorithm: core.Algorithm, rule: replay.Replay, count: int = 1
) -> replay.Stored:
    """Return what a replay holds before the first transition, for a data set of `count` rows."""
    ring = replay.ring.empty(transition(spec, algorithm), rule.capacity)
    return replay.Stored(ring, rule.start(count))


def rows(spec: Spec, algorithm: core.Algorithm, count: int) -> Transition:
    """Return the shapes of an offline update's input: `count` transitions or chunks per batch."""

    def draw():
        plain = algorithm._replace(exploration=policy())  # the data have no masks
        one, many = data(spec, plain, 1), count * algorithm.batches
        return replay.chunks.sample(one, jax.random.key(0), many, jnp.int32(1), algorithm.chunk)

    return jax.eval_shape(draw)


def batch(spec: Spec, algorithm: core.Algorithm, rule: replay.Replay, count: int) -> Transition:
    """Return the shapes of an online update's input: `count` rows with the replay's own extras."""

    def draw():
        held, one = stored(spec, algorithm, rule), data(spec, algorithm, 1)
        return rule.sample(held, one, jax.random.key(0), count, jnp.int32(1))

    return jax.eval_shape(draw)
