"""Aggregate over tasks, as in Agarwal et al. (2021), "Deep RL at the Statistical Precipice".

Scores are given as `[task][S]`: an array per task, one number per run (a seed). Tasks may have
different numbers of runs, and each run counts once. Tasks are fixed: an interval covers other seeds
on the same tasks.

The paper's percentile bootstrap is too narrow with few seeds. Here the stratified bootstrap gives
only a standard error, from n - 1 of the n runs of each task (McCarthy and Snowden, 1985: this makes
the variance of a mean unbiased), and Student's t quantile turns it into an interval. Its coverage
of a nominal 95% is tested by simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from enoto_jax.report import intervals

Scores = Sequence[np.ndarray]
SAMPLES = 1000
TARGET = 100.0  # an expert's score, at which the optimality gap is 0
TASKS = 3  # fewest tasks to aggregate


class Estimate(NamedTuple):
    """A statistic and its interval, which is None if a task has fewer than five runs."""

    value: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def _estimate(
    statistic: Callable[..., np.ndarray],
    samples: Scores,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    value = statistic(*samples, axis=-1)
    counts = [sample.shape[-1] for sample in samples]
    if min(counts) < intervals.ENOUGH:
        return Estimate(value, None, None)
    rng, found = np.random.default_rng(0), []
    for _ in range(SAMPLES // 100):  # in parts, to limit the memory of a curve's resamples
        drawn = [
            sample[..., rng.integers(n, size=(100, n - 1))]
            for sample, n in zip(samples, counts, strict=True)
        ]
        found.append(statistic(*drawn, axis=-1))
    degrees = sum(counts) - len(counts)
    half = intervals.quantile(degrees) * np.concatenate(found, axis=-1).std(axis=-1, ddof=1)
    return Estimate(value, np.maximum(value - half, bounds[0]), np.minimum(value + half, bounds[1]))


def _mean(*tasks: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate(tasks, axis).mean(axis)


def _middle_half(*tasks: np.ndarray, axis: int) -> np.ndarray:
    return stats.trim_mean(np.concatenate(tasks, axis), 0.25, axis)


def iqm(scores: Scores) -> Estimate:
    """Compute the interquartile mean: the mean of the middle half of all runs of all tasks.

    Args:
      scores: `[task][..., S]`; the result keeps leading axes (steps of a curve).
    """
    return _estimate(_middle_half, [np.asarray(own, float) for own in scores])


def optimality_gap(scores: Scores) -> Estimate:
    """Compute how far runs fall short of TARGET on average: mean of TARGET - min(score, TARGET)."""
    short = [TARGET - np.minimum(np.asarray(own, float), TARGET) for own in scores]
    return _estimate(_mean, short, (0.0, np.inf))


def profile(scores: Scores, levels: np.ndarray) -> Estimate:
    """Compute the performance profile: the share of runs above each level; `[len(levels)]`."""
    above = [(np.asarray(own) > np.asarray(levels)[:, None]).astype(float) for own in scores]
    return _estimate(_mean, above, (0.0, 1.0))


def improvement(ours: Scores, theirs: Scores) -> Estimate:
    """Compute the probability that a run of ours beats one of theirs, averaged over tasks.

    Ties count half.

    Args:
      ours: `[task][S]`.
      theirs: `[task][S]` for the same tasks in the same order.
    """

    def statistic(*both: np.ndarray, axis: int) -> np.ndarray:
        assert axis == -1
        ours, theirs = both[: len(both) // 2], both[len(both) // 2 :]
        found = []
        for own, other in zip(ours, theirs, strict=True):
            difference = own[..., :, None] - other[..., None, :]
            found.append((0.5 + 0.5 * np.sign(difference)).mean((-2, -1)))
        return np.mean(found, axis=0)

    samples = [np.asarray(own, float) for own in (*ours, *theirs)]
    return _estimate(statistic, samples, (0.0, 1.0))


def complete_block(found: Mapping[str, set[str]]) -> tuple[list[str], list[str]]:
    """Find the largest block of rows run on the same tasks, so that aggregates are comparable.

    Args:
      found: row -> the tasks that it was run on.

    Returns:
      The block's rows and its tasks.
    """
    shared: dict[frozenset[str], None] = {}  # every intersection of the rows' tasks
    for own in map(frozenset, found.values()):
        shared |= dict.fromkeys([own, *(own & other for other in shared)])
    blocks = []
    for each in shared:
        full = [row for row, own in found.items() if own >= each]
        blocks.append((len(full) * len(each), len(each), full, sorted(each)))
    _, _, rows, tasks = max(blocks, key=lambda block: block[:2], default=(0, 0, [], []))
    return rows, tasks
