"""gymnasium-robotics' environments (Adroit, AntMaze, kitchen, ...), an optional extra.

`docs/physics.md` shows how far they are from D4RL's.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import gymnasium

from enoto_jax.types import InputError

_IDS = re.compile(r"(AdroitHand|AntMaze_|PointMaze_|FrankaKitchen|Fetch|HandReach|HandManipulate)")
# What the agent sees of a dictionary, by id; everything, in the order of the keys, if not listed.
# As in D4RL, an ant sees its position first and never the goal.
OBSERVED = {"AntMaze_": ("achieved_goal", "observation")}


def register(env_id: str) -> None:
    """Register gymnasium-robotics' environments if the id is one of theirs.

    Raises:
      InputError: The id is one of theirs, but the package is not installed.
    """
    if env_id in gymnasium.registry or not _IDS.match(env_id):
        return
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            import gymnasium_robotics  # prints a notice about other tasks
    except ImportError as error:
        raise InputError(
            f"--env: {env_id} comes from gymnasium-robotics; pip install 'enoto_jax[robotics]'"
        ) from error
    gymnasium.register_envs(gymnasium_robotics)


def keys_of(env_id: str) -> tuple[str, ...] | None:
    """Return the keys that the agent sees of an environment's dictionary; None: all of them."""
    return next((keys for start, keys in OBSERVED.items() if env_id.startswith(start)), None)


def observed(env: gymnasium.Env, env_id: str) -> gymnasium.Env:
    """Flatten a dictionary of observations to one row, keeping only what the agent may see."""
    keys = keys_of(env_id)
    observation_space: Any = env.observation_space
    spaces = observation_space.spaces
    if keys is None or not set(keys) <= set(spaces):
        return gymnasium.wrappers.FlattenObservation(env)
    kept = gymnasium.spaces.Dict([(key, spaces[key]) for key in keys])
    seen = gymnasium.wrappers.TransformObservation(
        env, lambda observation: {key: observation[key] for key in keys}, kept
    )
    return gymnasium.wrappers.FlattenObservation(seen)
