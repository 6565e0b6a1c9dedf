"""`enoto_jax.train`: takes names or objects for method, data and environment; returns the run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from enoto_jax.data.loading import from_env, load_source
from enoto_jax.data.source import Source, scaled
from enoto_jax.data.tasks import completed
from enoto_jax.envs.choice import env_choice
from enoto_jax.envs.gym import Env, env_spec
from enoto_jax.recipes import budgets, domains, plugins, registry, units
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.table import recipe as method_named
from enoto_jax.runs.folder import OWN
from enoto_jax.training import run
from enoto_jax.training.result import Run
from enoto_jax.training.seeds import use_cores
from enoto_jax.training.settings import Options, Settings, seed_numbers
from enoto_jax.types import InputError


def train(
    method: str | Recipe = "enoto_cql",
    data: str | os.PathLike | Source | None = None,
    out: str | os.PathLike | None = None,
    *,
    budget: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    **options: Unpack[Options],
) -> Run:
    """Train a method: offline on a data set, then online in an environment.

    Calling it again with the same `out` resumes a stopped run. A finished run is returned
    unchanged, or extended if you ask for more online steps.

    Args:
      method: The name of a method (`enoto methods`), one of your own (`register_method`), or a
        Recipe.
      data: Anything that `load_source` takes, or a Source; the small bundled data set by default.
        A method that reads no data needs only `env`.
      out: The run's folder; runs/METHOD-TASK by default, if the method is a name.
      budget: "paper", "laptop", "cpu", "demo" or "smoke". By default, a method given by its name
        gets the budget that fits the device, as on the command line, and a Recipe is unchanged.
      overrides: path -> value: any hyper-parameter, as `--set` on the command line.
      **options: `seeds` (how many, or their numbers), `env` (a Gymnasium id, class, function or
        EnvSpec; the data's own by default; "none" trains only offline), `eval_episodes`,
        `final_episodes` (at the hand-over and at the end), `restore`, `log`, `eval_max_steps` and
        more: see `training.settings.Settings`.

    Returns:
      The run: `.summary`, `.policy(seed)`, `.evaluate(episodes)`, `.folder`.

    Raises:
      InputError: An argument is invalid; units, data and environment do not fit together; or the
        folder holds another run, or is in use by another process.
      RunError: An environment, the numbers or the disk failed; the last checkpoint is kept.
      Stopped: A signal came and `signals` is on; everything is saved.
    """
    Settings.of(options)  # before anything is looked for
    row, name = _method(method)
    env = options.get("env")
    source = source_of(data, env, row)
    chosen = budgets.fitting() if budget is None and name is not None else budget
    if name is not None:
        row = domains.for_task(row, name, source.name)
    before = row
    if chosen is not None:
        found = budgets.named(chosen)
        row = budgets.with_budget(row, found)
        every = options.setdefault("eval_episodes", found.eval_episodes)
        options.setdefault("final_episodes", found.last_episodes(every))
        options.setdefault("seeds", found.seeds)
    row = _overridden(row, overrides)
    if name is not None:
        row = budgets.decayed_at_the_end(before, row, list(overrides or ()))
    plugins.check(row)
    if out is None and name is None:
        raise InputError("out: give the run's folder, as out='runs/mine'")
    folder = Path("runs") / f"{name}-{source.name}".replace("/", "-") if out is None else out
    if not isinstance(folder, str | os.PathLike):
        raise InputError(f"out: {folder!r}; give the run's folder")
    about = {
        "method": name or OWN,
        "data_version": source.version,
        "data_physics": source.physics,
    }
    if isinstance(data, str | os.PathLike):
        about["task_given"] = os.fspath(data)
    options["about"] = {**about, **(options.get("about") or {})}
    options.setdefault("announce", _announced(row, name, source, chosen))
    use_cores(len(seed_numbers(options.get("seeds", (0,)))))
    run.train(row, source, folder, **options)
    return Run(folder, env)


def source_of(
    data: str | os.PathLike | Source | None,
    env: Env | None,
    row: Recipe,
    action_low: Any = None,
    action_high: Any = None,
) -> Source:
    """Return the data set, completed with what is known about the environment.

    Args:
      data: As in `train`.
      env: As in `train`; a method that reads no data needs nothing else.
      row: The method's recipe.
      action_low: Lowest action that the data were recorded with; see `data.source.scaled`.
      action_high: Highest action that the data were recorded with.

    Raises:
      InputError: The data set does not exist, or it does not fit.
    """
    if data is not None and not isinstance(data, str | os.PathLike | Source):
        raise InputError(
            f"data: {type(data).__name__}; give a task's id, the path of a file, or a Source, such "
            "as from_arrays(...)"
        )
    choice = None if env is None or env == "none" else env_choice(env)
    reads = row.offline is not None or row.online.replay.needs_data
    if data is None and not reads and choice is not None:
        return from_env(choice.name, env_spec(choice))
    source = data if isinstance(data, Source) else load_source(data)
    source = completed(source, None if choice is None else choice.name, choice)
    return scaled(source, action_low, action_high)


def _method(method: Any) -> tuple[Recipe, str | None]:
    """Return the recipe, and the method's name if one was given."""
    if isinstance(method, str):
        return method_named(method), method
    if not isinstance(method, Recipe):
        raise InputError(f"method: {method!r}; give a name, such as 'enoto_cql', or a Recipe")
    units.check_types(method)
    return method, None


def _overridden(row: Recipe, overrides: Any) -> Recipe:
    if overrides is not None and not isinstance(overrides, Mapping):
        raise InputError(f"overrides: {overrides!r}; give a dictionary, path -> value")
    for path, value in (overrides or {}).items():
        row = registry.override(row, path, tuple(value) if isinstance(value, list) else value)
    return row


def _announced(row: Recipe, name: str | None, source: Source, chosen: str | None) -> str:
    lines = [f"{name}: {row.about}" if name else row.about, f"data {source.name}"]
    if chosen is not None:
        lines.append(f"budget {chosen}: {budgets.BUDGETS[chosen].about}")
    return "\n".join(lines)
