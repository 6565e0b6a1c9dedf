"""Minari's episodes stored as Arrow or Parquet files: `<episode>/part-0.arrow`.

A file has one row more than the episode has steps; in the last row everything but the observation
is padding. The vectors of a dictionary of observations are nested columns of `observations`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.data.formats import columns
from enoto_jax.data.formats.episodes import Layout
from enoto_jax.types import plural

KINDS = ("arrow", "parquet")
_EPISODE = re.compile(r"0|[1-9]\d{0,9}", re.ASCII)
_ROWS = ("rewards", "terminations", "truncations")


@dataclass(frozen=True)
class Episodes:
    """The files of a data set, indexed like an HDF5 file with one group per episode."""

    folder: Path
    kind: str

    def names(self) -> list[str]:
        """Return the names of the episodes' folders, in numeric order."""
        found = (place.name for place in self.folder.iterdir() if place.is_dir())
        return sorted(filter(_EPISODE.fullmatch, found), key=int)

    def file(self, name: str) -> Path:
        """Return the path of an episode's file."""
        return self.folder / name / f"part-0.{self.kind}"

    def __getitem__(self, name: str) -> np.ndarray:
        """Read the rows of `<episode>/<leaf>` without the padding."""
        episode, *keys = name.split("/")
        values = columns.read(self.file(episode), keys)
        return values if keys[0] == "observations" else values[:-1]


def leaves_of(schema: Any) -> dict[str, tuple[np.dtype | None, int | None]]:
    """Return the type and width of all nested columns by path, as `columns.type_of` has them."""
    return dict(_below(schema, ""))


def _below(fields: Any, prefix: str) -> Iterator[tuple[str, tuple[np.dtype | None, int | None]]]:
    for field in fields:
        if columns.needed("").types.is_struct(field.type):
            inner = (field.type.field(i) for i in range(field.type.num_fields))
            yield from _below(inner, f"{prefix}{field.name}/")
        else:
            yield prefix + field.name, columns.type_of(field.type)


def in_order(leaves: Iterable[str], space: Mapping[str, Any]) -> list[str]:
    """Sort the paths of observations as Gymnasium flattens their space.

    Gymnasium sorts the keys of a plain dictionary only, and the metadata have the order that it
    chose. Without an observation space in the metadata, keys are sorted level by level.
    """
    places = {leaf: place for place, (leaf, _) in enumerate(_shapes(space, "observations"))}
    return sorted(leaves, key=lambda leaf: (places.get(leaf, len(places)), leaf.split("/")))


class Survey(NamedTuple):
    """The episodes found, what is wrong with them, by leaf, and what is not read."""

    layout: Layout
    problems: Mapping[str, str]
    unread: Sequence[str] = ()
    images: Sequence[str] = ()  # observations that are not vectors


def survey(
    files: Episodes, total: Any, space: Mapping[str, Any], keys: Sequence[str] | None
) -> Survey:
    """Check names and types of every episode without reading numbers.

    Args:
      files: The data set's episodes.
      total: The number of episodes in the metadata, None if they do not give it.
      space: The observation space, as in the metadata.
      keys: The observed keys of a dictionary, None for all.
    """
    names, none = files.names(), Layout([], {}, [])
    if not names or total not in (None, len(names)):
        text = (
            f"contains {plural(len(names), 'episode')}, but its metadata "
            f"declares {total!r:.20}; copy it again"
        )
        return Survey(none, {"episodes": text if names else "has no folder 0"})
    for name in names:
        if not files.file(name).is_file():
            text = f"no {name}/{files.file(name).name}; copy or download it again"
            return Survey(none, {name: text})
    first = leaves_of(columns.schema(files.file(names[0])))
    shapes = dict(_shapes(space, "observations"))
    parts = in_order((leaf for leaf in first if leaf.split("/")[0] == "observations"), space)
    images = [k for k in parts if first[k][0] is None or len(shapes.get(k, (1,))) > 1]
    observed = [f"observations/{key}" for key in keys or ()] if "observations" not in parts else []
    observed = observed or [leaf for leaf in parts if leaf not in images]
    if not observed:
        text = "no vectors among the observations" + f", only {', '.join(images)}" * bool(images)
        return Survey(none, {"observations": text})
    used = (*observed, "actions", *_ROWS)
    layout = Layout([], {leaf: first.get(leaf, (None, 0))[1] or 0 for leaf in used}, observed)
    for name in names:
        path = files.file(name)
        if problem := _wrong(leaves_of(columns.schema(path)), layout, f"episode {name}"):
            return Survey(layout, {name: problem})
        steps = columns.count(path) - 1
        if steps < 0:
            return Survey(layout, {name: f"episode {name} has no rows; copy it again"})
        if steps:
            layout.episodes.append((name, steps))
    if not layout.episodes:
        text = "has no rows; a data set needs at least one transition"
        return Survey(layout, {"rewards": text})
    other = (leaf for leaf in first if leaf not in used and leaf not in images)
    unread = [leaf if "observations/" in leaf else leaf.split("/")[0] for leaf in other]
    return Survey(layout, {}, unread, images)


def _wrong(
    found: Mapping[str, tuple[np.dtype | None, int | None]], layout: Layout, episode: str
) -> str:
    """What is wrong with the types of an episode's columns, else ""."""
    for leaf, width in layout.leaves.items():
        kind, own = found.get(leaf, (None, 0))
        if kind is None or own != width or (width == 0) != (leaf in _ROWS):
            wanted = "a number" if leaf in _ROWS else "a vector of one size"
            return f"{leaf} of {episode} is {_said(found.get(leaf))}; expected {wanted} per row"
    return ""


def _said(found: tuple[np.dtype | None, int | None] | None) -> str:
    if found is None:
        return "missing"
    kind, width = found
    if kind is None or width is None:
        return "of another type"
    return f"{width} x {kind}" if width else str(kind)


def _shapes(space: Any, prefix: str) -> Iterator[tuple[str, Sequence[int]]]:
    """Path and shape of every box in a space."""
    if not isinstance(space, Mapping):
        return
    if isinstance(inner := space.get("subspaces"), Mapping):
        for key, part in inner.items():
            yield from _shapes(part, f"{prefix}/{key}")
    elif isinstance(shape := space.get("shape"), list):
        yield prefix, shape
