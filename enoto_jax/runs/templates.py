"""Shapes of what checkpoints hold, without computing any of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from enoto_jax import core


def abstract(algorithm: core.Algorithm) -> core.TrainState:
    """A state of one seed; only its shapes are meant."""
    return core.init(algorithm, jax.random.key(0))


def template(make: Callable[[], Any], seeds: int) -> Any:
    """Zeros [S, ...] for so many seeds, shaped as what `make` would return for one."""
    shapes = jax.eval_shape(make)
    return jax.tree.map(lambda x: np.zeros((seeds, *x.shape), x.dtype), shapes)
