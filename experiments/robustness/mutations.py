"""What the fuzzer does to good input: to bytes, HDF5 files, npz archives, JSON trees and CSV files.

A mutation changes the file at a path in place, and draws what it does from a generator.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Mutation = Callable[[Path, np.random.Generator], None]

TRILLION = 10**12
# Values that no field expects, as text, numbers and structures.
ODD = (
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    2**31,
    2**63,
    2**64,
    10**12,
    10**400,
    0.5,
    -0.0,
    1e-300,
    1e300,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    " ",
    "0",
    "nan",
    "1e999",
    "None",
    "true",
    "x",
    "../../outside",
    "/etc/passwd",
    "~",
    "a\nb",
    "a\tb\r",
    "\x00",
    "\u202eabc",
    "ünï\u0301",
    "🦀",
    "observatiоns",
    "os:system-v0",
    "Hopper-v4",
    "x" * 5000,
    "(" * 300,
    "[[[[",
    "{}",
    "1,2,,",
    "=",
    [],
    [0],
    [1, "x"],
    [[1], [2, 3]],
    [1e9] * 3,
    [-1],
    {},
    {"unit": "sac"},
    {"unit": ["x"]},
    {"a": {"b": {"c": None}}},
    [[[[[[]]]]]],
)


def odd(rng: np.random.Generator) -> Any:
    return ODD[rng.integers(len(ODD))]


def _pick(rng: np.random.Generator, choices: Any) -> Any:
    choices = list(choices)
    return choices[rng.integers(len(choices))]


# Bytes.


def flipped(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    used = len(content.rstrip(b"\0")) or 1
    for _ in range(rng.integers(1, 9)):
        content[rng.integers(min(used, len(content)))] = rng.integers(256)
    path.write_bytes(content)


def extremes(path: Path, rng: np.random.Generator) -> None:
    """Zeros, or all bits, where a number of 1 to 8 bytes may stand."""
    content, size = bytearray(path.read_bytes()), _pick(rng, (1, 2, 4, 8))
    used = len(content.rstrip(b"\0")) or 1
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(used)) // size * size
        content[at : at + size] = _pick(rng, (b"\x00", b"\xff", b"\x7f")) * size
    path.write_bytes(content)


def truncated(path: Path, rng: np.random.Generator) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(len(content))])


def spliced(path: Path, rng: np.random.Generator) -> None:
    """A block is copied to somewhere else: over what is there, or between."""
    content = path.read_bytes()
    begin, to = rng.integers(len(content), size=2)
    block = content[begin : begin + rng.integers(1, 513)]
    over = len(block) * rng.integers(2)
    path.write_bytes(content[:to] + block + content[to + over :])


BYTES: dict[str, Mutation] = {
    "bytes flipped": flipped,
    "numbers made extreme": extremes,
    "truncated": truncated,
    "blocks spliced": spliced,
}


# HDF5.


def _arrays(group: h5py.Group, depth: int = 2) -> list[str]:
    """The paths of the arrays; not too deep, as an earlier mutation may have made circles."""
    found = []
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            if isinstance(group[name], h5py.Dataset):
                found.append(name)
            elif isinstance(group[name], h5py.Group) and depth:
                found += [f"{name}/{inner}" for inner in _arrays(group[name], depth - 1)]
    return found


def _changed(change: Callable[[h5py.File, str, np.random.Generator], None]) -> Mutation:
    """A change of one or two arrays of an HDF5 file."""

    def mutation(path: Path, rng: np.random.Generator) -> None:
        with h5py.File(path, "a") as file:
            for _ in range(rng.integers(1, 3)):
                change(file, _pick(rng, _arrays(file) or ["observations"]), rng)

    return mutation


def _put(file: h5py.File, key: str, array: Any) -> None:
    if key in file:
        del file[key]
    file[key] = array


def _other_type(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    array = np.nan_to_num(np.asarray(file[key][()], np.float64))
    kind = _pick(
        rng,
        (
            "f2",
            ">f8",
            "f16",
            "i1",
            "<i8",
            "u8",
            "?",
            "c8",
            "S3",
            "V4",
            "text",
            "pair",
            "enum",
            "references",
            "ragged",
            "subarray",
        ),
    )
    if kind == "text":
        array = np.full(array.shape, "1.0", h5py.string_dtype())
    elif kind == "pair":
        array = np.zeros(array.shape, [("a", "f4"), ("b", "i8")])
    elif kind == "enum":
        array = array.astype("i1").astype(h5py.enum_dtype({"no": 0, "yes": 1}, "i1"))
    elif kind == "references":
        array = np.full(array.shape, file.ref, h5py.ref_dtype)
    elif kind == "ragged":
        array = np.zeros(array.shape, h5py.vlen_dtype("f4"))
    elif kind == "subarray":
        array = np.zeros(array.shape, "(2,)f4")
    elif kind == "V4":
        array = np.zeros(array.shape, "V4")
    else:
        array = array.astype(kind)
    _put(file, key, array)


def _other_shape(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    array = np.asarray(file[key][()])
    shapes = (
        lambda: array[:-1],
        lambda: np.concatenate([array, array[:1]]),
        lambda: array[:0],
        lambda: array.reshape(-1),
        lambda: array[None],
        lambda: array[..., None],
        lambda: array.reshape(len(array), -1)[:, :0],
        lambda: array.reshape(-1)[0],
        lambda: array.reshape(len(array), -1)[:, [0, 0]],
        lambda: h5py.Empty("f4"),
        lambda: array[:1],
        lambda: array.T,
    )
    _put(file, key, _pick(rng, shapes)())


def _other_values(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    array = np.array(file[key][()])
    value = _pick(rng, (np.nan, np.inf, -np.inf, 1e38, -1e300, 2, -1, 1e-45, 0))
    if rng.integers(2):
        array = array.astype(np.float64)
    with np.errstate(all="ignore"):
        rows = rng.integers(len(array), size=rng.integers(1, len(array)))
        array[rows] = np.asarray(value).astype(array.dtype)
    _put(file, key, array)


def _attribute(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    name = _pick(
        rng,
        (
            "env_id",
            "env",
            "ref_min_score",
            "ref_max_score",
            "max_episode_steps",
            "physics",
            "mujoco_version",
            "gymnasium_version",
        ),
    )
    values = (
        *(x for x in ODD if isinstance(x, str | float) and x != "\x00"),
        np.bytes_(b"\xff\xfe"),
        h5py.Empty("f4"),
        np.zeros((3, 3)),
        np.zeros(0),
        np.int8(-1),
        np.array(["a", "b"], "S1"),
        np.zeros(2, [("a", "f4")]),
        file.ref,
        2**62,
        -1,
        np.bool_(True),
        np.complex64(1j),
    )
    owner = file if rng.integers(4) else file[key]
    owner.attrs[name] = _pick(rng, values)


def _claim(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    """A trillion rows, or as many as some memories hold, of which next to none are there."""
    rows = int(_pick(rng, (TRILLION, 10**10, 10**9)))
    kind = _pick(rng, (file[key].dtype, np.int8, np.float64))
    how = _pick(rng, ("chunked", "contiguous", "virtual", "huge chunks", "resizable", "filled"))
    top = [name for name in _arrays(file) if "/" not in name]
    for name in top if top and rng.integers(2) else [key]:
        rest = file[name].shape[1:] or ()
        shape = (rows, *rest)
        del file[name]
        if how == "virtual":
            _virtual(file, name, ".", "nowhere", shape, kind)
        elif how == "contiguous":
            file.create_dataset(name, shape, kind)
        elif how == "huge chunks":
            chunk = (2**31 // (np.dtype(kind).itemsize * max(1, int(np.prod(rest)))), *rest)
            more = {"maxshape": (None, *rest), "compression": "gzip"}
            file.create_dataset(name, (7, *rest), kind, chunks=chunk, **more)
        else:
            more = {"maxshape": (None, *rest)} if how == "resizable" else {}
            more |= {"fillvalue": 1} if how == "filled" else {}
            file.create_dataset(name, shape, kind, chunks=(1000, *rest), **more)


def _link(path: Path, rng: np.random.Generator) -> None:
    """Rows that lie outside the file's folder, by every way that HDF5 has."""
    outside = path.resolve().parents[1] / "outside" / "secret.hdf5"
    with h5py.File(path, "a") as file:
        key = _pick(rng, _arrays(file) or ["observations"])
        shape, kind = file[key].shape, file[key].dtype
        place = _pick(rng, (str(outside), os.path.relpath(outside, path.parent)))
        how = _pick(rng, ("external link", "soft link", "virtual", "nested", "storage", "root"))
        inner = key.split("/")[-1]
        if how != "root":
            del file[key]
        if how == "external link":
            file[key] = h5py.ExternalLink(place, f"/{inner}")
        elif how == "soft link":
            file["door"] = h5py.ExternalLink(place, "/")
            file[key] = h5py.SoftLink(f"/door/{inner}")
        elif how == "virtual":
            _virtual(file, key, place, inner, shape, kind)
        elif how == "nested":  # a good neighbour whose own rows lie elsewhere
            with h5py.File(path.with_name("neighbour.hdf5"), "w") as neighbour:
                if rng.integers(2):
                    neighbour[inner] = h5py.ExternalLink(place, f"/{inner}")
                else:
                    _virtual(neighbour, inner, place, inner, shape, kind)
            _virtual(file, key, "neighbour.hdf5", inner, shape, kind)
        elif how == "storage":
            size = int(np.prod(shape)) * kind.itemsize
            external = [(str(outside.with_name("secret.bin")), 0, size)]
            file.create_dataset(key, shape, kind, external=external)
        elif how == "root" and "/" in key:
            group = key.partition("/")[0]
            del file[group]
            file[group] = h5py.ExternalLink(place, "/")


