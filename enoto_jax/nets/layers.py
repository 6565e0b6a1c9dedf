"""The layers that networks are made of."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
from flax import linen as nn

from enoto_jax.nets.cpu_kernels import matmul, normalise
from enoto_jax.nets.initialisers import LayerInit
from enoto_jax.types import Array


class Linear(nn.Module):
    """y = x W + b, with initialisers that know the layer's fan-in.

    Several inputs are parts of one: they are multiplied by their own rows of W and added. Parts may
    broadcast, so what they share (one observation, many candidate actions) is multiplied once.
    """

    features: int
    kernel_init: LayerInit
    bias_init: LayerInit
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *parts: Array) -> Array:
        fan_in = sum(part.shape[-1] for part in parts)
        kernel = self.param("kernel", self.kernel_init, fan_in, (fan_in, self.features))
        bias = self.param("bias", self.bias_init, fan_in, (self.features,))
        *cast, kernel, bias = (x.astype(self.dtype) for x in (*parts, kernel, bias))
        if len({part.shape[:-1] for part in cast}) == 1:
            return matmul(jnp.concatenate(cast, axis=-1), kernel) + bias
        rows = itertools.accumulate((part.shape[-1] for part in cast), initial=0)
        kernels = [kernel[i : i + part.shape[-1]] for part, i in zip(cast, rows)]
        # The bias as one more row for a column of ones, so that its gradient is part of a product.
        ones = jnp.ones((*cast[0].shape[:-1], 1), self.dtype)
        cast[0] = jnp.concatenate([cast[0], ones], axis=-1)
        kernels[0] = jnp.concatenate([kernels[0], bias[None]])
        return sum(matmul(part, kernel) for part, kernel in zip(cast, kernels))


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
