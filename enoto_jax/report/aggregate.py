"""Methods over many tasks, after Agarwal et al. (2021), "Deep RL at the Statistical Precipice".

Scores are given as `[task][S]`: an array a task, one number a run (a seed); tasks may have
different numbers of runs, and each run counts once. Intervals are 95% percentiles of the stratified
bootstrap: runs are drawn again within each task, tasks are fixed.

`scipy.stats.bootstrap` of several unpaired samples is just that. rliable, the paper's own package,
asks for arch < 8, whose last release does not import beside pandas 3; SciPy is here with JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Scores = Sequence[np.ndarray]
SAMPLES = 2000
TARGET = 100.0  # the score of an expert: where the optimality gap ends


class Estimate(NamedTuple):
    """A statistic, and its interval: None where a task has one run only."""

    value: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def _bootstrap(statistic: Callable[..., np.ndarray], samples: Scores, seed: int) -> Estimate:
    value = statistic(*samples, axis=-1)
    if min(sample.shape[-1] for sample in samples) < 2:
        return Estimate(value, None, None)
    found = stats.bootstrap(
        samples,
        statistic,
        n_resamples=SAMPLES,
        batch=200,  # what a curve's resamples take in memory
        vectorized=True,
        paired=False,
        axis=-1,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, found.low, found.high)


def _mean(*tasks: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate(tasks, axis).mean(axis)


def _middle_half(*tasks: np.ndarray, axis: int) -> np.ndarray:
    return stats.trim_mean(np.concatenate(tasks, axis), 0.25, axis)


def iqm(scores: Scores, seed: int = 0) -> Estimate:
    """Interquartile mean: the mean of the middle half of all runs of all tasks.

    Args:
        scores: `[task][..., S]`; leading axes (steps of a curve) are those of the result.
        seed: Of the resampling.
    """
    return _bootstrap(_middle_half, [np.asarray(own, float) for own in scores], seed)


def optimality_gap(scores: Scores, target: float = TARGET, seed: int = 0) -> Estimate:
    """By how much runs fall short of the target on average: mean of target - min(score, target)."""
    short = [target - np.minimum(np.asarray(own, float), target) for own in scores]
    return _bootstrap(_mean, short, seed)


def profile(scores: Scores, levels: np.ndarray, seed: int = 0) -> Estimate:
    """Performance profile: the share of runs whose score is above each level; `[len(levels)]`."""
    above = [(np.asarray(own) > np.asarray(levels)[:, None]).astype(float) for own in scores]
    return _bootstrap(_mean, above, seed)


def improvement(ours: Scores, theirs: Scores, seed: int = 0) -> Estimate:
    """Probability that a run of ours beats one of theirs on a task; ties count half, mean of tasks.

    Args:
        ours: `[task][S]`.
        theirs: The same tasks in the same order.
        seed: Of the resampling.
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
    return _bootstrap(statistic, samples, seed)


def complete_block(found: Mapping[str, set[str]]) -> tuple[list[str], list[str]]:
    """The largest block of rows and tasks without a hole: aggregates compare like with like.

    Args:
        found: row -> the tasks that it was run on.

    Returns:
        rows, tasks.
    """
    blocks = []
    for tasks in map(frozenset, found.values()):
        rows = [row for row, own in found.items() if own >= tasks]
        blocks.append((len(rows) * len(tasks), len(tasks), rows, sorted(tasks)))
    _, _, rows, tasks = max(blocks, key=lambda block: block[:2], default=(0, 0, [], []))
    return rows, tasks
