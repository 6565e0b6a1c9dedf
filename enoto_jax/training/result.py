"""The results of a run: its summary, its policies, and new evaluations of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np

from enoto_jax.data import scores
from enoto_jax.data.loading import from_env
from enoto_jax.envs.choice import env_choice
from enoto_jax.envs.gym import Env, check_spec
from enoto_jax.recipes import plugins
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.runs import files, policies
from enoto_jax.runs.folder import config_of
from enoto_jax.runs.metrics import evaluation_rows
from enoto_jax.training.evaluate import Evaluation, Evaluator, acting, check_number
from enoto_jax.training.record import HANDOVER, evaluation_number
from enoto_jax.training.seeds import SeedMap
from enoto_jax.training.settings import Settings
from enoto_jax.types import InputError, Spec


class Again:
    """The policies of all seeds of a run, ready to be evaluated again.

    Args:
      folder: The run's folder.
      which: The policies to evaluate: "latest", "best" or "handover".
      env: Gymnasium id, or anything else that `env_choice` takes; the run's own by default.

    Attributes:
      found: What the run has kept; `found.state` has arrays [S, ...].
      seeds: The seeds' numbers.
      env: The environment.
      own_episodes: Episodes per seed in the run's own evaluation at this step.

    Raises:
      InputError: The run has kept no such policies, or they do not fit the environment.
    """

    def __init__(self, folder: Path, which: str = "latest", env: Env | None = None):
        config = config_of(folder)
        recipe = plugins.recipe_of(config, str(folder))
        self._config, self.seeds = config, config["seeds"]
        own = config.get("env", "none")  # agents of earlier versions recorded none
        env = own if env is None or env == "none" else env
        if env == "none":
            raise InputError(f"--env: {folder} was trained without an environment; give its id")
        self.env = env_choice(env)
        self._is_own = self.env.text == own
        found = policies.kept_seeds(folder, which)
        rows = np.asarray([found.config["seeds"].index(seed) for seed in self.seeds])
        self.found = found._replace(state=jax.tree.map(lambda x: x[rows], found.state))
        self._spec = Spec(len(found.transform.observation_shift), len(found.transform.action_shift))
        check_spec(self.env, self._spec, config.get("task", str(folder)))
        offline_steps = (
            0 if recipe.offline is None or config.get("restore") else recipe.offline.steps
        )
        number = evaluation_number(found.phase, found.step, offline_steps)
        self._number = HANDOVER if found.kind == "handover" else number
        ends = (found.phase, found.step) == ("online", recipe.online.steps)
        special = ends or self._number == HANDOVER
        usual = config.get("eval_episodes", Settings.eval_episodes)
        self._at_a_time = usual
        self.own_episodes = config.get("final_episodes", usual) if special else usual

    def evaluate(
        self, episodes: int | None = None, processes: int = 1, max_steps: int | None = None
    ) -> list[dict[str, Any]]:
        """Evaluate the policies; return a row per seed, as in evaluations.csv but without times.

        The first episodes start in the same states as in the run's own evaluation, and as many run
        at a time, however few are asked for: noise depends on it. So the results are identical.

        Args:
          episodes: Episodes per seed; by default as many as in the run's own evaluation.
          processes: How many processes step the environments.
          max_steps: Steps after which an episode is cut off; as in the run by default.

        Raises:
          InputError: One of the numbers is below 1.
          RunError: The environment fails.
        """
        episodes = self.own_episodes if episodes is None else episodes
        check_number("episodes", episodes)
        seeds, found = SeedMap(self.seeds), self.found
        limit = self._config.get("eval_max_steps") if max_steps is None else max_steps
        made = Evaluator(self.env, self._at_a_time, seeds, found.transform, processes, limit)
        with closing(made) as evaluator:
            mode, state = acting(found.algorithm, seeds)(self._number), seeds.put(found.state)
            seen = evaluator(mode, state, self._number, episodes=episodes)
        return self._rows(seen)

    def _rows(self, seen: Evaluation) -> list[dict[str, Any]]:
        found, known, scored = self.found, self._reference(), None
        if known is not None:
            scored = scores.normalised_score(seen.returns.mean(axis=1), known)
        success = np.full_like(seen.returns, np.nan) if seen.success is None else seen.success
        rows = evaluation_rows(found.phase, found.step, self.seeds, seen.returns, success, scored)
        return [files.plain(row) for row in rows]

    def _reference(self) -> tuple[float, float] | None:
        """Returns of a random and an expert policy; None if they are not known."""
        if self._is_own:
            return self._config.get("reference")
        return from_env(self.env.name, self._spec).reference


class Run:
    """A run's results and policies, read from its folder.

    Args:
      folder: The run's folder.
      env: The environment that it was trained in, if config.json cannot name it.

    Attributes:
      folder: The run's folder.
      config: The contents of config.json.

    Raises:
      InputError: The folder holds no run.
    """

    def __init__(self, folder: str | os.PathLike, env: Env | None = None):
        self.folder, self._env = Path(folder), env
        self.config: Mapping[str, Any] = config_of(self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def recipe(self) -> Recipe:
        """The recipe that the run was trained with, for an `Agent` that restores it.

        Raises:
          InputError: One of its units is unknown.
        """
        return plugins.recipe_of(self.config, str(self.folder))

    @property
    def summary(self) -> dict[str, Any]:
        """The contents of summary.json: final score, drop after the hand-over, and more.

        Each quantity has its mean and its value for every seed. Empty without an environment.

        Raises:
          InputError: The run has not ended.
        """
        path = self.folder / "summary.json"
        if not path.exists():
            raise InputError(f"{self.folder} is not finished: no summary.json; train it further")
        return files.read_json(path)

    def policy(self, seed: int | None = None, which: str = "latest") -> policies.Policy:
        """A policy of the run; see `load_policy`.

        Args:
          seed: One of the run's seeds; the first by default.
          which: The checkpoint: "latest", "best" or "handover".

        Raises:
          InputError: The seed or the checkpoint does not exist.
        """
        return policies.load_policy(self.folder, seed, which)

    def evaluate(
        self,
        episodes: int | None = None,
        which: str = "latest",
        env: Env | None = None,
        processes: int = 1,
    ) -> list[dict[str, Any]]:
        """Evaluate the saved policies of all seeds; the run's files are not changed.

        The first episodes start as in the run's own evaluation and give the same returns.

        Args:
          episodes: Episodes per seed; by default as many as in the run's own evaluation.
          which: The checkpoint: "latest", "best" or "handover".
          env: An environment other than the run's.
          processes: How many processes step the environments; the results do not depend on it.

        Returns:
          A row for each seed: phase, step, env_steps, seed, return_mean, return_std (over
          episodes, in the environment's rewards), score (100 is the expert's; None without a
          reference), success (a fraction; None if the environment reports none) and episodes.

        Raises:
          InputError: The checkpoint does not exist, or the environment does not fit.
          RunError: The environment fails.
        """
        again = Again(self.folder, which, self._env if env is None else env)
        return again.evaluate(episodes, processes)


def load_run(folder: str | os.PathLike) -> Run:
    """Open the run in a folder, finished or not.

    Args:
      folder: The run's folder.

    Returns:
      The run, as `train` returns it.

    Raises:
      InputError: The folder holds no run.
    """
    if not isinstance(folder, str | os.PathLike):
        raise InputError(f"load_run: {folder!r}; give the folder of a run")
    return Run(folder)
