"""D4RL's flat arrays: check their shapes, types and values.

The flat layout has one row per step: `observations [N, D]`, `actions [N, A]`, `rewards [N]`,
`terminals [N]`, and optionally `timeouts [N]` and `next_observations [N, D]`. The last axis of a
one-dimensional array may be kept, as in D4RL's replay files (`[N, 1]`). `words` translates other
libraries' names, and `succession` decides where an episode ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from enoto_jax.data.words import (
    FLAGS,
    MATRICES,
    MEANING,
    flag_values,
    labelled,
)
from enoto_jax.types import InputError, plural

Bounds = tuple[np.ndarray, np.ndarray]  # lowest and highest action, each [A]
BLOCK = 1 << 13  # rows
OVERSHOOT = 1e-4  # actions may leave [-1, 1] by this much (rounding) and are then clipped


def layout_problems(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with types and shapes, by key; at most one problem per key.

    Args:
      arrays: Objects with `shape` and `dtype`, by a name of `words.MEANING`.
    """
    problems = {}
    meaning = {key: MEANING[key] for key in arrays}
    ordered = sorted(arrays, key=lambda key: meaning[key] != "observations")
    first = next((key for key in ordered if arrays[key].shape), "")
    reference = first and arrays[first].shape
    for key, array in arrays.items():
        shape: tuple[int, ...] = array.shape or ()
        matrix = meaning[key] in MATRICES
        good = (len(shape) == 2 and shape[1]) if matrix else shape[1:] in ((), (1,))
        if array.dtype.kind not in "biuf":
            problems[key] = f"{key} has type {array.dtype}; expected real numbers"
        elif not shape or not good:
            wanted = "[N, size]" if matrix else "[N] or [N, 1]"
            problems[key] = f"{key} has shape {list(shape)}; expected {wanted}"
            if matrix and len(shape) > 2:
                problems[key] += "; images and stacked frames are not supported: flatten each row"
            if meaning[key] == "actions" and len(shape) == 1 and array.dtype.kind in "biu":
                problems[key] += "; discrete actions are not supported, only continuous ones"
        elif reference and shape[0] != reference[0]:
            problems[key] = (
                f"{key} has {plural(shape[0], 'row')} but {first} has {reference[0]}; "
                "all arrays need one row per step"
            )
        elif not shape[0]:
            problems[key] = "has no rows; a data set needs at least one transition"
        elif (
            meaning[key] == "next_observations"
            and meaning[first] == "observations"
            and shape != reference
        ):
            problems[key] = (
                f"{key} has shape {list(shape)} but {first} has {list(reference)}; they must agree"
            )
    return problems


