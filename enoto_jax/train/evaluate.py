"""Evaluation: all seeds and episodes side by side, deterministic actions, undiscounted returns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from enoto_jax.data.transforms import Transform
from enoto_jax.envs.guard import Guard
from enoto_jax.envs.gym import make_env
from enoto_jax.train.seeds import SeedMap


class Evaluator:
    """S x E environments that are stepped together, one policy call a step for all of them.

    Rewards are the environment's own, never transformed. The start states of an evaluation depend
    on (seed, number, episode) alone, so a resumed run sees the same ones.

    Args:
      env_id: Gymnasium id.
      episodes: E, per seed.
      seeds: S of them.
      transform: of observations and actions.
    """

    def __init__(self, env_id: str, episodes: int, seeds: SeedMap, transform: Transform):
        self._transform = transform
        self._envs = [
            [
                Guard(make_env(env_id), f"{env_id} of seed {seed}, evaluation episode {episode}")
                for episode in range(episodes)
            ]
            for seed in seeds.seeds
        ]
        self._seeds = seeds

    def __call__(
        self, mode: Callable, state, number: int, stop: Callable[[], bool] = lambda: False
    ) -> np.ndarray | None:
        """Returns [S, E] of whole episodes; None if it was stopped.

        Args:
          mode: (state, observation [E, D]) -> action [E, A], compiled for all seeds.
          state: the seeds' train states, as they lie on the devices.
          number: names this evaluation.
          stop: asked before every step.

        Raises:
          RunError: an environment fails.
        """
        observation = np.stack([self._reset(s, number) for s in range(len(self._envs))])
        returns = np.zeros(observation.shape[:2])
        alive = np.ones(observation.shape[:2], bool)
        while alive.any():
            if stop():
                return None
            seen = np.float32(self._transform.observation(observation))
            action = self._seeds.get(mode(state, seen))
            action = self._transform.world_action(action)
            for s, e in zip(*np.nonzero(alive)):
                observation[s, e], reward, terminated, truncated, _ = self._envs[s][e].step(
                    action[s, e]
                )
                returns[s, e] += float(reward)
                alive[s, e] = not (terminated or truncated)
        return returns

    def _reset(self, s: int, number: int) -> np.ndarray:
        """Start observations [E, D] of one seed."""
        entropy = np.random.SeedSequence([int(self._seeds.seeds[s]), number])
        starts = entropy.generate_state(len(self._envs[s]))
        for env in self._envs[s]:
            env.count = 0
        observations = [env.reset(seed=int(x))[0] for env, x in zip(self._envs[s], starts)]
        return np.asarray(observations, np.float32)

    def close(self) -> None:
        """Close every environment."""
        for row in self._envs:
            for env in row:
                env.close()
