"""Intervals against textbook values, and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from enoto_jax.report import aggregate, intervals


@pytest.mark.parametrize("n", [5, 10])
def test_the_interval_of_a_mean_covers_it(n):
    """95% of 20,000 intervals should cover; the standard error of the share is 0.15 points."""
    values = 3.0 + 2.0 * np.random.default_rng(n).standard_normal((n, 20_000))
    low, high = intervals.mean_interval(values)
    assert 0.93 < np.mean((low <= 3.0) & (high >= 3.0)) < 0.97


@pytest.mark.parametrize("n", [5, 10])
def test_the_interval_of_an_aggregate_covers_it(n):
    """Three tasks with different means; the target is the IQM's mean over many such runs.

    With 500 repetitions, the standard error of the covering share is 1 point.
    """
    rng = np.random.default_rng(n)

    def draw(repeats):
        return [m + 10 * rng.standard_normal((repeats, n)) for m in (30.0, 60.0, 80.0)]

    truth = stats.trim_mean(np.concatenate(draw(20_000), axis=1), 0.25, axis=1).mean()
    found = aggregate.iqm(draw(500))
    assert 0.92 < np.mean((found.low <= truth) & (found.high >= truth)) < 0.98


@pytest.mark.parametrize("n", [10, 50, 100])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_wilsons_interval_covers_the_rate(n, p):
    """Coverage is exact, from the binomial distribution; it jumps with p, hence the wide bounds."""
    k = np.arange(n + 1)
    low, high = intervals.wilson(k, np.full(n + 1, n))
    coverage = np.sum(stats.binom.pmf(k, n, p) * ((low <= p) & (p <= high)))
    assert 0.92 < coverage < 0.985


def test_wilson_by_hand():
    """3 of 10, z = 1.96: (3 + 1.92) / 13.84 +- 1.96 / 13.84 * sqrt(2.1 + 0.96)."""
    np.testing.assert_allclose(intervals.wilson(3, 10), [0.1078, 0.6032], atol=1e-4)
    low, high = intervals.wilson(np.array([0, 10]), np.array([10, 10]))
    assert low[0] == 0.0 and high[1] == 1.0  # exactly
    np.testing.assert_allclose([high[0], low[1]], [0.2775, 0.7225], atol=1e-4)
    with pytest.raises(ValueError, match="4 successes in 3 trials"):
        intervals.wilson(4, 3)


def test_the_interval_is_taken_point_by_point_and_from_five_seeds():
    values = np.arange(10.0).reshape(5, 2)
    both = intervals.mean_interval(values)
    np.testing.assert_array_equal(both[:, 1], intervals.mean_interval(values[:, 1]))
    with pytest.raises(ValueError, match="at least 5"):
        intervals.mean_interval(values[:4])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2, 3, 4, 5], "higher"),
        ([-1, -2, -3, -4, -5], "lower"),
        ([-3, 2, -1, 4, 1], "not distinguishable"),
        ([10, 11, 12, 13], "not distinguishable (4 seeds; 5 are needed to tell)"),
        ([10], "not distinguishable (1 seed; 5 are needed to tell)"),
    ],
)
def test_what_differences_tell(values, said):
    assert intervals.verdict(np.array(values)) == said
