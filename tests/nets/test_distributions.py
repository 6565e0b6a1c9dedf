"""The tanh-squashed Gaussian against the oracle, and at the edges of its range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax.nets.distributions import ClippedNormal, TanhNormal
from tests.oracle import reference

KEY = jax.random.key(3)
B, A, K = 6, 2, 5


@pytest.fixture(scope="module")
def moments():
    rng = np.random.default_rng(1)
    return jnp.float32(rng.normal(size=(B, A))), jnp.float32(rng.uniform(-1.5, 0.5, (B, A)))


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(), (K,)])
def test_sample_against_the_oracle_with_the_same_noise(moments, double, shape):
    action, log_prob = TanhNormal(*moments).sample(KEY, shape)
    assert action.shape == (*shape, B, A) and log_prob.shape == (*shape, B)
    noise = double(jax.random.normal(KEY, (*shape, B, A)))
    expected_action, expected_log_prob = reference.tanh_normal(*double(moments), noise)
    close(action, expected_action)
    close(log_prob, expected_log_prob)
    assert abs(action).max() < 1


def test_candidates_differ(moments):
    action, _ = TanhNormal(*moments).sample(KEY, (K,))
    assert len(np.unique(action)) == action.size


def test_log_prob_against_the_oracle(moments, double):
    action = jnp.float32(np.random.default_rng(2).uniform(-0.95, 0.95, (B, A)))
    expected = reference.tanh_normal_log_prob(*double(moments), double(action))
    close(TanhNormal(*moments).log_prob(action), expected)


def test_log_prob_is_the_inverse_of_sample(moments):
    action, log_prob = TanhNormal(*moments).sample(KEY)
    close(TanhNormal(*moments).log_prob(action), log_prob, 1e-3)


def test_the_density_integrates_to_one():
    edges = np.linspace(-1, 1, 4001)
    middles = jnp.float32((edges[1:] + edges[:-1]) / 2)[:, None]
    log_prob = TanhNormal(jnp.float32([0.4]), jnp.float32([-0.7])).log_prob(middles)
    assert np.exp(log_prob).sum() * 2 / 4000 == pytest.approx(1, abs=1e-4)


def test_an_action_on_the_bound_counts_as_just_inside(moments):
    mean, log_std = moments
    bound = jnp.ones((B, A)).at[0].set(-1.0)
    at_bound = TanhNormal(mean, log_std).log_prob(bound)
    assert np.isfinite(at_bound).all()
    close(at_bound, TanhNormal(mean, log_std).log_prob(bound * (1 - 1e-6)))


@pytest.mark.parametrize("log_std", [-20.0, -5.0, 2.0])
@pytest.mark.parametrize("mean", [-60.0, 0.0, 60.0])
def test_values_and_gradients_are_finite_at_the_edges(mean, log_std):
    mean, log_std = jnp.full((3, A), mean), jnp.full((3, A), log_std)
    bounds = jnp.float32([[-1, -1], [0, 0], [1, 1]])

    def drawn(mean, log_std):
        action, log_prob = TanhNormal(mean, log_std).sample(KEY)
        return jnp.sum(action) + jnp.sum(log_prob)

    def given(mean, log_std, action):
        return jnp.sum(TanhNormal(mean, log_std).log_prob(action))

    drawn = jax.value_and_grad(drawn, (0, 1))(mean, log_std)
    given = jax.value_and_grad(given, (0, 1, 2))(mean, log_std, bounds)
    for value in jax.tree.leaves((drawn, given)):
        assert np.isfinite(value).all()


def test_sampling_is_reparameterised(moments, double):
    mean, log_std = moments
    noise = double(jax.random.normal(KEY, (B, A)))
    by_mean, by_log_std = jax.grad(lambda m, s: jnp.sum(TanhNormal(m, s).sample(KEY)[0]), (0, 1))(
        mean, log_std
    )
    slope = 1 - reference.tanh_normal(*double(moments), noise)[0] ** 2
    close(by_mean, slope)
    close(by_log_std, slope * np.exp(double(log_std)) * noise)


def test_the_gradient_of_the_entropy_against_finite_differences(moments, double):
    noise = double(jax.random.normal(KEY, (B, A)))

    def oracle(mean, log_std):
        return reference.tanh_normal(mean, log_std, noise)[1].sum()

    grads = jax.grad(lambda m, s: jnp.sum(TanhNormal(m, s).sample(KEY)[1]), (0, 1))(*moments)
    for i, grad in enumerate(grads):
        for index in np.ndindex(B, A):
            low, high = ([x.copy() for x in double(moments)] for _ in range(2))
            low[i][index] -= 1e-5
            high[i][index] += 1e-5
            expected = (oracle(*high) - oracle(*low)) / 2e-5
            assert grad[index] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_mode():
    close(TanhNormal(jnp.float32([0.0, np.arctanh(0.5)]), jnp.zeros(2)).mode(), [0, 0.5])


# The clipped Gaussian.


def test_clipped_samples_and_the_density_that_is_not_clipped(moments, double):
    action, log_prob = ClippedNormal(*moments).sample(KEY, (K,))
    mean, log_std = double(moments)
    raw = mean + np.exp(log_std) * double(jax.random.normal(KEY, (K, B, A)))
    assert (abs(raw) > 1).any()
    close(action, np.clip(raw, -1, 1))
    expected = reference.normal_log_density(np.clip(raw, -1, 1), mean, log_std).sum(axis=-1)
    close(log_prob, expected)
    close(ClippedNormal(*moments).log_prob(action), expected)


def test_families_agree_on_their_own_samples(moments):
    for family in (TanhNormal, ClippedNormal):
        action, log_prob = family(*moments).sample(KEY)
        close(family(*moments).log_prob(action), log_prob, 1e-3)
        assert abs(family(3.0 * moments[0], moments[1]).mode()).max() <= 1
