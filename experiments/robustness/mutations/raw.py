"""Mutations of bytes, and the odd values that all mutations draw from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def pick(rng: np.random.Generator, choices: Any) -> Any:
    choices = list(choices)
    return choices[rng.integers(len(choices))]


def flipped(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    used = len(content.rstrip(b"\0")) or 1
    for _ in range(rng.integers(1, 9)):
        content[rng.integers(min(used, len(content)))] = rng.integers(256)
    path.write_bytes(content)


def extremes(path: Path, rng: np.random.Generator) -> None:
    """Write bytes 0x00, 0xff or 0x7f where a number of 1 to 8 bytes may be."""
    content, size = bytearray(path.read_bytes()), pick(rng, (1, 2, 4, 8))
    used = len(content.rstrip(b"\0")) or 1
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(used)) // size * size
        content[at : at + size] = pick(rng, (b"\x00", b"\xff", b"\x7f")) * size
    path.write_bytes(content)


def truncated(path: Path, rng: np.random.Generator) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.integers(len(content))])


def spliced(path: Path, rng: np.random.Generator) -> None:
    """Copy a block to somewhere else, over what is there or in between."""
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
