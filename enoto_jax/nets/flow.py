"""Networks of ReBRAC and FQL: LayerNorm after the activation, and flows of actions.

A flow policy learns a velocity v(s, x, t) whose integral from t = 0 to 1 carries standard normal
noise to the data's actions (Lipman et al. 2023; Park et al. 2025, FQL).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from enoto_jax.nets.initialisers import Init, xavier_init
from enoto_jax.nets.networks import Critic, Deterministic, LayerNorm, Network
from enoto_jax.types import Array

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {"relu": nn.relu, "gelu": nn.gelu}
VelocityFn = Callable[[Any, Array, Array, Array], Array]  # (params, s, x, t) -> dx/dt [..., A]


class _NormLast:
    """Hidden layers: product, activation, and then LayerNorm if asked for."""

    activation: str
    layer_norm: bool
    dtype: jnp.dtype

    def activated(self, x: Array, i: int) -> Array:
        x = ACTIVATIONS[self.activation](x)
        return LayerNorm(self.dtype, name=f"norm_{i}")(x) if self.layer_norm else x


class NormLastCritic(_NormLast, Critic):
    """`Critic` with any activation, and LayerNorm after it."""

    activation: str = "relu"


class NormLastDeterministic(_NormLast, Deterministic):
    """`Deterministic` with any activation, and LayerNorm after it."""

    activation: str = "relu"


class Unbounded(_NormLast, Network):
    """Inputs [..., *], side by side -> [..., A]: a flow's velocity, or a one-step policy."""

    action_size: int
    hidden: tuple[int, ...] = (512, 512, 512, 512)
    layer_norm: bool = False
    start: Init = xavier_init()
    activation: str = "gelu"

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        return self.head(self.action_size, "out", self.trunk(*inputs))


def integrate(
    velocity: VelocityFn, params: Any, observation: Array, noise: Array, steps: int
) -> Array:
    """Carry noise [..., A] along the velocity in `steps` Euler steps, and clip it to [-1, 1].

    Args:
      velocity: v(s, x, t), such as `Unbounded.apply`.
      params: The velocity's parameters.
      observation: s, [..., D].
      noise: x at t = 0.
      steps: How many steps, each of length 1 / steps, at t = 0, 1 / steps, ...
    """

    def euler(i: Array, x: Array) -> Array:
        time = jnp.full((*x.shape[:-1], 1), i / steps)
        return x + velocity(params, observation, x, time) / steps

    return jnp.clip(jax.lax.fori_loop(0, steps, euler, noise), -1.0, 1.0)
