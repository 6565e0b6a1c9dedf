"""Where data come from: a D4RL, Minari or OGBench id, a file or a folder, the small data set in the
package, or several of them in a row; or an environment alone."""

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
    """Finds a data set; its numbers are read by the source's `load`.

    Args:
        task: a D4RL id (`hopper-medium-v2`), `minari:` and the id of a Minari data set, `ogbench:`
            and the id of one of OGBench's single tasks (a folder may stand before it), the path of
            an `.hdf5`, `.h5` or `.npz` file in D4RL's layout, of an HDF5 file of robomimic's, of a
            LeRobot folder (after `demonstrations:` where it has no rewards and every episode is a
            success), several of these joined by `+`, or None for the data set that ships with the
            package.
        download: whether a data set that is named by its id and is not there may be fetched.
        action_low: lowest action that the data were recorded with, see `scaled`.
        action_high: highest one.

    Raises:
        InputError: if the id is unknown, or the file is missing or unusable.
    """
    sources = [from_place(locate(part, download=download)) for part in split(task)]
    source = sources[0] if len(sources) == 1 else concatenate(sources)
    return scaled(source, action_low, action_high)


def load_data(
    task: str | os.PathLike | None = None, *, action_low: Any = None, action_high: Any = None
) -> Dataset:
    """Reads a data set's numbers: `load_source(task).load()`.

    Args:
        task: as in `load_source`; the data set that ships with the package by default.
        action_low: lowest action that the data were recorded with, see `scaled`.
        action_high: highest one.

    Returns:
        Transitions [M, ...] as NumPy arrays, with episode ends, lengths and returns [E].

    Raises:
        InputError: the id is unknown, or the file or its numbers cannot be used.
    """
    return load_source(task, action_low=action_low, action_high=action_high).load()


def from_place(place: Place) -> Source:
    """The source that lies there; raises as `load_source` does."""
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
    """A task without data, for rows that train online only.

    Args:
        env_id: Gymnasium id; its name in results, and the key to D4RL's reference returns.
        spec: its sizes.
    """
    return described(env_id, spec, {}, env_id, env_id)
