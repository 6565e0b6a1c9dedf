"""What the readers of files share: every failure is one InputError, and no header is believed.

Nothing here unpickles. (One kind of damage is beyond reach: libhdf5 loops for ever where the heap
that holds an attribute's variable-length text is corrupt.)
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.types import InputError, Spec

_CACHE = 1 << 20  # bytes that HDF5 keeps; everything is read once
# What h5py, zipfile, json and numpy raise on malformed files (found by fuzzing, see the tests).
_MALFORMED = (
    OSError, EOFError, LookupError, RuntimeError, TypeError, ValueError, OverflowError,
    MemoryError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Opened(NamedTuple):
    """An open file in the flat layout; arrays are read when they are indexed."""

    arrays: Mapping[str, Any]  # by key, those without a problem
    attributes: Mapping[str, Any]  # what the file says of its task
    problems: Mapping[str, str]  # what is wrong with the layout, by key


class Header(NamedTuple):
    """What is known of a file before its numbers are read."""

    rows: int
    spec: Spec
    attributes: Mapping[str, Any]


Opener = Callable[[Path], AbstractContextManager[Opened]]


def peek(opened: Opener, path: Path) -> Header:
    """Reads and checks a file's keys, types and shapes, but none of its numbers.

    Raises:
        InputError: if the file is missing, damaged, not in the layout, or larger than memory.
    """
    with opened(path) as file:
        _refuse(file, path)
        rows, size = file.arrays["observations"].shape
        return Header(rows, Spec(size, file.arrays["actions"].shape[1]), file.attributes)


def read(opened: Opener, path: Path) -> dict[str, np.ndarray]:
    """Reads a file's arrays, checked: float32 and bool, by key, rewards and flags `[N]`.

    Raises:
        InputError: as `peek`, and for numbers that cannot be used (see `arrays.clean`).
    """
    with opened(path) as file:
        _refuse(file, path)
        return flat.clean(file.arrays, path)


def _refuse(file: Opened, path: Path) -> None:
    for problem in file.problems.values():
        raise InputError(f"{path}: {problem}")


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turns whatever the libraries raise on a malformed file into an InputError."""
    try:
        yield
    except InputError:
        raise
    except _MALFORMED as error:
        reason = " ".join(str(error).split()).strip("'\"") or type(error).__name__
        raise InputError(
            f"{path}: cannot be read ({reason}); it is damaged, incomplete or of another kind: "
            "copy or download it again"
        ) from error


def open_hdf5(path: Path) -> h5py.File:
    """Opens for reading, with little memory for what HDF5 would keep: 8 MB an open array by
    default, and 32 MB of what it knows of the groups of Minari's episodes."""
    file = h5py.File(path, rdcc_nbytes=_CACHE // 4)
    config = file.id.get_mdc_config()
    config.set_initial_size = True
    config.initial_size = config.min_size = config.max_size = _CACHE
    file.id.set_mdc_config(config)
    return file


def check_file(path: Path) -> None:
    """Refuses what is no file at all."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}; give the path of an HDF5 or npz data set")


def check_memory(claimed: int, path: Path) -> None:
    """Refuses the bytes that a header claims before anything is allocated for them."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if claimed > memory:
        raise InputError(
            f"{path}: its header claims {claimed / 1e9:.3g} GB, this machine has "
            f"{memory / 1e9:.3g} GB of memory; the file is damaged, or must be cut into parts"
        )


def size_of(array: Any) -> int:
    """Bytes that an array claims."""
    return math.prod(array.shape or ()) * array.dtype.itemsize


def unwritten(array: h5py.Dataset, key: str, path: Path) -> str | None:
    """What is wrong where rows were claimed but never written: HDF5 reads them as zeros or NaN."""
    if array.is_virtual:
        names = {source.file_name for source in array.virtual_sources()} - {"."}
        gone = sorted(n for n in names if not (path.parent / n).exists() and not Path(n).exists())
        if gone:
            return (
                f"{key} points at rows of {', '.join(gone)}, which would read as NaN; "
                "keep these files in the same folder"
            )
        return None
    if array.chunks:
        needed = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
        complete = array.id.get_num_chunks() >= needed
    else:
        complete = array.id.get_storage_size() >= size_of(array)
    if complete:
        return None
    return (
        f"{key} claims {array.shape[0]} rows but not all were written; write or download it again"
    )
