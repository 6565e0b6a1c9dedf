"""Exploration: how an agent acts online, and how its uncertainty affects learning.

A rule has several hooks because the published rules need them: SUNRISE chooses the action, weighs
the Bellman backup and masks the critics. ENOTO section 3.3c compares bootstrapped, oac and sunrise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from enoto_jax.types import Array, InputError, Key, Unit, check_choice

SCOPES = ("transition", "relative", "batch")
Draw = Callable[[Key], Array]  # key -> target critics at a fresh next action, [N, B]


class Exploration(Unit):
    """The hooks of a rule. By default: act with one sample of the policy, and nothing else."""

    def act(self, key: Key, algorithm: Any, state: Any, memory: Any, observation: Array) -> Array:
        """Return the action [A] for an observation [D]."""
        return _sample(key, algorithm, state, observation)

    def reset(self, key: Key, n: int) -> Any:
        """Return the rule's memory for a new episode, given n critics."""
        return jnp.int32(0)

    def td_weight(self, key: Key, next_q: Array, draw: Draw) -> Array:
        """Return the weight [B] or [] of each squared TD error.

        Args:
          key: Consumed.
          next_q: The target critics at the backup's next action, [N, B].
          draw: Returns the target critics at a fresh next action.
        """
        return jnp.ones((), next_q.dtype)

    @property
    def masks(self) -> bool:
        """Whether transitions carry a mask of the critics that learn from them."""
        return False

    def draw_mask(self, key: Key, n: int) -> Array:
        """Draw which of the n critics learn from a new transition: [N] of 0 and 1."""
        return jnp.ones(n)

    @property
    def needs(self) -> tuple[str, ...]:
        """Features of the algorithm without which the rule cannot work."""
        return ()


class policy(Exploration):
    """Act with one sample of the policy."""


class gaussian(Exploration):
    """The deterministic action plus Gaussian noise, clipped (TD3)."""

    std: Annotated[float, "standard deviation of the noise, in the agent's units of an action."] = (
        0.1
    )
    bound: Annotated[
        float | None,
        "actions are clipped to [-bound, bound]; None leaves that to the environment, for agents "
        "whose actions are standardised.",
    ] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.std >= 0.0 or not (self.bound is None or self.bound > 0.0):
            raise InputError(
                f"gaussian: std is {self.std} and bound {self.bound}; give an std of 0 or more and "
                "a bound above 0, or None"
            )

    def act(self, key, algorithm, state, memory, observation):
        action = algorithm.mode(state, observation)
        action = action + self.std * jax.random.normal(key, action.shape)
        return action if self.bound is None else jnp.clip(action, -self.bound, self.bound)


class _Masked(Exploration):
    """A rule with Bernoulli bootstrap masks."""

    mask: Annotated[float, "probability that a critic learns from a transition; 1: no masks."] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.mask <= 1.0:
            raise InputError(f"mask is {self.mask}; it must be a probability above 0")

    @property
    def masks(self) -> bool:
        return self.mask < 1.0

    def draw_mask(self, key, n):
        """Draw a Bernoulli mask; if no critic would learn, a random one does."""
        drawn_key, spare_key = jax.random.split(key)
        drawn = jax.random.bernoulli(drawn_key, self.mask, (n,))
        spare = jax.nn.one_hot(jax.random.randint(spare_key, (), 0, n), n, dtype=bool)
        return jnp.where(jnp.any(drawn), drawn, spare).astype(jnp.float32)


class bootstrapped(_Masked):
    """Bootstrapped DQN (Osband et al. 2016): one critic, drawn per episode, judges K samples."""

    candidates: Annotated[
        int | None, "K, samples of the policy per step; None: as many as critics (ENOTO-code)."
    ] = None

    def act(self, key, algorithm, state, memory, observation):
        actions, q = _judged(key, algorithm, state, observation, self.candidates)
        return actions[jnp.argmax(jnp.take(q, memory, axis=0))]

    def reset(self, key, n):
        return jax.random.randint(key, (), 0, n)

    @property
    def needs(self):
        return ("q",)


