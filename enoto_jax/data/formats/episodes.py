"""HDF5 files with one group per episode: check their shapes and read their rows in order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from enoto_jax.data import files


class Layout(NamedTuple):
    """What all episodes have in common, and how long each is."""

    episodes: list[tuple[str, int]]  # group, steps
    leaves: Mapping[str, int]  # data set below each group -> width; 0: one number per step
    observed: Sequence[str]  # leaves that make up the observation, in order


def survey(
    file: h5py.File,
    names: Sequence[str],
    leaves: Mapping[str, int],
    path: Path,
    longer: Collection[str] = (),
) -> tuple[list[tuple[str, int]], dict[str, str]]:
    """Check the shape of every array of every episode without reading numbers.

    Args:
      file: The open file, with a group for each of the names.
      names: The episodes' groups, in order.
      leaves: Data set below each group -> width; must include `rewards`.
      path: The file's path.
      longer: Leaves with one row more than there are steps.

    Returns:
      The episodes that have steps, as in `Layout`, and what is wrong, by leaf.
    """
    found: list[tuple[str, int]] = []
    problems: dict[str, str] = {}
    for name in names:
        rewards = files.find(file, f"{name}/rewards")
        if not isinstance(rewards, h5py.Dataset) or not rewards.shape:
            return found, problems | {"rewards": f"{name} has no rewards [steps]"}
        steps = rewards.shape[0]
        for leaf, width in leaves.items():
            if leaf not in problems:
                rows, item = steps + (leaf in longer), files.find(file, f"{name}/{leaf}")
                problem = _wrong(item, f"{leaf} of {name}", rows, width, path)
                problems |= {leaf: problem} if problem else {}
        if steps:
            found.append((name, steps))
    if not found and not problems:
        problems["rewards"] = "has no rows; a data set needs at least one transition"
    return found, problems


def below(group: h5py.Group, prefix: str = "") -> Iterator[str]:
    """Yield the paths of all arrays below a group.

    Raises:
      InputError: The group contains a link or a name that is not printable text.
    """
    files.check_names(group, group.file.filename)
    for key in group:
        item = files.find(group, key)
        if isinstance(item, h5py.Group):
            yield from below(item, f"{prefix}{key}/")
        else:
            yield prefix + key


def width_of(item: Any) -> int:
    """Return the width of an array of vectors, or -1 if it is not one (`survey` reports that)."""
    return item.shape[1] if isinstance(item, h5py.Dataset) and len(item.shape or ()) == 2 else -1


def _wrong(item: Any, name: str, rows: int, width: int, path: Path) -> str | None:
    if not isinstance(item, h5py.Dataset):
        leaf, _, episode = name.partition(" of ")
        return f"{episode} has no {leaf}; expected a flat vector for every step"
    if item.dtype.kind not in "biuf":
        return f"{name} has type {item.dtype}; expected real numbers"
    shape = tuple(item.shape or ())
    if not width:
        good, wanted = shape in ((rows,), (rows, 1)), f"[{rows}]"
    else:
        good = width > 0 and shape == (rows, width)
        wanted = f"[{rows}, {width if width > 0 else 'size'}]"
    if not good:
        return f"{name} has shape {list(shape)}; expected {wanted}"
    return files.unwritten(item, name, path) if rows else None


@dataclass(frozen=True)
class Rows:
    """One array of the flat layout, assembled from all episodes when it is indexed."""

    file: h5py.File
    layout: Layout
    leaves: Sequence[str]
    rows: slice  # which rows of each episode's array; observations may skip the first or last
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def stored(self) -> np.dtype:
        """The widest of the leaves' types in the file."""
        first = self.layout.episodes[0][0]
        types = [self.file[f"{first}/{leaf}"].dtype for leaf in self.leaves]
        return max(types, key=lambda dtype: dtype.itemsize)

    def head(self, rows: int) -> np.ndarray:
        """Read the first rows in their stored type, `[rows, width]`."""
        parts, read = [], 0
        for name, steps in self.layout.episodes:
            leaves = [self.file[f"{name}/{leaf}"][self.rows] for leaf in self.leaves]
            parts.append(np.concatenate([leaf.reshape(steps, -1) for leaf in leaves], axis=1))
            read += steps
            if read >= rows:
                break
        return np.concatenate(parts)[:rows]

    def __getitem__(self, index: Any) -> np.ndarray:
        result, row = np.empty(self.shape, self.dtype), 0
        for name, steps in self.layout.episodes:
            column, target = 0, result[row : row + steps]
            for leaf in self.leaves:
                with np.errstate(all="ignore"):  # `clean` reports overflow of float32
                    values = self.file[f"{name}/{leaf}"][self.rows].astype(self.dtype)
                if not self.layout.leaves[leaf]:
                    target[:] = values.reshape(steps)
                else:
                    width = values.shape[1]
                    target[:, column : column + width] = values
                    column += width
            row += steps
        return result[index]
