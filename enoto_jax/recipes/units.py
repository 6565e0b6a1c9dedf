"""A unit with its arguments written down: what the table of recipes is made of.

`unit(sunrise, ucb=5.0)` is `sunrise(ucb=5.0)` not called yet: it can be printed, compared, changed
by a path such as `online.algorithm.exploration.ucb`, explained, and only then built.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from enoto_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Unit:
    """A constructor and the arguments it will get; other units among them are built first."""

    make: Callable
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.make.__name__

    def build(self, *context: Any) -> Any:
        """Call the constructor; `context` (the Spec, for an algorithm) comes first."""
        built = {k: _build(v) for k, v in self.arguments.items()}
        return self.make(*context, **built)

    def resolved(self) -> dict[str, Any]:
        """Every argument by name, defaults included; nested units stay units."""
        defaults = {k: p.default for k, p in parameters(self.make).items()}
        return {**defaults, **self.arguments}

    def replace(self, **arguments: Any) -> Unit:
        return Unit(self.make, {**self.arguments, **arguments})

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={_text(v)}' for k, v in self.arguments.items())})"


def unit(make: Callable, **arguments: Any) -> Unit:
    """`make(**arguments)`, later; a name that `make` does not take is refused now."""
    known = parameters(make)
    for name in arguments:
        if name not in known:
            raise InputError(f"{make.__name__} has no argument {name!r}{nearest(name, known)}")
    return Unit(make, arguments)


def parameters(make: Callable) -> dict[str, inspect.Parameter]:
    """Keyword arguments of a constructor; `**options` stand for those of `make.extends`."""
    own = inspect.signature(make).parameters
    found = {k: p for k, p in own.items() if p.kind is p.KEYWORD_ONLY}
    if any(p.kind is p.VAR_KEYWORD for p in own.values()):
        found = {**parameters(make.extends), **found}
    return found


def describe(make: Callable, name: str) -> str:
    """The line of the docstring's Args section about one argument."""
    text = inspect.getdoc(make) or ""
    match = re.search(rf"^  {name}: (.*(?:\n    .*)*)", text, re.MULTILINE)
    if match:
        return " ".join(match.group(1).split())
    return describe(make.extends, name) if hasattr(make, "extends") else ""


def annotation(owner: Any, name: str) -> str:
    """The declared type of one of the arguments of a unit, or fields of a phase, as text."""
    if isinstance(owner, Unit):
        return str(parameters(owner.make)[name].annotation)
    return next(str(f.type) for f in dataclasses.fields(owner) if f.name == name)


def source_line(make: Callable) -> str:
    """The first line of the docstring: what the unit is and where it comes from."""
    return (inspect.getdoc(make) or "").partition("\n")[0]


def nearest(name: str, known: Any) -> str:
    """'; nearest: ...' for an error message, or all there are where none is near and few are."""
    names = sorted(set(known) - {""})
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5 if len(names) < 40 else 0.0)
    return f"; nearest: {', '.join(close)}" if close else f"; known: {', '.join(names)}"


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every (path, value, owner) below a recipe, phase or unit; owner is what holds the value."""
    for name, value in _children(node).items():
        here = f"{path}.{name}" if path else name
        yield here, value, node
        yield from leaves(value, here)


def replace_at(node: Any, path: str, value: Any) -> Any:
    """A copy of `node` with the value at a dotted path replaced.

    Raises:
      InputError: there is nothing at that path; the message lists the nearest paths.
    """
    head, _, rest = path.partition(".")
    children = _children(node)
    if head not in children:
        raise InputError(f"no hyper-parameter {path!r}{nearest(head, children)}")
    new = replace_at(children[head], rest, value) if rest else value
    return node.replace(**{head: new}) if isinstance(node, Unit) else _replace(node, head, new)


def to_json(value: Any) -> Any:
    """Plain data for config.json: units become {"unit": name, argument: value, ...}."""
    if isinstance(value, Unit):
        return {"unit": value.name, **{k: to_json(v) for k, v in value.resolved().items()}}
    if dataclasses.is_dataclass(value):
        return {k: to_json(v) for k, v in _children(value).items()}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    return value


def _children(node: Any) -> dict[str, Any]:
    if isinstance(node, Unit):
        return node.resolved()
    if dataclasses.is_dataclass(node):
        return {f.name: getattr(node, f.name) for f in dataclasses.fields(node)}
    return {}


def _replace(node: Any, name: str, value: Any) -> Any:
    return dataclasses.replace(node, **{name: value})


def _build(value: Any) -> Any:
    if isinstance(value, Unit):
        return value.build()
    if isinstance(value, tuple):
        return tuple(_build(v) for v in value)
    return value


def _text(value: Any) -> str:
    return str(value) if isinstance(value, Unit) else repr(value)
