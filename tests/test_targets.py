"""Target rules against hand-computed tables and against the brute-force oracle."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from enoto_jax import targets
from enoto_jax.types import InputError
from tests.oracle import reference

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 2000)
Q = np.array([[1.0, 6.0], [4.0, 2.0], [2.5, 5.0]], np.float32)
TABLE = {
    "min_q": (targets.min_q(), [1, 2]),
    "mean_q": (targets.mean_q(), [7.5 / 3, 13 / 3]),
    # Minima of the pairs: 1, 1, 2.5 and 2, 5, 2.
    "weighted_min_pair": (targets.weighted_min_pair(), [4.5 / 3, 9 / 3]),
    "all_of_random_min": (targets.random_min_pair(m=3), [1, 2]),
    "independent": (targets.independent(), Q),
    "independent_3": (targets.independent(group=3), [[1, 2]] * 3),
    "first_q": (targets.first_q(), [1, 6]),
    # 0.7 * 1 + 0.3 * 4 and 0.7 * 2 + 0.3 * 6.
    "mix": (targets.mix(), [1.9, 3.2]),
    "mix_max": (targets.mix(k=0.0), [4, 6]),
}


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def many(rule, q):
    """The rule's values of q for 2000 keys."""
    return double(jax.vmap(rule, (0, None))(KEYS, q))


def double(x):
    return np.asarray(x, np.float64)


def close(actual, expected, tolerance=1e-6):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


class Table(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*TABLE)
    def test_by_hand(self, name):
        rule, expected = TABLE[name]
        close(self.variant(rule)(KEY, Q), expected)


@pytest.mark.parametrize("name", ["min_q", "mean_q", "weighted_min_pair", "mix"])
def test_order_of_critics_does_not_matter(name):
    rule, _ = TABLE[name]
    q, order = draw(5, 7), [3, 0, 4, 2, 1]
    close(rule(KEY, q[np.array(order)]), rule(KEY, q))


def test_order_of_critics_orders_independent_targets():
    rule, q, order = targets.independent(), draw(5, 7), np.array([3, 0, 4, 2, 1])
    close(rule(KEY, q[order]), rule(KEY, q)[order])


@pytest.mark.parametrize("n", [2, 3, 5, 10, 50])
def test_weighted_min_pair_is_the_mean_over_all_pairs(n):
    q = draw(n, 4, seed=n)
    value = targets.weighted_min_pair()(KEY, q)
    close(value, reference.weighted_min_pair(double(q)), 2e-6)
    assert (q.min(axis=0) <= value + 1e-6).all()
    assert (value <= q.mean(axis=0) + 1e-6).all()
    weights = targets.weighted_min_pair_weights(n)
    assert weights.sum() == pytest.approx(1)
    assert weights[-1] == 0 and (np.diff(weights) < 0).all()
    if n == 2:
        np.testing.assert_array_equal(value, q.min(axis=0))


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("k", [-0.5, -1.3, 0.0, 0.4])
def test_mean_spread_is_the_mean_and_a_multiple_of_the_mean_pairwise_distance(n, k):
    q = np.random.default_rng(n).normal(size=(n, 6))
    pairs = [np.abs(q[i] - q[j]) for i in range(n) for j in range(i)]
    found = targets.mean_spread(k=k)(KEY, jnp.float32(q))
    np.testing.assert_allclose(found, q.mean(0) + k * np.mean(pairs, axis=0), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_mean_spread_holds_weighted_min_pair_the_mean_and_the_minimum_of_two(n):
    q = jnp.float32(np.random.default_rng(n).normal(size=(n, 6)))
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6)  # noqa: E731
    close(targets.mean_spread()(KEY, q), targets.weighted_min_pair()(KEY, q))
    close(targets.mean_spread(k=0.0)(KEY, q), targets.mean_q()(KEY, q))
    if n == 2:
        close(targets.mean_spread()(KEY, q), targets.min_q()(KEY, q))


def test_mean_spread_by_hand():
    q = jnp.float32([[1.0], [4.0], [2.0]])  # mean 7 / 3; distances 3, 1, 2: delta 2
    assert targets.mean_spread(k=-1.0)(KEY, q)[0] == pytest.approx(1 / 3, rel=1e-5)


