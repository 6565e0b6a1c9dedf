"""Evaluation: all seeds and episodes side by side, deterministic actions, undiscounted returns."""

from __future__ import annotations

import numpy as np

from enoto_jax import core
from enoto_jax.envs.gym import make_env
from enoto_jax.train.seeds import SeedMap


class Evaluator:
    """S x E environments that are stepped together, one policy call a step for all of them.

    Rewards are the environment's own, never transformed. The start states of an evaluation depend
    on (seed, step, episode) alone, so a resumed run sees the same ones.

    Args:
      algorithm: its `mode` acts.
      env_id: Gymnasium id.
      episodes: E, per seed.
      seeds: S of them.
    """

    def __init__(self, algorithm: core.Algorithm, env_id: str, episodes: int, seeds: SeedMap):
        self._envs = [[make_env(env_id) for _ in range(episodes)] for _ in seeds.seeds]
        self._act = seeds.compile(algorithm.mode)
        self._seeds = seeds

    def __call__(self, params, step: int) -> np.ndarray:
        """Returns [S, E] of whole episodes under the policy of these parameters.

        Args:
          params: the seeds' parameters, as they lie on the devices.
          step: any number that names this evaluation.
        """
        count, episodes = len(self._envs), len(self._envs[0])
        observation = np.stack(
            [
                [
                    env.reset(seed=int(np.random.SeedSequence([seed, step, i]).generate_state(1)[0]))[0]
                    for i, env in enumerate(row)
                ]
                for seed, row in zip(self._seeds.seeds, self._envs)
            ]
        ).astype(np.float32)  # fmt: skip
        returns = np.zeros((count, episodes))
        alive = np.ones((count, episodes), bool)
        while alive.any():
            action = self._seeds.get(self._act(params, self._seeds.put(observation)))
            for s, e in zip(*np.nonzero(alive)):
                seen, reward, terminated, truncated, _ = self._envs[s][e].step(action[s, e])
                observation[s, e] = seen
                returns[s, e] += float(reward)
                alive[s, e] = not (terminated or truncated)
        return returns

    def close(self) -> None:
        for row in self._envs:
            for env in row:
                env.close()
