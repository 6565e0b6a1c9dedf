"""Read data sets in D4RL's layout, from HDF5 or from npz with the same flat keys.

Every version of D4RL's files is read the same way: v0 (no `next_observations`), v1 and v2, the
replay files (float64, rewards `[N, 1]`, flags as numbers), AntMaze (float64 rewards), and HDF5
virtual data sets, whose rows lie elsewhere in the same file or in files of the same folder.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data import files, words
from enoto_jax.types import plural

ATTRIBUTES = (
    "env_id",
    "env",
    "ref_min_score",
    "ref_max_score",
    "max_episode_steps",
    "physics",
    "mujoco_version",
    "gymnasium_version",
    "action_low",
    "action_high",
)

_MOST_NAMES = 1000  # names at the root that are looked at
_SETTING = 8000  # most bytes of a setting in an npz file
_DEFLATED = 1032  # most bytes that one compressed byte can unpack to


@contextmanager
def opened(path: Path) -> Iterator[files.Opened]:
    """Open a file in the flat layout, with those of ATTRIBUTES that its root has."""
    with files.guarded(path):
        files.check_file(path)
        npz = path.suffix.lower() == ".npz"
        with zipfile.ZipFile(path) if npz else files.open_hdf5(path) as opened_file:
            file: Any = Npz(opened_file) if npz else opened_file
            found = {name: file.get(name) if npz else _find(file, name) for name in words.MEANING}
            given = {k: item for k, item in found.items() if isinstance(item, h5py.Dataset | _Npy)}
            files.check_memory(given.values(), path)
            problems = flat.layout_problems(given)
            for name in [name for name in given if name not in problems]:
                unwritten = _Npy.unwritten if npz else files.unwritten
                problem = unwritten(given[name], name, path)
                problems |= {name: problem} if problem else {}
            read = words.understand({k: a for k, a in given.items() if k not in problems})
            problems = {**_missing(given, file), **problems, **read.problems}
            arrays = {k: array for k, array in read.arrays.items() if k not in read.problems}
            attributes = {key: file.attrs[key] for key in ATTRIBUTES if key in file.attrs}
            unread = words.unread(_names(file), given)
            attributes |= {"unread": unread} if unread else {}
            yield files.Opened(arrays, attributes, problems, read.words)


def _missing(given: Mapping[str, Any], file: Any) -> dict[str, str]:
    missing = words.missing(given)
    if not missing:
        return {}
    present = sorted(key for key in map(str, file) if key.isprintable())
    text = (
        f"no {', '.join(missing)} (keys found: {', '.join(present[:12]) or 'none'}); "
        f"D4RL's layout needs {', '.join(words.REQUIRED)}"
    )
    text += words.hint(present) if "terminals" in missing else ""
    return {", ".join(missing): text}


def _find(file: h5py.File, name: str) -> Any:
    """The array of that name. Links are refused for D4RL's own names and ignored for others."""
    if words.MEANING[name] == name:
        return files.find(file, name)
    return _unlinked(file, name) if file.id.links.exists(name.encode()) else None


def _names(file: Any) -> Iterator[str]:
    """Names at the root except settings; a group's ends in a slash. Links are not followed."""
    for name in islice(map(str, file), _MOST_NAMES):
        if isinstance(file, Npz):
            if name not in file.attrs:
                yield name
        else:
            group = isinstance(_unlinked(file, name), h5py.Group)
            yield f"{name}/" if group else name


def _unlinked(file: h5py.File, name: str) -> Any:
    hard = file.id.links.get_info(name.encode()).type == h5py.h5l.TYPE_HARD
    return file[name] if hard else None


@dataclass(frozen=True)
class _Npy:
    """One array of an npz file; like h5py's, only its header is read until it is indexed."""

    archive: zipfile.ZipFile
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def unwritten(self, key: str, path: Path) -> str | None:
        """As `files.unwritten`; rows count as written if the archive can hold them.

        The limit assumes deflate's best ratio.
        """
        info = self.archive.getinfo(self.member)
        held = min(info.file_size, _DEFLATED * min(info.compress_size, path.stat().st_size))
        if math.prod(self.shape) * self.dtype.itemsize <= held:
            return None
        return (
            f"{key} claims {plural(self.shape[0], 'row')}, but some are missing; "
            "write or download it again"
        )

    def __getitem__(self, index: Any) -> np.ndarray:
        with self.archive.open(self.member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)[index]

    @property
    def is_setting(self) -> bool:
        """Whether the array is a short text or a few numbers."""
        size = math.prod(self.shape) * self.dtype.itemsize
        return self.dtype.kind in "SUbiuf" and size <= _SETTING


class Npz(dict):
    """An npz file with h5py.File's interface; small arrays named in ATTRIBUTES are `attrs`."""

    def __init__(self, archive: zipfile.ZipFile):
        headers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        for name in archive.namelist():
            with archive.open(name) as file:
                shape, _, dtype = headers[np.lib.format.read_magic(file)](file)
            self[name.removesuffix(".npy")] = _Npy(archive, name, shape, dtype)
        settings = {key: self[key] for key in ATTRIBUTES if key in self}
        self.attrs = {key: array[()] for key, array in settings.items() if array.is_setting}
