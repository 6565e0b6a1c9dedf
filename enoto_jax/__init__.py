"""Offline-to-online reinforcement learning with Q-ensembles, in JAX and Flax."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> its module, imported when the name is first used: `import enoto_jax` alone loads
# neither JAX nor a simulator.
_HOMES = {
    "Agent": "deploy.agent",
    "InputError": "types",
    "Phase": "recipes.recipe",
    "RECIPES": "recipes.table",
    "Recipe": "recipes.recipe",
    "Source": "data.source",
    "Spec": "types",
    "Stopped": "types",
    "Transition": "types",
    "Unit": "recipes.units",
    "build": "recipes.recipe",
    "concatenate": "data.source",
    "from_arrays": "data.source",
    "from_env": "data.source",
    "load_source": "data.source",
    "override": "recipes.registry",
    "recipe": "recipes.table",
    "train": "training.run",
    "unit": "recipes.units",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
