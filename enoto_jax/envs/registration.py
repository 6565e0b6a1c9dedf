"""This package's environments, by Gymnasium id. Their modules load when one is made."""

from __future__ import annotations

import gymnasium

# id without `enoto/` -> (module:class, time limit in steps, arguments)
ENVIRONMENTS = {
    "Hopper-d4rl-v0": ("d4rl.locomotion:Hopper", 1000, {}),
    "HalfCheetah-d4rl-v0": ("d4rl.locomotion:HalfCheetah", 1000, {}),
    "Walker2d-d4rl-v0": ("d4rl.locomotion:Walker2d", 1000, {}),
    "AntMaze-umaze-v0": ("d4rl.antmaze:AntMaze", 700, {"maze": "umaze"}),
    "AntMaze-medium-v0": ("d4rl.antmaze:AntMaze", 1000, {"maze": "medium"}),
    "AntMaze-large-v0": ("d4rl.antmaze:AntMaze", 1000, {"maze": "large"}),
}


def register() -> None:
    """Register them with Gymnasium, once."""
    for name, (entry_point, limit, kwargs) in ENVIRONMENTS.items():
        if f"enoto/{name}" not in gymnasium.registry:
            gymnasium.register(
                f"enoto/{name}",
                f"enoto_jax.envs.{entry_point}",
                max_episode_steps=limit,
                kwargs=kwargs,
            )
