"""Aggregates and their bootstrap intervals against plain loops."""

import numpy as np
import pytest
from scipy import stats

from enoto_jax.report import aggregate

SCORES = [
    np.array([10.0, 30.0, 20.0, 25.0, 12.0]),
    np.array([90.0, 120.0, 80.0, 99.0, 104.0, 95.0]),
    np.array([50.0, 55.0, 40.0, 47.0, 61.0]),
]
OTHERS = [
    np.array([20.0, 25.0, 5.0, 11.0, 28.0]),
    np.array([90.0, 80.0, 101.0, 92.0, 97.0]),
    np.array([60.0, 45.0, 52.0, 50.0, 49.0]),
]
POOLED = [x for task in SCORES for x in task]


def middle(values):
    """The mean of the sorted values without a quarter (rounded down) at each end."""
    cut = len(values) // 4
    kept = sorted(values)[cut : len(values) - cut]
    return sum(kept) / len(kept)


def half_width(statistic, *samples):
    """t times the standard deviation over resamples of n - 1 out of n runs within each task."""
    rng = np.random.default_rng(1)
    drawn = [statistic(*[rng.choice(task, len(task) - 1) for task in samples]) for _ in range(1000)]
    degrees = sum(len(task) - 1 for task in samples)
    return stats.t.ppf(0.975, degrees) * np.std(drawn)


def pooled(statistic):
    return lambda *tasks: statistic([x for task in tasks for x in task])


def agrees(found, value, half):
    assert found.value == pytest.approx(value)
    assert found.high - found.value == pytest.approx(half, rel=0.1)
    assert found.value - found.low == pytest.approx(half, rel=0.1)


def test_interquartile_mean():
    assert middle([10, 30, 20, 90, 120, 50, 55, 40]) == pytest.approx((30 + 40 + 50 + 55) / 4)
    agrees(aggregate.iqm(SCORES), middle(POOLED), half_width(pooled(middle), *SCORES))


def test_optimality_gap():
    def gap(values):
        return sum(100 - min(x, 100) for x in values) / len(values)

    found = aggregate.optimality_gap(SCORES)
    agrees(found, gap(POOLED), half_width(pooled(gap), *SCORES))


def test_profile():
    found = aggregate.profile(SCORES, np.array([0.0, 50.0, 130.0]))
    share = sum(x > 50 for x in POOLED) / 16
    np.testing.assert_allclose(found.value, [1, share, 0])  # strictly above 50
    np.testing.assert_allclose([found.low[0], found.high[0]], 1)  # shares are at most 1
    half = half_width(pooled(lambda values: np.mean([x > 50 for x in values])), *SCORES)
    agrees(aggregate.Estimate(*(part[1] for part in found)), share, half)


def test_probability_of_improvement():
    def beats(*tasks):
        pairs = zip(tasks[:3], tasks[3:], strict=True)
        return np.mean(
            [
                np.mean([(x > y) + 0.5 * (x == y) for x in ours for y in theirs])
                for ours, theirs in pairs
            ]
        )

    found = aggregate.improvement(SCORES, OTHERS)
    back = aggregate.improvement(OTHERS, SCORES)
    assert found.value + back.value == pytest.approx(1)
    agrees(found, beats(*SCORES, *OTHERS), half_width(beats, *SCORES, *OTHERS))


def test_a_curve_is_its_points():
    curve = [np.stack([task, 2 * task]) for task in SCORES]
    found, single = aggregate.iqm(curve), aggregate.iqm(SCORES)
    for part, once in zip(found, single):
        np.testing.assert_allclose(part, [once, 2 * once])


def test_four_runs_of_a_task_give_no_interval():
    found = aggregate.iqm([SCORES[0], SCORES[1], SCORES[2][:4]])
    assert found.low is None and found.high is None


def test_the_largest_block_without_a_hole():
    found = {"a": {"x", "y"}, "b": {"x", "y", "z"}, "c": {"x"}, "d": {"q"}}
    assert aggregate.complete_block(found) == (["a", "b"], ["x", "y"])
    assert aggregate.complete_block({}) == ([], [])


def test_a_block_may_be_what_rows_have_in_common():
    found = {row: {"x", "y", "z", row} for row in ("a", "b", "c")}
    assert aggregate.complete_block(found) == (["a", "b", "c"], ["x", "y", "z"])
