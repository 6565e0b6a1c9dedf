"""The tanh-squashed Gaussian: a ~ tanh(N(mean, std^2)), actions in (-1, 1)^A.

Haarnoja et al. 2018 (SAC), appendix C; the log-determinant in its stable form,
log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)).

The module also has the plain Gaussian of IQL and AWAC, whose samples are clipped to [-1, 1] but
whose density is not that of the clipped variable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax.types import Array, Key

# Actions of a data set may lie exactly on the bound, where atanh is infinite.
_BOUND = 1.0 - 1e-6


def _normal(mean: Array, log_std: Array, u: Array) -> Array:
    return -0.5 * (((u - mean) * jnp.exp(-log_std)) ** 2 + math.log(2 * math.pi)) - log_std


def _drawn(key: Key, mean: Array, log_std: Array, shape: tuple[int, ...]) -> Array:
    return mean + jnp.exp(log_std) * jax.random.normal(key, (*shape, *mean.shape))


def matched(mean: Array, log_std: Array) -> tuple[Array, Array]:
    """Return the Gaussian before tanh with the mean and variance of an equal mixture of K of them.

    Args:
      mean: Means [K, ..., A], before tanh.
      log_std: Log standard deviations [K, ..., A].

    Returns:
      Its mean and log standard deviation [..., A].
    """
    centre = jnp.mean(mean, axis=0)
    variance = jnp.mean(jnp.exp(2.0 * log_std) + (mean - centre) ** 2, axis=0)
    return centre, 0.5 * jnp.log(variance)


class TanhNormal(NamedTuple):
    """tanh(N(mean, std^2)); mean and log_std [..., A] are before tanh."""

    mean: Array
    log_std: Array

    def sample(self, key: Key, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        """Draw actions [*shape, ..., A] and log-densities [*shape, ...], both differentiable."""
        u = _drawn(key, self.mean, self.log_std, shape)
        return jnp.tanh(u), self._log_prob(u)

    def log_prob(self, action: Array) -> Array:
        """Return log-densities [...] of actions [..., A], clipped to just inside the bounds."""
        return self._log_prob(jnp.arctanh(jnp.clip(action, -_BOUND, _BOUND)))

    def _log_prob(self, u: Array) -> Array:
        squash = 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))
        return jnp.sum(_normal(self.mean, self.log_std, u) - squash, axis=-1)

    def mode(self) -> Array:
        """Return tanh(mean) [..., A]: the deterministic action (not the density's exact mode)."""
        return jnp.tanh(self.mean)


class ClippedNormal(NamedTuple):
    """N(mean, std^2) with samples, but not the density, clipped to [-1, 1] (IQL, AWAC)."""

    mean: Array
    log_std: Array

    def sample(self, key: Key, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        """Draw actions [*shape, ..., A] and log-densities [*shape, ...]."""
        action = jnp.clip(_drawn(key, self.mean, self.log_std, shape), -1.0, 1.0)
        return action, self.log_prob(action)

    def log_prob(self, action: Array) -> Array:
        """Return log-densities [...] of actions [..., A], as if nothing were clipped."""
        return jnp.sum(_normal(self.mean, self.log_std, action), axis=-1)

    def mode(self) -> Array:
        """Return the deterministic action [..., A]."""
        return jnp.clip(self.mean, -1.0, 1.0)


class Smoothed(NamedTuple):
    """A deterministic action [..., A] plus clipped Gaussian noise, clipped again (TD3).

    Attributes:
      action: The action without noise.
      noise: The noise's standard deviation.
      clip: The noise's bound.
    """

    action: Array
    noise: float
    clip: float

    def sample(self, key: Key, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        """Draw actions [*shape, ..., A]; there is no density, and 0 stands for its logarithm."""
        drawn = jax.random.normal(key, (*shape, *self.action.shape))
        change = jnp.clip(self.noise * drawn, -self.clip, self.clip)
        action = jnp.clip(self.action + change, -1.0, 1.0)
        return action, jnp.zeros(action.shape[:-1])

    def mode(self) -> Array:
        """Return the action without noise."""
        return self.action


class Pushed(NamedTuple):
    """A network's output for standard normal noise, clipped to [-1, 1] (FQL's one-step policy).

    Attributes:
      network: Maps noise [..., *shape] to actions of the same shape.
      shape: The actions' shape, [..., A].
    """

    network: Callable[[Array], Array]
    shape: tuple[int, ...]

    def sample(self, key: Key, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        """Draw actions [*shape, ..., A]; there is no density, and 0 stands for its logarithm."""
        noise = jax.random.normal(key, (*shape, *self.shape))
        action = jnp.clip(self.network(noise), -1.0, 1.0)
        return action, jnp.zeros(action.shape[:-1])

    def mode(self) -> Array:
        """Return the action [..., A] for zero noise."""
        return jnp.clip(self.network(jnp.zeros(self.shape)), -1.0, 1.0)


class BestOf(NamedTuple):
    """The best of K samples of another distribution (best-of-N, Q-chunking).

    Attributes:
      samples: The distribution of the samples.
      value: Maps (key, actions [K, ..., A]) to values [K, ...].
      candidates: K, the number of samples.
    """

    samples: Pushed
    value: Callable[[Key, Array], Array]
    candidates: int

    def sample(self, key: Key, shape: tuple[int, ...] = ()) -> tuple[Array, Array]:
        """Draw actions [*shape, ..., A]; there is no density, and 0 stands for its logarithm."""
        draw_key, rule_key = jax.random.split(key)
        drawn, _ = self.samples.sample(draw_key, (self.candidates, *shape))
        action = self._best(rule_key, drawn)
        return action, jnp.zeros(action.shape[:-1])

    def mode(self) -> Array:
        """Return the best action [..., A] of K fixed noises."""
        *lead, size = self.samples.shape
        fixed = np.random.default_rng(0).normal(size=(self.candidates, *(1 for _ in lead), size))
        noise = jnp.broadcast_to(jnp.float32(fixed), (self.candidates, *self.samples.shape))
        return self._best(jax.random.key(0), jnp.clip(self.samples.network(noise), -1.0, 1.0))

    def _best(self, key: Key, actions: Array) -> Array:
        chosen = jnp.argmax(self.value(key, actions), axis=0)[None, ..., None]
        return jnp.take_along_axis(actions, chosen, axis=0)[0]


Distribution = TanhNormal | ClippedNormal | Smoothed | Pushed | BestOf
