"""From D4RL's flat arrays to transitions: the checks, and the rules of where an episode ends.

The flat layout has one row a step: `observations [N, D]`, `actions [N, A]`, `rewards [N]`,
`terminals [N]`, and optionally `timeouts [N]` and `next_observations [N, D]`. The last axis of a
one-dimensional array may be kept, as in D4RL's replay files (`[N, 1]`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from enoto_jax.types import InputError, Spec, Transition

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
_MATRICES = ("observations", "actions", "next_observations")
_FLAGS = ("terminals", "timeouts")
_OVERSHOOT = 1e-4  # actions may leave [-1, 1] by this much (rounding) and are then clipped


def check_layout(arrays: Mapping[str, Any], where: object) -> Spec:
    """Checks keys, types and shapes; reads no values.

    Args:
        arrays: anything with `shape` and `dtype`, by key.
        where: the file or data set, for messages.

    Returns:
        The sizes of an observation and of an action.

    Raises:
        InputError: naming the key that is missing or wrong.
    """
    for key, array in arrays.items():
        shape = array.shape or ()
        if array.dtype.kind not in "biuf":
            raise InputError(f"{where}: {key} has type {array.dtype}, real numbers are needed")
        wanted = "[N, size]" if key in _MATRICES else "[N] or [N, 1]"
        width_ok = shape[1:] in ((), (1,)) if key not in _MATRICES else len(shape) == 2 and shape[1]
        if not shape or not width_ok:
            raise InputError(f"{where}: {key} has shape {list(shape)}, {wanted} is needed")
        rows = arrays["observations"].shape[0]
        if shape[0] != rows:
            raise InputError(
                f"{where}: {key} has {shape[0]} rows but observations has {rows}; "
                "all arrays need one row a step"
            )
    observations, actions = arrays["observations"].shape, arrays["actions"].shape
    if not observations[0]:
        raise InputError(f"{where}: has no rows; a data set needs at least one transition")
    following = arrays["next_observations"].shape if "next_observations" in arrays else observations
    if following != observations:
        raise InputError(
            f"{where}: next_observations has shape {list(following)} "
            f"but observations has {list(observations)}; they must agree"
        )
    return Spec(observations[1], actions[1])


def clean(arrays: Mapping[str, Any], where: object) -> dict[str, np.ndarray]:
    """Reads and checks the values: float32 `[N, size]` and `[N]`, flags as bool `[N]`.

    Args:
        arrays: arrays that passed `check_layout`; files' own arrays are read one at a time.
        where: the file or data set, for messages.

    Raises:
        InputError: for values that are not finite, flags that are not 0 or 1, and actions outside
            [-1, 1], naming the array and its first bad row.
    """
    result = {}
    for key, array in arrays.items():
        values = np.asarray(array[()])
        if key not in _MATRICES:
            values = values.reshape(len(values))
        values = _flags(values, key, where) if key in _FLAGS else _finite(values, key, where)
        result[key] = values
    result["actions"] = _bounded(result["actions"], where)
    return result


def to_transitions(
    arrays: Mapping[str, np.ndarray], max_episode_steps: int | None, where: object
) -> Transition:
    """Builds transitions from clean arrays; each episode's last one is terminated or truncated.

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
        arrays: what `clean` returned.
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
        breaks = _breaks(observation, following)
        truncated = (breaks if timeouts is None else breaks | timeouts) & ~terminated
        keep = np.ones(len(terminated), bool)
    else:
        if timeouts is None:
            timeouts = _count_timeouts(terminated, max_episode_steps)
        dropped = timeouts & ~terminated
        dropped[-1] = not terminated[-1]
        truncated = np.append(dropped[1:], False) & ~terminated
        following = np.concatenate([observation[1:], observation[-1:]])
        following[terminated] = observation[terminated]
        keep = ~dropped
    if not keep.any():
        raise InputError(
            f"{where}: no transition is left: no row is terminal or has a known successor; "
            "store next_observations"
        )
    transitions = Transition(
        observation, arrays["actions"], arrays["rewards"], terminated, truncated, following
    )
    if keep.all():
        return transitions
    return Transition(*(array[keep] for array in transitions[:6]))


def content_hash(transitions: Transition) -> str:
    """SHA-256 over the arrays' names, types, shapes and bytes, as `sha256:<hex digits>`."""
    digest = hashlib.sha256()
    for name, array in zip(Transition._fields[:6], transitions[:6], strict=True):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def _breaks(observation: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Rows whose next observation is not the observation of the row after; the last row is one."""
    breaks = np.append((following[:-1] != observation[1:]).any(axis=1), True)
    unequal = np.flatnonzero(breaks[:-1])  # few, so only these pay for the tolerance
    close = np.isclose(following[unequal], observation[unequal + 1], rtol=1e-5, atol=1e-6)
    breaks[unequal[close.all(axis=1)]] = False
    return breaks


def _count_timeouts(terminated: np.ndarray, max_episode_steps: int | None) -> np.ndarray:
    """Rows at which a step counter, set back at every episode's end, reaches the limit."""
    if max_episode_steps is None:
        return np.zeros(len(terminated), bool)
    rows = np.arange(len(terminated))
    starts = np.where(np.append(True, terminated[:-1]), rows, 0)
    step = rows - np.maximum.accumulate(starts)
    return step % max_episode_steps == max_episode_steps - 1


def _finite(values: np.ndarray, key: str, where: object) -> np.ndarray:
    with np.errstate(all="ignore"):  # what overflows float32 is reported below
        values = np.ascontiguousarray(values, np.float32)
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        raise InputError(
            f"{where}: {key} is NaN or infinite (as float32) in {bad.sum()} of {len(bad)} rows, "
            f"first in row {bad.argmax()}; repair or remove them"
        )
    return values


def _flags(values: np.ndarray, key: str, where: object) -> np.ndarray:
    if values.dtype == bool:  # a file can store other bytes than 0 and 1 under a boolean type
        values = values.view(np.uint8)
    bad = (values != 0) & (values != 1)
    if bad.any():
        row = bad.argmax()
        raise InputError(
            f"{where}: {key} must be 0 or 1, but row {row} is {values[row]} ({bad.sum()} such rows)"
        )
    return values == 1


def _bounded(actions: np.ndarray, where: object) -> np.ndarray:
    if (size := np.abs(actions).max()) <= 1.0:
        return actions
    if size > 1.0 + _OVERSHOOT:
        row = (np.abs(actions) > 1.0 + _OVERSHOOT).any(axis=1).argmax()
        raise InputError(
            f"{where}: actions range from {actions.min():g} to {actions.max():g}, first outside "
            f"[-1, 1] in row {row}; rescale them to [-1, 1]"
        )
    return np.clip(actions, -1.0, 1.0)
