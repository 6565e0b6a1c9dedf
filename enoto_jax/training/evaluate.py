"""Evaluation: all seeds and episodes side by side, undiscounted returns.

Actions are deterministic, except those of policies with noise of their own (FQL). A chunk of
actions is executed completely before the policy is asked again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from enoto_jax import core
from enoto_jax.envs.choice import env_choice
from enoto_jax.envs.gym import MAX_STEPS, Env
from enoto_jax.envs.workers import Crew
from enoto_jax.runs import progress
from enoto_jax.training.seeds import SeedMap, cores
from enoto_jax.transforms import Transform
from enoto_jax.types import InputError, plural

SLOW_S, MANY = 5.0, 8  # slower evaluations suggest more processes, up to MANY


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
      returns: Every episode's return, [S, E].
      success: [S, E] bool, whether any step of the episode reported success (`values.SUCCESS`);
          None if the environment has never reported it.
      cut: How many of the S x E episodes were cut off after `max_steps`.
    """

    returns: np.ndarray
    success: np.ndarray | None
    cut: int


def acting(algorithm: core.Algorithm, seeds: SeedMap) -> Callable[[int], Callable]:
    """Return evaluation number -> what an Evaluator takes as `mode`, compiled for these seeds.

    A policy's noise is drawn again every step. A seed's depends only on the seed, the evaluation
    and the step.
    """
    if (evaluates := algorithm.evaluates) is None:
        mode = seeds.compile(algorithm.mode)
        return lambda number: mode

    def act(state, observation, draw, step):
        return evaluates(state, jax.random.fold_in(jax.random.key(draw), step), observation)

    program = seeds.compile(act, shared=(3,))

    def numbered(number: int) -> Callable:
        entropies = [np.random.SeedSequence([int(s), number, 1]) for s in seeds.seeds]
        draws = np.concatenate([x.generate_state(1) for x in entropies])
        steps = itertools.count()
        return lambda state, seen: program(state, seen, draws, np.int32(next(steps)))

    return numbered


