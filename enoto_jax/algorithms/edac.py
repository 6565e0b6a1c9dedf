"""EDAC (An et al. 2021): SAC-N whose critics are kept from agreeing on how an action changes Q."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from enoto_jax.algorithms.sac import sac
from enoto_jax.core import Algorithm
from enoto_jax.types import InputError, Spec


def gradient_diversity(*, eta: float = 1.0):
    """eta / (N - 1) mean_B sum_{i != j} g_i . g_j, g_i the unit vector along dQ_i(s, a)/da.

    Ordered pairs, at the data's actions: N where all critics agree. EDAC, equation 6.

    Args:
      eta: weight of the term.
    """

    def build(q, policy, spec: Spec, each):
        del q, policy, spec

        def term(params, state, batch, key, q_data):
            del state, key
            n = q_data.shape[0]
            if n < 2:
                raise InputError("edac compares critics: it needs at least 2, --num_critics=2")

            # All critics' gradients in one pass, over the forward pass of q_data.
            observation, action = (
                jnp.broadcast_to(x, (n, *x.shape)) for x in (batch.observation, batch.action)
            )
            gradient = jax.grad(lambda action: jnp.sum(each(params, observation, action)))(action)
            square = jnp.sum(jnp.square(gradient), axis=-1, keepdims=True)
            # A critic whose ReLUs are all closed has gradient 0, where a root has no derivative.
            norm = jnp.sqrt(jnp.where(square > 0.0, square, 1.0))
            unit = gradient / (norm + 1e-10)  # [N, B, A]
            together = jnp.sum(jnp.square(jnp.sum(unit, axis=0)), axis=-1)
            similarity = jnp.mean(together - jnp.sum(jnp.square(unit), axis=(0, 2))) / (n - 1)
            return eta * similarity, {"similarity": similarity}

        return term

    return build


def edac(spec: Spec, *, eta: float = 1.0, terms: tuple = (), **options) -> Algorithm:
    """SAC-N with the gradient diversity term; every other option is sac's.

    Args:
      spec: sizes of observations and actions.
      eta: weight of the diversity term.
      terms: further losses on the critics, beside it.
      **options: see sac.
    """
    return sac(spec, terms=(gradient_diversity(eta=eta), *terms), **options)


edac.extends = sac  # where `options` are described
