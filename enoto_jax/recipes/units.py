"""Units as data: paths to their options, descriptions, and plain data for config.json."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from enoto_jax.types import InputError, Unit


class Option(NamedTuple):
    """An option of a unit, a phase or a recipe.

    Attributes:
      type: The declared type, such as `int` or `tuple[int, ...]`, without None.
      optional: Whether None is allowed.
      about: A description.
      default: The default, or dataclasses.MISSING.
    """

    type: Any
    optional: bool
    about: str
    default: Any

    def __str__(self) -> str:
        declared = self.type if typing.get_origin(self.type) else self.type.__name__
        return f"{declared} | None" if self.optional else str(declared)


def options(make: type) -> dict[str, Option]:
    """Return the options of a unit's class, of Phase or of Recipe, by name."""
    return _options(make)


@functools.cache  # apart from `options`: mypy does not accept a class as its argument
def _options(make: type) -> dict[str, Option]:
    hints = typing.get_type_hints(make, include_extras=True)
    return {field.name: _option(hints[field.name], field) for field in dataclasses.fields(make)}


def _option(hint: Any, field: dataclasses.Field) -> Option:
    about = ""
    if typing.get_origin(hint) is typing.Annotated:
        hint, about = typing.get_args(hint)
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    declared, *others = (part for part in parts if part is not type(None))
    if others:
        raise InputError(f"option {field.name}: {hint}; give it one type, or one type and None")
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return Option(declared, len(parts) > 1, about, default)


def summary(make: type) -> str:
    """Return the first line of the docstring: what the unit is and where it comes from."""
    return (inspect.getdoc(make) or "").partition("\n")[0]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return '; nearest: ...' for an error message, or all names if none is near and few exist."""
    names = sorted(set(known) - {""})
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5 if len(names) < 40 else 0.0)
    return f"; nearest: {', '.join(close)}" if close else f"; known: {', '.join(names)}"


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield every (path, value, owner) below a recipe, phase or unit; the owner holds the value."""
    for name, value in children(node).items():
        here = f"{path}.{name}" if path else name
        yield here, value, node
        yield from leaves(value, here)


def replace_at(node: Any, path: str, value: Any) -> Any:
    """Return a copy of `node` with the value at a dotted path replaced.

    Raises:
      InputError: There is nothing at that path; the message lists the nearest paths.
    """
    head, _, rest = path.partition(".")
    below = children(node)
    if head not in below:
        raise InputError(f"no hyper-parameter {path!r}{nearest(head, below)}")
    new = replace_at(below[head], rest, value) if rest else value
    return dataclasses.replace(node, **{head: new})


def fits(option: Option, value: Any) -> bool:
    """Return whether a value has the option's declared type."""
    if value is None:
        return option.optional
    return _is_of(option.type, value)


def _is_of(declared: Any, value: Any) -> bool:
    if typing.get_origin(declared) is tuple:
        of = typing.get_args(declared)
        if not isinstance(value, tuple):
            return False
        of = of[:1] * len(value) if of[-1:] == (...,) else of
        return len(of) == len(value) and all(map(_is_of, of, value))
    if declared is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if declared is int:
        return type(value) is int and not too_large(value)
    return isinstance(value, declared)


def too_large(value: Any) -> bool:
    """Return whether it is a whole number too large for a device, which counts in int32."""
    return isinstance(value, int) and abs(value) >= 1 << 31


def check_types(recipe: Any) -> None:
    """Check that every option of a recipe has its declared type.

    Raises:
      InputError: An option does not; the message names the first one.
    """
    for path, value, owner in leaves(recipe):
        option = options(type(owner))[path.rpartition(".")[2]]
        if not fits(option, value):
            plain = type(value) in (type(None), bool, int, float, str, tuple, list, type)
            shown = repr(value) if plain else f"a value of type {type(value).__name__}"
            raise InputError(f"{path}: {shown} should be {option}")


def to_json(value: Any) -> Any:
    """Return plain data for config.json: units become {"unit": name, option: value, ...}."""
    if isinstance(value, Unit):
        return {"unit": value.name, **{k: to_json(v) for k, v in children(value).items()}}
    if dataclasses.is_dataclass(value):
        return {k: to_json(v) for k, v in children(value).items()}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    return value


def children(node: Any) -> dict[str, Any]:
    """Return the options of a unit, phase or recipe; plain values have none."""
    if not dataclasses.is_dataclass(node):
        return {}
    return {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}