class Evaluator:
    """S x E environments that are stepped together, with one policy call per step for all of them.

    Rewards are the environment's own, never transformed. The start states of an evaluation depend
    only on (seed, number, episode), so a resumed run sees the same ones.

    Args:
      env: Gymnasium id, or anything else that `env_choice` takes.
      episodes: E, the episodes per seed, each in an environment of its own.
      seeds: The S seeds.
      transform: The transform of observations and actions.
      processes: How many processes step the environments; the scores do not depend on it, see
        `envs.workers`.
      max_steps: Steps after which an episode is cut off; None: the environment's time limit, or
        MAX_STEPS without one, which is reported at once.

    Attributes:
      tells: Whether the environment has ever reported success.

    Raises:
      InputError: The environment cannot be made, or one of the numbers is below 1.
    """

    def __init__(
        self,
        env: Env,
        episodes: int,
        seeds: SeedMap,
        transform: Transform,
        processes: int = 1,
        max_steps: int | None = None,
    ):
        check_number("eval_episodes", episodes)
        check_number("eval_processes", processes)
        if max_steps is not None:
            check_number("eval_max_steps", max_steps)
        self._transform, self._seeds, self._episodes = transform, seeds, episodes
        self._name = env_choice(env).name
        names = [
            f"{self._name} of seed {seed}, evaluation episode {episode}"
            for seed in seeds.seeds
            for episode in range(episodes)
        ]
        self._envs = Crew(env, names, processes)
        more = min(cores(), len(names), MANY)
        self._more = more if more > processes else 0
        self._limit, self.tells, self._cut_told = max_steps, False, False
        if max_steps is None and self._envs.limit is None:
            self._limit = MAX_STEPS
            progress.say(
                f"{self._name} has no time limit: an evaluation cuts an episode after {MAX_STEPS:,}"
                " steps; --eval_max_steps changes that"
            )

    def __call__(
        self,
        mode: Callable,
        state,
        number: int,
        stop: Callable[[], bool] = lambda: False,
        episodes: int | None = None,
    ) -> Evaluation | None:
        """Evaluate whole episodes; None if it was stopped.

        Args:
          mode: (state, observation [E, D]) -> action [E, A], compiled for all seeds; see `acting`.
          state: The seeds' train states, on the devices.
          number: The evaluation's number, which determines its start states.
          stop: Called before every step; True stops the evaluation.
          episodes: Episodes per seed, if not E; the E environments run them in rounds. The first
            ones are the same whatever the number.

        Raises:
          RunError: An environment fails.
        """
        begun, wide = time.monotonic(), self._episodes
        starts = self._starts(number, wide if episodes is None else episodes)
        rounds = []
        for first in range(0, starts.shape[1], wide):
            found = self._round(mode, state, starts[:, first : first + wide], stop)
            if found is None:
                return None
            rounds.append(found)
        returns, success, ended = (np.concatenate(x, axis=1) for x in zip(*rounds))
        self._advise(time.monotonic() - begun)
        self._tell_cut(cut := int((~ended).sum()), ended.size)
        # An environment may report only successes, and nothing in the other episodes.
        self.tells = self.tells or bool(np.isfinite(success).any())
        return Evaluation(returns, success == 1.0 if self.tells else None, cut)

    def _round(
        self, mode: Callable, state, starts: np.ndarray, stop: Callable[[], bool]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return returns, reported success, and whether each ended: [S, e] for starts [S, e]."""
        count, steps = starts.shape[1], 0
        idle = self._episodes - count  # environments that have nothing to do in the last round
        starts = np.pad(starts, ((0, 0), (0, idle)), mode="edge")
        observation, returns, ended, success = self._envs.reset(starts.ravel())
        size = len(self._transform.action_shift)
        waiting: list[np.ndarray] = []  # actions left of a chunk; all episodes begin together
        ended = np.repeat([np.arange(self._episodes) >= count], len(starts), axis=0).ravel()
        while not ended.all() and steps != self._limit:
            if stop():
                return None
            if not waiting:
                seen = self._per_seed(self._transform.observation(observation))
                chosen = self._seeds.get(mode(state, np.float32(seen)))
                chosen = chosen.reshape(len(observation), -1, size)
                waiting = list(np.swapaxes(chosen, 0, 1))
            action = self._transform.world_action(waiting.pop(0))
            observation, reward, ended, told = self._envs.step(action, ~ended)
            returns, success, steps = returns + reward, np.fmax(success, told), steps + 1
        returns, success, ended = map(self._per_seed, (returns, success, ended))
        return returns[:, :count], success[:, :count], ended[:, :count]

    def _advise(self, seconds: float) -> None:
        """Suggest more processes, once, if an evaluation took long."""
        if self._more and seconds > SLOW_S:
            told = (
                f"an evaluation takes {seconds:.0f} s; --eval_processes={self._more} may be faster"
            )
            progress.say(f"{told}, with identical scores")
            self._more = 0

    def _tell_cut(self, cut: int, count: int) -> None:
        """Report, once, how many episodes were cut off."""
        if cut and not self._cut_told:
            told = f"an evaluation in {self._name} cut {cut} of {plural(count, 'episode')} after"
            told = f"{told} {plural(self._limit, 'step')}, each with its return so far"
            progress.say(f"{told} (reported once; see --eval_max_steps)")
            self._cut_told = True

    def _starts(self, number: int, episodes: int) -> np.ndarray:
        """Return the episodes' seeds [S, episodes]; more episodes begin with the same ones."""
        entropies = [np.random.SeedSequence([int(s), number]) for s in self._seeds.seeds]
        return np.stack([x.generate_state(episodes) for x in entropies])

    def _per_seed(self, x: np.ndarray) -> np.ndarray:
        """Reshape [S E, ...] to [S, E, ...]."""
        return x.reshape(-1, self._episodes, *x.shape[1:])

    def close(self) -> None:
        """Close every environment."""
        self._envs.close()


def check_number(name: str, value: Any) -> None:
    """Check that a value is a whole number, at least 1.

    Raises:
      InputError: It is not; the message names the flag.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"--{name}: {value!r}; give a whole number of at least 1")