class oac(Exploration):
    """Optimistic actor-critic (Ciosek et al. 2019): shift the mean to increase a bound of Q.

    mean_E = mean + sqrt(2 shift) Sigma g / (sqrt(g' Sigma g) + 1e-5), with g the gradient of
    mean(Q) + upper * std(Q) at tanh(mean) with respect to the mean before tanh.
    """

    upper: Annotated[float, "beta_UB, weight of the critics' (unbiased) deviation."] = 4.66
    shift: Annotated[float, "delta, allowed KL distance to the policy."] = 23.53

    def act(self, key, algorithm, state, memory, observation):
        _check_spread("oac", algorithm.critics)
        mean, std = algorithm.moments(state, observation)

        def upper_bound(mean: Array) -> Array:
            q = algorithm.q(state.params["critic"], observation, jnp.tanh(mean))
            # Critics may agree to the last bit, and a root has no derivative at 0.
            deviation = jnp.sqrt(jnp.var(q, ddof=1) + jnp.finfo(q.dtype).tiny)
            return jnp.mean(q) + self.upper * deviation

        gradient = jax.grad(upper_bound)(mean)
        norm = jnp.sqrt(jnp.sum((gradient * std) ** 2)) + 1e-5
        optimistic = mean + jnp.sqrt(2.0 * self.shift) * std**2 * gradient / norm
        return jnp.tanh(optimistic + std * jax.random.normal(key, mean.shape))

    @property
    def needs(self):
        return ("q", "moments")


class sunrise(_Masked):
    """SUNRISE (Lee et al. 2021) with one policy, as in ENOTO; each part can be switched off."""

    ucb: Annotated[
        float | None,
        "lambda; act with the best of K samples by mean(Q) + lambda std(Q), unbiased std; None "
        "acts with a plain sample, as ENOTO's released script does.",
    ] = 10.0
    candidates: Annotated[int | None, "K; None: as many as critics."] = None
    temperature: Annotated[
        float | None,
        "T; weight squared TD errors by sigmoid(-T std) + 0.5, std over the target critics at the "
        "next action; None switches the weight off.",
    ] = 10.0
    scope: Annotated[
        str,
        "scope of the weight. transition (SUNRISE): one for each; relative: the same, with the std "
        "divided by its batch mean, so that it does not depend on the rewards' scale (use T near "
        "1); batch (ENOTO-code): one scalar, from the mean std over N fresh actions of the "
        "critics' batch means.",
    ] = "transition"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("sunrise: scope", self.scope, SCOPES)

    def act(self, key, algorithm, state, memory, observation):
        if self.ucb is None:
            return _sample(key, algorithm, state, observation)
        _check_spread("sunrise's ucb", algorithm.critics)
        actions, q = _judged(key, algorithm, state, observation, self.candidates)
        return actions[jnp.argmax(jnp.mean(q, axis=0) + self.ucb * jnp.std(q, axis=0, ddof=1))]

    def td_weight(self, key, next_q, draw):
        if self.temperature is None:
            return super().td_weight(key, next_q, draw)
        if self.scope == "transition":
            spread = jnp.std(next_q, axis=0)
        elif self.scope == "relative":
            spread = jnp.std(next_q, axis=0)
            spread = spread / jnp.maximum(jnp.mean(spread), 1e-6)  # weight 1 if critics agree
        else:
            keys = jax.random.split(key, next_q.shape[0])
            spread = jnp.mean(jax.lax.map(lambda k: jnp.std(jnp.mean(draw(k), axis=-1)), keys))
        return jax.nn.sigmoid(-self.temperature * spread) + 0.5

    @property
    def needs(self):
        off = self.ucb is None and self.temperature is None and not self.masks
        return () if off else ("q",)


def _sample(key, algorithm, state, observation) -> Array:
    return algorithm.act(state, key, observation, 1)[0]


def _judged(key, algorithm, state, observation, candidates) -> tuple[Array, Array]:
    """Return K samples of the policy [K, A] (K = N if None) and their values [N, K]."""
    if candidates is not None and candidates < 1:
        raise InputError(f"candidates is {candidates}; it must be at least 1, or None")
    propose = algorithm.proposals or algorithm.act
    actions = propose(state, key, observation, candidates or algorithm.critics)
    return actions, algorithm.q(state.params["critic"], observation, actions)


def _check_spread(rule: str, critics: int) -> None:
    """Refuse a single critic, whose unbiased deviation is 0 / 0."""
    if critics < 2:
        raise InputError(f"{rule} needs at least 2 critics, not {critics}: --num_critics=2")
