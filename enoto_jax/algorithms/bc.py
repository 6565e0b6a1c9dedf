"""Behaviour cloning: what imitation alone is worth, the floor of every offline comparison."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from enoto_jax.core import Algorithm
from enoto_jax.exploration import Exploration, policy
from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.nets.networks import Deterministic, check_sizes
from enoto_jax.types import Spec


def bc(
    spec: Spec,
    *,
    exploration: Exploration | None = None,
    hidden: tuple[int, ...] = (256, 256),
    layer_norm: bool = False,
    actor_init: Init | None = None,
    actor_rate: float = 3e-4,
) -> Algorithm:
    """Regression on the data's actions: mean over batch and action of (pi(s) - a)^2 (CORL).

    Args:
      spec: sizes of observations and actions.
      exploration: how to act online; policy, that is without noise, by default.
      hidden: widths of the hidden layers.
      layer_norm: LayerNorm before each ReLU.
      actor_init: how the actor starts; torch_init by default.
      actor_rate: Adam's learning rate.

    Raises:
      InputError: a width below 1.
    """
    check_sizes(1, hidden)
    net = Deterministic(spec.action_size, tuple(hidden), layer_norm, actor_init or torch_init())

    def loss(params, state, batch, key, seen):
        del state, key, seen
        return jnp.mean(jnp.square(net.apply(params, batch.observation) - batch.action)), {}

    def mode(state, observation):
        return net.apply(state.params["actor"], observation)

    def act(state, key, observation, k):
        del key
        return jnp.broadcast_to(mode(state, observation), (k, spec.action_size))

    return Algorithm(
        nets={"actor": net},
        inputs={"actor": (jnp.zeros((1, spec.observation_size)),)},
        losses={"actor": loss},
        optimisers={"actor": optax.adam(actor_rate)},
        tracked=(),
        tau=0.0,
        act=act,
        mode=mode,
        exploration=exploration or policy(),
    )
