"""Ensembles of networks: n copies, stacked or apart.

Stacked, every array of the parameters has a leading axis N, and a layer of all copies is one
batched product. Apart, each copy has arrays of its own, and a layer is n products, which XLA runs
side by side on a CPU, each in its caches: faster there (docs/performance.md); elsewhere it would be
n times as many kernels. A state is stacked wherever it is kept; on a CPU the offline loop, and an
online step of several updates, take it apart for the time of a call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn

from enoto_jax.types import Array, Params


@flax.struct.dataclass
class Apart:
    """The copies' parameters (or what has their structure), each with arrays of its own."""

    copies: tuple[Params, ...]


def apart(net: nn.Module, tree: Any) -> Any:
    """A tree about a network, with all its stacked parameters apart; as it is of no ensemble.

    Args:
      net: one that `ensemble` made, or any other.
      tree: its parameters, or its optimiser's state, which has them inside.
    """
    n = getattr(net, "copies", None)
    if n is None:
        return tree

    def own(x, i):
        return jax.tree.map(lambda array: array[i], x)

    def is_params(x):
        return isinstance(x, Mapping) and "params" in x

    return jax.tree.map(
        lambda x: Apart(tuple(own(x, i) for i in range(n))) if is_params(x) else x,
        tree,
        is_leaf=is_params,
    )


def stacked(tree: Any) -> Any:
    """Any tree, with everything stacked that is apart in it: undoes `apart` exactly."""
    return jax.tree.map(
        lambda x: _stack(x.copies) if isinstance(x, Apart) else x,
        tree,
        is_leaf=lambda x: isinstance(x, Apart),
    )


def _stack(trees: Iterable) -> Any:
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *trees)


def ensemble(net: nn.Module, n: int) -> nn.Module:
    """n independent copies of `net` on the same input: parameters and outputs gain a leading N.

    `apply` takes parameters stacked or apart. `each(params, *inputs)` is the same for inputs of
    every copy's own, [N, ...].
    """
    batched = nn.vmap(
        type(net),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=0,
        out_axes=0,
        axis_size=n,
    )

    class Ensemble(batched):
        copies = n

        def __call__(self, *inputs: Array):
            # An input of each copy's own, or XLA would multiply it by all copies' first layers at
            # once, [B, N H], and transpose that, whole, in both directions.
            return super().__call__(*(jnp.broadcast_to(x, (n, *x.shape)) for x in inputs))

        @nn.nowrap
        def apply(self, params: Params | Apart, *inputs: Array):
            if isinstance(params, Apart):
                return _stack(net.apply(own, *inputs) for own in params.copies)
            return super().apply(params, *inputs)

        @nn.nowrap
        def each(self, params: Params | Apart, *inputs: Array):
            if isinstance(params, Apart):
                return _stack(map(net.apply, params.copies, *inputs))
            return jax.vmap(net.apply)(params, *inputs)

    fields = {f.name: getattr(net, f.name) for f in dataclasses.fields(net) if f.init}
    return Ensemble(**{k: v for k, v in fields.items() if k not in ("parent", "name")})
