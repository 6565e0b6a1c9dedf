"""What follows a transition in its data set: the return to go, the next action, or an end.

Returns calibrate Cal-QL's critics (Nakamoto et al. 2023, section 4, and the rule for sparse rewards
of its code); ReBRAC's target stays near the next action (Tarasov et al. 2023).
"""

from __future__ import annotations

import numpy as np

from enoto_jax.data.succession import breaks
from enoto_jax.types import Chunk, InputError, Transition


def returns_to_go(
    transitions: Transition, discount: float, sparse: float | None = None
) -> np.ndarray:
    """Return G_t = r_t + discount * G_{t+1}, with G_t = r_t at an episode's last transition.

    A truncated episode's return also stops with its data. It is a lower bound if later rewards
    would be positive. The last transition of the data is an end, marked or not.

    Args:
      transitions: `[M, ...]`, episodes one after the other, each ended by a terminated or
        truncated transition; with the rewards that the critics train on, already transformed.
      discount: The discount, in [0, 1]; below 1 with `sparse`.
      sparse: Reward of a step without success. An episode that has no other reward is taken to
        continue without success: all its returns are `sparse / (1 - discount)`. None turns this
        rule off.

    Returns:
      float32 `[M]`.

    Raises:
      InputError: The discount is out of range.
    """
    if not 0.0 <= discount <= 1.0 or (sparse is not None and discount == 1.0):
        limit = "below 1 with a sparse reward" if discount == 1.0 else "between 0 and 1"
        raise InputError(f"discount must be {limit}, got {discount}")
    reward = np.asarray(transitions.reward)
    end = np.asarray(transitions.terminated) | np.asarray(transitions.truncated)
    backwards, following = [], 0.0
    # A plain loop over Python floats: 2M rows take 0.4 s, and episodes may have any length.
    for r, weight in zip(reward[::-1].tolist(), np.where(end, 0.0, discount)[::-1].tolist()):
        following = r + weight * following
        backwards.append(following)
    result = np.array(backwards[::-1], np.float32)
    if sparse is not None:
        starts = np.append(0, np.flatnonzero(end[:-1]) + 1)
        fruitless = np.logical_and.reduceat(reward == np.float32(sparse), starts)
        lengths = np.diff(starts, append=len(reward))
        result[np.repeat(fruitless, lengths)] = sparse / (1.0 - discount)
    return result


def next_actions(transitions: Transition) -> np.ndarray:
    """Return the next row's action, float32 `[M, A]`; zeros where an episode ends.

    A terminated transition needs no next action, and after a truncated one it is unknown.

    Args:
      transitions: `[M, ...]`, episodes one after the other.
    """
    end = np.asarray(transitions.terminated) | np.asarray(transitions.truncated)
    following = np.roll(np.asarray(transitions.action, np.float32), -1, axis=0)
    following[end] = 0.0
    return following


def ends(transitions: Transition) -> np.ndarray:
    """Return the rows after which the recording stops, bool `[M]`.

    If a recording ignores success (OGBench), it may continue after a terminal row. A terminal row
    therefore counts only if the next row does not begin at its next observation.

    Args:
      transitions: `[M, ...]`, episodes one after the other.
    """
    breaking = breaks(transitions.observation, transitions.next_observation)
    over = transitions.truncated | (transitions.terminated & breaking)
    over[-1] = True
    return over


def chunk_notes(transitions: Transition, chunk: Chunk, where: str) -> tuple[str, ...]:
    """Return a note if critics learn from less than half of the chunks, else nothing.

    They ignore a chunk that the end of a recording cuts off (`replay.chunks`).

    Args:
      transitions: `[M, ...]`, in the order in which they are sampled.
      chunk: The kind of chunk.
      where: The data set's name, for messages.

    Raises:
      InputError: They would learn from none.
    """
    rows, end = np.arange(len(transitions.reward)), np.flatnonzero(ends(transitions))
    left = end[np.searchsorted(end, rows)] - rows + 1  # of the recording, from each row on
    learns = left >= chunk.length
    if not chunk.whole:
        before = np.append(0, np.cumsum(transitions.terminated))
        learns |= before[rows + np.minimum(left, chunk.length)] > before[rows]
    if not learns.any():
        option, longest = "returns" if chunk.single else "chunk", left.max()
        raise InputError(
            f"{where}: at most {longest} of its rows follow each other, so critics cannot learn "
            f"from chunks of {chunk.length}; give whole episodes in the order in which they were "
            f"recorded, or --set=algorithm.{option}={longest}"
        )
    if learns.mean() >= 0.5:
        return ()
    share = f"critics learn from {100 * learns.mean():.2g} % of the chunks of {chunk.length} rows"
    return (f"{share}; the others are cut off where rows do not follow each other",)
