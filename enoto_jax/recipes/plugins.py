"""Modules of the user's own that register units and methods, and how runs remember them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from enoto_jax.envs.choice import search_here
from enoto_jax.recipes import registry, units
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.types import InputError, Unit


def load(modules: Iterable[str], flag: str = "--plugin") -> None:
    """Import modules that register units or methods; imported ones are not imported again.

    They are found on PYTHONPATH and in the current folder.

    Args:
      modules: The modules' names, such as `my_module` or `my_package.units`.
      flag: Who asked for the modules, for messages.

    Raises:
      InputError: A module cannot be imported.
    """
    for name in modules:
        if not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"{flag}: {name!r} is not a module; give its name, such as my_module")
        search_here()
        try:
            importlib.import_module(name)
        except InputError:
            raise
        except ModuleNotFoundError as error:
            raise InputError(
                f"{flag}: cannot import {name}: {error}; is its folder on PYTHONPATH?"
            ) from error
        except Exception as error:  # the module is someone else's code
            kind = type(error).__name__
            raise InputError(f"{flag}: cannot import {name}: {kind}: {error}") from error


def modules_of(recipe: Recipe) -> list[str]:
    """Return the modules of a recipe's units, without this package's and the main script."""
    found = [type(unit).__module__ for _, unit, _ in units.leaves(recipe) if isinstance(unit, Unit)]
    return [x for x in dict.fromkeys(found) if x != "__main__" and not x.startswith("enoto_jax.")]


def check(recipe: Recipe) -> None:
    """Refuse a recipe whose run could not be opened again.

    Raises:
      InputError: A unit is not registered.
    """
    for path, value, _ in units.leaves(recipe):
        if isinstance(value, Unit) and registry.UNITS.get(value.name) is not type(value):
            raise InputError(
                f"{path}: the unit {value.name} is not registered, so the run could not be opened "
                f"again; call enoto_jax.register({value.name}) first"
            )


def recipe_of(config: Mapping[str, Any], where: str = "--config") -> Recipe:
    """Return the recipe of a run's config.json, after importing the modules of its units.

    Raises:
      InputError: A module cannot be imported, or a unit is unknown.
    """
    load(config.get("plugins", ()), where)
    return registry.from_json(config["recipe"])
