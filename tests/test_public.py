"""The public names all exist, none hides a module, and every docstring is complete."""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest

import enoto_jax
from enoto_jax.recipes import units
from enoto_jax.types import Unit

CALLABLES = {name: getattr(enoto_jax, name) for name in enoto_jax.__all__}
CALLABLES = {name: found for name, found in CALLABLES.items() if callable(found)}
# From the standard library, or exceptions whose name says everything.
PLAIN = (Exception,)


def own(member) -> bool:
    return getattr(member, "__module__", "").startswith("enoto_jax")


def documented():
    """Yield (name, function or method) of every public callable."""
    for name, found in CALLABLES.items():
        if not isinstance(found, type):
            yield name, found
            continue
        for key, member in vars(found).items():
            member = getattr(member, "__func__", member)
            public = inspect.isfunction(member) and own(member) and not key.startswith("_")
            if public and not _inherits(found, key):
                yield f"{name}.{key}", member


def _inherits(cls: type, key: str) -> bool:
    """Return whether a base class has the method; the documentation is then there."""
    return any(key in vars(base) for base in cls.__mro__[1:] if own(base))


def arguments(function) -> list[str]:
    found = list(inspect.signature(function).parameters)
    return [name for name in found if name not in ("self", "cls") and not name.startswith("_")]


DOCUMENTED = dict(documented())


def test_every_name_is_there():
    assert len(enoto_jax.__all__) == len(set(enoto_jax.__all__))
    for name in enoto_jax.__all__:
        assert getattr(enoto_jax, name) is not None
    assert set(enoto_jax.__all__) <= set(dir(enoto_jax))
    with pytest.raises(AttributeError):
        enoto_jax.no_such_name  # noqa: B018
    for name in ("train", "load_run", "load_policy", "register", "register_method", "targets"):
        assert name in enoto_jax.__all__
    for name in ("sac", "cql", "sunrise", "carry", "keys", "ring", "init", "update", "load_data"):
        assert name in enoto_jax.__all__


def test_no_name_hides_a_module():
    for module in pkgutil.iter_modules(enoto_jax.__path__):
        if module.name in enoto_jax.__all__:
            found = importlib.import_module(f"enoto_jax.{module.name}")
            assert getattr(enoto_jax, module.name) is found, module.name


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_name_says_what_it_is(name):
    found = CALLABLES[name]
    text = inspect.getdoc(found) or ""
    assert text and not text.startswith(f"{name}("), name
    first = text.partition("\n\n")[0]
    assert first.rstrip().endswith((".", ":")), first
    if isinstance(found, type) and issubclass(found, Unit) and dataclasses.is_dataclass(found):
        for option, about in units.options(found).items():
            assert about.about, f"{name}.{option}"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_argument_and_result_is_described(name):
    function = DOCUMENTED[name]
    text, takes = inspect.getdoc(function) or "", arguments(function)
    assert text, name
    short = len(takes) < 2
    for argument in takes:
        starts = (f"{argument}:", f"**{argument}:", f"*{argument}:")
        said = any(line.strip().startswith(starts) for line in text.splitlines())
        assert said or (short and "Args" not in text), f"{name}: {argument}"
    if "raise " in inspect.getsource(function):
        assert "Raises" in text or "raise" in text, name
