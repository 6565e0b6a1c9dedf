"""Cells of the studies' tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enoto_jax.report import intervals


def cell(values: Sequence[float], form: str, each: str = "") -> str:
    """Return the mean over seeds, with Student's t interval from five seeds on, else each seed.

    Args:
      values: One value per seed.
      form: Format of a number, such as "+.1f".
      each: A word before the seeds' values; without it, a single seed is shown as the mean alone.
    """
    mean = f"{np.mean(values):{form}}"
    if len(values) >= intervals.ENOUGH:
        low, high = intervals.mean_interval(np.asarray(values))
        return f"{mean} [{low:{form}}, {high:{form}}]"
    if len(values) == 1 and not each:
        return mean
    return f"{mean} ({each}{', '.join(f'{value:{form}}' for value in values)})"
