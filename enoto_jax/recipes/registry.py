"""Every unit by name, for the command line and config.json; and values read from text."""

from __future__ import annotations

import ast
import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Any

from enoto_jax import exploration, handover, replay, targets, transforms
from enoto_jax.algorithms import bellman, edac
from enoto_jax.algorithms.agents import cql_agents
from enoto_jax.algorithms.awac import awac
from enoto_jax.algorithms.bc import bc
from enoto_jax.algorithms.br import br
from enoto_jax.algorithms.cql import cql, cql_penalty
from enoto_jax.algorithms.fql import fql
from enoto_jax.algorithms.iql import iql
from enoto_jax.algorithms.lapo import lapo
from enoto_jax.algorithms.pex import pex
from enoto_jax.algorithms.qc import qc
from enoto_jax.algorithms.rebrac import rebrac
from enoto_jax.algorithms.ro2o import q_pessimism, q_smoothness, ro2o
from enoto_jax.algorithms.sac import sac
from enoto_jax.algorithms.td3 import td3, td3_bc
from enoto_jax.core import AlgorithmConfig
from enoto_jax.nets import initialisers
from enoto_jax.recipes import units
from enoto_jax.recipes.recipe import Phase, Recipe
from enoto_jax.recipes.units import Option, nearest
from enoto_jax.types import InputError, Unit

# Kind -> its base class. An option whose declared type is one of these holds a unit of that kind.
KINDS: dict[str, type[Unit]] = {
    "algorithm": AlgorithmConfig,
    "target": targets.TargetRule,
    "exploration": exploration.Exploration,
    "backup": bellman.Backup,
    "term": bellman.CriticTerm,
    "init": initialisers.Init,
    "replay": replay.Replay,
    "handover": handover.Handover,
    "transform": transforms.FitTransform,
}
UNITS: dict[str, type[Unit]] = {}
_OF_THE_RECIPE = ("handover", "transform", "precision")


def register(make: type[Unit]) -> type[Unit]:
    """Make your own unit available by its name to --set, --explain, resume and export.

    Args:
      make: A subclass of one of the base classes in KINDS.

    Returns:
      The class itself, so that it can be used as a decorator.

    Raises:
      InputError: It has no kind, an option has several types, or another unit has its name.
    """
    if not isinstance(make, type) or not issubclass(make, tuple(KINDS.values())):
        known = ", ".join(base.__name__ for base in KINDS.values())
        raise InputError(f"register: {make!r} is not a unit; derive it from one of {known}")
    name = make.__name__
    known_as = UNITS.get(name)
    if known_as is not None and known_as.__qualname__ != make.__qualname__:
        raise InputError(f"register: a unit named {name!r} already exists; choose another name")
    units.options(make)  # refuses options without readable types
    UNITS[name] = make
    return make


def kind_of(make: type[Unit]) -> str:
    """Return the kind of a unit's class."""
    return next(kind for kind, base in KINDS.items() if issubclass(make, base))


def named(kind: str) -> dict[str, type[Unit]]:
    """Return the units of a kind, by name."""
    return {name: make for name, make in UNITS.items() if issubclass(make, KINDS[kind])}


for _make in (
    *(sac, cql, edac.edac, td3, td3_bc, bc, awac, iql, pex, lapo, cql_agents, br),
    *(rebrac, fql, qc, ro2o),
    *(targets.min_q, targets.mean_q, targets.rem, targets.random_min_pair),
    *(targets.weighted_min_pair, targets.independent, targets.mean_of_mins),
    *(targets.mix, targets.first_q, targets.mean_spread),
    *(exploration.policy, exploration.gaussian, exploration.bootstrapped, exploration.oac),
    exploration.sunrise,
    *(bellman.soft, bellman.sampled, bellman.deterministic, bellman.best_of),
    *(cql_penalty, edac.gradient_diversity, q_smoothness, q_pessimism),
    *(initialisers.torch_init, initialisers.edac_init, initialisers.orthogonal_init),
    *(initialisers.xavier_init, initialisers.rlkit_init),
    *(replay.online_only, replay.append, replay.mixed, replay.whole_episodes, replay.balanced),
    *(handover.carry, handover.fresh, handover.expand_policy, handover.merge_actors),
    handover.distil,
    transforms.transform,
):
    register(_make)


