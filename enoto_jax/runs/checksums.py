"""Checksums of a checkpoint: Orbax itself notices no flipped bit in an array."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


class Damaged(Exception):
    """A checkpoint that cannot be read as it was written."""


def record_checksum(record: Mapping[str, Any]) -> int:
    """Of everything that a record says but checksums, of this version or of version 2."""
    said = {k: v for k, v in record.items() if k not in ("checksums", "checksum")}
    return zlib.crc32(json.dumps(said, sort_keys=True).encode())


def checksums(record: Mapping[str, Any], state: Any) -> dict[str, int]:
    """Of the record and of each part of the state, by their names."""
    sums = {"record": record_checksum(record)}
    for path, x in jax.tree.leaves_with_path(state):
        part = jax.tree_util.keystr(path[:1], simple=True)
        sums[part] = zlib.crc32(np.ascontiguousarray(x).data, sums.get(part, 0))
    return sums


def verify(record: Mapping[str, Any], state: Any) -> None:
    """Compare the record, and all parts of the state or some, with their checksums.

    Before version 3 there are none of parts; see `one_checksum`.

    Raises:
      Damaged: One of them is another one.
    """
    if record["version"] < 3:
        return
    said = record.get("checksums", {})
    if wrong := [k for k, v in checksums(record, state).items() if said.get(k) != v]:
        raise Damaged(f"the checksum of its {' and '.join(wrong)} is another one")


def one_checksum(record: Mapping[str, Any], state: Any) -> int:
    """Of version 2: one of the record and the whole state. Version 1 had none."""
    total = record_checksum(record)
    for x in jax.tree.leaves(state):
        total = zlib.crc32(np.ascontiguousarray(x).data, total)
    return total