def test_weighted_min_pair_keeps_ties():
    close(targets.weighted_min_pair()(KEY, jnp.full((5, 2), 3.0)), [3, 3])


# The random rules. With an identity matrix as q, a rule's values show its draw.


def test_rem_weights_are_one_convex_combination_a_batch():
    rule, q = targets.rem(), draw(4, 6)
    weights = double(rule(KEY, jnp.eye(4)))
    assert (weights > 0).all() and weights.sum() == pytest.approx(1, abs=1e-6)
    close(rule(KEY, q), reference.rem(double(q), weights))
    close(rule(KEY, q), reference.rem(double(q), double(jax.random.uniform(KEY, (4, 1))[:, 0])))


def test_rem_per_sample_draws_for_every_transition():
    rule, q = targets.rem(per_sample=True), draw(4, 6)
    members = [jnp.repeat(jnp.eye(4)[:, i : i + 1], 6, axis=1) for i in range(4)]
    weights = np.array([double(rule(KEY, member)) for member in members])
    close(weights.sum(axis=0), np.ones(6))
    assert np.ptp(weights, axis=1).min() > 0.01
    close(rule(KEY, q), reference.rem(double(q), weights))
    close(rule(KEY, q), reference.rem(double(q), double(jax.random.uniform(KEY, (4, 6)))))


def test_rem_of_one_critic_is_its_value_where_the_weight_drawn_is_0():
    key = jax.random.key(780233)
    assert jax.random.uniform(key, (1, 1)) == 0.0
    close(targets.rem()(key, Q[:1]), Q[0])


@pytest.mark.parametrize("per_sample", [False, True])
def test_rem_weighs_all_critics_alike_on_average(per_sample):
    weights = many(targets.rem(per_sample=per_sample), jnp.eye(5))
    # The sd of a mean weight is about 0.1 / sqrt(2000) = 0.0025.
    close(np.mean(weights, axis=0), np.full(5, 0.2), 0.01)


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_random_min_pair_draws_m_distinct_critics_for_the_whole_batch(m):
    # Column b is 0 only for critic b, so its minimum is 0 exactly if b was drawn.
    drawn = many(targets.random_min_pair(m=m), 1 - jnp.eye(5)) == 0
    np.testing.assert_array_equal(drawn.sum(axis=1), np.full(2000, m))
    close(drawn.mean(axis=0), np.full(5, m / 5), 0.045)  # 4 sd


def test_random_min_pair_averages_to_weighted_min_pair():
    q = draw(5, 5)
    values = many(targets.random_min_pair(), q)
    error = values.mean(axis=0) - reference.weighted_min_pair(double(q))
    assert (abs(error) < 4 * values.std(axis=0) / 2000**0.5).all()
    assert (values.std(axis=0) > 0.1).all()


@pytest.mark.parametrize("rule", [targets.rem(), targets.random_min_pair()])
def test_a_random_rule_draws_the_same_for_a_key_alone_and_under_vmap(rule):
    q = draw(5, 5)
    close(many(rule, q)[:2], [rule(key, q) for key in KEYS[:2]])


@pytest.mark.parametrize("group", [1, 2, 3])
def test_groups_against_the_oracle(group):
    q = draw(6, 4)
    close(targets.independent(group=group)(KEY, q), reference.independent(double(q), group))


@pytest.mark.parametrize("k", [0.0, 0.7, 1.0])
def test_mix_against_the_oracle(k):
    q = draw(5, 4)
    close(targets.mix(k=k)(KEY, q), reference.mix(double(q), k))


@pytest.mark.parametrize(
    "make", [lambda: targets.random_min_pair(m=0), lambda: targets.independent(group=0)]
)
def test_a_number_below_one_is_refused(make):
    with pytest.raises(InputError, match=" is 0; it must be at least 1"):
        make()


@pytest.mark.parametrize(
    ("rule", "n"),
    [
        (targets.weighted_min_pair(), 1),  # no pair exists
        (targets.random_min_pair(m=3), 2),
        (targets.independent(group=2), 3),
    ],
    ids=["weighted_min_pair", "random_min_pair", "independent"],
)
def test_critics_that_do_not_fit_the_rule_are_refused_in_words(rule, n):
    with pytest.raises(InputError):
        rule(KEY, jnp.ones((n, 2)))
