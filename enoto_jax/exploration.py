"""Exploration: how an agent acts online, and what its uncertainty does to learning.

A rule has several hooks because the published ones do: SUNRISE chooses the action, weighs the
Bellman backup and masks the critics. ENOTO section 3.3c compares bootstrapped, oac and sunrise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from enoto_jax.types import Array, InputError, Key


def _no_memory(key: Key, n: int) -> Array:
    del key, n
    return jnp.int32(0)


def _no_weight(key: Key, next_q: Array, draw: Callable[[Key], Array]) -> Array:
    del key, draw
    return jnp.ones((), next_q.dtype)


class Exploration(NamedTuple):
    """The hooks of a rule; those left out do nothing.

    Attributes:
      act: (key, algorithm, state, memory, observation [D]) -> action [A].
      reset: (key, N) -> memory of the rule, drawn anew for every episode.
      td_weight: (key, next_q [N, B], draw) -> weight of each squared TD error, [B] or []; next_q
        are the target critics at the backup's next action, draw(key) the same at a fresh action.
      mask: (key, N) -> [N] of 0 and 1, which critics learn from a new transition; or None: all.
      needs: features of the algorithm without which the rule cannot work.
    """

    act: Callable[..., Array]
    reset: Callable[[Key, int], Any] = _no_memory
    td_weight: Callable[[Key, Array, Callable[[Key], Array]], Array] = _no_weight
    mask: Callable[[Key, int], Array] | None = None
    needs: tuple[str, ...] = ()


def _check_spread(rule: str, critics: int) -> None:
    """The unbiased deviation of a single critic is 0 / 0."""
    if critics < 2:
        raise InputError(f"{rule} needs at least 2 critics, not {critics}: --num_critics=2")


def _sample(key, algorithm, state, memory, observation):
    del memory
    return algorithm.act(state, key, observation, 1)[0]


def policy() -> Exploration:
    """Act with one sample of the policy."""
    return Exploration(_sample)


def gaussian(*, std: float = 0.1, bound: float | None = 1.0) -> Exploration:
    """The deterministic action plus Gaussian noise, clipped (TD3).

    Args:
      std: standard deviation of the noise, in the agent's units of an action.
      bound: actions are clipped to [-bound, bound]; None leaves that to the environment, for agents
        whose actions are standardised.
    """

    def act(key, algorithm, state, memory, observation):
        del memory
        action = algorithm.mode(state, observation)
        action = action + std * jax.random.normal(key, action.shape)
        return action if bound is None else jnp.clip(action, -bound, bound)

    return Exploration(act)


def _best_candidate(key, algorithm, state, observation, candidates, score) -> Array:
    """The best by score(q [N, K]) -> [K] of K samples of the policy (K = N when None)."""
    actions = algorithm.act(state, key, observation, candidates or algorithm.critics)
    q = algorithm.q(state.params["critic"], observation, actions)
    return actions[jnp.argmax(score(q))]


def bootstrapped(*, candidates: int | None = None, mask: float = 1.0) -> Exploration:
    """Bootstrapped DQN (Osband et al. 2016): one critic, drawn per episode, judges K samples.

    Args:
      candidates: K, samples of the policy per step; as many as critics by default (ENOTO-code).
      mask: probability that a critic learns from a transition; 1 switches masks off.
    """

    def act(key, algorithm, state, memory, observation):
        return _best_candidate(
            key, algorithm, state, observation, candidates, lambda q: jnp.take(q, memory, axis=0)
        )

    def reset(key: Key, n: int) -> Array:
        return jax.random.randint(key, (), 0, n)

    return Exploration(act, reset=reset, mask=_bernoulli_mask(mask), needs=("q",))


def oac(*, upper: float = 4.66, shift: float = 23.53) -> Exploration:
    """Optimistic actor-critic (Ciosek et al. 2019): the policy's mean moves up an upper bound of Q.

    mean_E = mean + sqrt(2 shift) Sigma g / (sqrt(g' Sigma g) + 1e-5), with g the gradient of
    mean(Q) + upper * std(Q) at tanh(mean) with respect to the mean before tanh.

    Args:
      upper: weight of the critics' (unbiased) standard deviation in the bound, beta_UB.
      shift: allowed KL distance to the policy, delta.
    """

    def act(key, algorithm, state, memory, observation):
        del memory
        _check_spread("oac", algorithm.critics)
        mean, std = algorithm.moments(state, observation)

        def upper_bound(mean: Array) -> Array:
            q = algorithm.q(state.params["critic"], observation, jnp.tanh(mean))
            return jnp.mean(q) + upper * jnp.std(q, ddof=1)

        gradient = jax.grad(upper_bound)(mean)
        norm = jnp.sqrt(jnp.sum((gradient * std) ** 2)) + 1e-5
        optimistic = mean + jnp.sqrt(2.0 * shift) * std**2 * gradient / norm
        return jnp.tanh(optimistic + std * jax.random.normal(key, mean.shape))

    return Exploration(act, needs=("q", "moments"))


def sunrise(
    *,
    ucb: float | None = 10.0,
    candidates: int | None = None,
    temperature: float | None = 10.0,
    scope: str = "transition",
    mask: float = 1.0,
) -> Exploration:
    """SUNRISE (Lee et al. 2021) with one policy, as ENOTO uses it; each part can be switched off.

    Args:
      ucb: lambda; act with the best of K samples by mean(Q) + lambda std(Q), unbiased std; None
        acts with a plain sample, as ENOTO's released script does.
      candidates: K; as many as critics by default.
      temperature: T; weigh squared TD errors by sigmoid(-T std) + 0.5, std over the target critics
        at the next action; None switches the weight off.
      scope: "transition" (SUNRISE: a weight each) or "batch" (ENOTO-code: one scalar, the mean
        std over N fresh actions of the critics' batch means).
      mask: probability that a critic learns from a transition; 1 switches masks off.
    """
    if scope not in ("transition", "batch"):
        raise InputError(f"sunrise: scope is {scope!r}; choose 'transition' or 'batch'")

    def act(key, algorithm, state, memory, observation):
        del memory
        _check_spread("sunrise's ucb", algorithm.critics)
        return _best_candidate(
            key,
            algorithm,
            state,
            observation,
            candidates,
            lambda q: jnp.mean(q, axis=0) + ucb * jnp.std(q, axis=0, ddof=1),
        )

    def per_transition(key: Key, next_q: Array, draw) -> Array:
        del key, draw
        return jax.nn.sigmoid(-temperature * jnp.std(next_q, axis=0)) + 0.5

    def per_batch(key: Key, next_q: Array, draw) -> Array:
        keys = jax.random.split(key, next_q.shape[0])
        spread = jax.lax.map(lambda k: jnp.std(jnp.mean(draw(k), axis=-1)), keys)
        return jax.nn.sigmoid(-temperature * jnp.mean(spread)) + 0.5

    weight = per_batch if scope == "batch" else per_transition
    off = ucb is None and temperature is None and mask == 1.0
    return Exploration(
        act=_sample if ucb is None else act,
        td_weight=_no_weight if temperature is None else weight,
        mask=_bernoulli_mask(mask),
        needs=() if off else ("q",),
    )


def _bernoulli_mask(probability: float) -> Callable[[Key, int], Array] | None:
    """Masks [N]; one that would silence every critic gives the transition to a random one."""
    if not 0.0 < probability <= 1.0:
        raise InputError(f"mask is {probability}; it is a probability, above 0 and up to 1")
    if probability == 1.0:
        return None

    def mask(key: Key, n: int) -> Array:
        drawn_key, spare_key = jax.random.split(key)
        drawn = jax.random.bernoulli(drawn_key, probability, (n,))
        spare = jax.nn.one_hot(jax.random.randint(spare_key, (), 0, n), n, dtype=bool)
        return jnp.where(jnp.any(drawn), drawn, spare).astype(jnp.float32)

    return mask
