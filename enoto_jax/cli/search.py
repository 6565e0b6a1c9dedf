"""A search over hyper-parameters by Ray Tune: the sweep's --search.

The file has `samples`, the number of runs, and `space`, one of Ray Tune's distributions for each
path of the recipe or flag of train:

    samples: 16
    space:
      algorithm.actor_rate: {loguniform: [1.0e-5, 1.0e-3]}
      num_critics: {choice: [2, 5, 10]}

The best run is the one whose last evaluation is best. On SIGINT or SIGTERM, Tune saves its state
and the runs end at once; repeat the command to resume each of them from its last checkpoint.
"""

from __future__ import annotations

import csv
import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from absl import flags

from enoto_jax.cli import grid, plans, train, worker
from enoto_jax.runs.folder import finished
from enoto_jax.training import deterministic
from enoto_jax.types import InputError, RunError, Stopped, plural

FLAGS = flags.FLAGS


def run(path: str, out: Path, start_ray: Callable[[], Any]) -> None:
    """Search, or resume the search of this folder; `<out>/search.csv` has a row per run.

    Args:
      path: The YAML file.
      out: The folder that contains the runs' folders and `tune`, Tune's own.
      start_ray: Connects to Ray.

    Raises:
      InputError: The file, a distribution or a path is invalid.
      RunError: Runs failed.
      Stopped: A signal came; the same command resumes.
    """
    task, *others = grid.tasks()
    if others:
        raise InputError("--task: a search has one task; start a search for each")
    given = (*([f"--method={FLAGS.method}"] if FLAGS.method else []),)
    given += (*([f"--task={task}"] if task else []), f"--seed={FLAGS.seed}", *grid.common())
    start_ray()
    from ray import tune

    samples, space = read(path, tune)
    plan = grid.resolve((*given, *arguments({k: v.sample() for k, v in space.items()})))
    if plan.env_id is None:
        raise InputError("--env=none: a search needs the scores of evaluations")
    resources = {"cpu": FLAGS.cpus_per_run, "gpu": FLAGS.gpus_per_run}
    trial = tune.with_resources(partial(_trial, given=given, out=out), resources)
    if tune.Tuner.can_restore(str(out / "tune")):
        tuner = tune.Tuner.restore(str(out / "tune"), trial, resume_errored=True)
    else:
        tuner = tune.Tuner(
            trial,
            param_space=space,
            tune_config=tune.TuneConfig(metric="score", mode="max", num_samples=samples),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(out),
                failure_config=tune.FailureConfig(max_failures=FLAGS.retries),
            ),
        )
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        results = tuner.fit()  # handles SIGINT itself
    finally:
        signal.signal(signal.SIGTERM, before)
    rows = [_row(result) for result in results]
    with open(out / "search.csv", "w", newline="") as file:
        table = csv.DictWriter(file, ["run", "score", *space], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    runs = plural(len(rows), "run")
    if results.num_errors:
        raise RunError(f"{results.num_errors} of {runs} failed: {results.errors[0]}")
    done = sum(bool(row["run"]) and finished(out / row["run"], 0) for row in rows)
    if done < len(rows):
        raise Stopped(f"{done} of {runs} done")
    best = max(rows, key=lambda row: row["score"])
    print(f"{out / best['run']}: the best of {len(rows)}, {best}")


def arguments(drawn: dict[str, Any]) -> tuple[str, ...]:
    """Return the arguments of train for the values that a run has drawn."""
    return tuple(f"--{k}={v}" if k in FLAGS else f"--set={k}={v}" for k, v in drawn.items())


def read(path: str, tune: Any) -> tuple[int, dict[str, Any]]:
    """Return how many runs there are, and a distribution for each name.

    Raises:
      InputError: The file does not define them.
    """
    try:
        found = yaml.safe_load(Path(path).read_text())
        samples, space = int(found["samples"]), {}
        for name, ((kind, values),) in ((n, d.items()) for n, d in found["space"].items()):
            if kind not in ("choice", "uniform", "loguniform", "randint", "quniform"):
                raise ValueError(f"{name}: unknown distribution {kind!r}")
            space[name] = getattr(tune, kind)(*([values] if kind == "choice" else values))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"--search: {path} must contain samples and space: {error}") from error
    return samples, space


def _trial(drawn: dict[str, Any], given: tuple[str, ...], out: Path) -> None:
    """Train one run in its own process; started again, it resumes in its folder."""
    from ray import tune

    if "out" not in FLAGS:
        train.define()
    folder = out / f"run-{tune.get_context().get_trial_id()}"
    worker.keep_compiled(out)
    worker.until_free(folder)
    sys.argv = ["enoto train", *given]
    FLAGS(sys.argv)
    sys.argv += arguments(drawn)
    FLAGS(sys.argv)
    if FLAGS.deterministic:
        deterministic.switch_on()
    plan = plans.resolve(FLAGS, train.PATHS, sys.argv[1:])

    def tell(score: float, phase: str, step: int) -> None:
        tune.report({"score": score, "phase": phase, "step": step, "run": folder.name})

    def watch(phase: str, step: int, state: Any, returns: Any) -> None:
        del state
        value = float(returns.mean())
        tell(float(plan.source.score(value)) if plan.source.scored else value, phase, step)

    train.start(plan, folder, watch=watch, signals=False)
    # Report again: a run that ended just before Tune was stopped evaluates nothing now.
    summary = json.loads((folder / "summary.json").read_text())
    tell(summary["overall"]["final"]["mean"], "end", plan.recipe.online.steps)


def _row(result: Any) -> dict[str, Any]:
    told = result.metrics or {}
    return {"run": told.get("run", ""), "score": told.get("score"), **(result.config or {})}
