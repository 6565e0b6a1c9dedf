"""Shared by the readers of files: every failure is one InputError, and no header is trusted.

Nothing here unpickles, and no file reaches beyond its own folder: only HDF5's hard links are
followed, and rows may lie in another file only in the same folder. (One kind of damage is not
caught: a deflated chunk can unpack to a thousand times its size before its length is checked.)
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import h5py
import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data import notes
from enoto_jax.types import InputError, Spec, plural

_DEEPEST = 3  # nesting of virtual arrays
_HEAP = b"GCOL\1\0\0\0"  # how a global heap begins (HDF5 format, III.E)
_JSON_LIMIT = 1 << 24  # bytes
_CACHE = 1 << 20  # bytes of HDF5's caches, which are of little use: everything is read once
# What h5py, zipfile, json and numpy raise on malformed files (found by fuzzing, see the tests).
_MALFORMED = (
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class Opened(NamedTuple):
    """An open file in the flat layout; arrays are read when they are indexed."""

    arrays: Mapping[str, Any]  # by D4RL's key, those without a problem
    attributes: Mapping[str, Any]  # what the file states about its task
    problems: Mapping[str, str]  # what is wrong with the layout, by key
    words: Mapping[str, str] = MappingProxyType({})  # D4RL's key -> the file's, where they differ


@dataclass(frozen=True)
class Worked:
    """An array of the flat layout that is computed when it is indexed."""

    make: Callable[[], np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.make()[index]


class Header(NamedTuple):
    """What is known of a file before its numbers are read."""

    rows: int
    spec: Spec
    attributes: Mapping[str, Any]


Opener = Callable[[Path], AbstractContextManager[Opened]]


def peek(opened: Opener, path: Path) -> Header:
    """Read and check a file's keys, types and shapes, but none of its numbers.

    Raises:
      InputError: The file is missing, damaged, not in the layout, or larger than memory.
    """
    with opened(path) as file:
        _refuse(file, path)
        rows, size = file.arrays["observations"].shape
        return Header(rows, Spec(size, file.arrays["actions"].shape[1]), file.attributes)


class Content(NamedTuple):
    """What `read` returns."""

    arrays: Mapping[str, np.ndarray]  # as `arrays.clean` returns them
    notes: tuple[str, ...]  # what was noticed


def read(opened: Opener, path: Path, bounds: flat.Bounds | None = None) -> Content:
    """Read a file's arrays, checked: float32 and bool, by key, rewards and flags `[N]`.

    Args:
      opened: The function that opens the file.
      path: The file's path.
      bounds: Bounds of the recorded actions, see `arrays.clean`.

    Raises:
      InputError: As `peek`, or the numbers cannot be used (see `arrays.clean`).
    """
    with opened(path) as file:
        _refuse(file, path)
        lost = notes.lost_precision(file.arrays)
        arrays = flat.clean(file.arrays, path, bounds=bounds, words=file.words)
        return Content(arrays, (*lost, *notes.on_flags(arrays)))


def _refuse(file: Opened, path: Path) -> None:
    for problem in file.problems.values():
        raise InputError(f"{path}: {problem}")


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn whatever the libraries raise on a malformed file into an InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # NumPy's, for headers from Python 2
            yield
    except InputError:
        raise
    except _MALFORMED as error:
        text = "".join(c if c.isprintable() or c.isspace() else "?" for c in str(error))
        reason = " ".join(text.split()).strip("'\"") or type(error).__name__
        raise InputError(
            f"{path}: cannot be read ({reason}); it is damaged, incomplete or of another format: "
            "copy or download it again"
        ) from error


def read_json(path: Path, missing: str) -> dict[str, Any]:
    """Read a data set's metadata from a JSON file.

    Args:
      path: The file's path.
      missing: Advice in the message if the file is missing.

    Raises:
      InputError: The file is missing, damaged, too large, or not a JSON object.
    """
    with guarded(path):
        if not path.is_file():
            raise InputError(f"{path}: no such file; {missing}")
        if path.stat().st_size > _JSON_LIMIT:
            raise InputError(f"{path}: too large to be metadata; copy or download it again")
        found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise InputError(f"{path}: is not a JSON object; copy or download it again")
    return found


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, with small caches.

    By default HDF5 caches 8 MB per open array, and 32 MB of metadata for the groups of Minari's
    episodes.

    Raises:
      OSError: As h5py, or the file has damage in which libhdf5 would loop forever.
    """
    file = h5py.File(path, rdcc_nbytes=_CACHE // 4)
    try:
        if file.id.get_create_plist().get_sizes()[1] == 8:  # as in every file that h5py writes
            _check_heaps(path, path.stat().st_size, path.stat().st_mtime_ns)
    except OSError:
        file.close()
        raise
    config = file.id.get_mdc_config()
    config.set_initial_size = True
    config.initial_size = config.min_size = config.max_size = _CACHE
    file.id.set_mdc_config(config)
    return file


@lru_cache(maxsize=8)
def _check_heaps(path: Path, size: int, changed_ns: int) -> None:
    """Refuse a global heap in which libhdf5 loops forever: an object that is 0 bytes long.

    Such heaps hold virtual arrays and variable-length text. Nothing lists the heaps, so the whole
    file is searched, at 2 GB/s.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        heap = -1
        while (heap := raw.find(_HEAP, heap + 1)) >= 0:
            at = heap + 16
            end = min(heap + int.from_bytes(raw[heap + 8 : at], "little"), size)
            while at + 16 <= end:
                number, _, _, length = struct.unpack_from("<HHIQ", raw, at)
                step = 16 + (length + 7) // 8 * 8 if number else length
                if step % 2**64 == 0:
                    raise OSError("its heap of strings and virtual arrays is damaged")
                at += step


def check_file(path: Path) -> None:
    """Refuse a path that is not a file."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}; give the path of an HDF5 or npz data set")


