"""A grid of runs: rows x tasks x seed groups x variations, and which of them share offline phases.

A cell is a call of `enoto train`. If several rows have the same resolved offline phase, transform,
data set and seeds, one more cell trains that phase alone, and they restore from it.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from absl import flags

from enoto_jax.cli import plans, train
from enoto_jax.data.places import split
from enoto_jax.recipes import budgets, units
from enoto_jax.recipes.table import recipe
from enoto_jax.runs import folder as run_folder
from enoto_jax.types import InputError

FLAGS = flags.FLAGS
# Flags that each cell sets itself, and flags that a run in a sweep does not use.
_OWN = ("method", "task", "seed", "out", "dry_run", "explain")
_HOSTS = ("distributed", "coordinator", "num_processes", "process_id")


class Cell(NamedTuple):
    """One run.

    Attributes:
      name: The name of its folder.
      arguments: The arguments of `enoto train`.
      plan: The plan that they resolve to.
      after: The name of the cell whose offline phase it starts from.
    """

    name: str
    arguments: tuple[str, ...]
    plan: plans.Plan
    after: str | None = None


def define() -> None:
    """Define the flags of a grid."""
    flags.DEFINE_integer(
        "seed_groups", 1, "How many runs, each of --seeds seeds, starting at --seed."
    )
    flags.DEFINE_multi_string("vary", [], "path=a|b or flag=a|b: a run for each value. Repeatable.")
    flags.DEFINE_string("grid", None, "YAML file with these flags; a list gives several values.")


def read(path: str) -> None:
    """Read flags from a YAML file; those on the command line take precedence.

    Raises:
      InputError: The file cannot be read, or an entry is not a flag.
    """
    try:
        found = yaml.safe_load(Path(path).read_text())
        items = [(name, found[name]) for name in found]
    except (OSError, yaml.YAMLError, TypeError) as error:
        raise InputError(f"--grid: {path} is not a YAML file of flags: {error}") from error
    for name, value in items:
        if name not in FLAGS:
            raise InputError(f"--grid: {path}: {name!r} is not a flag{units.nearest(name, FLAGS)}")
        if FLAGS[name].present:
            continue
        if name == "vary" and isinstance(value, dict):
            value = [f"{key}={'|'.join(map(str, _list(own)))}" for key, own in value.items()]
        elif isinstance(value, list) and name not in ("set", "vary", "plugin"):
            value = ",".join(map(str, value))
        for text in _list(value):
            FLAGS[name].parse(str(text))
            FLAGS[name].present += 1  # as if it were on the command line


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def cells(out: Path) -> list[Cell]:
    """Return the runs that the flags ask for, shared offline phases first.

    Args:
      out: The folder that contains the runs' folders.

    Raises:
      InputError: A run cannot be trained, or its folder holds another run.
    """
    rows = [cell(out / name, arguments) for name, arguments in _products()]
    shared: dict[str, list[Cell]] = {}
    for row in rows:
        offline = row.plan.recipe.offline is not None and row.plan.restore is None
        if offline and not _began_alone(out / row.name):
            shared.setdefault(_offline(row.plan), []).append(row)
    first: list = []
    after: dict = {}
    for key, group in shared.items():
        if len(group) > 1:
            plan, digest = group[0].plan, hashlib.sha256(key.encode()).hexdigest()[:8]
            words = ("offline", plan.recipe.offline.algorithm.name, plan.source.name)
            name = _name(*words, f"s{plan.seeds[0]}", digest)
            first.append(cell(out / name, (*group[0].arguments, "--set=online.steps=0")))
            after |= {row.name: name for row in group}
    rows = [_behind(row, out, after[row.name]) if row.name in after else row for row in rows]
    if len({row.name for row in rows}) < len(rows):
        raise InputError("--method, --task, --vary: two runs of the grid are the same")
    for row in (*first, *rows):
        if not (row in first and finished(row, out)):  # the name of a shared phase identifies it
            _check(out / row.name, row.plan)
    return [*first, *rows]


def cell(folder: Path, arguments: tuple[str, ...]) -> Cell:
    """Return a run with its arguments resolved."""
    return Cell(folder.name, arguments, resolve(arguments, folder))


def resolve(arguments: tuple[str, ...], folder: Path | None = None) -> plans.Plan:
    """Return the plan that `enoto train` would run with these arguments in this folder."""
    given = copy.deepcopy(FLAGS)
    for flag in given:
        given[flag].unparse()
    given(["enoto train", *arguments, *([f"--out={folder}"] if folder else [])])
    return plans.resolve(given, train.PATHS, arguments)


def common() -> tuple[str, ...]:
    """Return the arguments that all cells share."""
    lines = []
    for flag in FLAGS.get_flags_for_module(train.define.__module__):
        if flag.present and flag.name not in _OWN + _HOSTS:
            lines += flag.serialize().splitlines()
    if FLAGS.budget is None and not FLAGS.config:  # a worker's device may differ from this one
        lines.append(f"--budget={budgets.fitting()}")
    return tuple(lines)


def tasks() -> list[str | None]:
    """Return the tasks, files as absolute paths, because a worker may start in another folder."""
    if FLAGS.task is None:
        return [None]
    return [
        "+".join(str(Path(x).resolve()) if Path(x).is_file() else x for x in split(task))
        for task in FLAGS.task.split(",")
    ]


def finished(cell: Cell, out: Path) -> bool:
    """Return whether a cell's run is finished."""
    return run_folder.finished(out / cell.name, cell.plan.recipe.online.steps)


