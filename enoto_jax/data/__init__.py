"""Data sets: where they come from, how they are read, and D4RL's scores."""

from enoto_jax.data.source import Dataset, Source, concatenate, from_arrays, load_source

__all__ = ["Dataset", "Source", "concatenate", "from_arrays", "load_source"]
