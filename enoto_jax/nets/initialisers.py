"""How layers are initialised by the methods' authors, each way named after its code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp

from enoto_jax.types import Array, Key, Unit

LayerInit = Callable[[Key, int, tuple[int, ...]], Array]  # (key, fan_in, shape) -> values


def _fan_in_uniform(key: Key, fan_in: int, shape: tuple[int, ...]) -> Array:
    bound = fan_in**-0.5
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _uniform(bound: float) -> LayerInit:
    return lambda key, fan_in, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _constant(value: float) -> LayerInit:
    # Not weakly typed, or the first update after a fresh start would compile a second time.
    return lambda key, fan_in, shape: jnp.full(shape, value, jnp.float32)


def _orthogonal(gain: float) -> LayerInit:
    """Return Q of a normal matrix, times a gain: orthonormal columns, or rows if there are fewer.

    It uses Gram-Schmidt, not LAPACK's QR as in `nn.initializers.orthogonal`, with the same result.
    Several QRs side by side wait, in XLA's threads, for other threads of XLA; with two threads on
    two cores, they deadlock (jaxlib 0.10.2).
    """

    def init(key: Key, fan_in: int, shape: tuple[int, ...]) -> Array:
        rows = jax.random.normal(key, (max(shape), min(shape))).T

        def orthonormal(i: Array, found: Array) -> Array:
            """Return `found` with the next row; later rows are still zero."""
            row = rows[i]
            for _ in range(2):  # the second pass removes what rounding has left
                row = row - (found @ row) @ found
            return found.at[i].set(row / jnp.linalg.norm(row))

        found = jax.lax.fori_loop(0, len(rows), orthonormal, jnp.zeros_like(rows))
        return gain * (found.T if shape[0] >= shape[1] else found)

    return init


def _xavier(key: Key, fan_in: int, shape: tuple[int, ...]) -> Array:
    bound = (6.0 / (fan_in + shape[-1])) ** 0.5
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class Init(Unit):
    """How a network's layers start: weights and biases of hidden layers, then of heads."""

    @property
    def kernel(self) -> LayerInit:
        return _fan_in_uniform

    @property
    def bias(self) -> LayerInit:
        return _constant(0.0)

    @property
    def output_kernel(self) -> LayerInit:
        return _fan_in_uniform

    @property
    def output_bias(self) -> LayerInit:
        return _constant(0.0)


class torch_init(Init):
    """U(+-1/sqrt(fan_in)) for every weight and bias: torch's default, as in d3rlpy and ENOTO."""

    @property
    def bias(self):
        return _fan_in_uniform

    @property
    def output_bias(self):
        return _fan_in_uniform


class edac_init(Init):
    """EDAC's code: hidden biases 0.1, heads U(+-head) with 1e-3 for actors, 3e-3 for critics."""

    head: Annotated[float, "bound of the head's weights and biases."] = 3e-3

    @property
    def bias(self):
        return _constant(0.1)

    @property
    def output_kernel(self):
        return _uniform(self.head)

    @property
    def output_bias(self):
        return _uniform(self.head)


class orthogonal_init(Init):
    """Orthogonal with gain sqrt(2), zero biases; heads with a small gain (CORL and Cal-QL)."""

    head_gain: Annotated[float, "gain of the heads."] = 1e-2

    @property
    def kernel(self):
        return _orthogonal(2**0.5)

    @property
    def output_kernel(self):
        return _orthogonal(self.head_gain)


class xavier_init(Init):
    """U(+-sqrt(6 / (fan_in + fan_out))), zero biases: PEX, REDQ, RLPD."""

    @property
    def kernel(self):
        return _xavier

    @property
    def output_kernel(self):
        return _xavier


class rlkit_init(Init):
    """Zero biases, heads U(+-head): as in rlkit and the code of balanced replay."""

    head: Annotated[float, "bound of the head's weights."] = 3e-3
    head_bias: Annotated[float, "value of the head's biases."] = 0.0

    @property
    def output_kernel(self):
        return _uniform(self.head)

    @property
    def output_bias(self):
        return _constant(self.head_bias)
