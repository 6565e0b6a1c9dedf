"""The run that a restored run starts from: where it is, and which folder holds its state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enoto_jax.runs import files
from enoto_jax.types import InputError


def start_of(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """Return the folder of the run that this one started from, as recorded or moved with it.

    The recorded path is often relative to a directory that is not the current one, where another
    run may have that name. So the first of both places that fits is taken.

    Raises:
      InputError: `restore` in config.json is not a path.
    """
    if not config.get("restore"):
        return None
    given = Path(config["restore"])
    moved = folder.parent / given.name
    try:
        for place in (moved, given):
            if place.resolve() != folder.resolve() and _fits(place, config):
                return place.resolve()
        return given.resolve()
    except ValueError as error:
        raise InputError(f"{folder / 'config.json'}: restore: {error}") from None


def _fits(start: Path, config: Mapping[str, Any]) -> bool:
    """Whether a folder's run has this run's offline phase, as far as both recorded it."""
    try:
        one, other = _learned(config), _learned(files.read_config(start / "config.json"))
    except (InputError, AttributeError):  # missing or damaged
        return False
    seeds, trained = one.pop("seeds", []), other.pop("seeds", None)
    same = all(one[key] == other[key] for key in one.keys() & other.keys())
    return same and (trained is None or set(seeds) <= set(trained))


def _learned(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an offline phase depends on, by its path in the config."""
    recipe = config.get("recipe") or {}
    parts = {key: recipe.get(key) for key in ("offline", "transform")}
    parts |= {key: config.get(key) for key in ("data_hash", "seeds")}
    own = ("offline.steps", "offline.eval_every")  # mean nothing in a run that restored another
    found = files.flat(parts).items()
    return {key: value for key, value in found if value is not None and key not in own}


def data_hash_of(start: Path) -> str | None:
    """Return the data hash that a run recorded. Older runs recorded none if they restored."""
    path = start / "config.json"
    return files.read_config(path).get("data_hash") if path.is_file() else None


def handed_over(folder: Path, restored: Path) -> Path:
    """Return which folder holds the offline state that a restored run starts from.

    It is the run's own, once it has begun; before, and in runs of older versions, the other run's.
    """
    own = folder / "checkpoints" / "handover" / "0"
    return folder if own.exists() else restored
