"""Every unit by name, for the command line and for config.json; and values read from text."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

from enoto_jax import exploration, handover, replay, targets, transforms
from enoto_jax.algorithms import backups
from enoto_jax.algorithms.agents import cql_agents
from enoto_jax.algorithms.awac import awac
from enoto_jax.algorithms.bc import bc
from enoto_jax.algorithms.br import br
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.edac import edac
from enoto_jax.algorithms.iql import iql
from enoto_jax.algorithms.lapo import lapo
from enoto_jax.algorithms.pex import pex
from enoto_jax.algorithms.sac import sac
from enoto_jax.algorithms.td3 import td3, td3_bc
from enoto_jax.nets import initialisers
from enoto_jax.recipes import units
from enoto_jax.recipes.recipe import Phase, Recipe
from enoto_jax.recipes.units import Unit, nearest, unit
from enoto_jax.types import InputError

KINDS: dict[str, tuple[Callable, ...]] = {
    "algorithm": (sac, cql, edac, td3, td3_bc, bc, awac, iql, pex, lapo, cql_agents, br),
    "target": (
        targets.min_q,
        targets.mean_q,
        targets.rem,
        targets.random_min_pair,
        targets.weighted_min_pair,
        targets.independent,
        targets.mean_of_mins,
        targets.mix,
        targets.first_q,
    ),
    "exploration": (
        exploration.policy,
        exploration.gaussian,
        exploration.bootstrapped,
        exploration.oac,
        exploration.sunrise,
    ),
    "backup": (backups.soft, backups.sampled, backups.deterministic, backups.best_of),
    "init": (
        initialisers.torch_init,
        initialisers.edac_init,
        initialisers.orthogonal_init,
        initialisers.xavier_init,
        initialisers.rlkit_init,
    ),
    "replay": (
        replay.online_only,
        replay.append,
        replay.mixed,
        replay.whole_episodes,
        replay.balanced,
    ),
    "handover": (handover.carry, handover.fresh, handover.expand_policy, handover.merge_actors),
    "transform": (transforms.transform,),
}

UNITS = {make.__name__: make for makes in KINDS.values() for make in makes}
# Which kind a hyper-parameter of a unit holds; the others hold plain values.
_SLOTS = {
    "algorithm": "algorithm",
    "target": "target",
    "actor_value": "target",
    "replay": "replay",
    "exploration": "exploration",
    "backup": "backup",
    "actor_init": "init",
    "critic_init": "init",
    "handover": "handover",
    "transform": "transform",
}
_OF_THE_RECIPE = ("handover", "transform", "precision")


def override(recipe: Recipe, path: str, text: Any) -> Recipe:
    """The recipe with one hyper-parameter replaced.

    Args:
      recipe: is not changed.
      path: dotted; without a phase in front it means every phase that has it.
      text: the value, or its text: a number, a tuple, a unit's name.

    Raises:
      InputError: unknown path, or a value that does not fit it.
    """
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
    declared = units.annotation(owner, path.rpartition(".")[2])
    new = parse(path, value, text, "None" in declared)
    if isinstance(text, str) and not _fits(declared, new):
        raise InputError(f"{path}: {text!r} should be {declared}, like {value!r}")
    return units.replace_at(recipe, path, new)


def parse(path: str, old: Any, text: Any, optional: bool = True) -> Any:
    """A value from its text, of the kind that stands at the path; None where that is allowed."""
    if not isinstance(text, str):
        return text
    slot = _SLOTS.get(path.rpartition(".")[2])
    if slot is not None:
        names = {make.__name__: make for make in KINDS[slot]}
        if text not in names:
            raise InputError(f"{path}: no {slot} {text!r}{nearest(text, names)}")
        return unit(names[text])
    if isinstance(old, str):
        return text
    try:
        # Python's literals have no infinity; a number too large to hold is one.
        value = ast.literal_eval(re.sub(r"\binf\b", "1e999", text))
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    if value is None and optional:
        return None
    if isinstance(old, bool) != isinstance(value, bool):
        raise InputError(f"{path}: {text!r} should be {_kind(old)}, like {old!r}")
    if isinstance(old, tuple) and isinstance(value, int | float):
        value = (value,)
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if isinstance(old, float) and isinstance(value, int):
        value = float(value)
    if any(_too_large(x) for x in (value if isinstance(value, tuple) else (value,))):
        raise InputError(f"{path}: {text[:50]!r} is too large; whole numbers lie below 2^31")
    if isinstance(value, str) or (old is not None and not isinstance(value, type(old) | None)):
        raise InputError(f"{path}: {text!r} should be {_kind(old)}, like {old!r}")
    return value


def _kind(old: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a tuple"}
    return names.get(type(old), "a number or None")


def from_json(tree: Mapping[str, Any]) -> Recipe:
    """The recipe that `units.to_json` wrote.

    Raises:
      InputError: it names units or arguments that this version does not know.
    """

    def read(node: Any) -> Any:
        if isinstance(node, Mapping) and "unit" in node:
            name = node["unit"]
            if name not in UNITS:
                raise InputError(f"--config: no unit {name!r}{nearest(str(name), UNITS)}")
            made = unit(UNITS[name], **{k: read(v) for k, v in node.items() if k != "unit"})
            return _checked(made, made.arguments)
        return tuple(read(v) for v in node) if isinstance(node, list) else node

    def phase(node: Mapping[str, Any]) -> Phase:
        made = Phase(**{k: read(v) for k, v in node.items()})
        return _checked(made, vars(made))

    try:
        offline = None if tree["offline"] is None else phase(tree["offline"])
        made = Recipe(
            tree["about"],
            offline,
            read(tree["handover"]),
            phase(tree["online"]),
            read(tree["transform"]),
            tree.get("precision", "float32"),
        )
        own = ("about", *_OF_THE_RECIPE)
        return _checked(made, {k: getattr(made, k) for k in own})
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"--config: not a recipe of this version: {error}") from error


def _checked(owner: Any, arguments: Mapping[str, Any]) -> Any:
    """The unit, phase or recipe itself, once its arguments are of their declared types."""
    for name, value in arguments.items():
        slot = _SLOTS.get(name)
        if isinstance(value, Unit) and slot is not None:
            good = value.make in KINDS[slot]
        else:
            good = _fits(units.annotation(owner, name), value)
        if not good:
            of = owner.name if isinstance(owner, Unit) else type(owner).__name__
            raise InputError(f"--config: {name} of {of} is {str(value)[:50]!r}, which does not fit")
    return owner


def _too_large(value: Any) -> bool:
    """A device counts in int32."""
    return isinstance(value, int) and abs(value) >= 1 << 31


def _fits(declared: str, value: Any) -> bool:
    """Whether a plain value is of a declared type; rules and networks are units."""
    if value is None:
        return "None" in declared
    if _too_large(value) and not declared.startswith("float"):
        return False
    declared = declared.removesuffix(" | None")
    kind, _, element = declared.partition("[")
    if kind == "tuple":
        elements = isinstance(value, tuple) and all(_fits(element.split(",")[0], x) for x in value)
        return elements and ("..." in element or not element or len(value) == 2)
    kinds = {"int": int, "float": int | float, "bool": bool, "str": str}
    if kind not in kinds or isinstance(value, Unit):
        return isinstance(value, Unit) and kind not in kinds
    return isinstance(value, kinds[kind]) and isinstance(value, bool) == (kind == "bool")


def describe_path(recipe: Recipe, path: str) -> str:
    """What one hyper-parameter is: its value here, its meaning, and where its unit comes from."""
    known = {p: (v, owner) for p, v, owner in units.leaves(recipe)}
    if path not in known:
        raise InputError(f"--explain: no hyper-parameter {path!r}{nearest(path, known)}")
    value, owner = known[path]
    make = owner.make if isinstance(owner, Unit) else type(owner)
    lines = [f"{path} = {value}", f"  {units.describe(make, path.rpartition('.')[2])}"]
    if isinstance(value, Unit):
        lines.append(f"  {value.name}: {units.source_line(value.make)}")
    lines.append(f"  (of {make.__name__}: {units.source_line(make)})")
    return "\n".join(lines)


def changes(old: Any, new: Any) -> list[str]:
    """The hyper-parameters that differ between two units or phases, in words."""
    before, after = ({p: v for p, v, _ in units.leaves(x)} for x in (old, new))
    lines = []
    for path in dict.fromkeys([*before, *after]):
        one, two = before.get(path, "-"), after.get(path, "-")
        if isinstance(one, Unit) and isinstance(two, Unit) and one.make is two.make:
            continue
        if one != two:
            lines.append(f"{path}: {one} -> {two}")
    return lines