def override(recipe: Recipe, path: str, text: Any) -> Recipe:
    """Return the recipe with one hyper-parameter replaced.

    Args:
      recipe: The recipe, which is not changed.
      path: The dotted path; without a phase in front, it means every phase that has it.
      text: The value, or its text: a number, a tuple, a unit's name.

    Raises:
      InputError: The path is unknown, or the value does not fit it.
    """
    if not isinstance(recipe, Recipe):
        raise InputError(f"override: {recipe!r}; give a Recipe, such as recipe('enoto_cql')")
    if not isinstance(path, str):
        raise InputError(f"override: {path!r} is not the path of a hyper-parameter")
    if path.partition(".")[0] in ("offline", "online", *_OF_THE_RECIPE):
        return _override_one(recipe, path, text)
    found = False
    for phase in ("offline", "online"):
        node = getattr(recipe, phase)
        if node is not None and path in {p for p, _, _ in units.leaves(node)}:
            recipe, found = _override_one(recipe, f"{phase}.{path}", text), True
    if not found:
        known = [p for p, _, _ in units.leaves(recipe)]
        known += [p.partition(".")[2] for p in known]
        raise InputError(f"no hyper-parameter {path!r}{nearest(path, known)}")
    return recipe


def _override_one(recipe: Recipe, path: str, text: Any) -> Recipe:
    known = {p: (v, owner) for p, v, owner in units.leaves(recipe)}
    if path not in known:
        raise InputError(f"no hyper-parameter {path!r}{nearest(path, known)}")
    value, owner = known[path]
    option = units.options(type(owner))[path.rpartition(".")[2]]
    new = parse(path, option, value, text) if isinstance(text, str) else text
    if not units.fits(option, new):
        raise InputError(f"{path}: {text!r} should be {option}, like {value!r}")
    return units.replace_at(recipe, path, new)


def parse(path: str, option: Option, old: Any, text: str) -> Any:
    """Read a value of an option's type from its text.

    Args:
      path: The option's path, for messages.
      option: The option that the value is for.
      old: The value to replace, as an example in messages.
      text: A number, a tuple, true or false, none, a unit's name, or names of units.

    Raises:
      InputError: There is no such unit, or the text does not have the type.
    """
    if _is_unit(option.type):
        kind = kind_of(option.type)
        if text not in named(kind):
            raise InputError(f"{path}: unknown {kind} {text!r}{nearest(text, named(kind))}")
        for name, own in units.options(UNITS[text]).items():
            if own.default is dataclasses.MISSING:
                raise InputError(f"{path}: {text} needs {name}; give the unit itself, in Python")
        return UNITS[text]()
    if option.type is str:
        return text
    if _is_tuple(option) and _is_unit(typing.get_args(option.type)[0]):
        one = option._replace(type=typing.get_args(option.type)[0])
        names = [name.strip() for name in text.strip("() ").split(",")]
        return tuple(parse(path, one, old, name) for name in names if name)
    try:
        # Python's literals have no infinity, but a number too large for a float becomes infinite.
        value = ast.literal_eval(re.sub(r"\binf\b", "1e999", text))
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    if value is None and option.optional:
        return None
    if _is_tuple(option) and isinstance(value, int | float):
        value = (value,)
    if _is_tuple(option) and isinstance(value, list):
        value = tuple(value)
    if option.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if any(units.too_large(x) for x in (value if isinstance(value, tuple) else (value,))):
        raise InputError(f"{path}: {text[:50]!r} is too large; whole numbers must be below 2^31")
    if not units.fits(option, value):
        raise InputError(f"{path}: {text!r} should be {_kind(option)}, like {old!r}")
    return value


