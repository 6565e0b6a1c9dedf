"""Cells of the studies' tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enoto_jax.report import intervals


def cell(values: Sequence[float], form: str, each: str = "") -> str:
    """The mean over seeds, with Student's t interval from five, and every seed below that.

    Args:
      values: Of every seed.
      form: How a number is written, such as "+.1f".
      each: A word before the seeds' own values; without it, one seed alone is its mean.
    """
    mean = f"{np.mean(values):{form}}"
    if len(values) >= intervals.ENOUGH:
        low, high = intervals.mean_interval(np.asarray(values))
        return f"{mean} [{low:{form}}, {high:{form}}]"
    if len(values) == 1 and not each:
        return mean
    return f"{mean} ({each}{', '.join(f'{value:{form}}' for value in values)})"
