"""Exchange bytes between all hosts: the only communication of a run on several hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from enoto_jax.runs.watchdog import AGAIN
from enoto_jax.types import RunError

CHUNK = 2**24  # bytes per exchange, which takes this much device memory times the number of hosts


def exchange(data: np.ndarray) -> np.ndarray:
    """Gather every host's bytes [n] as [hosts, n].

    Raises:
      RunError: A host is lost.
    """
    with _others():
        return multihost_utils.process_allgather(data)


def broadcast(data: np.ndarray) -> None:
    """Replace these bytes [n] in place by the first host's.

    Raises:
      RunError: A host is lost.
    """
    for begin in range(0, data.size, CHUNK):
        part = data[begin : begin + CHUNK]
        with _others():
            data[begin : begin + CHUNK] = multihost_utils.broadcast_one_to_all(part)


def gather_bytes(data: np.ndarray) -> list[np.ndarray]:
    """Gather every host's bytes, of any lengths, in pieces of few sizes (each size compiles)."""
    sizes = [int(size) for size in np.ravel(_gather_sizes(data.size))]
    found = [np.empty(size, np.uint8) for size in sizes]
    for begin in range(0, max(sizes), CHUNK):
        width = min(CHUNK, 1 << (max(sizes) - begin - 1).bit_length())
        part = np.zeros(width, np.uint8)
        mine = data[begin : begin + width]
        part[: mine.size] = mine
        for whole, row in zip(found, exchange(part)):
            whole[begin : begin + width] = row[: max(0, whole.size - begin)]
    return found


def gather_json(tree: Any) -> list[Any]:
    """Gather every host's JSON."""
    data = np.frombuffer(json.dumps(tree).encode(), np.uint8)
    return [json.loads(part.tobytes()) for part in gather_bytes(data)]


def to_bytes(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate the bytes of arrays."""
    return np.concatenate([np.zeros(0, np.uint8), *(x.reshape(-1).view(np.uint8) for x in leaves)])


def from_bytes(data: np.ndarray, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Split bytes into arrays with the shapes and dtypes of `like`; the inverse of `to_bytes`."""
    ends = np.cumsum([x.nbytes for x in like])
    return [data[e - x.nbytes : e].view(x.dtype).reshape(x.shape) for e, x in zip(ends, like)]


def _gather_sizes(size: int) -> np.ndarray:
    everyone = exchange(np.asarray([size], np.int64).view(np.uint8))
    return np.ascontiguousarray(everyone).view(np.int64)


@contextmanager
def _others() -> Iterator[None]:
    """Turn the runtime's error for a lost host into a RunError."""
    try:
        yield
    except Exception as error:
        raise RunError(f"another host is lost; {AGAIN}") from error
