"""Checksums of a checkpoint, because Orbax does not detect flipped bits in an array."""

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
    """Return the checksum of a record without the checksums in it, including version 2's."""
    said = {k: v for k, v in record.items() if k not in ("checksums", "checksum")}
    return zlib.crc32(json.dumps(said, sort_keys=True).encode())


def checksums(record: Mapping[str, Any], state: Any) -> dict[str, int]:
    """Return the checksums of the record and of each part of the state, by name."""
    sums = {"record": record_checksum(record)}
    for path, x in jax.tree.leaves_with_path(state):
        part = jax.tree_util.keystr(path[:1], simple=True)
        sums[part] = zlib.crc32(np.ascontiguousarray(x).data, sums.get(part, 0))
    return sums


def verify(record: Mapping[str, Any], state: Any) -> None:
    """Compare the record, and all or some parts of the state, with their checksums.

    Versions before 3 have no checksums of parts; see `one_checksum`.

    Raises:
      Damaged: A checksum differs.
    """
    if record["version"] < 3:
        return
    said = record.get("checksums", {})
    if wrong := [k for k, v in checksums(record, state).items() if said.get(k) != v]:
        raise Damaged(f"the checksum of its {' and '.join(wrong)} does not match")


def one_checksum(record: Mapping[str, Any], state: Any) -> int:
    """Return version 2's checksum of the record and the whole state. Version 1 had none."""
    total = record_checksum(record)
    for x in jax.tree.leaves(state):
        total = zlib.crc32(np.ascontiguousarray(x).data, total)
    return total
