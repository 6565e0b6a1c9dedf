"""Algorithms on chunks of h steps: one action of h * A numbers (Q-chunking), or n-step returns."""

from __future__ import annotations

from enoto_jax.types import Chunk, InputError, Spec, check_positive


def check_chunk(length: int, returns: int) -> None:
    """Refuse a chunk or a return without a step, and returns over several chunks.

    Raises:
      InputError: One of them is below 1, or both are above 1.
    """
    for name, value in {"chunk": length, "returns": returns}.items():
        check_positive(name, value)
    if length > 1 and returns > 1:
        raise InputError(
            f"chunk is {length} and returns is {returns}: a chunk's return has its own length; "
            "one of them must be 1"
        )


def chunked(spec: Spec, length: int) -> Spec:
    """Return the sizes for networks whose action is a chunk."""
    return spec._replace(action_size=length * spec.action_size)


def chunk_of(length: int, returns: int, discount: float, whole: bool) -> Chunk | None:
    """Return `Algorithm.chunk` for these options; None for single steps."""
    steps = max(length, returns)
    return None if steps == 1 else Chunk(steps, discount, whole, single=returns > 1)