def _virtual(file: h5py.File, key: str, place: str, inner: str, shape: Any, kind: Any) -> None:
    layout = h5py.VirtualLayout(shape, kind)
    layout[...] = h5py.VirtualSource(place, inner, shape=shape, dtype=kind)
    file.create_virtual_dataset(key, layout)


def _cycle(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    how = _pick(rng, ("soft", "hard", "itself", "each other", "wide", "deep"))
    shape, kind = file[key].shape, file[key].dtype
    group = file[key].parent
    del file[key]
    if how == "soft":
        file[key] = h5py.SoftLink("/" + key)
    elif how == "hard":
        file.require_group(key)["again"] = group
    elif how == "itself":
        _virtual(file, key, ".", key, shape, kind)
    elif how == "each other":
        _virtual(file, key, ".", "other", shape, kind)
        if "other" not in file:
            _virtual(file, "other", ".", key, shape, kind)
    elif how == "wide":  # 2^40 paths to one array
        inner = file.create_group(f"level{rng.integers(10**9)}")
        inner["x"] = np.zeros(shape, kind)
        for _ in range(40):
            outer = file.create_group(f"level{rng.integers(10**9)}")
            outer["a"] = outer["b"] = inner
            inner = outer
        file[key] = inner
    else:
        file.create_group("/".join([key, *["d"] * 2000]))


def _kind_of_object(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    group = _pick(rng, (key, key.rpartition("/")[0] or key))
    del file[group]
    how = rng.integers(4)
    if how == 0:
        file.create_group(f"{group}/{key}")
    elif how == 1:
        file[group] = np.dtype("f4")  # a named type
    elif how == 2:
        file[group] = np.float32(1.0)


@cache
def zeros_compressed(size: int = 2**28) -> bytes:
    return zlib.compress(bytes(size), 1)


def _bomb(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    """A chunk that says it holds a few rows and unpacks to 256 MB; or many rows in few bytes."""
    shape, kind = file[key].shape, file[key].dtype
    del file[key]
    if rng.integers(2):
        array = file.create_dataset(key, shape, kind, chunks=shape, compression="gzip")
        array.id.write_direct_chunk((0,) * len(shape), zeros_compressed())
    else:
        shape = (2 * 10**6, *shape[1:])
        file.create_dataset(
            key,
            shape,
            kind,
            compression="gzip",
            compression_opts=1,
            data=np.broadcast_to(np.zeros((), kind), shape),
        )


def _name(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    names = (
        "observatiоns",
        "\u202eactions",
        "a\nb",
        "🦀",
        "../x",
        "x" * 3000,
        "episode_00",
        "episode_-1",
        "episode_9",
        "episode_9999999999",
        "episode_1/..",
        "é",
    )
    name = _pick(rng, names)
    if rng.integers(2) and name not in file:
        file.move(key, name)
    elif name not in file:
        file[name] = file[key]


HDF5: dict[str, Mutation] = {
    **BYTES,
    "types": _changed(_other_type),
    "shapes": _changed(_other_shape),
    "values": _changed(_other_values),
    "attributes": _changed(_attribute),
    "claims of rows": _changed(_claim),
    "rows outside": _link,
    "cycles": _changed(_cycle),
    "groups and types for arrays": _changed(_kind_of_object),
    "bombs": _changed(_bomb),
    "names": _changed(_name),
}


# npz.


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
    """A change of one array of an archive."""

    def mutation(path: Path, rng: np.random.Generator) -> None:
        members = _members(path)
        name = _pick(rng, members)
        members[name] = change(members[name], rng, path)
        _write(path, members)

    return mutation


def _pickled(content: bytes, rng: np.random.Generator, path: Path) -> bytes:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    evil = np.full(array.shape, Evil(path.resolve().parents[1] / "outside" / "unpickled"), object)
    if rng.integers(2):
        return _npy(evil)
    # The header of numbers, the content of objects; and the other way round.
    good, bad = content, _npy(evil)
    return good[:128] + bad[128:] if rng.integers(2) else bad[:128] + good[128:]


def _npy_header(content: bytes, rng: np.random.Generator, path: Path) -> bytes:
    del path
    shape = _pick(
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
    kind = _pick(
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
    header = _pick(
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
    version = _pick(rng, (b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    length = len(header).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + length + header.encode() + content[128:]


def _npy_values(content: bytes, rng: np.random.Generator, path: Path) -> bytes:
    del path
    array = np.load(io.BytesIO(content), allow_pickle=False)
    value = _pick(rng, (np.nan, np.inf, 1e300, 2, -1))
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
        return _npy(np.asarray(_pick(rng, changes)()))


def _npy_bomb(content: bytes, rng: np.random.Generator, path: Path) -> bytes:
    del path
    if rng.integers(2):
        return content + bytes(2**26)
    return _npy(np.zeros((2 * 10**6, 2), np.float32))


def _member_names(path: Path, rng: np.random.Generator) -> None:
    members = _members(path)
    name = _pick(rng, members)
    new = _pick(
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


# JSON and CSV.


def nodes(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all that lies below a JSON tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from nodes(value, (*path, key))


def replaced(tree: Any, rng: np.random.Generator) -> Any:
    """One to three values replaced, removed, or added to."""
    for _ in range(rng.integers(1, 4)):
        paths = list(nodes(tree))
        if not paths:
            return odd(rng)
        *parents, last = _pick(rng, paths)
        node = tree
        for key in parents:
            node = node[key]
        how = rng.integers(8)
        if how == 0:
            del node[last]
        elif how == 1 and isinstance(node, dict):
            node[str(odd(rng))] = node.pop(last)
        else:
            node[last] = odd(rng)
    return tree


def json_values(path: Path, rng: np.random.Generator) -> None:
    path.write_text(json.dumps(replaced(json.loads(path.read_text()), rng)))


def json_whole(path: Path, rng: np.random.Generator) -> None:
    """Another document altogether."""
    texts = (
        "",
        "[]",
        "{}",
        "null",
        "1",
        '"x"',
        "[" * 100_000,
        '{"a":' * 50_000,
        "NaN",
        "{,}",
        "1" * 5000,
        "\ufeff{}",
        '{"a": 1e999}',
    )
    path.write_text(_pick(rng, texts), encoding="utf-8")


JSON: dict[str, Mutation] = {**BYTES, "values": json_values, "documents": json_whole}


def csv_cells(path: Path, rng: np.random.Generator) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for _ in range(rng.integers(1, 4)):
        row = _pick(rng, lines)
        how = rng.integers(6)
        if how == 0:
            row.append(str(odd(rng)))
        elif how == 1 and len(row) > 1:
            row.pop()
        elif how == 2:
            lines.append(list(row))
        else:
            row[rng.integers(len(row))] = str(odd(rng))
    text = "\n".join(",".join(row) for row in lines) + "\n"
    path.write_bytes(text.encode(errors="replace"))


CSV: dict[str, Mutation] = {**BYTES, "cells": csv_cells}
