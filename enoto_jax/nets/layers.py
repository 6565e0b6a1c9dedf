"""Layers that networks are made of, written as the backend is fastest at them.

XLA on a CPU sums along rows, and multiplies by transposed matrices, many times more slowly than it
multiplies (docs/performance.md): there sums are products with ones, and what is transposed is a
copy. Either way is right everywhere.
"""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from enoto_jax.nets.initialisers import LayerInit
from enoto_jax.types import Array

EPSILON = 1e-6  # added to the variance: Flax's


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
        *parts, kernel, bias = (x.astype(self.dtype) for x in (*parts, kernel, bias))
        if len({part.shape[:-1] for part in parts}) == 1:
            return _matmul(jnp.concatenate(parts, axis=-1), kernel) + bias
        rows = itertools.accumulate((part.shape[-1] for part in parts), initial=0)
        kernels = [kernel[i : i + part.shape[-1]] for part, i in zip(parts, rows)]
        # The bias as one more row for a column of ones, so that its gradient is part of a product.
        ones = jnp.ones((*parts[0].shape[:-1], 1), self.dtype)
        parts[0] = jnp.concatenate([parts[0], ones], axis=-1)
        kernels[0] = jnp.concatenate([kernels[0], bias[None]])
        return sum(_matmul(part, kernel) for part, kernel in zip(parts, kernels))


class LayerNorm(nn.Module):
    """scale (x - mean) / sqrt(variance + EPSILON) + bias over the last axis of x [B, I].

    Statistics are in float32 (Ba et al. 2016); parameters start as 1 and 0.
    """

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return _normalised(x.astype(jnp.float32), scale, bias).astype(self.dtype)


# A custom gradient alone takes no NumPy arrays under vmap; a jit does.


@partial(jax.jit, inline=True)
def _matmul(x: Array, kernel: Array) -> Array:
    """x [..., I] times a kernel [I, O] as one long matrix, see `networks.Network.trunk`."""
    return _product(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def _product(x: Array, kernel: Array) -> Array:
    """x [B, I] times a kernel [I, O]."""
    return x @ kernel


def _product_backward(seen: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = seen
    transposed = jax.lax.optimization_barrier(kernel.T) if _on_cpu() else kernel.T
    # Of the two ways to write the kernel's gradient this one, JAX's own, is the faster.
    return gradient @ transposed, (gradient.T @ x).T


_product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _product_backward)


@partial(jax.jit, inline=True)
def _normalised(x: Array, scale: Array, bias: Array) -> Array:
    return _layer_norm(x, scale, bias)


@jax.custom_vjp
def _layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    """x [B, I], scale [I], bias [I]."""
    return _layer_norm_forward(x, scale, bias)[0]


def _layer_norm_forward(x: Array, scale: Array, bias: Array) -> tuple[Array, tuple]:
    mean = _mean(x)
    variance = jnp.maximum(_mean(jnp.square(x)) - jnp.square(mean), 0.0)
    rate = jax.lax.rsqrt(variance + EPSILON)
    return (x - mean) * (rate * scale) + bias, (x, mean, rate, scale)


def _layer_norm_backward(seen: tuple, gradient: Array) -> tuple[Array, Array, Array]:
    x, mean, rate, scale = seen
    unit, inner = (x - mean) * rate, gradient * scale
    by_x = rate * (inner - _mean(inner) - unit * _mean(inner * unit))
    return by_x, _total(gradient * unit), _total(gradient)


_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def _mean(x: Array) -> Array:
    """Over the last axis, which stays."""
    if _on_cpu():
        return x @ jnp.full((x.shape[-1], 1), 1.0 / x.shape[-1], x.dtype)
    return jnp.mean(x, axis=-1, keepdims=True)


def _total(x: Array) -> Array:
    """Over the first axis."""
    return (jnp.ones((1, len(x)), x.dtype) @ x)[0] if _on_cpu() else jnp.sum(x, axis=0)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
