"""From checked arrays to transitions: where an episode ends, and what follows every step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from enoto_jax.data.arrays import BLOCK, rows_where
from enoto_jax.types import InputError, Transition


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
      arrays: What `arrays.clean` returned; those that may be written are, and belong to the
        result.
      max_episode_steps: The time limit used for counting, None for no limit.
      where: The file or data set, for messages.

    Returns:
      Transitions `[M, ...]`, M <= N, in the order of the rows.

    Raises:
      InputError: When no transition is left.
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
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        array[start : start + len(block)] = array[block]
    return array[: len(rows)]


def content_hash(transitions: Transition) -> str:
    """SHA-256 over the arrays' names, types, shapes and bytes, as `sha256:<hex digits>`."""
    digest = hashlib.sha256()
    for name, array in zip(Transition._fields[:6], transitions[:6], strict=True):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


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
