"""Data sets: where they come from, how they are read, and D4RL's scores."""

from enoto_jax.data.loading import load_source
from enoto_jax.data.memory import from_arrays
from enoto_jax.data.notes import action_units
from enoto_jax.data.source import Dataset, Source, concatenate, scaled
from enoto_jax.data.tasks import completed

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
