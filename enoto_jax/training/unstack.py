"""Unstack ensembles for the duration of a call: faster on a CPU, see `nets.cpu_kernels`.

A state is stacked wherever it is kept, saved or handed over. The offline loop, and an online step
of several updates, unstack it inside the program. Algorithms see no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn

from enoto_jax.core import Algorithm, TrainState
from enoto_jax.nets.cpu_kernels import Unstacked, stack


def unstack(algorithm: Algorithm, state: TrainState) -> TrainState:
    """Return the state with every ensemble's parameters unstacked; `restack` undoes it exactly.

    An ensemble of which only a part learns in an update stays stacked; the update unstacks that
    part.
    """

    def parts(trees: Mapping[str, Any]) -> dict[str, Any]:
        whole = algorithm.learners
        return {
            name: tree if name in whole else _unstack(algorithm.nets[name], tree)
            for name, tree in trees.items()
        }

    return TrainState(
        params=parts(state.params),
        targets=parts(state.targets),
        opt_states=parts(state.opt_states),
        frozen=parts(state.frozen),
        step=state.step,
    )


def restack(tree: Any) -> Any:
    """Return a tree with everything stacked again that was unstacked."""
    return jax.tree.map(
        lambda x: stack(x.copies) if isinstance(x, Unstacked) else x,
        tree,
        is_leaf=lambda x: isinstance(x, Unstacked),
    )


def _unstack(net: nn.Module, tree: Any) -> Any:
    """Unstack a tree of a network (parameters, an optimiser's state); return others unchanged.

    A network of named parts is unstacked part by part.
    """
    if nets := getattr(net, "parts", None):

        def whole(x: Any) -> bool:
            return isinstance(x, Mapping) and set(x) == set(nets)

        def each(x: Any) -> Any:
            return {k: _unstack(nets[k], part) for k, part in x.items()} if whole(x) else x

        return jax.tree.map(each, tree, is_leaf=whole)
    n = getattr(net, "copies", None)
    if n is None:
        return tree

    def is_params(x: Any) -> bool:
        return isinstance(x, Mapping) and "params" in x

    def copy(x: Any, i: int) -> Any:
        return jax.tree.map(lambda array: array[i], x)

    def split(x: Any) -> Unstacked:
        return Unstacked(tuple(copy(x, i) for i in range(n)))

    return jax.tree.map(lambda x: split(x) if is_params(x) else x, tree, is_leaf=is_params)
