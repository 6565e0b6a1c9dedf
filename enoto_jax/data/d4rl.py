"""Reads data sets in D4RL's layout, as HDF5 or as npz with the same flat keys.

Every version of D4RL's files reads the same way: v0 (no `next_observations`), v1 and v2, the
replay files (float64, rewards `[N, 1]`, flags as numbers), AntMaze (float64 rewards), and HDF5
virtual data sets, whose rows lie elsewhere in the same file or in files beside it. Nothing here
unpickles. (One kind of damage is beyond reach: libhdf5 loops for ever where the heap that holds an
attribute's variable-length text is corrupt.)
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.types import InputError, Spec

ATTRIBUTES = ("env_id", "env", "ref_min_score", "ref_max_score", "max_episode_steps")

# What h5py, zipfile and numpy raise on malformed files (found by fuzzing, see the tests).
_MALFORMED = (
    OSError, EOFError, LookupError, RuntimeError, TypeError, ValueError, OverflowError,
    MemoryError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Header(NamedTuple):
    """What is known of a file before its numbers are read."""

    rows: int
    spec: Spec
    attributes: Mapping[str, Any]  # those of ATTRIBUTES that the file has at its root


def peek(path: str | os.PathLike) -> Header:
    """Reads and checks a file's keys, types and shapes, but none of its numbers.

    Raises:
        InputError: if the file is missing, damaged, not in D4RL's layout, or larger than memory.
    """
    with _opened(Path(path)) as (arrays, attributes):
        spec = flat.check_layout(arrays, path)
        return Header(arrays["observations"].shape[0], spec, attributes)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a file's arrays, checked: float32 and bool, by key, rewards and flags `[N]`.

    Raises:
        InputError: as `peek`, and for numbers that cannot be used (see `arrays.clean`).
    """
    with _opened(Path(path)) as (arrays, _):
        flat.check_layout(arrays, path)
        return flat.clean(arrays, path)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Opens a file as (arrays by key, attributes), and turns every failure into an InputError."""
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "no such file"
            raise InputError(f"{path}: {what}; give the path of an HDF5 or npz data set")
        with (zipfile.ZipFile if path.suffix.lower() == ".npz" else h5py.File)(path, "r") as file:
            if isinstance(file, zipfile.ZipFile):
                file = _Npz(file)
            arrays = _select(file, path)
            _check_memory(arrays, path)
            for key, array in arrays.items():
                if isinstance(array, h5py.Dataset):
                    _check_stored(array, key, path)
            yield arrays, {key: file.attrs[key] for key in ATTRIBUTES if key in file.attrs}
    except InputError:
        raise
    except _MALFORMED as error:
        reason = " ".join(str(error).split()).strip("'\"") or type(error).__name__
        raise InputError(
            f"{path}: cannot be read ({reason}); it is damaged, incomplete or of another kind: "
            "copy or download it again"
        ) from error


def _select(file: Any, path: Path) -> dict[str, Any]:
    """The arrays that are used, by key."""
    found = {key: file[key] for key in (*flat.REQUIRED, *flat.OPTIONAL) if key in file}
    found = {key: item for key, item in found.items() if isinstance(item, h5py.Dataset | _Npy)}
    if missing := [key for key in flat.REQUIRED if key not in found]:
        present = sorted(key for key in map(str, file) if key.isprintable())
        raise InputError(
            f"{path}: no {', '.join(missing)} (keys found: {', '.join(present[:12]) or 'none'}); "
            f"D4RL's layout needs {', '.join(flat.REQUIRED)}"
        )
    return found


def _check_memory(arrays: Mapping[str, Any], path: Path) -> None:
    """Refuses what a header claims before anything is allocated for it."""
    claimed = sum(_bytes(array) for array in arrays.values())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if claimed > memory:
        raise InputError(
            f"{path}: its header claims {claimed / 1e9:.3g} GB, this machine has "
            f"{memory / 1e9:.3g} GB of memory; the file is damaged, or must be cut into parts"
        )


def _check_stored(array: h5py.Dataset, key: str, path: Path) -> None:
    """Refuses rows that the header claims but that were never written: HDF5 reads them as zeros."""
    if array.is_virtual:
        names = {source.file_name for source in array.virtual_sources()} - {"."}
        gone = sorted(n for n in names if not (path.parent / n).exists() and not Path(n).exists())
        if gone:
            raise InputError(
                f"{path}: {key} points at rows of {', '.join(gone)}, which would read as NaN; "
                "keep these files in the same folder"
            )
        return
    if array.chunks:
        needed = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
        complete = array.id.get_num_chunks() >= needed
    else:
        complete = array.id.get_storage_size() >= _bytes(array)
    if not complete:
        raise InputError(
            f"{path}: {key} claims {array.shape[0]} rows but not all were written; "
            "write or download it again"
        )


def _bytes(array: Any) -> int:
    return math.prod(array.shape or ()) * array.dtype.itemsize


@dataclass(frozen=True)
class _Npy:
    """One array of an npz file, known by its header until it is indexed, as h5py's are."""

    archive: zipfile.ZipFile
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        with self.archive.open(self.member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)[index]


class _Npz(dict):
    """An npz file in the guise of an h5py.File; it has no attributes."""

    attrs: Mapping[str, Any] = {}

    def __init__(self, archive: zipfile.ZipFile):
        headers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        for name in archive.namelist():
            with archive.open(name) as file:
                shape, _, dtype = headers[np.lib.format.read_magic(file)](file)
            self[name.removesuffix(".npy")] = _Npy(archive, name, shape, dtype)
