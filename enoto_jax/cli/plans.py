"""From flags to a plan: everything that determines a run, checked before anything compiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from enoto_jax import core, handover
from enoto_jax.cli import command, hints
from enoto_jax.data.source import Source
from enoto_jax.envs.choice import EnvChoice
from enoto_jax.recipes import budgets, domains, plugins, registry
from enoto_jax.recipes.budgets import Budget
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.table import recipe
from enoto_jax.runs.files import read_config
from enoto_jax.runs.starts import handed_over
from enoto_jax.training import resume
from enoto_jax.training.entrance import source_of
from enoto_jax.training.evaluate import check_number
from enoto_jax.training.settings import Options, seed_numbers
from enoto_jax.types import InputError, Spec


class Plan(NamedTuple):
    """Everything that determines a run.

    Attributes:
      method: The name of a method.
      recipe: The method with every flag applied.
      source: The data set.
      env_id: Gymnasium id, or another text that `env_choice` reads; None: no simulator.
      seeds: The seeds' numbers.
      eval_episodes: Episodes per evaluation and seed.
      final_episodes: The same for the evaluations on both sides of the hand-over and at the end.
      out: The run's folder.
      restore: The run to start from, or None.
      log: The dashboards.
      keep: How many of the newest checkpoints are kept.
      eval_processes: How many processes step the environments of an evaluation.
      task_given: --task as it was given.
      arguments: All command-line arguments, for config.json.
      chosen: The budget that was chosen because none was given, or None.
      eval_max_steps: Steps after which an evaluation episode is cut off; None: the environment's
        time limit.
      plugins: Modules of the user's own to import.
      action_bounds: --action_low and --action_high as they were given.
    """

    method: str
    recipe: Recipe
    source: Source
    env_id: str | None
    seeds: tuple[int, ...]
    eval_episodes: int
    final_episodes: int
    out: Path
    restore: Path | None
    log: tuple[str, ...]
    keep: int
    eval_processes: int
    task_given: str | None
    arguments: tuple[str, ...]
    chosen: str | None = None
    eval_max_steps: int | None = None
    plugins: tuple[str, ...] = ()
    action_bounds: tuple[str | None, str | None] = (None, None)

    @property
    def options(self) -> Options:
        """The options of `training.run.train`."""
        return {
            "seeds": self.seeds,
            "env": self.env_id or "none",
            "eval_episodes": self.eval_episodes,
            "final_episodes": self.final_episodes,
            "eval_max_steps": self.eval_max_steps,
            "plugins": self.plugins,
            "restore": self.restore,
            "log": self.log,
            "keep": self.keep,
            "eval_processes": self.eval_processes,
        }


def resolve(given: flags.FlagValues, paths: Mapping[str, str], arguments: Sequence[str]) -> Plan:
    """Return the plan that the flags describe.

    Args:
      given: The flags of `enoto train`, parsed.
      paths: Flag -> the recipe's path that it abbreviates.
      arguments: The arguments that the flags were parsed from, for config.json.

    Raises:
      InputError: Something does not fit; nothing has been written.
    """
    name, chosen, saved = given.budget, None, {}
    if given.config:
        saved = _read_config(given.config)
        if not {"method", "recipe", "seeds", "eval_episodes", "env"} <= set(saved):
            raise InputError(f"--config: {given.config} is not a run's config.json")
        _check_unused(given, saved)
        if given.task is not None:  # the environment and the bounds are those of the other data
            kept = saved.keys() - {"env", "action_low", "action_high"}
            saved = {key: saved[key] for key in kept}
    modules = _plugins(given, saved)
    if given.config:
        method, row = saved["method"], registry.from_json(saved["recipe"])
    else:
        method = given.method or "enoto_cql"
        row = recipe(method)
    if name is None:
        name = budgets.fitting()
        chosen = None if given.config else name
    budget = budgets.named(name)
    wanted_env = given.env or saved.get("env")
    task = saved.get("task_given") if given.task is None else given.task
    if text := hints.environment_as_task(task):
        raise InputError(text)
    bounds = tuple(
        saved.get(end) if given[end].value is None else given[end].value
        for end in ("action_low", "action_high")
    )
    source = source_of(task, wanted_env, row, *bounds)
    if given.config:
        before = row
        if given.task is None and source.name != saved.get("task", source.name):
            raise InputError(
                f"--config: {given.config} is of a run on {saved['task']}, which was not read from "
                "a file or an id; give the data as --task"
            )
    else:
        before = domains.for_task(row, method, source.name)
        row = budgets.with_budget(before, budget)
    for flag, path in paths.items():
        if given[flag].value is not None:
            hints.check_path(f"--{flag}", row, path, method)
            row = _override(f"--{flag}", row, path, given[flag].value)
    row = with_settings(row, given["set"].value)
    paths_set = [text.partition("=")[0].strip() for text in given["set"].value]
    row = budgets.decayed_at_the_end(before, row, paths_set)
    seeds = saved.get("seeds", range(given.seed, given.seed + budget.seeds))
    if given.seeds is not None or given["seed"].present:
        count = len(seeds) if given.seeds is None else given.seeds
        seeds = [given.seed + i for i in seed_numbers(count)]
    episodes, final = _episodes(given, saved, budget)
    check_number("eval_episodes", episodes)
    env_id = None if wanted_env == "none" else wanted_env or _own_env(source)
    if env_id is None and wanted_env != "none":
        raise InputError(f"--env: {source.name} {source.no_env}")
    if env_id is None and row.offline is None:
        raise InputError(f"--env=none: {method} has no offline phase, so there is nothing to train")
    limit = given.eval_max_steps
    limit = saved.get("eval_max_steps") if limit is None else limit
    restored = given.restore or saved.get("restore")
    restore = Path(restored) if restored else None
    default = Path("runs") / f"{method}-{source.name}".replace("/", "-")
    out = command.local(given.out) if given.out else default
    if restore is not None and handed_over(out, restore) == restore:
        _check_restore(restore, row, method, source.spec)
        resume.check_transform(restore, row.transform)
    return Plan(
        method=method,
        recipe=row,
        source=source,
        env_id=env_id,
        seeds=seed_numbers(seeds),
        eval_episodes=episodes,
        final_episodes=final,
        out=out,
        restore=restore,
        log=tuple(given.log),
        keep=given.keep,
        eval_processes=given.eval_processes,
        task_given=task,
        arguments=tuple(arguments),
        chosen=chosen,
        eval_max_steps=limit,
        plugins=modules,
        action_bounds=bounds,
    )


def _check_unused(given: flags.FlagValues, saved: Mapping[str, Any]) -> None:
    """Refuse the flags that a configuration would override."""
    if given.budget is not None:
        raise InputError(
            "--budget: --config takes lengths and network sizes from its file; leave out one of "
            "them, or give single settings such as --online_steps"
        )
    if given.method not in (None, saved["method"]):
        raise InputError(
            f"--method: {given.method}, but --config={given.config} is of {saved['method']}; "
            "leave out one of them"
        )


def _plugins(given: flags.FlagValues, saved: Mapping[str, Any]) -> tuple[str, ...]:
    """Import the modules of --plugin and those that the run's config.json lists."""
    known = [(name, "--plugin") for name in given.plugin]
    places = [(saved, given.config)]
    for folder in (given.out, given.restore):
        if folder and (Path(folder) / "config.json").exists():
            places.append((read_config(Path(folder) / "config.json"), folder))
    known += [(name, str(where)) for found, where in places for name in found.get("plugins", ())]
    for name, where in known:
        plugins.load([name], where)
    return tuple(dict.fromkeys(name for name, _ in known))


