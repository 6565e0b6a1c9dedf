"""Evaluate the policies that a run has kept again, every seed of it.

enoto evaluate runs/hopper
enoto evaluate runs/hopper --which=best --episodes=100 --out=runs/hopper/evaluations-again.csv
enoto evaluate runs/hopper --env=Hopper-v5

With as many episodes as the run's own evaluations had, the episodes start from the same states and
the run's own numbers come out. The run's files are not changed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from enoto_jax.cli import command, compiled
from enoto_jax.data import scores
from enoto_jax.data.source import from_env
from enoto_jax.envs.gym import check_spec
from enoto_jax.recipes import registry
from enoto_jax.report import stats
from enoto_jax.runs import policies, progress
from enoto_jax.runs.files import EVALUATION_COLUMNS, CsvLog
from enoto_jax.runs.folder import config_of
from enoto_jax.training.evaluate import Evaluator, acting
from enoto_jax.training.record import evaluation_number
from enoto_jax.training.seeds import SeedMap, use_cores
from enoto_jax.types import InputError, Spec

FLAGS = flags.FLAGS
WHICH = {"latest": "last", "best": "best", "handover": "handover"}
GROUPS = {
    "What is evaluated": ("run", "which", "env", "episodes"),
    "How": ("out", "eval_processes"),
}


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("run", None, "The run's folder; may be given without the flag.")
    flags.DEFINE_enum("which", "latest", list(WHICH), "Which policies: latest, best or handover.")
    flags.DEFINE_string("env", None, "Gymnasium id. Default: the run's own.")
    flags.DEFINE_integer("episodes", None, "Episodes of each seed. Default: the run's own number.")
    flags.DEFINE_string("out", None, "A new CSV file for a row of each seed.")
    flags.DEFINE_integer("eval_processes", 1, "Processes that step the environments.")


def main() -> None:
    """Evaluate, print a line for each seed and one for all, and write --out."""
    if not FLAGS.run:
        raise InputError("give the folder of a run: enoto evaluate RUN")
    out = None if FLAGS.out is None else command.new_folder(FLAGS.out)
    folder, config = Path(FLAGS.run), config_of(Path(FLAGS.run))
    env_id = FLAGS.env or config["env"]
    episodes = config["eval_episodes"] if FLAGS.episodes is None else FLAGS.episodes
    if env_id == "none":
        raise InputError(f"--env: {folder} was trained without an environment; give its id")
    if episodes < 1 or FLAGS.eval_processes < 1:
        raise InputError("--episodes and --eval_processes must be at least 1")
    seeds = config["seeds"]
    use_cores(len(seeds))
    compiled.keep(None)
    found, returns = evaluate(folder, WHICH[FLAGS.which], env_id, episodes, FLAGS.eval_processes)
    rows = rows_of(found, seeds, returns, reference(config, env_id, found))
    where = f"{progress.at(found.phase, found.step)}, {episodes} episodes a seed in {env_id}"
    print(f"{folder}: {where}")
    for row in rows:
        score = "" if row["score"] is None else f"score {row['score']:.1f}, "
        spread = f"{row['return_mean']:.1f}, standard deviation {row['return_std']:.1f}"
        print(f"  seed {row['seed']}: {score}return {spread}")
    print(_overall(rows))
    if out is not None:
        CsvLog(out, EVALUATION_COLUMNS).append(rows)
        print(out)


def evaluate(
    folder: Path, kind: str, env_id: str, episodes: int, processes: int = 1
) -> tuple[policies.Kept, np.ndarray]:
    """What a run has kept, with the states of its seeds, and their returns [S, E].

    Raises:
      InputError: it has kept no such policies, or they do not fit the environment.
    """
    config = config_of(folder)
    recipe, wanted = registry.from_json(config["recipe"]), config["seeds"]
    begun = Path(config["restore"]) if config["restore"] and kind == "handover" else folder
    found = policies.kept_seeds(begun, kind)
    rows = np.asarray([found.config["seeds"].index(seed) for seed in wanted])
    found = found._replace(state=jax.tree.map(lambda x: x[rows], found.state))
    transform = found.transform
    spec = Spec(len(transform.observation_shift), len(transform.action_shift))
    check_spec(env_id, spec, config["task"])
    restored = config["restore"] and begun == folder
    offline_steps = 0 if recipe.offline is None or restored else recipe.offline.steps
    seeds = SeedMap(wanted)
    number = evaluation_number(found.phase, found.step, offline_steps)
    with closing(Evaluator(env_id, episodes, seeds, transform, processes)) as evaluator:
        mode = acting(found.algorithm, seeds)
        return found, evaluator(mode, seeds.put(found.state), number)


def reference(
    config: Mapping[str, Any], env_id: str, found: policies.Kept
) -> Sequence[float] | None:
    """Returns of a random and of an expert policy, for scores; None where they are not known."""
    if env_id == config["env"]:
        return config.get("reference")
    transform = found.transform
    spec = Spec(len(transform.observation_shift), len(transform.action_shift))
    return from_env(env_id, spec).reference


def rows_of(
    found: policies.Kept,
    seeds: Sequence[int],
    returns: np.ndarray,
    reference: Sequence[float] | None,
) -> list[dict[str, Any]]:
    """Rows as in evaluations.csv, without times.

    Args:
      found: what was evaluated.
      seeds: their numbers [S].
      returns: [S, E].
      reference: as `reference` gives it.
    """
    means = returns.mean(axis=1)
    scored = [None] * len(means)
    if reference is not None:
        scored = [float(x) for x in scores.normalised_score(means, tuple(reference))]
    return [
        {
            "phase": found.phase,
            "step": found.step,
            "env_steps": found.step if found.phase == "online" else 0,
            "seed": seed,
            "return_mean": own.mean(),
            "return_std": own.std(),
            "score": score,
            "episodes": len(own),
        }
        for seed, own, score in zip(seeds, returns, scored)
    ]


def _overall(rows: Sequence[Mapping[str, Any]]) -> str:
    """Over all seeds, as the end of a run says it."""
    scored = rows[0]["score"] is not None
    values = {str(row["seed"]): row["score" if scored else "return_mean"] for row in rows}
    return f"{'score' if scored else 'RETURN (no reference, so no score)'} {stats.words(values)}"


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv, positional="run"))