def clean(
    arrays: Mapping[str, Any],
    where: object,
    *,
    bounds: Bounds | None = None,
    words: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Read and check the values: float32 `[N, size]` and `[N]`, flags as bool `[N]`.

    Args:
      arrays: Arrays without `layout_problems`; a file's arrays are read one at a time.
      where: The file or data set, for messages.
      bounds: Lowest and highest action that the data were recorded with; they become -1 and 1.
      words: The names under which the arrays were given, for messages.

    Raises:
      InputError: Values are not finite, flags are not 0 or 1, or actions lie outside [-1, 1].
        The message names the array and its first bad row.
    """
    result = {}
    for key, array in arrays.items():
        values = values_of(array, key)
        if problem := value_problem(values, key, bounds):
            raise InputError(f"{where}: {labelled(problem, key, words)}")
        if key == "actions" and bounds is not None:
            values = rescaled(values, bounds)
        result[key] = values == 1 if key in FLAGS else values
    actions = result["actions"]
    if max(actions.max(), -actions.min()) > 1.0:
        result["actions"] = np.clip(actions, -1.0, 1.0)
    return result


def values_of(array: Any, key: str) -> np.ndarray:
    """Read an array unchecked: float32 `[N, size]` or `[N]`, flags `[N]` in their own type."""
    if key in FLAGS:
        return flag_values(array)
    if isinstance(array, h5py.Dataset) and array.dtype.kind == "f":
        values = np.empty(array.shape, np.float32)
        array.read_direct(values)  # HDF5 converts by blocks: no second copy in another type
    else:
        values = np.asarray(array[()])
    if key not in MATRICES:
        values = values.reshape(len(values))
    with np.errstate(all="ignore"):  # overflow of float32 is reported later
        return np.ascontiguousarray(values, np.float32)


def value_problem(values: np.ndarray, key: str, bounds: Bounds | None = None) -> str | None:
    """Return what makes the values unusable, naming the first bad row, or None.

    Args:
      values: Values as `values_of` returns them.
      key: The array's name in D4RL's layout.
      bounds: As in `clean`; actions must lie within them.
    """
    if key in FLAGS:
        bad = (values != 0) & (values != 1)
        row = bad.argmax()
        count = plural(bad.sum(), "such row")
        text = f"{key} must be 0 or 1, but row {row} is {values[row]} ({count})"
        return text if bad.any() else None
    bad = ~rows_where(np.isfinite, values)
    if bad.any():
        return (
            f"{key} is NaN or infinite (as float32) in {bad.sum()} of {plural(len(bad), 'row')}, "
            f"first in row {bad.argmax()}; repair or remove such rows"
        )
    return _out_of_bounds(values, bounds) if key == "actions" else None


def _out_of_bounds(actions: np.ndarray, bounds: Bounds | None) -> str | None:
    if bounds is None and max(actions.max(), -actions.min()) <= 1.0 + OVERSHOOT:
        return None
    low, high = (-1.0, 1.0) if bounds is None else bounds
    slack = OVERSHOOT * (np.asarray(high) - low) / 2
    bad = ~rows_where(lambda rows: (rows >= low - slack) & (rows <= high + slack), actions)
    if not bad.any():
        return None
    row = int(bad.argmax())
    least, most = (np.broadcast_to(bound, actions.shape[1:]) for bound in (low, high))
    beyond = np.maximum(actions[row] - most, least - actions[row]) - slack
    i = int(beyond.argmax())
    value = actions[row, i]
    side = f"above {most[i]:g}" if value > most[i] else f"below {least[i]:g}"
    first = f"row {row}, action {i}: {value:g} is {side} ({plural(bad.sum(), 'row')})"
    if bounds is not None:
        return f"actions leave the given bounds: {first}; clip them, or correct the bounds"
    text = (
        f"actions range from {actions.min():g} to {actions.max():g}: {first}; rescale them to "
        "[-1, 1], or give action_low and action_high, the bounds that they were recorded with"
    )
    if rows_where(lambda rows: rows == np.round(rows), actions).all():
        text += " (all are whole numbers: discrete actions are not supported)"
    return text


def rescaled(actions: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Rescale actions `[N, A]` from the bounds to [-1, 1], as float32."""
    low, high = (np.asarray(bound, np.float64) for bound in bounds)
    return np.asarray((actions - low) * (2.0 / (high - low)) - 1.0, np.float32)


def unscaled(actions: np.ndarray, bounds: tuple[Any, Any]) -> np.ndarray:
    """Rescale actions `[N, A]` from [-1, 1] to the bounds: the inverse of `rescaled`."""
    low, high = bounds
    return low + 0.5 * (actions + 1.0) * (high - low)


def checked_bounds(low: Any, high: Any, size: int, where: object) -> Bounds:
    """Return the lowest and highest action, each float64 [A].

    Args:
      low: One number, or one per action; may be text with commas.
      high: The same for the highest action; must be above `low`.
      size: Number of actions A.
      where: The data set, for messages.

    Raises:
      InputError: The bounds are not such numbers, or only one of the two is given.
    """
    try:
        texts = (bound.split(",") if isinstance(bound, str) else bound for bound in (low, high))
        with np.errstate(over="ignore"):  # as float32, so that a text and a space mean the same
            given = [np.asarray(bound, np.float32).astype(np.float64) for bound in texts]
        lowest, highest = (np.broadcast_to(bound, (size,)) for bound in given)
        good = bool(np.isfinite([lowest, highest]).all() and (lowest < highest).all())
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise InputError(
            f"{where}: action_low and action_high must both be given, each as one number "
            f"or one per action ({size}), with low < high; got {str(low)[:80]!r} and "
            f"{str(high)[:80]!r}"
        )
    return lowest, highest


def interval(low: Any, high: Any) -> str:
    """Return bounds as text, such as [-2, 2], or [-1, 1] x [-2, 2] if actions differ."""
    low, high = np.broadcast_arrays(np.atleast_1d(low), np.atleast_1d(high))
    pairs = dict.fromkeys(f"[{a:g}, {b:g}]" for a, b in zip(low, high, strict=True))
    return " x ".join(list(pairs)[:4]) + " x ..." * (len(pairs) > 4)


def rows_where(test: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """Return in which rows a test holds for all numbers, bool `[N]`; works by blocks."""
    result = np.empty(len(arrays[0]), bool)
    for start in range(0, len(result), BLOCK):
        block = slice(start, start + BLOCK)
        good = test(*(array[block] for array in arrays))
        result[block] = good.reshape(len(good), -1).all(axis=1)
    return result
