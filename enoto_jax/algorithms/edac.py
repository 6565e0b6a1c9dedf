"""EDAC (An et al. 2021): SAC-N whose critics are kept from agreeing on how an action changes Q."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp

from enoto_jax.algorithms.bellman import CriticTerm
from enoto_jax.algorithms.sac import sac
from enoto_jax.core import Algorithm
from enoto_jax.nets.ensembles import PerCopy
from enoto_jax.types import InputError, Spec


class gradient_diversity(CriticTerm):
    """eta / (N - 1) mean_B sum_{i != j} g_i . g_j, g_i the unit vector along dQ_i(s, a)/da.

    The sum is over ordered pairs, at the data's actions; the term is eta N if all critics agree.
    EDAC, equation 6. The algorithm `edac` has it built in.
    """

    eta: Annotated[float, "weight of the term."] = 1.0

    def bind(self, q, policy, spec):
        def term(params, state, batch, key, q_data):
            n = q_data.shape[0]
            if n < 2:
                raise InputError(
                    "edac compares the critics that learn: it needs at least 2, --num_critics=2, "
                    "and as many learners"
                )

            # All critics' gradients in one pass, because each critic has its own action.
            def total(action):
                return jnp.sum(q(params, batch.observation, PerCopy(action)))

            action = jnp.broadcast_to(batch.action, (n, *batch.action.shape))
            gradient = jax.grad(total)(action)
            square = jnp.sum(jnp.square(gradient), axis=-1, keepdims=True)
            # A critic whose ReLUs are all closed has gradient 0, where a root has no derivative.
            norm = jnp.sqrt(jnp.where(square > 0.0, square, 1.0))
            unit = gradient / (norm + 1e-10)  # [N, B, A]
            together = jnp.sum(jnp.square(jnp.sum(unit, axis=0)), axis=-1)
            similarity = jnp.mean(together - jnp.sum(jnp.square(unit), axis=(0, 2))) / (n - 1)
            return self.eta * similarity, {"similarity": similarity}

        return term


class edac(sac):
    """SAC-N with the gradient diversity term."""

    eta: Annotated[float, "weight of the diversity term."] = 1.0

    def build(self, spec: Spec) -> Algorithm:
        terms = (gradient_diversity(eta=self.eta), *self.terms)
        return sac.build(dataclasses.replace(self, terms=terms), spec)
