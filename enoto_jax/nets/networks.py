"""Networks: multi-layer perceptrons, and their layers.

Every head is a plain linear layer, so the whole actor is `trunk -> (mean, log_std)` and a critic is
`trunk -> scalar`.

Networks made within `computing("bf16")` multiply hidden layers in bfloat16; parameters, heads, and
everything computed from their outputs stay in float32.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax.numpy as jnp
from flax import linen as nn

from enoto_jax.nets import distributions
from enoto_jax.nets.cpu_kernels import matmul, normalise
from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.types import Array, InputError, Params, check_choice

PRECISIONS = {"float32": jnp.float32, "bf16": jnp.bfloat16}
_computing = ContextVar("computing", default=jnp.float32)


@contextmanager
def computing(precision: str) -> Iterator[None]:
    """Set the precision in which networks made inside multiply, wherever they are used.

    Raises:
      InputError: The precision is neither float32 nor bf16.
    """
    check_choice("precision", precision, PRECISIONS)
    before = _computing.set(PRECISIONS[precision])
    try:
        yield
    finally:
        _computing.reset(before)


class Linear(nn.Module):
    """y = x W + b, with initialisers that get the layer's fan-in.

    Several inputs are parts of one: each is multiplied by its own rows of W, and the products are
    added. Parts may broadcast, so what they share (one observation, many candidate actions) is
    multiplied once.
    """

    features: int
    start: Init
    head: bool = False  # whether it starts as the last layer of a network
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *parts: Array) -> Array:
        fan_in = sum(part.shape[-1] for part in parts)
        kernel = self._own("kernel", fan_in, (fan_in, self.features))
        if len(kernel) != fan_in:
            raise InputError(
                f"a network built for inputs of size {len(kernel)} was given {fan_in}; "
                "observations and actions must have the sizes of the spec that it was built for"
            )
        bias = self._own("bias", fan_in, (self.features,))
        *cast, kernel, bias = (x.astype(self.dtype) for x in (*parts, kernel, bias))
        if len({part.shape[:-1] for part in cast}) == 1:
            return matmul(jnp.concatenate(cast, axis=-1), kernel) + bias
        rows = itertools.accumulate((part.shape[-1] for part in cast), initial=0)
        kernels = [kernel[i : i + part.shape[-1]] for part, i in zip(cast, rows)]
        # The bias is one more row, for a column of ones, so that its gradient is part of a product.
        ones = jnp.ones((*cast[0].shape[:-1], 1), self.dtype)
        cast[0] = jnp.concatenate([cast[0], ones], axis=-1)
        kernels[0] = jnp.concatenate([kernels[0], bias[None]])
        return sum(matmul(part, kernel) for part, kernel in zip(cast, kernels))

    def _own(self, name: str, fan_in: int, shape: tuple[int, ...]) -> Array:
        """Return the parameter of this name.

        `param` would trace its initialiser in every call, to compare shapes, which is a quarter of
        the time that it takes to trace an update.
        """
        if self.is_initializing():
            start = getattr(self.start, f"output_{name}" if self.head else name)
            return self.param(name, start, fan_in, shape)
        return self.get_variable("params", name)


class LayerNorm(nn.Module):
    """scale (x - mean) / sqrt(variance + 1e-6) + bias over the last axis of x [B, I].

    Statistics are in float32 (Ba et al. 2016); parameters start as 1 and 0.
    """

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return normalise(x.astype(jnp.float32), scale, bias).astype(self.dtype)


class Network(nn.Module):
    """The common parts of all networks: hidden layers, and the precision in which they multiply."""

    dtype: jnp.dtype = dataclasses.field(default_factory=_computing.get, kw_only=True)
    layer_norm = False  # in networks without these options
    dropout = 0.0

    def trunk(self, *parts: Array) -> Array:
        """Return the hidden layers' output, float32 [..., width].

        Each has a ReLU, with LayerNorm before it if asked for (RLPD). Dropout, before the LayerNorm
        (DroQ), is on if `apply` is given a "dropout" key.
        """
        if not self.hidden:
            (features,) = parts
            return features
        for i, width in enumerate(self.hidden):
            x = Linear(width, self.start, dtype=self.dtype, name=f"layer_{i}")(*parts)
            if i == 0:
                leading = x.shape[:-1]
            # One long matrix: over several axes XLA sums the biases' gradients, and transposes the
            # inputs of the weights' gradients, many times more slowly.
            parts = (self.activated(x.reshape(-1, width), i),)
        return parts[0].reshape(*leading, -1).astype(jnp.float32)

    def head(self, size: int, name: str, x: Array) -> Array:
        """Apply the network's last layer: features [..., width] to [..., size]."""
        return Linear(size, self.start, head=True, name=name)(x)

    def activated(self, x: Array, i: int) -> Array:
        """Apply what follows the product of hidden layer i: [B, width] to [B, width]."""
        if self.dropout and self.has_rng("dropout"):
            x = nn.Dropout(self.dropout, deterministic=False)(x)
        if self.layer_norm:
            x = LayerNorm(self.dtype, name=f"norm_{i}")(x)
        return nn.relu(x)


