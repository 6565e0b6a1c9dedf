"""Aggregates against a writing in plain loops, and their intervals against enumeration."""

import itertools

import numpy as np
import pytest

from enoto_jax.report import aggregate

SCORES = [np.array([10.0, 30.0, 20.0]), np.array([90.0, 120.0]), np.array([50.0, 55.0, 40.0])]
OTHERS = [np.array([20.0, 25.0, 5.0]), np.array([90.0, 80.0]), np.array([60.0, 45.0, 52.0])]


def resamples(task):
    return [list(drawn) for drawn in itertools.product(task, repeat=len(task))]


def middle(values):
    """Sorted, a quarter cut off at each end (rounded down), the rest averaged."""
    cut = len(values) // 4
    kept = sorted(values)[cut : len(values) - cut]
    return sum(kept) / len(kept)


def every(statistic):
    """The statistic of all resamples within tasks; the bootstrap draws from these."""
    return [
        statistic([x for task in drawn for x in task])
        for drawn in itertools.product(*map(resamples, SCORES))
    ]


def agrees(found, value, population):
    assert found.value == pytest.approx(value)
    ranks = [np.mean(np.asarray(population) <= bound + 1e-9) for bound in (found.low, found.high)]
    below = [np.mean(np.asarray(population) < bound - 1e-9) for bound in (found.low, found.high)]
    for low, high, wanted in zip(below, ranks, (0.025, 0.975)):
        assert low - 0.01 <= wanted <= high + 0.01


def test_interquartile_mean():
    pooled = [x for task in SCORES for x in task]
    assert middle(pooled) == pytest.approx((30 + 40 + 50 + 55) / 4)
    agrees(aggregate.iqm(SCORES), middle(pooled), every(middle))


def test_optimality_gap():
    def gap(values):
        return sum(100 - min(x, 100) for x in values) / len(values)

    agrees(aggregate.optimality_gap(SCORES), gap([x for t in SCORES for x in t]), every(gap))


def test_profile():
    found = aggregate.profile(SCORES, np.array([0.0, 50.0, 130.0]))
    np.testing.assert_allclose(found.value, [1, 3 / 8, 0])  # 50 is not above 50
    population = every(lambda values: sum(x > 50 for x in values) / len(values))
    agrees(aggregate.Estimate(*(part[1] for part in found)), 3 / 8, population)


def test_probability_of_improvement():
    def beats(ours, theirs):
        return np.mean([(x > y) + 0.5 * (x == y) for x in ours for y in theirs])

    wanted = np.mean([beats(x, y) for x, y in zip(SCORES, OTHERS)])
    found = aggregate.improvement(SCORES, OTHERS)
    assert found.value == pytest.approx(wanted)
    back = aggregate.improvement(OTHERS, SCORES)
    assert found.value + back.value == pytest.approx(1)
    rng = np.random.default_rng(1)
    drawn = [
        np.mean(
            [beats(rng.choice(x, len(x)), rng.choice(y, len(y))) for x, y in zip(SCORES, OTHERS)]
        )
        for _ in range(2000)
    ]
    np.testing.assert_allclose(
        [found.low, found.high], np.percentile(drawn, [2.5, 97.5]), atol=0.04
    )


def test_a_curve_is_its_points():
    curve = [np.stack([task, 2 * task]) for task in SCORES]
    found, single = aggregate.iqm(curve), aggregate.iqm(SCORES)
    for part, once in zip(found, single):
        np.testing.assert_allclose(part, [once, 2 * once])


def test_one_run_of_a_task_gives_no_interval():
    found = aggregate.iqm([SCORES[0], np.array([50.0])])
    assert found.low is None and found.high is None


def test_the_largest_block_without_a_hole():
    found = {"a": {"x", "y"}, "b": {"x", "y", "z"}, "c": {"x"}, "d": {"q"}}
    assert aggregate.complete_block(found) == (["a", "b"], ["x", "y"])
    assert aggregate.complete_block({}) == ([], [])
