"""Ensembles of networks: n copies, whose parameters and outputs have a leading axis N.

`apply` takes parameters plain or wrapped: `Drawn` holds those of some copies, and `Noisy` adds a
key for dropout. Losses need not know which they get.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn

from enoto_jax.nets import cpu_kernels
from enoto_jax.types import Array, Key, Params


@flax.struct.dataclass
class PerCopy:
    """An input of which every copy gets its own part: values [N, ...]."""

    values: Array


@flax.struct.dataclass
class Drawn:
    """The parameters of K of the N copies.

    Attributes:
      params: The drawn copies' parameters, from `cpu_kernels.take`.
      index: The drawn copies' numbers, [K].
      total: N.
    """

    params: Params
    index: Array
    total: int = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class Noisy:
    """Parameters with a key that switches dropout on; inputs of other sizes get other masks."""

    params: Params
    key: Key


def own_part(params: Params, values: Array) -> Array:
    """Return the part of values [N, ...] that belongs to the copies in `params`."""
    params = params.params if isinstance(params, Noisy) else params
    return values[params.index] if isinstance(params, Drawn) else values


def share(params: Params) -> float:
    """Return K / N, the fraction of the ensemble's copies that `params` holds."""
    params = params.params if isinstance(params, Noisy) else params
    return len(params.index) / params.total if isinstance(params, Drawn) else 1.0


def ensemble(net: nn.Module, n: int) -> nn.Module:
    """Make n independent copies of `net` on one input: parameters and outputs gain a leading N.

    An input that is a `PerCopy` is not shared: each copy gets its own.
    """
    batched: Any = nn.vmap(
        type(net),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=0,
        out_axes=0,
        axis_size=n,
    )

    class Ensemble(batched):
        copies = n

        def __call__(self, *inputs: Array | PerCopy):
            return super().__call__(*(_own(x, n) for x in inputs))

        @nn.nowrap
        def apply(self, params: Params, *inputs: Array | PerCopy):
            if isinstance(params, Noisy | Drawn | cpu_kernels.Unstacked):
                return _apply(net, params, n, inputs)
            return super().apply(params, *inputs)

    fields = {f.name: getattr(net, f.name) for f in dataclasses.fields(net) if f.init}
    return Ensemble(**{k: v for k, v in fields.items() if k not in ("parent", "name")})


def _apply(net: nn.Module, params: Any, n: int, inputs: Sequence[Array | PerCopy]):
    """Return outputs [N, ...] of unstacked copies or with dropout, or [K, ...] of drawn copies."""
    keys = None
    if isinstance(params, Noisy):
        keys = jax.random.split(_of_inputs(params.key, inputs), n)
        params = params.params
    if isinstance(params, Drawn):
        n = len(params.index)
        keys = None if keys is None else keys[params.index]
        params = params.params

    def one(own, key, *x):
        return net.apply(own, *x, rngs=None if key is None else {"dropout": key})

    own: list[Any] = [x.values if isinstance(x, PerCopy) else (x,) * n for x in inputs]
    if isinstance(params, cpu_kernels.Unstacked):
        each: Any = (None,) * n if keys is None else keys
        return cpu_kernels.apply_unstacked(one, params, [each, *own])
    axes = (0, None if keys is None else 0, *(0 for _ in inputs))
    return jax.vmap(one, axes)(params, keys, *(_own(x, n) for x in inputs))


def _of_inputs(key: Key, inputs: Sequence[Array | PerCopy]) -> Key:
    shapes = (x.values.size if isinstance(x, PerCopy) else x.size for x in inputs)
    return jax.random.fold_in(key, sum(shapes))


class SharedTrunk:
    """N critics that share their first hidden layers (Osband's bootstrapped heads).

    The trunk's gradient is the sum of all heads' losses, whose scale Adam cancels.

    Args:
      trunk: The layers that all critics share.
      heads: An ensemble on the trunk's features.
    """

    def __init__(self, trunk: nn.Module, heads: nn.Module):
        self.parts = {"trunk": trunk, "heads": heads}

    def init(self, key: Key, *inputs: Array) -> Params:
        trunk_key, heads_key = jax.random.split(key)
        trunk = self.parts["trunk"].init(trunk_key, *inputs)
        features = self.parts["trunk"].apply(trunk, *inputs)
        return {"trunk": trunk, "heads": self.parts["heads"].init(heads_key, features)}

    def apply(self, params: Params, *inputs: Array | PerCopy) -> Array:
        """Return outputs [N, ...]; if an input is a PerCopy, every copy has its own features."""
        rngs, heads = None, None
        if isinstance(params, Noisy):
            trunk_key, heads_key = jax.random.split(params.key)
            rngs, params = {"dropout": _of_inputs(trunk_key, inputs)}, params.params
            heads = Noisy(params["heads"], heads_key)
        own = any(isinstance(x, PerCopy) for x in inputs)
        values = [x.values if isinstance(x, PerCopy) else x for x in inputs]
        features = self.parts["trunk"].apply(params["trunk"], *values, rngs=rngs)
        heads = params["heads"] if heads is None else heads
        return self.parts["heads"].apply(heads, PerCopy(features) if own else features)


class SharedHead:
    """N critics that share their output layer, as in WSRL's code.

    Args:
      trunks: An ensemble of hidden layers.
      head: The layer that all copies' features go through.
    """

    def __init__(self, trunks: nn.Module, head: nn.Module):
        self.parts = {"trunks": trunks, "head": head}

    def init(self, key: Key, *inputs: Array) -> Params:
        trunks_key, head_key = jax.random.split(key)
        trunks = self.parts["trunks"].init(trunks_key, *inputs)
        features = self.parts["trunks"].apply(trunks, *inputs)
        return {"trunks": trunks, "head": self.parts["head"].init(head_key, features)}

    def apply(self, params: Params, *inputs: Array | PerCopy) -> Array:
        """Return outputs [N, ...]."""
        if isinstance(params, Noisy):
            key, params = params.key, params.params
            params = {**params, "trunks": Noisy(params["trunks"], key)}
        features = self.parts["trunks"].apply(params["trunks"], *inputs)
        return self.parts["head"].apply(params["head"], features)


def _own(x: Array | PerCopy, n: int) -> Array:
    """Return the input with a leading N.

    A shared input is broadcast, because XLA would otherwise multiply it by all copies' first layers
    at once, [B, N H], and transpose all of that in both directions.
    """
    return x.values if isinstance(x, PerCopy) else jnp.broadcast_to(x, (n, *x.shape))


# Functions on some copies of a tree with a leading N, in the form that suits the backend.
take, put, each = cpu_kernels.take, cpu_kernels.put, cpu_kernels.each
