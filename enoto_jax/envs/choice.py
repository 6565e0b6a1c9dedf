"""Choose an environment by id, arguments, or a class or function, in a form that a run can keep.

`EnvChoice.text` is written to config.json and read back by `env_choice`:

=============================== ====================================================
text                            environment
=============================== ====================================================
`Hopper-v5`                     registered with Gymnasium
`my_robot:Arm-v0`               the same, once the module `my_robot` is imported
`my_robot:make_arm`             made by a class or a function of a module
`Hopper-v5?{"frame_skip": 2}`   any of these, with arguments as JSON
`{"id": ...}`                   Gymnasium's `EnvSpec.to_json()`
`my_robot:<lambda> (...)`       a function without a name: cannot be made again
=============================== ====================================================
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from enoto_jax.types import InputError

LOST = " (not rebuildable)"


@dataclass(frozen=True)
class EnvChoice:
    """How an environment is made, as text if possible.

    Attributes:
      name: Gymnasium id, or `module:name` of a class or function; also used in messages.
      kwargs: Arguments that the environment is made with.
      maker: The class, function or EnvSpec itself; None if the name is enough.
    """

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    maker: Callable[..., gymnasium.Env] | EnvSpec | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.name

    @functools.cached_property
    def text(self) -> str:
        """The text that `env_choice` reads back, in any program, if `rebuildable`."""
        if self.name.endswith(LOST):
            return self.name
        text = _registered(self.maker) if isinstance(self.maker, EnvSpec) else self._named()
        if text is None:
            return self.name + LOST
        if not self.kwargs:
            return text
        try:
            return f"{text}?{json.dumps(dict(self.kwargs))}"
        except (TypeError, ValueError):
            return self.name + LOST

    @property
    def rebuildable(self) -> bool:
        """Whether `text` is enough to make the environment elsewhere."""
        return not self.text.endswith(LOST)

    def resolve(self) -> str | EnvSpec | Callable[..., gymnasium.Env]:
        """Return what makes it: an id or EnvSpec for `gymnasium.make`, or a class or function.

        Raises:
          InputError: Its module cannot be imported, or the choice could not be kept as text.
        """
        if self.maker is not None:
            return self.maker
        if self.name.endswith(LOST):
            raise InputError(
                f"--env: {self.name.removesuffix(LOST)} was given as a function that cannot be "
                "imported by name, so it cannot be made again here; give --env, or train with a "
                "function of a module"
            )
        module, colon, attribute = self.name.partition(":")
        if not colon:
            return self.name
        search_here()
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise InputError(
                f"--env: cannot make {self.name!r}: {error}; is its folder on PYTHONPATH?"
            ) from error
        except Exception as error:  # the module is somebody else's code
            raise InputError(f"--env: cannot make {self.name!r}: {one_line(error)}") from error
        found = None if attribute in gymnasium.registry else _found(self.name)
        return self.name if found is None else found

    def _named(self) -> str | None:
        if self.maker is None:
            return self.name
        elsewhere = self.name.startswith("__main__:") or _found(self.name) is not self.maker
        return None if elsewhere else self.name


def env_choice(env: str | EnvSpec | Callable[..., gymnasium.Env] | EnvChoice) -> EnvChoice:
    """Turn what a user gave for an environment into an EnvChoice.

    Args:
      env: An id or another text (see above), a Gymnasium EnvSpec, a class, or a function that
        makes a new environment in every call.

    Raises:
      InputError: It is none of these, for example an environment that is made already.
    """
    if isinstance(env, EnvChoice):
        return env
    if isinstance(env, str):
        return _read(env)
    if isinstance(env, EnvSpec):
        return EnvChoice(env.id, maker=env)
    if isinstance(env, functools.partial):
        inner = env.func
        if inner is gymnasium.make and len(env.args) == 1 and isinstance(env.args[0], str):
            return EnvChoice(env.args[0], env.keywords)
        if not env.args:
            return EnvChoice(_path(inner), env.keywords, inner)
        return EnvChoice(_path(inner), maker=env)
    if isinstance(env, gymnasium.Env) or not callable(env):
        raise InputError(
            f"env: {type(env).__name__} is not an environment's id, class or function; a run makes "
            "several environments: give a function that makes one, such as lambda: make_mine()"
        )
    return EnvChoice(_path(env), maker=env)


def search_here() -> None:
    """Let modules in the current folder be imported; a console script does not look there."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


def one_line(error: BaseException) -> str:
    """Return type and text of an exception from somebody else's code, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".removesuffix(": ")


def _read(text: str) -> EnvChoice:
    if text.startswith("{"):
        try:
            return env_choice(EnvSpec.from_json(text))
        except (ValueError, KeyError, TypeError, AttributeError, gymnasium.error.Error) as error:
            raise InputError(f"--env: not an EnvSpec in JSON: {one_line(error)}") from error
    name, mark, arguments = text.partition("?")
    if not mark:
        return EnvChoice(name)
    try:
        kwargs = json.loads(arguments)
    except ValueError as error:
        raise InputError(f"--env: {name}: its arguments are not JSON: {error}") from error
    if not isinstance(kwargs, dict):
        raise InputError(f"--env: {name}: its arguments are {arguments}; expected a JSON object")
    return EnvChoice(name, kwargs)


def _registered(spec: EnvSpec) -> str | None:
    """An EnvSpec as text: its id if that is enough, else JSON; None if neither works."""
    try:
        return spec.id if gymnasium.registry.get(spec.id) == spec else spec.to_json()
    except (TypeError, ValueError):  # callables or arrays in it
        return None


def _path(maker: Callable) -> str:
    named = maker if hasattr(maker, "__qualname__") else type(maker)
    return f"{named.__module__}:{named.__qualname__}"


def _found(path: str) -> Any:
    """The callable at `module:name` if the module is already imported, else None."""
    module, _, attribute = path.partition(":")
    found = sys.modules.get(module)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return found if callable(found) else None
