"""From checked arrays to transitions: where an episode ends, and what follows every step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from enoto_jax.data.arrays import BLOCK, rows_where
from enoto_jax.types import InputError, Transition


def to_transitions(
    arrays: Mapping[str, np.ndarray], max_episode_steps: int | None, where: object
) -> Transition:
    """Build transitions from clean arrays; each episode's last one is terminated or truncated.

    If `next_observations` is stored, it is used and every row is kept. A row is truncated if it is
    marked as a time-out, if the next row does not begin at its next observation (D4RL's replay
    files do not mark every reset), or if it is the last row.

    If it is not stored, the next observation is that of the following row, as in D4RL's
    `qlearning_dataset`. A time-out's own row and an unterminated last row are dropped, since their
    successor is unknown, and the row before them, now the episode's last, is truncated. Terminal
    rows are kept. Their successor is unknown too, but they are never bootstrapped, so it is set to
    their own observation. Without `timeouts`, steps are counted from the last episode end, again as
    in `qlearning_dataset`.

    A row marked as both terminal and a time-out is terminated. (D4RL's locomotion files have no
    such rows; they mark them as time-outs only.)

    AntMaze: D4RL's files mark every row at the goal as terminal although the trajectory continues,
    so each of those rows ends an episode here, as in `qlearning_dataset`. In the v0 medium and
    large files, moreover, time-outs are marked every 999 rows although a trajectory has 1001: the
    marked episodes straddle the resets, and one transition in 1000 leads across one. Results on v0
    in the literature include these transitions; the v2 files are corrected.

    Args:
      arrays: Arrays as `arrays.clean` returns them. Writeable ones may be overwritten and become
        part of the result.
      max_episode_steps: The time limit used for counting, None for no limit.
      where: The file or data set, for messages.

    Returns:
      Transitions `[M, ...]`, M <= N, in the order of the rows.

    Raises:
      InputError: No transition is left.
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
    """The given rows, in increasing order; moved in place if the array is writeable."""
    if not array.flags.writeable:
        return array[rows]
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        array[start : start + len(block)] = array[block]
    return array[: len(rows)]


def breaks(observation: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Return the rows whose next observation is not the next row's, bool `[N]`; the last is one."""
    return np.append(~rows_where(_same, following[:-1], observation[1:]), True)


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which numbers are equal up to rounding; only unequal rows pay for the tolerance."""
    same = one == other
    rows = np.flatnonzero(~same.all(axis=1))
    with np.errstate(over="ignore"):  # a difference beyond float32 is not rounding
        same[rows] = np.isclose(one[rows], other[rows], rtol=1e-5, atol=1e-6)
    return same


def _count_timeouts(terminated: np.ndarray, max_episode_steps: int | None) -> np.ndarray:
    """Rows at which a step counter, reset at every episode's end, reaches the limit."""
    if max_episode_steps is None:
        return np.zeros(len(terminated), bool)
    return step_numbers(terminated) % max_episode_steps == max_episode_steps - 1


def step_numbers(last: np.ndarray) -> np.ndarray:
    """Return every row's step within its episode, from 0; `last` marks the ends, bool `[N]`."""
    rows = np.arange(len(last))
    return rows - np.maximum.accumulate(np.where(np.append(True, last[:-1]), rows, 0))
