"""Ensembles of networks: n copies, whose parameters and outputs have a leading axis N."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.struct
import jax.numpy as jnp
from flax import linen as nn

from enoto_jax.nets import cpu_kernels
from enoto_jax.types import Array, Params


@flax.struct.dataclass
class PerCopy:
    """An input of which every copy gets its own part: values [N, ...]."""

    values: Array


def ensemble(net: nn.Module, n: int) -> nn.Module:
    """n independent copies of `net` on the same input: parameters and outputs gain a leading N.

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
            if isinstance(params, cpu_kernels.Unstacked):
                own: list[Any] = [x.values if isinstance(x, PerCopy) else (x,) * n for x in inputs]
                return cpu_kernels.apply_unstacked(net.apply, params, own)
            return super().apply(params, *inputs)

    fields = {f.name: getattr(net, f.name) for f in dataclasses.fields(net) if f.init}
    return Ensemble(**{k: v for k, v in fields.items() if k not in ("parent", "name")})


def _own(x: Array | PerCopy, n: int) -> Array:
    """The input with a leading N.

    A shared input is broadcast, or XLA would multiply it by all copies' first layers at once,
    [B, N H], and transpose that, whole, in both directions.
    """
    return x.values if isinstance(x, PerCopy) else jnp.broadcast_to(x, (n, *x.shape))
