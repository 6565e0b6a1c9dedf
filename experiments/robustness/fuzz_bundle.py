"""Exported policies as a target of the fuzzer: a valid bundle, its mutations, and its use."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from enoto_jax import core
from enoto_jax.deploy import export, numpy_runtime
from enoto_jax.recipes import registry
from enoto_jax.recipes.table import RECIPES
from enoto_jax.runs import policies
from enoto_jax.transforms import transform
from enoto_jax.types import InputError, Spec
from experiments.robustness import mutations

SPEC = Spec(2, 1)
NAME = "policy.zip"
ROW = registry.override(RECIPES["bc"], "algorithm.hidden", (8,))


def make(folder: Path) -> None:
    """Write the bundle of an untrained policy."""
    algorithm = ROW.offline.algorithm.build(SPEC)
    state = jax.tree.map(np.asarray, core.init(algorithm, jax.random.key(0)))
    same = transform()(SPEC, None)
    found = policies.Kept(algorithm, state, same, "latest", "online", 0, 0, {})
    _write(
        folder / NAME,
        export.files(found, {"env": "none"}, np.float32([-1]), np.float32([1]), onnx=False),
    )


def use(folder: Path) -> None:
    """Load the bundle and act, as a robot does.

    StableHLO is left out: it is for the compiler, which trusts it; see docs/deploy.md.
    """
    found = export.load(folder / NAME)
    size = found.about["observation_size"]
    for shape in ((size,), (3, size)):
        try:
            found.act(np.ones(shape, np.float32))
        except ValueError as error:
            raise InputError(str(error)) from error


def _write(path: Path, files: Mapping[str, bytes], packed: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def _read(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _summed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with matching checksums, as an attacker would write them."""
    return export.summed({name: data for name, data in files.items() if name != numpy_runtime.SUMS})


def _within(member: str, change: mutations.Mutation) -> mutations.Mutation:
    """A mutation of one file of a bundle."""

    def mutation(path: Path, rng: np.random.Generator) -> None:
        files, lone = _read(path), path.with_name("lone" + Path(member).suffix)
        lone.write_bytes(files[member])
        try:
            change(lone, rng)
            files[member] = lone.read_bytes()
        finally:
            lone.unlink()
        _write(path, _summed(files))

    return mutation


def _step(op: str, inputs: list, out: str, **options) -> dict:
    return {"op": op, "in": inputs, "with": options, "out": out}


def _hostile(path: Path, rng: np.random.Generator) -> None:
    """Add steps that exhaust memory or time, or that yield something other than numbers."""
    wide = {"shape": [mutations.TRILLION, 2], "broadcast_dimensions": [1]}
    outer = {"dimension_numbers": [[[], []], [[], []]]}
    program, seen = json.loads(path.read_text()), "observation"
    choices: tuple[Callable[[], list], ...] = (
        lambda: [_step("broadcast_in_dim", [seen], "x", **wide)],
        lambda: [
            _step("concatenate", ["x" if i else seen] * 2, "x", dimension=0) for i in range(60)
        ],
        lambda: [_step("dot_general", ["x" if i else seen] * 2, "x", **outer) for i in range(6)],
        lambda: [
            _step("broadcast_in_dim", [seen], "x", **{**wide, "shape": [1 << 24, 2]}),
            *[_step("exp", ["x"], f"x{i}") for i in range(500)],
        ],
        lambda: [_step("neg", [seen], f"x{i}") for i in range(200_000)],
        lambda: [_step("integer_pow", [3], "x", y=10**9)],
        lambda: [_step("mul", [10**30, 10**30], "x"), _step("integer_pow", ["x"], "y", y=10**9)],
        lambda: [
            _step("convert_element_type", [seen], "x", new_dtype=kind)
            for kind in ("O", "S1000000000", "M8[s]", "c16")
        ],
        lambda: [_step("add", [seen, seen], "x", dtype="O"), _step("add", ["x", 1], "y")],
        lambda: [_step("add", [seen, seen], "x", out=seen, where=False)],
        lambda: [_step("__import__", ["os"], "x")],
        lambda: [_step("mul", [seen, float("nan")], step["out"]) for step in program[-1:]],
        lambda: [_step("reshape", [seen], "x", new_sizes=[-1] * 70)],
        lambda: [_step("log", [-1.0], program[-1]["out"])],
        lambda: [_step("transpose", [seen], program[-1]["out"], permutation=[1, 0])],
    )
    made = choices[rng.integers(len(choices))]()
    path.write_text(json.dumps(made + program if rng.integers(2) else program + made))


def _sums(path: Path, rng: np.random.Generator) -> None:
    """Write wrong checksums, or names that point elsewhere."""
    files = _read(path)
    lines = files[numpy_runtime.SUMS].decode().splitlines()
    at, name = int(rng.integers(len(lines))), lines[0].split("  ")[1]
    digest = hashlib.sha256(files[name]).hexdigest()
    choices = (
        lambda: lines[:at] + lines[at + 1 :],
        lambda: [*lines, f"{digest}  ../../outside/secret.bin"],
        lambda: [*lines, f"{digest}  /etc/passwd"],
        lambda: lines * 10_000,
        lambda: [],
        lambda: [*lines, digest],
        lambda: [*lines, f"{digest}  \x00"],
        lambda: [*lines[:at], f"{digest[::-1]}  {lines[at].split('  ')[1]}", *lines[at + 1 :]],
    )
    files[numpy_runtime.SUMS] = "\n".join(choices[rng.integers(len(choices))]()).encode()
    _write(path, files)


def _packed(path: Path, rng: np.random.Generator) -> None:
    """Write archive bombs: zeros, other compression methods, or false sizes."""
    files = _read(path)
    name, how = list(files)[rng.integers(len(files))], rng.integers(4)
    if how == 0:
        files[name] = bytes(2**28)
    packed = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED)[rng.integers(3)]
    _write(path, _summed(files), packed if how == 1 else zipfile.ZIP_DEFLATED)
    if how < 2:
        return
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # the first member's, in the central directory
    size = (2**32 - 2, 2**31, 2**24, 1, 0)[rng.integers(5)]
    content[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    if how == 3:  # the content unpacks to more than its stated size
        files[name] = bytes(2**28)
        _write(path, files)
        content = bytearray(path.read_bytes())
        content = content.replace((2**28).to_bytes(4, "little"), (2**20).to_bytes(4, "little"))
    path.write_bytes(content)


MUTATIONS: dict[str, mutations.Mutation] = {
    **mutations.BYTES,
    "checksums": _sums,
    "bombs": _packed,
    "names": mutations.NPZ["names"],
    **{f"arrays: {k}": _within(numpy_runtime.ARRAYS, v) for k, v in mutations.NPZ.items()},
    **{f"program: {k}": _within(numpy_runtime.PROGRAM, v) for k, v in mutations.JSON.items()},
    "program: hostile": _within(numpy_runtime.PROGRAM, _hostile),
    **{f"about: {k}": _within(numpy_runtime.ABOUT, v) for k, v in mutations.JSON.items()},
}
