"""Convert values from somebody else's code: copy them, and accept only unambiguous ones.

Functions raise a `ValueError` whose text completes a sentence, as in "reward is None, a number is
needed"; the caller puts the value's name in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

# Names that environments use: OGBench, Meta-World, Gymnasium's Adroit and mazes; Fetch and
# Stable-Baselines3; Isaac Lab; the first Adroit (D4RL's).
SUCCESS = ("success", "is_success", "successes", "goal_achieved")


def number(value: Any) -> float:
    """Return one number from a scalar, or an array or list with one element; NaN is allowed."""
    if isinstance(value, float):  # np.float64 is one
        return float(value)
    array = _array(value, "a number")
    if array.size != 1:
        raise ValueError(f"has shape {list(array.shape)}; expected one number")
    return float(array.item())


def row(value: Any, shape: tuple[int, ...], dtype: np.dtype | type = np.float32) -> np.ndarray:
    """Copy an array, list or tuple of exactly this shape; NaN and infinity are allowed."""
    array = _array(value, "numbers")
    if array.shape != shape:
        raise ValueError(f"has shape {list(array.shape)}; expected {list(shape)}")
    with np.errstate(over="ignore"):  # overflow gives infinity, which callers check
        return array.astype(dtype, copy=False)


def flag(value: Any) -> bool:
    """Return true or false from a bool, 0 or 1, or an array or list with one of those."""
    if isinstance(value, (bool, np.bool_)):  # the usual case, in every step
        return bool(value)
    array = _array(value, "true or false")
    if array.size != 1 or array.item() not in (0, 1):
        raise ValueError(f"is {_shown(value)}; expected true or false")
    return bool(array.item())


def success(info: Mapping[str, Any]) -> bool | None:
    """Return whether a step's `info` reports success; None if it reports neither outcome."""
    told = []
    for name in SUCCESS:
        if name in info:
            with suppress(ValueError):  # a count or a dictionary, say, is no flag
                told.append(flag(info[name]))
    return any(told) if told else None


def _array(value: Any, needed: str) -> np.ndarray:
    try:
        array = np.array(value)
    except Exception as error:  # ragged lists; device tensors, which raise errors of their own
        raise ValueError(f"is {_shown(value)}; expected {needed}") from error
    if array.dtype.kind not in "fiub":
        raise ValueError(f"is {_shown(value)}; expected {needed}")
    return array


def _shown(value: Any) -> str:
    """A value in a few words."""
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return " ".join(repr(value).split())[:40]
    return f"of type {type(value).__name__}"
