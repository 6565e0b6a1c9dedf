"""The conditional variational autoencoder of BCQ and LAPO."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.nets.networks import Network
from enoto_jax.types import Array


class Encoder(Network):
    """q(z | s, a): observation [..., D], action [..., A] -> mean and log variance [..., Z]."""

    latent_size: int
    hidden: tuple[int, ...] = (256, 256, 256)
    start: Init = torch_init()

    @nn.compact
    def __call__(self, observation: Array, action: Array) -> tuple[Array, Array]:
        x = self.trunk(observation, action)
        return self.head(self.latent_size, "mean", x), self.head(self.latent_size, "log_var", x)


class Decoder(Network):
    """Observation [..., D] and latent [..., Z] -> action [..., A], unbounded."""

    action_size: int
    hidden: tuple[int, ...] = (256, 256, 256)
    start: Init = torch_init()

    @nn.compact
    def __call__(self, observation: Array, latent: Array) -> Array:
        return self.head(self.action_size, "out", self.trunk(observation, latent))


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
        """Return the action decoded from mean + std * noise [..., Z], the mean, and log_var."""
        mean, log_var = self.encoder(observation, action)
        return self.decoder(observation, mean + jnp.exp(0.5 * log_var) * noise), mean, log_var

    def decode(self, observation: Array, latent: Array) -> Array:
        return self.decoder(observation, latent)