class TanhGaussian(Network):
    """Actor: observation [..., D] -> mean and log standard deviation before tanh, both [..., A]."""

    action_size: int
    hidden: tuple[int, ...] = (256, 256, 256)
    layer_norm: bool = False
    start: Init = torch_init()
    log_std_range: tuple[float, float] = (-20.0, 2.0)

    @nn.compact
    def __call__(self, observation: Array) -> tuple[Array, Array]:
        x = self.trunk(observation)
        log_std = self.head(self.action_size, "log_std", x)
        return self.head(self.action_size, "mean", x), jnp.clip(log_std, *self.log_std_range)


class Gaussian(Network):
    """Actor: observation [..., D] -> mean and log standard deviation [..., A].

    The standard deviation is one trained vector for all observations, 1 at the start (IQL, AWAC).

    Attributes:
      bounded: Whether the mean is the tanh of the last layer, so that it is itself an action (IQL).
    """

    action_size: int
    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = False
    start: Init = torch_init()
    log_std_range: tuple[float, float] = (-5.0, 2.0)
    bounded: bool = True

    @nn.compact
    def __call__(self, observation: Array) -> tuple[Array, Array]:
        x = self.trunk(observation)
        mean = self.head(self.action_size, "mean", x)
        log_std = self.param("log_std", lambda key: jnp.zeros(self.action_size))
        log_std = jnp.broadcast_to(jnp.clip(log_std, *self.log_std_range), mean.shape)
        return jnp.tanh(mean) if self.bounded else mean, log_std


class Deterministic(Network):
    """Actor: observation [..., D] -> action [..., A], the tanh of the last layer (TD3)."""

    action_size: int
    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = False
    start: Init = torch_init()

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        return jnp.tanh(self.head(self.action_size, "out", self.trunk(observation)))


class Mixture(nn.Module):
    """Actor: the Gaussian matched to an ensemble of Gaussians, trained jointly through it (BR)."""

    members: nn.Module

    def __call__(self, observation: Array) -> tuple[Array, Array]:
        mean, log_std = distributions.matched(*self.members(observation))
        return mean, jnp.clip(log_std, *self.members.log_std_range)


class Features(Network):
    """The first hidden layers of a critic: observation and action -> [..., width] (see Critic)."""

    hidden: tuple[int, ...] = (256,)
    layer_norm: bool = False
    start: Init = torch_init()
    dropout: float = 0.0

    @nn.compact
    def __call__(self, observation: Array, action: Array) -> Array:
        return self.trunk(observation, action)


class Critic(Network):
    """Q: observation [..., D] and action [..., A] -> [...]; leading axes may broadcast.

    As the head of a shared trunk, its only input is the trunk's features [..., width].
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    layer_norm: bool = False
    start: Init = torch_init()
    dropout: float = 0.0

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        return jnp.squeeze(self.head(1, "out", self.trunk(*inputs)), axis=-1)


class Value(Network):
    """V: observation [..., D] -> [...]."""

    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = False
    start: Init = torch_init()

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        return jnp.squeeze(self.head(1, "out", self.trunk(observation)), axis=-1)


class Scalar(nn.Module):
    """One trained number: the logarithm of a temperature or of a Lagrange multiplier."""

    value: float = 0.0

    @nn.compact
    def __call__(self) -> Array:
        return self.param("value", lambda key: jnp.float32(self.value))


def positive(params: Params) -> Array:
    """Return exp of a Scalar's value: a temperature or a multiplier."""
    return jnp.exp(params["params"]["value"])


def check_sizes(n: int, hidden: tuple[int, ...]) -> None:
    """Refuse ensembles without critics and layers without units.

    Raises:
      InputError: n or a width is below 1.
    """
    if not isinstance(n, int) or n < 1:
        raise InputError(f"num_critics is {n!r}; an ensemble needs at least one critic")
    widths = hidden if isinstance(hidden, tuple | list) else (None,)
    if not all(isinstance(width, int) and width > 0 for width in widths):
        raise InputError(f"hidden is {hidden!r}; widths must be whole numbers of at least 1")
