"""Check that agents can work with an environment's spaces, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gymnasium import spaces

from enoto_jax.types import InputError


def check_observation(space: spaces.Space, name: str, nested: bool = True) -> None:
    """Refuse observations that are not one row of numbers, or a dictionary of such rows.

    Args:
      space: The environment's observation space.
      name: The environment's name in messages.
      nested: Whether a dictionary is allowed.

    Raises:
      InputError: The space contains images, or is of another kind.
    """
    for where, part in _leaves(space):
        if _is_image(part):
            raise InputError(
                f"--env: {name} observes images ({where}{_short(part)}); agents here take a "
                "flat vector; wrap it so that it observes its state, or features of the images"
            )
    if not (nested and isinstance(space, spaces.Dict)) and not _is_row(space):
        raise InputError(
            f"--env: {name} observes {_short(space)}; a flat Box is needed, or a Dict of them"
        )


def check_action(space: spaces.Space, name: str) -> None:
    """Refuse actions that are not a flat box of bounded floats.

    Args:
      space: The environment's action space.
      name: The environment's name in messages.

    Raises:
      InputError: The space is discrete, nested, of integers or unbounded, or an action's lower
        bound is not below its upper one.
    """
    acts = f"--env: {name} acts in {_short(space)}"
    if not isinstance(space, spaces.Box):
        raise InputError(f"{acts}; continuous actions only: a flat Box of floats is needed")
    if space.dtype.kind != "f":
        raise InputError(
            f"{acts}, of whole numbers; continuous actions only: a flat Box of floats is needed"
        )
    if len(space.shape) != 1 or not space.shape[0]:
        raise InputError(f"{acts}; a flat Box is needed")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise InputError(f"--env: {name} has unbounded actions; wrap it with bounds first")
    if not (space.low < space.high).all():
        i = int(np.argmin(space.low < space.high))
        raise InputError(
            f"--env: {name}: action {i} has the bounds {space.low[i]:g} and {space.high[i]:g}, so "
            "there is nothing to choose; wrap it with wider bounds, or without that action"
        )


def parts(space: spaces.Space) -> str:
    """Describe a dictionary's parts in the order in which Gymnasium flattens them; else ""."""
    if not isinstance(space, spaces.Dict):
        return ""
    named = ((where.removesuffix(": ").replace(": ", "."), part) for where, part in _leaves(space))
    return "observes " + ", ".join(f"{name} [{spaces.flatdim(part)}]" for name, part in named)


def _leaves(space: spaces.Space, where: str = "") -> Iterator[tuple[str, spaces.Space]]:
    """The innermost parts of a space, each with its place as text."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, f"{where}{key}: ")
    elif isinstance(space, spaces.Tuple):
        for i, part in enumerate(space.spaces):
            yield from _leaves(part, f"{where}{i}: ")
    else:
        yield where, space


def _is_image(space: spaces.Space) -> bool:
    if not isinstance(space, spaces.Box):
        return False
    return len(space.shape) >= 3 or (len(space.shape) == 2 and space.dtype == np.uint8)


def _is_row(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1


def _short(space: spaces.Space) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 120 else text[:117] + "..."