def _episodes(given: flags.FlagValues, saved: Mapping[str, Any], budget: Budget) -> tuple[int, int]:
    """Return the episodes of every evaluation, and of those at the hand-over and at the end."""
    episodes = given.eval_episodes
    if episodes is None:
        episodes = saved.get("eval_episodes", budget.eval_episodes)
    final = given.final_episodes
    if final is None and saved:
        final = saved.get("final_episodes", episodes)  # older runs have no such number
    return episodes, budget.last_episodes(episodes) if final is None else final


def _own_env(source: Source) -> str | None:
    """Return the environment that the data name, with its arguments."""
    return source.env_id and EnvChoice(source.env_id, source.env_kwargs).text


def with_settings(row: Recipe, texts: Sequence[str]) -> Recipe:
    """Return the recipe with the settings of --set, each path=value.

    Raises:
      InputError: A text is not path=value, a path is unknown, or a value does not fit it.
    """
    for text in texts:
        path, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise InputError(f"--set: {text!r} is not path=value")
        if not value:
            raise InputError(f"--set: {path} has no value; write --set={path}=VALUE")
        row = _override("--set", row, path, value)
    return row


def _override(flag: str, row: Recipe, path: str, value: Any) -> Recipe:
    try:
        return registry.override(row, path, value)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from error


def _read_config(path: str) -> dict[str, Any]:
    try:
        return read_config(path)
    except InputError as error:
        raise InputError(f"--config: {error}") from error


def _check_restore(folder: Path, row: Recipe, method: str, spec: Spec) -> None:
    """Refuse a run that this method cannot start from.

    Raises:
      InputError: It is no run, or was trained by an algorithm with other networks.
    """
    if row.offline is None:
        raise InputError(f"--restore: {method} starts from scratch and restores nothing")
    if not (folder / "config.json").exists():
        raise InputError(f"--restore: {folder} is not a run's folder: no config.json in it")
    config, theirs = read_config(folder / "config.json"), None
    with suppress(InputError, KeyError, TypeError):  # reported later, when the run is read
        theirs = registry.from_json(config["recipe"])
    if theirs is None:
        return
    trained_with = config.get("method", "another method")
    if theirs.offline is None:
        raise InputError(
            f"--restore: {folder} was trained with {trained_with}, which has no offline phase; "
            f"{method} needs one: leave out --restore"
        )
    if theirs.offline.algorithm.name == row.offline.algorithm.name:
        return
    try:
        one, two = (_offline_shapes(x, spec) for x in (theirs, row))
    except InputError:
        return
    if handover.differences(one, two):
        raise InputError(
            f"--restore: {folder} was trained with {trained_with}; {method} needs an offline "
            f"phase of its own ({row.offline.algorithm.name}): leave out --restore"
        )


def _offline_shapes(row: Recipe, spec: Spec) -> core.TrainState:
    algorithm = build(row, spec).offline
    return jax.eval_shape(lambda: core.init(algorithm, jax.random.key(0)))
