"""Several independent agents trained side by side: the offline phase of balanced replay."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from enoto_jax import core
from enoto_jax.algorithms.cql import cql
from enoto_jax.nets import distributions
from enoto_jax.types import InputError, Spec


def agents(algorithm: core.Algorithm, count: int) -> core.Algorithm:
    """`count` copies of an algorithm that share nothing: own starts, own rows, own noise.

    They act, and are evaluated, as the Gaussian matched to the mixture of their policies, which is
    what balanced replay takes online.

    Args:
      algorithm: of one of them, with a policy that is Gaussian before tanh.
      count: at least 2.

    Raises:
      InputError: fewer than two.
    """
    if count < 2:
        raise InputError(f"agents: count is {count}; it must be at least 2")

    def gaussian(state, observation):
        mean, std = jax.vmap(algorithm.moments, (core.AGENTS, None))(state, observation)
        return distributions.matched(mean, jnp.log(std))

    def act(state, key, observation, k):
        return distributions.sample(key, *gaussian(state, observation), (k,))[0]

    def mode(state, observation):
        return distributions.mode(gaussian(state, observation)[0])

    def moments(state, observation):
        mean, log_std = gaussian(state, observation)
        return mean, jnp.exp(log_std)

    return algorithm._replace(agents=count, act=act, mode=mode, moments=moments, q=None)


def cql_agents(spec: Spec, *, count: int = 5, **options) -> core.Algorithm:
    """Independent agents of conservative Q-learning; every other option is cql's, for each.

    Args:
      spec: sizes of observations and actions.
      count: agents; each learns from batches of its own.
      **options: see cql.
    """
    return agents(cql(spec, **options), count)


cql_agents.extends = cql  # where `options` are described
