"""Flags to a plan: everything that determines a run, checked before anything compiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from enoto_jax import core, handover
from enoto_jax.cli import hints
from enoto_jax.data.source import Source, completed, from_env, load_source
from enoto_jax.envs.gym import env_spec
from enoto_jax.recipes import domains, registry, units
from enoto_jax.recipes.budgets import BUDGETS, Budget
from enoto_jax.recipes.recipe import Recipe, build
from enoto_jax.recipes.table import recipe
from enoto_jax.runs.files import read_config
from enoto_jax.types import InputError, Spec

MOST_SEEDS = 10_000  # in one process


class Plan(NamedTuple):
    """Everything a run is determined by.

    Attributes:
      method: a name of the table.
      recipe: the method with every flag applied.
      source: the data set.
      env_id: Gymnasium id; None: no simulator.
      seeds: their numbers.
      eval_episodes: per evaluation and seed.
      restore: the run to start from, or None.
      log: dashboards.
      keep: newest checkpoints that are kept.
      eval_processes: that step the environments of an evaluation.
      task_given: --task as it was given.
      arguments: all that were given; for config.json.
      chosen: the budget that was chosen because none was given, or None.
    """

    method: str
    recipe: Recipe
    source: Source
    env_id: str | None
    seeds: tuple[int, ...]
    eval_episodes: int
    restore: Path | None
    log: tuple[str, ...]
    keep: int
    eval_processes: int
    task_given: str | None
    arguments: tuple[str, ...]
    chosen: str | None = None


def resolve(given: flags.FlagValues, paths: Mapping[str, str], arguments: Sequence[str]) -> Plan:
    """The plan that the flags describe.

    Args:
      given: the flags of `enoto train`, parsed.
      paths: flag -> path of the recipe that it is short for.
      arguments: what they were parsed from; for config.json.

    Raises:
      InputError: something does not fit; nothing has been written.
    """
    name, chosen, saved = given.budget, None, {}
    if given.config:
        saved = _read_config(given.config)
        if not {"method", "recipe", "seeds", "eval_episodes", "env"} <= set(saved):
            raise InputError(f"--config: {given.config} is not a run's config.json")
        method, row = saved["method"], registry.from_json(saved["recipe"])
    else:
        method = given.method or "enoto_cql"
        row = recipe(method)
    if name is None:
        name = fitting()
        chosen = None if given.config else name
    if name not in BUDGETS:
        raise InputError(f"--budget: no {name!r}{units.nearest(name, BUDGETS)}")
    budget = BUDGETS[name]
    wanted_env = given.env or saved.get("env")
    task = given.task or saved.get("task_given")
    source = _source(task, wanted_env, row)
    if not given.config:
        row = with_budget(domains.for_task(row, method, source.name), budget)
    for flag, path in paths.items():
        if given[flag].value is not None:
            hints.check_path(f"--{flag}", row, path, method)
            row = _override(f"--{flag}", row, path, given[flag].value)
    row = _decayed_at_the_end(row)
    row = with_settings(row, given["set"].value)
    seeds = saved.get("seeds", range(given.seed, given.seed + budget.seeds))
    if given.seeds is not None or given["seed"].present:
        count = len(seeds) if given.seeds is None else given.seeds
        if count > MOST_SEEDS:
            raise InputError(f"--seeds: {count} are too many; give at most {MOST_SEEDS}")
        seeds = range(given.seed, given.seed + count)
    episodes = saved.get("eval_episodes", budget.eval_episodes)
    if given.eval_episodes is not None:
        episodes = given.eval_episodes
    if len(seeds) < 1 or min(seeds) < 0 or episodes < 1:
        raise InputError("--seeds and --eval_episodes must be at least 1, --seed at least 0")
    env_id = None if wanted_env == "none" else wanted_env or source.env_id
    if env_id is None and wanted_env != "none":
        raise InputError(f"--env: {source.name} names no environment; give its id, or --env=none")
    if env_id is None and row.offline is None:
        raise InputError(f"--env=none: {method} has no offline phase, there is nothing to train")
    restored = given.restore or saved.get("restore")
    restore = Path(restored) if restored else None
    if restore is not None:
        _check_restore(restore, row, method, source.spec)
    return Plan(
        method,
        row,
        source,
        env_id,
        tuple(seeds),
        episodes,
        restore,
        tuple(given.log),
        given.keep,
        given.eval_processes,
        task,
        tuple(arguments),
        chosen,
    )


def fitting() -> str:
    """The budget that fits this machine's device.

    Looking at the devices makes JAX start its backends. On a CPU they are put away again, so that
    `use_cores` can still say how many devices the cores become.
    """
    fresh = True
    try:
        jax.config.update("jax_num_cpu_devices", jax.config.jax_num_cpu_devices)
    except RuntimeError:  # JAX has its devices already
        fresh = False
    on_cpu = jax.default_backend() == "cpu"
    if fresh and on_cpu:
        jax.extend.backend.clear_backends()
    return "cpu" if on_cpu else "paper"


def _source(task: str | None, env_id: str | None, row: Recipe) -> Source:
    """The data set; a method that never reads one may be given an environment alone."""
    learns_from_data = row.offline is not None or row.online.replay.needs_data
    if task is not None or learns_from_data or env_id in (None, "none"):
        if text := hints.environment_as_task(task):
            raise InputError(text)
        return completed(load_source(task), env_id)
    return from_env(env_id, env_spec(env_id))


def with_budget(row: Recipe, budget: Budget) -> Recipe:
    """The recipe with a budget's overrides."""
    known = {path: value for path, value, _ in units.leaves(row)}
    for phase in ("offline", "online"):
        path = f"{phase}.algorithm.n"
        if budget.ensemble is not None and known.get(path, 0) > 2:
            row = registry.override(row, path, budget.ensemble)
    for path, value in budget.overrides.items():
        if path in ("online.warmup", "online.random_steps"):
            value = min(value, known[path])
        if path == "online.utd":
            value = max(value, known[path])
        if path == "transform.reward_scale" and known[path] != 1.0:
            continue
        if path in known or f"online.{path}" in known:
            row = registry.override(row, path, value)
    return row


def _decayed_at_the_end(row: Recipe) -> Recipe:
    """A rate or a weight that falls over a phase falls over its whole length."""
    known = {path: value for path, value, _ in units.leaves(row)}
    offline, online = row.offline and row.offline.steps, row.online.steps * row.online.utd
    for path, updates in {
        "offline.algorithm.decay_steps": offline,
        "online.algorithm.cloning_decay_steps": online,
        "online.algorithm.alpha_decay_steps": online,
    }.items():
        if known.get(path) is not None:
            row = registry.override(row, path, updates or 1)
    return row


def with_settings(row: Recipe, texts: Sequence[str]) -> Recipe:
    """The recipe with what --set says, each path=value.

    Raises:
      InputError: no path=value, an unknown path, or a value that does not fit it.
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
      InputError: it is no run, or was trained by an algorithm with other networks.
    """
    if row.offline is None:
        raise InputError(f"--restore: {method} starts from scratch and restores nothing")
    if not (folder / "config.json").exists():
        raise InputError(f"--restore: {folder} is not a run's folder: no config.json in it")
    config, theirs = read_config(folder / "config.json"), None
    with suppress(InputError, KeyError, TypeError):  # what is wrong there is said when it is read
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
