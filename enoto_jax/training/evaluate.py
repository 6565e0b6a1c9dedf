"""Evaluation: all seeds and episodes side by side, deterministic actions, undiscounted returns."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from enoto_jax.envs.workers import Crew
from enoto_jax.runs import progress
from enoto_jax.training.seeds import SeedMap, cores
from enoto_jax.transforms import Transform

SLOW_S, MANY = 5.0, 8  # an evaluation that takes longer is told; as many processes are advised


class Evaluator:
    """S x E environments that are stepped together, one policy call a step for all of them.

    Rewards are the environment's own, never transformed. The start states of an evaluation depend
    on (seed, number, episode) alone, so a resumed run sees the same ones.

    Args:
      env_id: Gymnasium id.
      episodes: E, per seed.
      seeds: S of them.
      transform: of observations and actions.
      processes: that step the environments; the scores do not depend on it, see `envs.crew`.
    """

    def __init__(
        self,
        env_id: str,
        episodes: int,
        seeds: SeedMap,
        transform: Transform,
        processes: int = 1,
    ):
        self._transform, self._seeds, self._episodes = transform, seeds, episodes
        names = [
            f"{env_id} of seed {seed}, evaluation episode {episode}"
            for seed in seeds.seeds
            for episode in range(episodes)
        ]
        self._envs = Crew(env_id, names, processes)
        more = min(cores(), len(names), MANY)
        self._more = more if more > processes else 0

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
        begun = time.monotonic()
        observation, returns, ended = self._envs.reset(self._starts(number))
        while not ended.all():
            if stop():
                return None
            seen = self._per_seed(self._transform.observation(observation))
            action = self._seeds.get(mode(state, np.float32(seen)))
            action = self._transform.world_action(action.reshape(len(observation), -1))
            observation, reward, ended = self._envs.step(action, ~ended)
            returns += reward
        self._advise(time.monotonic() - begun)
        return self._per_seed(returns)

    def _advise(self, seconds: float) -> None:
        """Say once that more processes would shorten what takes long."""
        if self._more and seconds > SLOW_S:
            told = f"an evaluation takes {seconds:.0f} s; --eval_processes={self._more} may shorten"
            progress.say(f"{told} it, to the same scores")
            self._more = 0

    def _starts(self, number: int) -> np.ndarray:
        """What each episode begins from [S E]."""
        entropies = [np.random.SeedSequence([int(s), number]) for s in self._seeds.seeds]
        return np.concatenate([x.generate_state(self._episodes) for x in entropies])

    def _per_seed(self, x: np.ndarray) -> np.ndarray:
        """[S E, ...] as [S, E, ...]."""
        return x.reshape(-1, self._episodes, *x.shape[1:])

    def close(self) -> None:
        """Close every environment."""
        self._envs.close()
