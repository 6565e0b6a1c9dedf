"""A seed's streams of random numbers. A run's results depend on their names and order."""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from enoto_jax.types import Key

# Independent streams of random numbers of one seed.
STREAMS = ("init", "offline", "handover", "online", "act")


def stream(seed: ArrayLike, name: str) -> Key:
    """Return the key of one named stream of one seed; fold in a step number before use."""
    return jax.random.fold_in(jax.random.key(seed), STREAMS.index(name))
