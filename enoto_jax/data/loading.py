"""Load data sets by id, file or folder, singly or joined; or describe an environment alone."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import Any

from enoto_jax.data import files
from enoto_jax.data.places import Place, locate, split
from enoto_jax.data.source import Dataset, Source, concatenate, scaled
from enoto_jax.data.tasks import described, env_id_of
from enoto_jax.types import Spec


def load_source(
    task: str | os.PathLike | None = None,
    *,
    download: bool = True,
    action_low: Any = None,
    action_high: Any = None,
) -> Source:
    """Find a data set; its numbers are read later, by the source's `load`.

    Args:
      task: A D4RL id (`hopper-medium-v2`); `minari:` and a Minari id; `ogbench:` and the id of
        an OGBench single task (a folder may precede it); the path of an `.hdf5`, `.h5` or
        `.npz` file in D4RL's layout, or of a robomimic HDF5 file; a LeRobot folder (after
        `demonstrations:` if it has no rewards and every episode is a success); several of
        these joined by `+`; or None for the bundled data set.
      download: Whether a missing D4RL or Minari data set may be downloaded.
      action_low: Lowest action that the data were recorded with, see `scaled`.
      action_high: Highest action, likewise.

    Raises:
      InputError: The id is unknown, or the file is missing or unusable.
    """
    sources = [from_place(locate(part, download=download)) for part in split(task)]
    source = sources[0] if len(sources) == 1 else concatenate(sources)
    return scaled(source, action_low, action_high)


def load_data(
    task: str | os.PathLike | None = None, *, action_low: Any = None, action_high: Any = None
) -> Dataset:
    """Read a data set: `load_source(task).load()`.

    Args:
      task: As in `load_source`; the bundled data set by default.
      action_low: Lowest action that the data were recorded with, see `scaled`.
      action_high: Highest action, likewise.

    Returns:
      Transitions [M, ...] as NumPy arrays, with episode ends, lengths and returns [E].

    Raises:
      InputError: The id is unknown, or the file or its numbers cannot be used.
    """
    return load_source(task, action_low=action_low, action_high=action_high).load()


def from_place(place: Place) -> Source:
    """Return the source at a place; raises as `load_source` does."""
    opened, path, name, in_family = place
    header = files.peek(opened, path)
    env_id = env_id_of(header.attributes)
    family_name = (env_id or name) if in_family else ""
    read = partial(files.read, opened, path)
    source = described(
        name, header.spec, header.attributes, env_id, family_name, path=path, read=read
    )
    if "action_range" in header.attributes:
        return replace(scaled(source, *header.attributes["action_range"]), of_range=True)
    return scaled(source, *(header.attributes.get(f"action_{end}") for end in ("low", "high")))


def from_env(env_id: str, spec: Spec) -> Source:
    """Return a task without data, for training online only.

    Args:
      env_id: Gymnasium id; it also names the task in results and selects D4RL's reference returns.
      spec: The environment's sizes.
    """
    return described(env_id, spec, {}, env_id, env_id)
