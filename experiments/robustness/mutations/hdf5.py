"""Mutations of HDF5 files."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from enoto_jax.data.formats import d4rl
from experiments.robustness.mutations.raw import BYTES, ODD, TRILLION, Mutation, pick


def _arrays(group: h5py.Group, depth: int = 2) -> list[str]:
    """The paths of the arrays, to a limited depth: an earlier mutation may have made cycles."""
    found = []
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            if isinstance(group[name], h5py.Dataset):
                found.append(name)
            elif isinstance(group[name], h5py.Group) and depth:
                found += [f"{name}/{inner}" for inner in _arrays(group[name], depth - 1)]
    return found


def _changed(change: Callable[[h5py.File, str, np.random.Generator], None]) -> Mutation:
    """A mutation of one or two arrays of an HDF5 file."""

    def mutation(path: Path, rng: np.random.Generator) -> None:
        with h5py.File(path, "a") as file:
            for _ in range(rng.integers(1, 3)):
                change(file, pick(rng, _arrays(file) or ["observations"]), rng)

    return mutation


def _put(file: h5py.File, key: str, array: Any) -> None:
    if key in file:
        del file[key]
    file[key] = array


def _other_type(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    array = np.nan_to_num(np.asarray(file[key][()], np.float64))
    kind = pick(
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
    _put(file, key, pick(rng, shapes)())


def _other_values(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    array = np.array(file[key][()])
    value = pick(rng, (np.nan, np.inf, -np.inf, 1e38, -1e300, 2, -1, 1e-45, 0))
    if rng.integers(2):
        array = array.astype(np.float64)
    with np.errstate(all="ignore"):
        rows = rng.integers(len(array), size=rng.integers(1, len(array)))
        array[rows] = np.asarray(value).astype(array.dtype)
    _put(file, key, array)


def _attribute(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    name = pick(rng, d4rl.ATTRIBUTES)
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
    owner.attrs[name] = pick(rng, values)


def _claim(file: h5py.File, key: str, rng: np.random.Generator) -> None:
    """Claim a billion to a trillion rows, almost none of which are stored."""
    rows = int(pick(rng, (TRILLION, 10**10, 10**9)))
    kind = pick(rng, (file[key].dtype, np.int8, np.float64))
    how = pick(rng, ("chunked", "contiguous", "virtual", "huge chunks", "resizable", "filled"))
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
    """Refer to rows outside the file's folder, by one of the ways that HDF5 has."""
    outside = path.resolve().parents[1] / "outside" / "secret.hdf5"
    with h5py.File(path, "a") as file:
        key = pick(rng, _arrays(file) or ["observations"])
        shape, kind = file[key].shape, file[key].dtype
        place = pick(rng, (str(outside), os.path.relpath(outside, path.parent)))
        how = pick(rng, ("external link", "soft link", "virtual", "nested", "storage", "root"))
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
        elif how == "nested":  # a valid neighbour whose own rows are elsewhere
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
    how = pick(rng, ("soft", "hard", "itself", "each other", "wide", "deep"))
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
    group = pick(rng, (key, key.rpartition("/")[0] or key))
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
    """Write a chunk that claims a few rows and unpacks to 256 MB, or many rows in few bytes."""
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
    name = pick(rng, names)
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
