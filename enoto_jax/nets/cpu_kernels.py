"""Kernels that make networks fast on a backend; nothing else in the package depends on it.

On a CPU, XLA sums along rows, and multiplies by transposed matrices, many times more slowly than it
multiplies (docs/performance.md). There, a row's sum is a product with ones, and a transposed matrix
is a copy. Ensembles can also be unstacked there: each copy has arrays of its own, and a layer is n
products, which XLA runs side by side, each in its caches. Both forms are correct on every backend.

Derivatives are given as forward rules (`custom_jvp`), linear in the tangents. Their transposes are
the fast backward products, and forward mode and second derivatives also work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from enoto_jax.types import Array, Params

EPSILON = 1e-6  # added to the variance in LayerNorm, as in Flax


@flax.struct.dataclass
class Unstacked:
    """An ensemble's parameters, or a tree like them, with separate arrays for each copy."""

    copies: tuple[Params, ...]


def apply_unstacked(apply: Callable, params: Unstacked, inputs: Sequence[Sequence[Array]]) -> Any:
    """Return a network's outputs [N, ...] for every copy's parameters and inputs."""
    return stack(apply(own, *each) for own, *each in zip(params.copies, *inputs))


def take(tree: Any, index: Array) -> Any:
    """Return the copies [K] of a tree with a leading N: unstacked on a CPU, else [K, ...]."""
    if not _on_cpu():
        return jax.tree.map(lambda x: x[index], tree)
    return Unstacked(tuple(jax.tree.map(lambda x, i=i: x[i], tree) for i in index))


def put(tree: Any, index: Array, copies: Any) -> Any:
    """Return the tree with those copies replaced; this undoes `take`."""
    if not isinstance(copies, Unstacked):
        return jax.tree.map(lambda x, new: x.at[index].set(new), tree, copies)
    for i, copy in zip(index, copies.copies):
        tree = jax.tree.map(lambda x, new, i=i: x.at[i].set(new), tree, copy)
    return tree


def each(function: Callable, *trees: Any) -> tuple[Any, ...]:
    """Return a function's outputs for every copy in what `take` returned, in the same form."""
    if not isinstance(trees[0], Unstacked):
        return jax.vmap(function)(*trees)
    outputs = [function(*own) for own in zip(*(tree.copies for tree in trees))]
    return tuple(Unstacked(tuple(part)) for part in zip(*outputs))


def stack(trees: Iterable[Any]) -> Any:
    """Return one tree with a leading axis N."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *trees)


# `custom_jvp` rejects NumPy inputs under `vmap`; wrapping it in `jit` converts them.


@partial(jax.jit, inline=True)
def matmul(x: Array, kernel: Array) -> Array:
    """Multiply x [..., I] by a kernel [I, O], as one long matrix (see `networks.Network.trunk`)."""
    return _product(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], -1)


@jax.custom_jvp
def _product(x: Array, kernel: Array) -> Array:
    """x [B, I] times a kernel [I, O]."""
    return x @ kernel


@_product.defjvp
def _product_forward(primals, tangents):
    x, kernel = primals
    dx, dkernel = tangents
    transposed = jax.lax.optimization_barrier(kernel.T) if _on_cpu() else kernel.T
    # Contracted with the transposed copy, so that this transposes to a plain product with it.
    by_x = jax.lax.dot_general(dx, transposed, (((1,), (1,)), ((), ())))
    return x @ kernel, by_x + x @ dkernel


@partial(jax.jit, inline=True)
def normalise(x: Array, scale: Array, bias: Array) -> Array:
    """Return LayerNorm of x [B, I] with scale and bias [I]."""
    return _layer_norm(x, scale, bias)


@jax.custom_jvp
def _layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    return _layer_norm_parts(x, scale, bias)[0]


def _layer_norm_parts(x, scale, bias) -> tuple[Array, Array, Array]:
    """The output, (x - mean) / deviation [B, I], and 1 / deviation [B, 1]."""
    mean = _mean(x)
    variance = jnp.maximum(_mean(jnp.square(x)) - jnp.square(mean), 0.0)
    rate = jax.lax.rsqrt(variance + EPSILON)
    return (x - mean) * (rate * scale) + bias, (x - mean) * rate, rate


@_layer_norm.defjvp
def _layer_norm_forward(primals, tangents):
    x, scale, bias = primals
    dx, dscale, dbias = tangents
    out, unit, rate = _layer_norm_parts(x, scale, bias)
    # Written for its transpose, in which the means are broadcasts, `_wide` is a product, and
    # nothing large changes its sign.
    d = rate * dx
    means = (-jnp.mean(along, axis=-1, keepdims=True) for along in (d, d * unit))
    own, along = (_wide(mean, x.shape[-1]) for mean in means)
    change = (d + own + unit * along) * scale + unit * dscale + dbias
    return out, change


def _mean(x: Array) -> Array:
    """Mean over the last axis, which is kept: [B, 1]."""
    if _on_cpu():
        return x @ jnp.full((x.shape[-1], 1), 1.0 / x.shape[-1], x.dtype)
    return jnp.mean(x, axis=-1, keepdims=True)


def _wide(x: Array, width: int) -> Array:
    """Repeat [B, 1] to [B, I] by a product, so that its transpose, a sum, is a product too."""
    if _on_cpu():
        return x @ jnp.ones((1, width), x.dtype)
    return jnp.broadcast_to(x, (x.shape[0], width))


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
