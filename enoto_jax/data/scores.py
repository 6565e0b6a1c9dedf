"""D4RL's task families: reference returns, environments and time limits.

Source of the returns: D4RL `d4rl/infos.py` (REF_MIN_SCORE, REF_MAX_SCORE), equal for all versions
of a family; of the time limits: `d4rl/gym_mujoco/__init__.py`, `d4rl/locomotion/__init__.py`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from enoto_jax.types import Spec


class Family(NamedTuple):
    """What all data sets of one environment share."""

    names: str  # pattern of the ids, file names and environment ids of this family
    random: float  # mean return of a random policy: a score of 0
    expert: float  # mean return of the expert: a score of 100
    env_id: str | None  # Gymnasium id; v4 keeps the rewards of the v2 that D4RL used
    max_episode_steps: int
    spec: Spec


# Scores are measured in env_id unless the user chooses another: with Gymnasium's physics for
# locomotion (`enoto/Hopper-d4rl-v0` and the like have the data's physics), with D4RL's for AntMaze.
# Ant has none: Gymnasium's Ant-v4 with contact forces has D4RL's 111 numbers, but a policy can run
# there only if D4RL's old simulator filled in the 84 forces instead of leaving zeros.
FAMILIES = {
    "hopper": Family(r"hopper", -20.272305, 3234.3, "Hopper-v4", 1000, Spec(11, 3)),
    "halfcheetah": Family(
        r"half-?cheetah", -280.178953, 12135.0, "HalfCheetah-v4", 1000, Spec(17, 6)
    ),
    "walker2d": Family(r"walker(2d)?", 1.629008, 4592.3, "Walker2d-v4", 1000, Spec(17, 6)),
    "ant": Family(r"ant(?!-maze)", -325.6, 3879.7, None, 1000, Spec(111, 8)),
    "antmaze-umaze": Family(
        r"ant-?maze-u-?maze", 0.0, 1.0, "enoto/AntMaze-umaze-v0", 700, Spec(29, 8)
    ),
    "antmaze-medium": Family(
        r"ant-?maze-(medium|big-maze)", 0.0, 1.0, "enoto/AntMaze-medium-v0", 1000, Spec(29, 8)
    ),
    "antmaze-large": Family(
        r"ant-?maze-(large|hardest-maze)", 0.0, 1.0, "enoto/AntMaze-large-v0", 1000, Spec(29, 8)
    ),
}


def family_of(name: str, spec: Spec) -> Family | None:
    """Find the family that a task id, a file's stem or an environment id belongs to.

    Args:
      name: A name such as `hopper-medium-v2`, `walker_mixed`, `HalfCheetah-v4` or
        `enoto/Hopper-d4rl-v0`. gymnasium-robotics' AntMaze (`AntMaze_UMaze-v5`) belongs to none:
        unlike D4RL's it continues at the goal.
      spec: Sizes of the data; a name alone is not enough (an `ant-...` file with 27 numbers per
        observation is not D4RL's ant).

    Returns:
      The family, or None if the name or the sizes fit none.
    """
    if name.startswith("AntMaze_"):
        return None
    words = name.lower().removeprefix("enoto/").replace("_", "-")
    for family in FAMILIES.values():
        if re.match(rf"{family.names}(-|$)", words) and family.spec == spec:
            return family
    return None


def normalised_score(returns, reference: tuple[float, float]) -> np.ndarray:
    """Compute D4RL's normalised score, 100 * (return - random) / (expert - random).

    Args:
      returns: Undiscounted sums of the environment's own rewards, any shape.
      reference: Mean returns of the random and the expert policy.

    Returns:
      Scores of the same shape: 0 is the random policy, 100 the expert.
    """
    random, expert = reference
    return 100.0 * (np.asarray(returns, np.float64) - random) / (expert - random)
