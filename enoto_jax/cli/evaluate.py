"""Evaluate the saved policies of a run, one for each seed.

enoto evaluate runs/hopper
enoto evaluate runs/hopper --which=best --episodes=100 --out=runs/hopper/evaluations-again.csv
enoto evaluate runs/hopper --env=Hopper-v5

The first episodes start from the same states as in the run's own evaluation and give the same
returns. The run's files are not changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from enoto_jax.cli import command, compiled
from enoto_jax.cli.which import Which
from enoto_jax.report import stats
from enoto_jax.runs import progress
from enoto_jax.runs.files import EVALUATION_COLUMNS, CsvLog
from enoto_jax.runs.folder import config_of
from enoto_jax.training.result import Again
from enoto_jax.training.seeds import use_cores
from enoto_jax.types import InputError, plural

FLAGS = flags.FLAGS
GROUPS = {
    "What is evaluated": ("run", "which", "env", "episodes"),
    "How": ("out", "eval_processes", "eval_max_steps"),
}


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("run", None, "The run's folder; may be given without the flag.")
    flags.DEFINE_flag(Which("Which policies."))
    flags.DEFINE_string("env", None, "Gymnasium id. Default: the run's own.")
    flags.DEFINE_integer("episodes", None, "Episodes of each seed. Default: the run's own number.")
    flags.DEFINE_string("out", None, "A new CSV file with a row for each seed.")
    flags.DEFINE_integer("eval_processes", 1, "Processes that step the environments.")
    flags.DEFINE_integer("eval_max_steps", None, "Cut an episode here. Default: as in the run.")


def main() -> None:
    """Evaluate, print a line for each seed and one for all, and write --out."""
    if not FLAGS.run:
        raise InputError("give the folder of a run: enoto evaluate RUN")
    for name in ("episodes", "eval_processes"):
        if FLAGS[name].value is not None and FLAGS[name].value < 1:
            raise InputError("--episodes and --eval_processes must be at least 1")
    out = None if FLAGS.out is None else command.new_folder(FLAGS.out)
    folder = Path(FLAGS.run)
    use_cores(len(config_of(folder)["seeds"]))
    compiled.keep(None)
    again = Again(folder, FLAGS.which, FLAGS.env)
    rows = again.evaluate(FLAGS.episodes, FLAGS.eval_processes, FLAGS.eval_max_steps)
    where = progress.at(again.found.phase, again.found.step)
    episodes = plural(rows[0]["episodes"], "episode")
    print(f"{folder}: {where}, {episodes} per seed in {again.env.text}")
    for row in rows:
        score = "" if row["score"] is None else f"score {row['score']:.1f}, "
        rate = "" if row["success"] is None else f", success {100 * row['success']:.0f}%"
        spread = f"{row['return_mean']:.1f}, standard deviation {row['return_std']:.1f}"
        print(f"  seed {row['seed']}: {score}return {spread}{rate}")
    print(_overall(rows))
    if out is not None:
        CsvLog(out, EVALUATION_COLUMNS).append(rows)
        print(out)


def _overall(rows: Sequence[Mapping[str, Any]]) -> str:
    """Summarise all seeds in the words that end a run."""
    scored = rows[0]["score"] is not None
    values = {str(row["seed"]): row["score" if scored else "return_mean"] for row in rows}
    line = f"{'score' if scored else 'RETURN (no reference, so no score)'} {stats.words(values)}"
    if rows[0]["success"] is None:
        return line
    rates = {str(row["seed"]): 100 * row["success"] for row in rows}
    return f"{line}; success (%) {stats.words(rates, 0)}"
