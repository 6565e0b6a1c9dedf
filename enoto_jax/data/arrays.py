"""From D4RL's flat arrays to transitions: the checks, and the rules of where an episode ends.

The flat layout has one row a step: `observations [N, D]`, `actions [N, A]`, `rewards [N]`,
`terminals [N]`, and optionally `timeouts [N]` and `next_observations [N, D]`. The last axis of a
one-dimensional array may be kept, as in D4RL's replay files (`[N, 1]`). `words` translates other
libraries' names.
"""

from __future__ import annotations

import hashlib
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
from enoto_jax.types import InputError, Transition, plural

Bounds = tuple[np.ndarray, np.ndarray]  # lowest and highest action, each [A]
_BLOCK = 1 << 13  # rows
OVERSHOOT = 1e-4  # actions may leave [-1, 1] by this much (rounding) and are then clipped


def layout_problems(arrays: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with types and shapes, by key; at most one problem a key.

    Args:
        arrays: anything with `shape` and `dtype`, by a name of `words.MEANING`.
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
            problems[key] = f"{key} has type {array.dtype}, real numbers are needed"
        elif not shape or not good:
            wanted = "[N, size]" if matrix else "[N] or [N, 1]"
            problems[key] = f"{key} has shape {list(shape)}, {wanted} is needed"
            if matrix and len(shape) > 2:
                problems[key] += "; images and stacked frames are not supported: flatten each row"
            if meaning[key] == "actions" and len(shape) == 1 and array.dtype.kind in "biu":
                problems[key] += "; discrete actions are not supported, only continuous ones"
        elif reference and shape[0] != reference[0]:
            problems[key] = (
                f"{key} has {plural(shape[0], 'row')} but {first} has {reference[0]}; "
                "all arrays need one row a step"
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
        arrays: arrays without `layout_problems`; files' own arrays are read one at a time.
        where: the file or data set, for messages.
        bounds: lowest and highest action that the data were recorded with; they become -1 and 1.
        words: names that the arrays were given under, for messages.

    Raises:
        InputError: for values that are not finite, flags that are not 0 or 1, and actions outside
            [-1, 1], naming the array and its first bad row.
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
    """An array's values unchecked: float32 `[N, size]` or `[N]`, flags of their own type `[N]`."""
    if key in FLAGS:
        return flag_values(array)
    if isinstance(array, h5py.Dataset) and array.dtype.kind == "f":
        values = np.empty(array.shape, np.float32)
        array.read_direct(values)  # HDF5 converts by blocks: no second copy in another type
    else:
        values = np.asarray(array[()])
    if key not in MATRICES:
        values = values.reshape(len(values))
    with np.errstate(all="ignore"):  # what overflows float32 is a problem of its own
        return np.ascontiguousarray(values, np.float32)


def value_problem(values: np.ndarray, key: str, bounds: Bounds | None = None) -> str | None:
    """What makes the values unusable, naming the first bad row.

    Args:
        values: of `values_of`.
        key: its name in D4RL's layout.
        bounds: as in `clean`; the actions must lie within.
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
    text = f"actions range from {actions.min():g} to {actions.max():g}, first outside "
    if bounds is not None:
        return f"{text}the given {interval(low, high)} in row {bad.argmax()}; give wider bounds"
    text += (
        f"[-1, 1] in row {bad.argmax()}; rescale them to [-1, 1], or give action_low and "
        "action_high, the bounds that they were recorded with"
    )
    if rows_where(lambda rows: rows == np.round(rows), actions).all():
        text += " (all are whole numbers: discrete actions are not supported)"
    return text


def rescaled(actions: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Actions `[N, A]` in [-1, 1] for those between the bounds, float32."""
    low, high = (np.asarray(bound, np.float64) for bound in bounds)
    return np.asarray((actions - low) * (2.0 / (high - low)) - 1.0, np.float32)


def checked_bounds(low: Any, high: Any, size: int, where: object) -> Bounds:
    """Lowest and highest action, each float64 [A].

    Args:
        low: a number, or one an action, also as text with commas.
        high: likewise, above `low`.
        size: A.
        where: the data set, for messages.

    Raises:
        InputError: they are no such numbers, or only one of the two is given.
    """
    try:
        texts = (bound.split(",") if isinstance(bound, str) else bound for bound in (low, high))
        given = [np.asarray(bound, np.float64) for bound in texts]
        lowest, highest = (np.broadcast_to(bound, (size,)) for bound in given)
        good = bool(np.isfinite([lowest, highest]).all() and (lowest < highest).all())
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise InputError(
            f"{where}: action_low and action_high must both be given, as one number or {size}, "
            f"low < high; got {str(low)[:80]!r} and {str(high)[:80]!r}"
        )
    return lowest, highest


def interval(low: Any, high: Any) -> str:
    """Bounds as text, such as [-2, 2]; one after the other where they differ."""
    low, high = np.broadcast_arrays(np.atleast_1d(low), np.atleast_1d(high))
    pairs = dict.fromkeys(f"[{a:g}, {b:g}]" for a, b in zip(low, high, strict=True))
    return " x ".join(list(pairs)[:4]) + " x ..." * (len(pairs) > 4)


def to_transitions(
    arrays: Mapping[str, np.ndarray], max_episode_steps: int | None, where: object
) -> Transition:
    """Build transitions from clean arrays; each episode's last one is terminated or truncated.

    Where `next_observations` is stored it is used, and every row is kept. A row is truncated if it
    is marked as a time-out, or if the data go on somewhere else than at its next observation
    (D4RL's replay files do not mark every reset), or if it is the last row.

    Where it is not stored, the next observation is that of the following row, as in D4RL's
    `qlearning_dataset`: a time-out's own row and an unterminated last row are dropped, since their
    successor is unknown, and the row before them, now the episode's last, becomes the truncated
    one. Terminal rows are kept; their successor is unknown too, and as a terminal row is never
    bootstrapped they get their own observation. Without `timeouts` steps are counted from the last
    episode end, again as `qlearning_dataset` does.

    A row marked as both is terminated: that it also was the last one allowed changes nothing.
    (D4RL's locomotion files have none; there such a row is marked as a time-out alone.)

    AntMaze: D4RL's files mark every row at the goal as terminal although the trajectory goes on, so
    each of those rows is an episode's end here, as in `qlearning_dataset`. In the v0 medium and
    large files, moreover, a time-out comes every 999 rows where a trajectory has 1001: the marked
    episodes straddle the resets, and one transition in 1000 leads across one. Results on v0 in the
    literature include these transitions; the v2 files are the corrected ones.

    Args:
        arrays: what `clean` returned; those that may be written are, and belong to the result.
        max_episode_steps: the time limit used for counting, None for no limit.
        where: the file or data set, for messages.

    Returns:
        Transitions `[M, ...]`, M <= N, in the order of the rows.

    Raises:
        InputError: when no transition is left.
    """
    observation, terminated = arrays["observations"], arrays["terminals"]
    following = arrays.get("next_observations")
    timeouts = arrays.get("timeouts")
    if following is not None:
        cut = breaks(observation, following)
        truncated = (cut if timeouts is None else cut | timeouts) & ~terminated
        return Transition(
            observation, arrays["actions"], arrays["rewards"], terminated, truncated, following
        )
    if timeouts is None:
        timeouts = _count_timeouts(terminated, max_episode_steps)
    dropped = timeouts & ~terminated
    dropped[-1] = not terminated[-1]
    truncated = np.append(dropped[1:], False) & ~terminated
    rows = np.flatnonzero(~dropped)
    if not len(rows):
        raise InputError(
            f"{where}: no transition is left: no row is terminal or has a known successor; "
            "store next_observations"
        )
    following = observation[rows + ~terminated[rows]]
    kept = (observation, arrays["actions"], arrays["rewards"], terminated, truncated)
    return Transition._make([*(_take(array, rows) for array in kept), following, {}])


def _take(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The given rows, which increase; moved forward in place where the array may be written."""
    if not array.flags.writeable:
        return array[rows]
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        array[start : start + len(block)] = array[block]
    return array[: len(rows)]


def content_hash(transitions: Transition) -> str:
    """SHA-256 over the arrays' names, types, shapes and bytes, as `sha256:<hex digits>`."""
    digest = hashlib.sha256()
    for name, array in zip(Transition._fields[:6], transitions[:6], strict=True):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def rows_where(test: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """Rows in which a test holds for all numbers, `[N]`; by blocks, which needs little memory."""
    result = np.empty(len(arrays[0]), bool)
    for start in range(0, len(result), _BLOCK):
        block = slice(start, start + _BLOCK)
        good = test(*(array[block] for array in arrays))
        result[block] = good.reshape(len(good), -1).all(axis=1)
    return result


def breaks(observation: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Rows whose next observation is not the observation of the row after; the last row is one."""
    return np.append(~rows_where(_same, following[:-1], observation[1:]), True)


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Equal numbers, up to rounding; as most are equal, only unequal rows pay for the tolerance."""
    same = one == other
    rows = np.flatnonzero(~same.all(axis=1))
    with np.errstate(over="ignore"):  # differences beyond float32 are no rounding
        same[rows] = np.isclose(one[rows], other[rows], rtol=1e-5, atol=1e-6)
    return same


def _count_timeouts(terminated: np.ndarray, max_episode_steps: int | None) -> np.ndarray:
    """Rows at which a step counter, set back at every episode's end, reaches the limit."""
    if max_episode_steps is None:
        return np.zeros(len(terminated), bool)
    return step_numbers(terminated) % max_episode_steps == max_episode_steps - 1


def step_numbers(last: np.ndarray) -> np.ndarray:
    """The number of every row's step within its episode, from 0; `last` marks ends, bool `[N]`."""
    rows = np.arange(len(last))
    return rows - np.maximum.accumulate(np.where(np.append(True, last[:-1]), rows, 0))
