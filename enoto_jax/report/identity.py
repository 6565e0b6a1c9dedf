"""Identify a run: its method, what was changed in it, and how it differs from other runs."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from enoto_jax.recipes import domains, registry, table, units
from enoto_jax.recipes.budgets import BUDGETS, with_budget
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.runs.files import flat
from enoto_jax.types import InputError

# Settings of a budget, which give the size of a run and not its method.
_BUDGET = (
    "steps",
    "batch_size",
    "eval_every",
    "warmup",
    "random_steps",
    "capacity",
    "decay_steps",
    "cloning_decay_steps",
    "alpha_decay_steps",
    "hidden",
    "critic_hidden",
    "overlap",
    "envs_backend",
)
_MOST = 3  # changes that fit in a name


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting of the recipe by its path; see `registry.settings`."""
    return flat(registry.settings(config.get("recipe") or {}))


def _own(config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """path -> the values that belong to the method; {} for a method that is not in the table.

    The first value is the table's, with the constants of the task's domain; budgets' values follow.
    """
    try:
        own = table.recipe(config["method"])
        own = domains.for_task(own, config["method"], str(config.get("task", "")))
    except (InputError, KeyError):
        return {}
    return _values(own)


@functools.lru_cache  # a report may have a thousand runs of one method
def _values(own: Recipe) -> dict[str, list[Any]]:
    rows = [own, *(with_budget(own, budget) for budget in BUDGETS.values())]
    found = [flat(units.to_json(row)) for row in rows]
    return {path: [values[path] for values in found if path in values] for path in found[0]}


def overrides(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was changed in the method, path -> value, ignoring budgets.

    For a method that is not in the table this is empty.
    """
    known = _own(config)
    return {
        path: value
        for path, value in settings(config).items()
        if path in known and value not in known[path] and path.rpartition(".")[2] not in _BUDGET
    }


def label(config: Mapping[str, Any]) -> str:
    """Return the method's name with its changes: "enoto_cql · target=mean_q"."""
    words = _words(overrides(config))
    more = [f"{len(words) - _MOST} more changes"] if len(words) > _MOST + 1 else words[_MOST:]
    return " · ".join([str(config.get("method", "")), *words[:_MOST], *more])


def _words(changes: Mapping[str, Any]) -> list[str]:
    """Each change as name=value; text values (units) first, a change of both phases once."""
    text = {path: f"{path.rpartition('.')[2]}={_text(value)}" for path, value in changes.items()}
    ordered = sorted(changes, key=lambda path: (not isinstance(changes[path], str), path))
    return list(dict.fromkeys(text[path] for path in ordered))


def _text(value: Any) -> str:
    if value is None:
        return "default"
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def differences(tables: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return path -> the value in each table, for paths whose values differ."""
    paths = dict.fromkeys(path for own in tables for path in own)
    found = {path: [own.get(path) for own in tables] for path in paths}
    return {p: v for p, v in found.items() if len({json.dumps(x, sort_keys=True) for x in v}) > 1}


def _independent(found: Mapping[str, list[Any]]) -> Iterator[str]:
    """Paths of differences that do not follow from another: a unit brings its own arguments."""
    for path, values in found.items():
        above = [found[unit] for unit in found if path.startswith(f"{unit}.")]
        pairs = {json.dumps([*units, value]) for *units, value in zip(*above, values, strict=True)}
        if not above or len(pairs) > len({json.dumps(pair) for pair in zip(*above, strict=True)}):
            yield path


def names(
    configs: Sequence[Mapping[str, Any]], tasks: Sequence[str], folders: Sequence[Path]
) -> list[str]:
    """Name the runs of one method so that different ones are distinct, and alike on every task.

    Args:
      configs: The runs' configs.
      tasks: Each run's task; settings may differ between tasks.
      folders: The runs' folders, used as names if too many settings differ.

    Returns:
      One name per run: its `label`, with every other setting that differs on some task.
    """
    known = [settings(config) for config in configs]
    differing: dict[str, None] = {}
    for task in dict.fromkeys(tasks):
        here = [own for own, where in zip(known, tasks, strict=True) if where == task]
        differing |= dict.fromkeys(_independent(differences(here)))
    base = [label(config) for config in configs]
    added = []
    for config, own, start in zip(configs, known, base, strict=True):
        plain = {path: values[0] for path, values in _own(config).items()}
        shown = [path for path in differing if path in own and own[path] != plain.get(path)]
        added.append(
            [
                word
                for word in _words({path: own[path] for path in shown})
                if word not in start.split(" · ")
            ]
        )
    short = [" · ".join([start, *words]) for start, words in zip(base, added, strict=True)]
    keys = [json.dumps([own.get(path) for path in differing], sort_keys=True) for own in known]
    if len(set(zip(short, keys, strict=True))) == len(set(short)) and len(differing) <= _MOST:
        return short
    # Too much differs for a name: runs of the same settings get the name of the first one's folder.
    first = dict(reversed(list(zip(keys, folders, strict=True))))
    called = {key: folder.name for key, folder in first.items()}
    if len(set(called.values())) < len(called):
        called = {key: f"{folder.parent.name}/{folder.name}" for key, folder in first.items()}
    if len(set(called.values())) < len(called):
        called = {key: str(folder) for key, folder in first.items()}
    return [
        start if called[key] in (start, config["method"]) else f"{start} · {called[key]}"
        for start, key, config in zip(base, keys, configs, strict=True)
    ]
