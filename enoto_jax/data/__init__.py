"""Data sets: where they come from, how they are read, and D4RL's scores."""

from enoto_jax.data.notes import action_units
from enoto_jax.data.source import (
    Dataset,
    Source,
    completed,
    concatenate,
    from_arrays,
    load_source,
    scaled,
)

__all__ = [
    "Dataset",
    "Source",
    "action_units",
    "completed",
    "concatenate",
    "from_arrays",
    "load_source",
    "scaled",
]