def check_memory(arrays: Iterable[Any], path: Path) -> None:
    """Refuse headers that claim more memory than is left, before anything is allocated."""
    claimed, memory = sum(map(_size, arrays)), memory_left()
    if claimed > memory:
        raise InputError(
            f"{path}: its header claims {claimed / 1e9:.3g} GB, but this machine has "
            f"{memory / 1e9:.3g} GB of memory left; the file is damaged, or must be split"
        )


def memory_left() -> int:
    """Return the bytes of memory left, including cached files; if unknown, all of the machine's."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return (
        1024 * int(found[1]) if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )


def _size(array: Any) -> int:
    """Bytes needed to read an array: at least 4 per number, and at least one whole chunk."""
    chunk = math.prod(getattr(array, "chunks", None) or ()) * array.dtype.itemsize
    return max(math.prod(array.shape or ()) * max(4, array.dtype.itemsize), chunk)


def check_names(names: Iterable[Any], where: object) -> None:
    """Refuse names that are not printable text: listing them would garble a terminal.

    Raises:
      InputError: A name is not printable text.
    """
    for name in names:
        if not (isinstance(name, str) and name.isprintable()):
            raise InputError(
                f"{where}: the name {name!r:.60} is not printable text; the file is damaged: copy "
                "or download it again"
            )


def find(group: h5py.Group, path: str) -> Any:
    """Return the array or group at a path below a group, or None.

    Raises:
      InputError: The path contains a link, which could lead to any file on the machine.
    """
    for name in path.encode().split(b"/"):
        links = group.id.links
        if not links.exists(name):
            return None
        if links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise InputError(
                f"{group.file.filename}: {path} is a link, which is not followed; "
                "store the array itself"
            )
        group = group[name]
    return group


def unwritten(array: h5py.Dataset, key: str, path: Path, depth: int = 0) -> str | None:
    """Return what is wrong if rows were never written or lie outside this folder, else None.

    HDF5 reads unwritten rows as zeros or NaN. `depth` counts the virtual arrays that led here.
    """
    if array.external:
        return f"{key} keeps its rows in external raw files; store them in the file itself"
    if array.is_virtual:
        if depth == _DEEPEST:  # libhdf5 itself does not notice cycles
            return f"{key} is a chain or cycle of virtual arrays; store the rows themselves"
        places = {(source.file_name, source.dset_name) for source in array.virtual_sources()}
        problems = (_astray(*place, key, path, depth + 1) for place in sorted(places))
        return next(filter(None, problems), None)
    if array.chunks:
        needed = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
        complete = array.id.get_num_chunks() >= needed
    else:
        complete = array.id.get_storage_size() >= math.prod(array.shape) * array.dtype.itemsize
    if not complete:
        return (
            f"{key} claims {plural(array.shape[0], 'row')} but not all were written; "
            "write or download it again"
        )
    if (
        array.chunks
        and _largest_chunk(array) > 2 * math.prod(array.chunks) * array.dtype.itemsize + 4096
    ):
        return f"{key} has a compressed chunk larger than its rows; write or download it again"
    return None


def _largest_chunk(array: h5py.Dataset) -> int:
    """Stored size of the largest chunk in bytes."""
    sizes = [0]
    array.id.chunk_iter(lambda chunk: sizes.append(chunk.size))
    return max(sizes)


def _astray(name: str, array: str, key: str, path: Path, depth: int) -> str | None:
    """What is wrong with a part of a virtual array; its rows must lie in the same folder."""
    name = path.name if name == "." else name
    beside = path.with_name(name) if Path(name).name == name else None
    if beside is None or not beside.exists():
        return (
            f"{key} points at rows of {name}, which are not there and would read as NaN; "
            "keep these files in the same folder"
        )
    with open_hdf5(beside) as file:
        rows = find(file, array.strip("/"))
        if not isinstance(rows, h5py.Dataset):
            return f"{key} points at {array} of {name}, which has no rows"
        return unwritten(rows, f"{array} of {name}", beside, depth)
