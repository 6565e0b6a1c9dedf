"""Returns to go against explicit sums, the sparse rule, and the time they take."""

import numpy as np
import pytest

from enoto_jax.data.returns import returns_to_go
from enoto_jax.types import InputError, Transition


def transitions(reward, terminated=(), truncated=()):
    rows = np.arange(len(reward))
    reward, empty = np.asarray(reward, np.float32), np.zeros((len(reward), 1), np.float32)
    ends = np.isin(rows, terminated), np.isin(rows, truncated)
    return Transition(empty, empty, reward, *ends, empty)


def test_sums_end_with_the_episode():
    given = transitions([1, 2, 4, 8, 16, 32], terminated=[2], truncated=[4, 5])
    found = returns_to_go(given, 0.5)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1 + 1 + 1, 2 + 2, 4, 8 + 8, 16, 32])


def test_unmarked_last_row_is_an_end():
    np.testing.assert_array_equal(returns_to_go(transitions([1, 1, 1]), 1.0), [3, 2, 1])


def test_against_the_definition():
    rng = np.random.default_rng(0)
    reward = rng.normal(size=300)
    ends = np.sort(rng.choice(299, 12, replace=False))
    found = returns_to_go(transitions(reward, ends[::2], [*ends[1::2], 299]), 0.99)
    reward = reward.astype(np.float32).astype(float)
    for row in range(300):
        last = next(end for end in [*ends, 299] if end >= row)
        wanted = sum(0.99**k * reward[row + k] for k in range(last - row + 1))
        assert found[row] == pytest.approx(wanted, rel=1e-6)


def test_sparse_rule_holds_for_fruitless_episodes_alone():
    # AntMaze with 10 r - 5: an episode without success, one with success, one without.
    given = transitions([-5, -5, -5, -5, 5, -5, -5], terminated=[4], truncated=[1, 6])
    found = returns_to_go(given, 0.99, sparse=-5.0)
    np.testing.assert_allclose(found[[0, 1, 5, 6]], -500.0)
    np.testing.assert_allclose(found[2:5], [-5 + 0.99 * (-5 + 0.99 * 5), -5 + 0.99 * 5, 5])
    np.testing.assert_allclose(returns_to_go(given, 0.99)[:2], [-5 - 0.99 * 5, -5])


def test_sparse_reward_that_float32_rounds():
    found = returns_to_go(transitions([0.1, 0.1], truncated=[1]), 0.5, sparse=0.1)
    np.testing.assert_allclose(found, 0.2)


@pytest.mark.parametrize("discount", [-0.1, 1.1, float("nan")])
def test_discount_out_of_range(discount):
    with pytest.raises(InputError, match="between 0 and 1"):
        returns_to_go(transitions([1]), discount)


def test_no_discount_below_one_for_sparse_rewards():
    with pytest.raises(InputError, match="below 1"):
        returns_to_go(transitions([1]), 1.0, sparse=-1.0)
