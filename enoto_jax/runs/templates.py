"""Shapes of a checkpoint's arrays, without computing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from enoto_jax import core


def abstract(algorithm: core.Algorithm) -> core.TrainState:
    """Return a state of one seed, of which only the shapes matter."""
    return core.init(algorithm, jax.random.key(0))


def template(make: Callable[[], Any], seeds: int) -> Any:
    """Return zeros [S, ...] for `seeds` seeds, with the shapes that `make` returns for one."""
    shapes = jax.eval_shape(make)
    return jax.tree.map(lambda x: np.zeros((seeds, *x.shape), x.dtype), shapes)
