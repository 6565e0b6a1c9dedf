"""Several independent agents trained side by side: the offline phase of balanced replay.

Their parameters have a leading axis of agents. A loss is the sum of the agents' losses, so each
agent gets the gradient of its own loss; an optimiser steps every agent separately.
"""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from enoto_jax.algorithms.cql import cql
from enoto_jax.core import Algorithm, TrainState, acting_by, moments_of
from enoto_jax.nets import distributions
from enoto_jax.nets.distributions import TanhNormal
from enoto_jax.types import InputError, Spec

# Which axis of a state's arrays belongs to the agents.
AGENTS = TrainState(params=0, targets=0, opt_states=0, frozen=0, step=None)  # type: ignore[arg-type]


class _Copies:
    """One network per agent; the parameters have a leading axis of agents."""

    def __init__(self, net: Any, count: int):
        self.net, self.count = net, count

    def init(self, key, *inputs):
        one = jax.random.split(key, self.count)
        return jax.vmap(lambda key: self.net.init(key, *inputs))(one)


def agents(algorithm: Algorithm, count: int) -> Algorithm:
    """Make `count` copies of an algorithm that share nothing: own starts, own rows, own noise.

    They act, and are evaluated, as the Gaussian matched to the mixture of their policies, which
    balanced replay uses online.

    Args:
      algorithm: One agent's algorithm, with a policy that is Gaussian before tanh.
      count: The number of agents, at least 2.

    Raises:
      InputError: There are fewer than two agents, or only some of an agent's critics learn.
    """
    if count < 2:
        raise InputError(f"agents: count is {count}; it must be at least 2")
    if algorithm.learners:
        raise InputError("agents: all critics of an agent learn; leave learners at None")

    def summed(loss):
        def total(params, state, batch, key):
            def own(params, state, batch, key):
                value, metrics = loss(params, state, batch, key)
                return value, {"loss": value, **metrics}

            shares = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)
            keys = jax.random.split(key, count)
            values, metrics = jax.vmap(own, (0, AGENTS, 0, 0))(params, state, shares, keys)
            return jnp.sum(values), metrics

        return total

    def summed_dual(dual):
        def total(params, seen):
            values, metrics = jax.vmap(dual)(params, seen)
            return jnp.sum(values), {"loss": values, **metrics}

        return total

    def matched(state, observation):
        mean, std = jax.vmap(algorithm.moments, (AGENTS, None))(state, observation)
        return TanhNormal(*distributions.matched(mean, jnp.log(std)))

    return algorithm._replace(
        nets={name: _Copies(net, count) for name, net in algorithm.nets.items()},
        losses={name: summed(loss) for name, loss in algorithm.losses.items()},
        duals={name: summed_dual(dual) for name, dual in algorithm.duals.items()},
        optimisers={
            name: optax.GradientTransformation(jax.vmap(tx.init), jax.vmap(tx.update))
            for name, tx in algorithm.optimisers.items()
        },
        batches=count,
        **acting_by(matched),
        moments=moments_of(matched),
        q=None,
    )


class cql_agents(cql):
    """Independent CQL agents, for the offline phase; the other options apply to each of them."""

    count: Annotated[int, "number of agents; each learns from its own batches."] = 5

    def build(self, spec: Spec) -> Algorithm:
        return agents(super().build(spec), self.count)
