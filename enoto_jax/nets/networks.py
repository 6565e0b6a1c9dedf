"""Networks: multi-layer perceptrons.

Every head is a plain linear layer, so the whole actor is `trunk -> (mean, log_std)` and a critic is
`trunk -> scalar`.

Networks made within `computing("bf16")` multiply hidden layers in bfloat16; parameters, heads, and
whatever is made of their outputs stay in float32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax.numpy as jnp
from flax import linen as nn

from enoto_jax.nets import distributions
from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.nets.layers import LayerNorm, Linear
from enoto_jax.types import Array, InputError, Params

PRECISIONS = {"float32": jnp.float32, "bf16": jnp.bfloat16}
_computing = ContextVar("computing", default=jnp.float32)


@contextmanager
def computing(precision: str) -> Iterator[None]:
    """Networks made inside multiply in this precision, wherever they are used.

    Raises:
      InputError: neither float32 nor bf16.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; choose {' or '.join(PRECISIONS)}")
    before = _computing.set(PRECISIONS[precision])
    try:
        yield
    finally:
        _computing.reset(before)


class Network(nn.Module):
    """What all networks have in common: hidden layers, and the precision that they multiply in."""

    dtype: jnp.dtype = dataclasses.field(default_factory=_computing.get, kw_only=True)
    layer_norm = False  # of those that do not offer it
    dropout = 0.0

    def trunk(self, *parts: Array) -> Array:
        """Hidden layers with ReLU, LayerNorm before it if asked (RLPD); float32 [..., width].

        Dropout, before the LayerNorm (DroQ), is at work where `apply` is given a "dropout" key.
        """
        if not self.hidden:
            (features,) = parts
            return features
        for i, width in enumerate(self.hidden):
            start = (self.start.kernel, self.start.bias)
            x = Linear(width, *start, self.dtype, name=f"layer_{i}")(*parts)
            if i == 0:
                leading = x.shape[:-1]
            # One long matrix: over several axes XLA sums the biases' gradients, and transposes
            # what it multiplies for the weights', many times more slowly.
            parts = (self.activated(x.reshape(-1, width), i),)
        return parts[0].reshape(*leading, -1).astype(jnp.float32)

    def activated(self, x: Array, i: int) -> Array:
        """What follows the product of hidden layer i, [B, width] to the same."""
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
        head = (self.action_size, self.start.output_kernel, self.start.output_bias)
        log_std = Linear(*head, name="log_std")(x)
        return Linear(*head, name="mean")(x), jnp.clip(log_std, *self.log_std_range)


class Gaussian(Network):
    """Actor: observation [..., D] -> mean and log standard deviation [..., A].

    The standard deviation is one trained vector for all observations, 1 at the start (IQL, AWAC).

    Attributes:
      bounded: the mean is the tanh of the last layer, so that it is an action itself (IQL).
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
        head = (self.action_size, self.start.output_kernel, self.start.output_bias)
        mean = Linear(*head, name="mean")(x)
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
        x = self.trunk(observation)
        head = (self.action_size, self.start.output_kernel, self.start.output_bias)
        return jnp.tanh(Linear(*head, name="out")(x))


class Mixture(nn.Module):
    """Actor: the Gaussian matched to an ensemble of them, which train jointly through it (BR)."""

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

    As the head of a shared trunk its one input is the trunk's features [..., width].
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    layer_norm: bool = False
    start: Init = torch_init()
    dropout: float = 0.0

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        x = self.trunk(*inputs)
        out = Linear(1, self.start.output_kernel, self.start.output_bias, name="out")(x)
        return jnp.squeeze(out, axis=-1)


class Value(Network):
    """V: observation [..., D] -> [...]."""

    hidden: tuple[int, ...] = (256, 256)
    layer_norm: bool = False
    start: Init = torch_init()

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        x = self.trunk(observation)
        out = Linear(1, self.start.output_kernel, self.start.output_bias, name="out")(x)
        return jnp.squeeze(out, axis=-1)


class Encoder(Network):
    """q(z | s, a): observation [..., D], action [..., A] -> mean and log variance [..., Z]."""

    latent_size: int
    hidden: tuple[int, ...] = (256, 256, 256)
    start: Init = torch_init()

    @nn.compact
    def __call__(self, observation: Array, action: Array) -> tuple[Array, Array]:
        x = self.trunk(observation, action)
        head = (self.latent_size, self.start.output_kernel, self.start.output_bias)
        return Linear(*head, name="mean")(x), Linear(*head, name="log_var")(x)


class Decoder(Network):
    """Observation [..., D] and latent [..., Z] -> action [..., A], unbounded."""

    action_size: int
    hidden: tuple[int, ...] = (256, 256, 256)
    start: Init = torch_init()

    @nn.compact
    def __call__(self, observation: Array, latent: Array) -> Array:
        x = self.trunk(observation, latent)
        head = (self.action_size, self.start.output_kernel, self.start.output_bias)
        return Linear(*head, name="out")(x)


class CVAE(Network):
    """Conditional variational autoencoder of actions given observations (BCQ, LAPO)."""

    action_size: int
    latent_size: int
    hidden: tuple[int, ...] = (256, 256, 256)
    start: Init = torch_init()

    def setup(self):
        self.encoder = Encoder(self.latent_size, self.hidden, self.start, dtype=self.dtype)
        self.decoder = Decoder(self.action_size, self.hidden, self.start, dtype=self.dtype)

    def __call__(
        self, observation: Array, action: Array, noise: Array
    ) -> tuple[Array, Array, Array]:
        """The action decoded from mean + std * noise [..., Z], and the encoder's mean, log_var."""
        mean, log_var = self.encoder(observation, action)
        return self.decoder(observation, mean + jnp.exp(0.5 * log_var) * noise), mean, log_var

    def decode(self, observation: Array, latent: Array) -> Array:
        return self.decoder(observation, latent)


class Scalar(nn.Module):
    """One trained number: the logarithm of a temperature or of a Lagrange multiplier."""

    value: float = 0.0

    @nn.compact
    def __call__(self) -> Array:
        return self.param("value", lambda key: jnp.float32(self.value))


def positive(params: Params) -> Array:
    """exp of a Scalar's value: a temperature, a multiplier."""
    return jnp.exp(params["params"]["value"])


def check_sizes(n: int, hidden: tuple[int, ...]) -> None:
    """Refuse ensembles without critics and layers without units.

    Raises:
      InputError: n or a width is below 1.
    """
    if n < 1:
        raise InputError(f"num_critics is {n}; an ensemble needs at least one critic")
    if not all(isinstance(width, int) and width > 0 for width in hidden):
        raise InputError(f"hidden is {hidden!r}; widths are whole numbers, at least 1")
