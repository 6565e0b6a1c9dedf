"""Behaviour cloning: what imitation alone achieves, the baseline of every offline comparison."""

from __future__ import annotations

from typing import Annotated

import jax.numpy as jnp
import optax

from enoto_jax.core import Algorithm, AlgorithmConfig
from enoto_jax.exploration import Exploration, policy
from enoto_jax.nets.initialisers import Init, torch_init
from enoto_jax.nets.networks import Deterministic, check_sizes
from enoto_jax.types import Spec


class bc(AlgorithmConfig):
    """Regression on the data's actions: mean over batch and action of (pi(s) - a)^2 (CORL)."""

    exploration: Annotated[Exploration, "how to act online."] = policy()
    hidden: Annotated[tuple[int, ...], "widths of the hidden layers."] = (256, 256)
    layer_norm: Annotated[bool, "LayerNorm before each ReLU."] = False
    actor_init: Annotated[Init, "how the actor starts."] = torch_init()
    actor_rate: Annotated[float, "Adam's learning rate."] = 3e-4

    def build(self, spec: Spec) -> Algorithm:
        """See the base class.

        Raises:
          InputError: A width is below 1.
        """
        check_sizes(1, self.hidden)
        net = Deterministic(spec.action_size, tuple(self.hidden), self.layer_norm, self.actor_init)

        def loss(params, state, batch, key):
            return jnp.mean(jnp.square(net.apply(params, batch.observation) - batch.action)), {}

        def mode(state, observation):
            return net.apply(state.params["actor"], observation)

        def act(state, key, observation, k):
            return jnp.broadcast_to(mode(state, observation), (k, spec.action_size))

        return Algorithm(
            nets={"actor": net},
            inputs={"actor": (jnp.zeros((1, spec.observation_size)),)},
            losses={"actor": loss},
            optimisers={"actor": optax.adam(self.actor_rate)},
            tracked=(),
            tau=0.0,
            act=act,
            mode=mode,
            exploration=self.exploration,
        )
