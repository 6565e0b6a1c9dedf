"""Mutations of npz archives."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from experiments.robustness.mutations.raw import BYTES, TRILLION, Mutation, pick


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self._folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self._folder,)


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _member(change: Callable[[bytes, np.random.Generator, Path], bytes]) -> Mutation:
    """A mutation of one array of an archive."""

    def mutation(path: Path, rng: np.random.Generator) -> None:
        members = _members(path)
        name = pick(rng, members)
        members[name] = change(members[name], rng, path)
        _write(path, members)

    return mutation


def _pickled(content: bytes, rng: np.random.Generator, path: Path) -> bytes:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    evil = np.full(array.shape, Evil(path.resolve().parents[1] / "outside" / "unpickled"), object)
    if rng.integers(2):
        return _npy(evil)
    # The header of numbers with the content of objects, or the other way round.
    good, bad = content, _npy(evil)
    return good[:128] + bad[128:] if rng.integers(2) else bad[:128] + good[128:]


def _npy_header(content: bytes, rng: np.random.Generator, path: Path) -> bytes:
    del path
    shape = pick(
        rng,
        (
            (TRILLION, 2),
            (10**9,),
            (-1, 2),
            (2**63, 2),
            (2**70,),
            (),
            (0,),
            (7, 0),
            (1.5,),
            "x",
            (7,) * 40,
            (True, 2),
            None,
        ),
    )
    kind = pick(
        rng,
        (
            "<f4",
            "|O",
            "|b1",
            "<U5",
            "|V0",
            "<M8[s]",
            "(2,)<f4",
            "x",
            [("a", "<f4")],
            "<f2",
            ">f8",
            3,
            None,
            ["x"],
        ),
    )
    header = pick(
        rng,
        (
            repr({"descr": kind, "fortran_order": bool(rng.integers(2)), "shape": shape}),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (7L, 2L)}",
            "(" * 900,
            "{",
            "'",
            "{'descr': '<f4'}",
            "__import__('os')",
            "[" * 9000,
            "\\",
            "\x00",
            "{1: 2}",
            "1 if",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (7,\n'''",
            "   1\n 2",
        ),
    )
    version = pick(rng, (b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    length = len(header).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + length + header.encode() + content[128:]


def _npy_values(content: bytes, rng: np.random.Generator, path: Path) -> bytes:
    del path
    array = np.load(io.BytesIO(content), allow_pickle=False)
    value = pick(rng, (np.nan, np.inf, 1e300, 2, -1))
    changes = (
        lambda: array[:-1],
        lambda: array[:0],
        lambda: array[None],
        lambda: array.astype("c8"),
        lambda: array.astype("S4"),
        lambda: array.astype(">f8"),
        lambda: array.astype("f2"),
        lambda: np.asfortranarray(array),
        lambda: np.float32(1.0),
        lambda: array[..., None],
        lambda: np.full(array.shape, value),
        lambda: array.astype("M8[s]"),
    )
    with np.errstate(all="ignore"):
        return _npy(np.asarray(pick(rng, changes)()))


def _npy_bomb(content: bytes, rng: np.random.Generator, path: Path) -> bytes:
    del path
    if rng.integers(2):
        return content + bytes(2**26)
    return _npy(np.zeros((2 * 10**6, 2), np.float32))


def _member_names(path: Path, rng: np.random.Generator) -> None:
    members = _members(path)
    name = pick(rng, members)
    new = pick(
        rng,
        (
            "../../outside/x.npy",
            "/tmp/x.npy",
            "observatiоns.npy",
            "a\nb.npy",
            "",
            "x/",
            "observations",
            "C:\\x.npy",
            "🦀.npy",
            name + ".npy",
        ),
    )
    if rng.integers(2):
        members[new] = members.pop(name)
    else:
        members[new] = members[name]
    _write(path, members)


NPZ: dict[str, Mutation] = {
    **BYTES,
    "bytes within": _member(lambda c, rng, _: _in_bytes(c, rng)),
    "pickled objects": _member(_pickled),
    "headers": _member(_npy_header),
    "values and shapes": _member(_npy_values),
    "bombs": _member(_npy_bomb),
    "names": _member_names,
}


def _in_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        content[rng.integers(min(200, len(content)))] = rng.integers(256)
    return bytes(content)