def _products() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name and arguments of every cell, before offline phases are shared."""
    if FLAGS.seed_groups < 1:
        raise InputError("--seed_groups must be at least 1")
    variations = [list(_variation(text)) for text in FLAGS.vary]
    shared = common()
    methods = FLAGS.method or ("" if FLAGS.config else "enoto_cql")  # --config has its own
    for method, task, *varied in itertools.product(methods.split(","), tasks(), *variations):
        given = shared
        if not FLAGS.config and recipe(method).offline is None:  # trains online only
            given = tuple(x for x in shared if not x.startswith("--offline_steps="))
        own = [f"--{flag}={x}" for flag, x in (("method", method), ("task", task)) if x]
        arguments = (*own, *given, *(argument for _, argument in varied))
        named = [x for x in arguments if not x.startswith("--restore=")]  # checked with the folder
        plan = resolve((*named, f"--seed={FLAGS.seed}"))
        words = [plan.method, plan.source.name, *(word for word, _ in varied)]
        for group in range(FLAGS.seed_groups):
            seed = FLAGS.seed + group * len(plan.seeds)
            yield _name(*words, f"s{seed}"), (*arguments, f"--seed={seed}")


def _name(*words: str) -> str:
    return re.sub(r"[^\w.,=+-]", "_", "-".join(words))


def _began_alone(folder: Path) -> bool:
    """Return whether the run began with an offline phase of its own, which it then keeps."""
    known = (folder / "config.json").exists()
    return known and run_folder.config_of(folder).get("restore") is None


def _variation(text: str) -> Iterator[tuple[str, str]]:
    """Yield (word of the name, argument of train) for each value of a --vary."""
    path, equals, values = text.partition("=")
    if not equals or not path.strip():
        raise InputError(f"--vary: {text!r} is not path=a|b")
    path = path.strip()
    if path in _OWN + _HOSTS:
        instead = "--seed_groups" if path == "seed" else f"--{path}"
        raise InputError(f"--vary: {path} is not a setting of a run; give {instead}")
    for value in map(str.strip, values.split("|")):
        argument = f"--{path}={value}" if path in FLAGS else f"--set={path}={value}"
        yield f"{path.split('.')[-1]}={value}", argument


def _offline(plan: plans.Plan) -> str:
    """Return everything that the end of an offline phase depends on, as text."""
    recipe, source = units.to_json(plan.recipe), plan.source
    task = (source.name, source.version, str(source.path), plan.seeds)
    learned = [recipe[part] for part in ("offline", "transform", "precision")]
    return json.dumps([*learned, plan.action_bounds, task], sort_keys=True)


def _behind(row: Cell, out: Path, after: str) -> Cell:
    folder = (out / after).resolve()
    restored = row.plan._replace(restore=folder)
    return Cell(row.name, (*row.arguments, f"--restore={folder}"), restored, after)


def _check(folder: Path, plan: plans.Plan) -> None:
    """Refuse a folder that holds another run, before any run starts."""
    if (folder / "config.json").exists():
        old = run_folder.config_of(folder)
        config: dict[str, Any] = {
            "task": plan.source.name,
            "env": plan.env_id or "none",
            "seeds": list(plan.seeds),
            "eval_episodes": plan.eval_episodes,
            "final_episodes": plan.final_episodes,
            "eval_max_steps": plan.eval_max_steps,
            "restore": plan.restore and str(plan.restore.resolve()),
            "recipe": units.to_json(plan.recipe),
            # Only the worker knows these, and compares them.
            **{name: old.get(name) for name in ("data_hash", "deterministic")},
        }
        run_folder.same_run(folder, config)
