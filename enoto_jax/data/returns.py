"""What follows a transition in its data set: the return to go, the next action, or an end.

Returns calibrate Cal-QL's critics (Nakamoto et al. 2023, section 4, and the rule for sparse rewards
of its code); ReBRAC's target stays near the next action (Tarasov et al. 2023).
"""

from __future__ import annotations

import numpy as np

from enoto_jax.data.succession import breaks
from enoto_jax.types import InputError, Transition


def returns_to_go(
    transitions: Transition, discount: float, sparse: float | None = None
) -> np.ndarray:
    """G_t = r_t + discount * G_{t+1} within an episode, G_t = r_t at its last transition.

    A truncated episode's return ends with its data as well: a lower bound where later rewards would
    be positive. The last transition of all is an end, marked or not.

    Args:
      transitions: `[M, ...]`, episodes one after the other, each ended by a terminated or
        truncated transition; rewards as the critics are trained on, so already transformed.
      discount: In [0, 1]; below 1 with `sparse`.
      sparse: The reward of a step without success. An episode that has no other reward would go
        on without success: all its returns are `sparse / (1 - discount)`. None: no such rule.

    Returns:
      float32 `[M]`.

    Raises:
      InputError: If the discount is out of range.
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
    """The action of the row after, float32 `[M, A]`; zeros where an episode ends.

    Nothing is known there: a terminated transition needs no next action, and after a truncated one
    the data do not go on.

    Args:
      transitions: `[M, ...]`, episodes one after the other.
    """
    end = np.asarray(transitions.terminated) | np.asarray(transitions.truncated)
    following = np.roll(np.asarray(transitions.action, np.float32), -1, axis=0)
    following[end] = 0.0
    return following


def ends(transitions: Transition) -> np.ndarray:
    """Rows after which the recording does not go on, bool `[M]`.

    It may go on after a terminal row, where the recording takes no notice of success (OGBench);
    there the row after tells.

    Args:
      transitions: `[M, ...]`, episodes one after the other.
    """
    breaking = breaks(transitions.observation, transitions.next_observation)
    over = transitions.truncated | (transitions.terminated & breaking)
    over[-1] = True
    return over
