"""Data sets: how they are found, read and scored."""

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
