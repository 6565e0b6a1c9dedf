"""Algorithms on chunks: the actions of h steps are one action of h * A numbers (Q-chunking)."""

from __future__ import annotations

from enoto_jax.types import Chunk, InputError, Spec


def check_chunk(length: int) -> None:
    """Refuse a chunk without a step.

    Raises:
      InputError: the length is below 1.
    """
    if length < 1:
        raise InputError(f"chunk is {length}; it must be at least 1")


def chunked(spec: Spec, length: int) -> Spec:
    """Sizes for networks whose action is a chunk."""
    return spec._replace(action_size=length * spec.action_size)


def chunk_of(length: int, discount: float, whole: bool) -> Chunk | None:
    """What `Algorithm.chunk` says; None for single steps."""
    return None if length == 1 else Chunk(length, discount, whole)
