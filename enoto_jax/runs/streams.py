"""The streams of random numbers of a seed: what a run computes depends on them and their order."""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from enoto_jax.types import Key

# Independent streams of random numbers of one seed.
STREAMS = ("init", "offline", "handover", "online", "act")


def stream(seed: ArrayLike, name: str) -> Key:
    """The key of one named stream of one seed; fold a step number in before use."""
    return jax.random.fold_in(jax.random.key(seed), STREAMS.index(name))