def _kind(option: Option) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number"}
    name = "a tuple" if _is_tuple(option) else names.get(option.type, str(option.type))
    return f"{name} or None" if option.optional else name


def from_json(tree: Mapping[str, Any]) -> Recipe:
    """Read the recipe that `units.to_json` wrote, also in an earlier version.

    Raises:
      InputError: It names units or options that this version does not have.
    """
    try:
        offline = None if tree["offline"] is None else _read_options(Phase, tree["offline"])
        return _read_options(
            Recipe,
            {
                **tree,
                "offline": offline,
                "online": _read_options(Phase, tree["online"]),
                "transform": tree["transform"],  # required: it cannot be guessed
            },
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"--config: not a recipe of this version: {error}") from error


def settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes two recipes in config.json the same method: all but the description.

    Options that did not exist when the file was written get their defaults. If the recipe has units
    or options that this version does not have, its settings are returned as written.
    """
    try:
        tree = units.to_json(from_json(tree))
    except InputError:
        pass
    return {name: value for name, value in tree.items() if name != "about"}


def _read(node: Any) -> Any:
    """Read a plain value, a tuple of them, or a unit."""
    if isinstance(node, Mapping) and "unit" in node:
        name = node["unit"]
        if name not in UNITS:
            raise InputError(
                f"--config: unknown unit {name!r}{nearest(str(name), UNITS)}; register your "
                "own unit first (--plugin, enoto_jax.register)"
            )
        return _read_options(UNITS[name], {k: v for k, v in node.items() if k != "unit"})
    return tuple(_read(v) for v in node) if isinstance(node, list) else node


def _read_options(make: type, tree: Mapping[str, Any]) -> Any:
    """Make a unit, phase or recipe, after checking that its options have their declared types."""
    known, found = units.options(make), {}
    for name, node in tree.items():
        if name not in known:
            raise InputError(
                f"--config: {make.__name__} has no argument {name!r}{nearest(name, known)}"
            )
        value = _read(node)
        if value is None and _is_unit(known[name].type) and not known[name].optional:
            continue  # earlier versions wrote None for the default unit
        if not units.fits(known[name], value):
            raise InputError(
                f"--config: {name} of {make.__name__} is {str(value)[:50]!r}; it should be "
                f"{known[name]}"
            )
        found[name] = value
    return make(**found)


def _is_unit(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, Unit)


def _is_tuple(option: Option) -> bool:
    return typing.get_origin(option.type) is tuple


def describe_path(recipe: Recipe, path: str) -> str:
    """Describe one hyper-parameter: its value here, its meaning, and where its unit comes from.

    Raises:
      InputError: There is no such hyper-parameter; the message lists the nearest.
    """
    known = {p: (v, owner) for p, v, owner in units.leaves(recipe)}
    if path not in known:
        raise InputError(f"--explain: no hyper-parameter {path!r}{nearest(path, known)}")
    value, owner = known[path]
    make = type(owner)
    lines = [f"{path} = {value}", f"  {units.options(make)[path.rpartition('.')[2]].about}"]
    if isinstance(value, Unit):
        lines.append(f"  {value.name}: {units.summary(type(value))}")
    lines.append(f"  (of {make.__name__}: {units.summary(make)})")
    return "\n".join(lines)


def describe_unit(name: str) -> str:
    """Describe a unit: its kind, what it is and where it comes from, and its options."""
    make = UNITS[name]
    options = [f"  {key}: {option.about}" for key, option in units.options(make).items()]
    return "\n".join([f"{name} ({kind_of(make)}): {units.summary(make)}", *options])


def changes(old: Any, new: Any) -> list[str]:
    """Describe the hyper-parameters that differ between two units or phases, one per line."""
    before, after = ({p: v for p, v, _ in units.leaves(x)} for x in (old, new))
    lines = []
    for path in dict.fromkeys([*before, *after]):
        one, two = before.get(path, "-"), after.get(path, "-")
        if isinstance(one, Unit) and type(one) is type(two):
            continue
        if one != two:
            lines.append(f"{path}: {one} -> {two}")
    return lines
