"""Tests of the NumPy oracle itself, against values worked out by hand."""

import itertools

import numpy as np
import pytest

from tests.oracle import reference

# Three critics (rows), two transitions (columns).
Q = np.array([[1.0, 6.0], [2.0, 2.0], [4.0, 4.0]])
LOG2, LOG3 = np.log(2.0), np.log(3.0)


def close(actual, expected, tolerance=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# Networks.


def layer(kernel, bias):
    return {"kernel": np.array(kernel, float), "bias": np.array(bias, float)}


def test_actor():
    tree = {
        "params": {
            "layer_0": layer([[1, -1], [0, 1]], [0, -2]),
            "mean": layer([[2], [5]], [0.5]),
            "log_std": layer([[1], [-30]], [0]),
        }
    }
    # s = (1, 2): (1, -1 + 2 - 2) = (1, -1), relu (1, 0); mean 2 + 0.5; log std 1.
    # s = (3, 6): (3, -3 + 6 - 2) = (3, 1); mean 6 + 5 + 0.5; log std 3 - 30, clamped to -20.
    # s = (3, 0): (3, -5), relu (3, 0); mean 6.5; log std 3, clamped to 2.
    mean, log_std = reference.mlp_actor(tree, np.array([[1.0, 2.0], [3.0, 6.0], [3.0, 0.0]]))
    close(mean, [[2.5], [11.5], [6.5]])
    close(log_std, [[1.0], [-20.0], [2.0]])
    close(reference.mlp_actor(tree, np.array([[3.0, 6.0]]), low=-5.0)[1], [[-5.0]])


def test_two_layers():
    layers = {"layer_0": layer([[2]], [-1]), "layer_1": layer([[-1]], [4])}
    # x = 1: 1, then 3. x = 3: 5, then -1, relu 0. x = 0: relu 0, then 4.
    close(reference.trunk(layers, np.array([[1.0], [3.0], [0.0]])), [[3.0], [0.0], [4.0]])


def two_critics():
    return {
        "params": {
            "layer_0": layer([[[1, 1], [0, 2]], [[0, 1], [1, 0]]], [[0, 0], [1, -1]]),
            "out": layer([[[1], [10]], [[2], [3]]], [[0], [-1]]),
        }
    }


def test_critics():
    # Input (s, a) = (1, 0.5).
    # Member 0: (1, 1 + 1) = (1, 2); 1 + 20 = 21. Member 1: (0.5 + 1, 1 - 1) = (1.5, 0); 3 - 1 = 2.
    # Input (-1, 0.5). Member 0: (-1, -1 + 1), relu 0; 0. Member 1: (1.5, -2), relu (1.5, 0); 2.
    q = reference.critics(two_critics(), np.array([[1.0], [-1.0]]), np.array([[0.5], [0.5]]))
    close(q, [[21.0, 0.0], [2.0, 2.0]])


# The tanh-normal distribution.


def test_tanh_normal():
    # Zero noise and zero mean: a = 0, no Jacobian, log N(0; 0, 1) = -0.918938533204672741 each.
    action, log_prob = reference.tanh_normal(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 2)))
    close(action, [[0.0, 0.0]])
    close(log_prob, [-2.0 * 0.918938533204672741])
    # u = 0.5 log 3: a = (3 - 1) / (3 + 1) = 0.5, Jacobian 1 - 0.25. Zero noise, log std log 2:
    # log N = -log 2 - 0.918938533204672741; log prob = that - log 0.75.
    action, log_prob = reference.tanh_normal(
        np.array([[0.5 * LOG3]]), np.array([[LOG2]]), np.zeros((1, 1))
    )
    close(action, [[0.5]])
    close(log_prob, [-0.693147180559945309 - 0.918938533204672741 + 0.287682072451780927])


def test_tanh_normal_writings_agree():
    rng = np.random.default_rng(0)
    mean, log_std, noise = rng.normal(size=(3, 50, 4))
    log_std = 0.5 * log_std
    action, log_prob = reference.tanh_normal(mean, log_std, noise)
    close(reference.tanh_normal_log_prob(mean, log_std, action), log_prob, 1e-8)


def test_tanh_normal_saturated():
    # u = 50, std 1: -0.5 * 0 - 0.9189... - 2 (log 2 - 50 - 0), though tanh(50) is 1 in float64.
    action, log_prob = reference.tanh_normal(np.array([[50.0]]), np.zeros((1, 1)), np.zeros((1, 1)))
    close(action, [[1.0]])
    close(log_prob, [-0.918938533204672741 - 2.0 * (0.693147180559945309 - 50.0)])


@pytest.mark.parametrize("mean, std", [(0.0, 0.3), (0.7, 0.5), (-0.4, 1.5)])
def test_tanh_normal_integrates_to_one(mean, std):
    edge = 8.0 * std
    action = np.tanh(np.linspace(mean - edge, mean + edge, 20001))
    action = action[np.abs(action) < 1.0][:, None]
    log_prob = reference.tanh_normal_log_prob(
        np.full_like(action, mean), np.full_like(action, np.log(std)), action
    )
    close(np.trapezoid(np.exp(log_prob), action[:, 0]), 1.0, 1e-6)


# Target rules.


def test_min_mean_mix():
    close(reference.min_q(Q), [1.0, 2.0])
    close(reference.mean_q(Q), [7.0 / 3.0, 4.0])
    # 0.75 * 1 + 0.25 * 4; 0.75 * 2 + 0.25 * 6.
    close(reference.mix(Q, 0.75), [1.75, 3.0])


def test_rem():
    # Weights (1, 1, 2) / 4: 0.25 + 0.5 + 2; 1.5 + 0.5 + 2.
    close(reference.rem(Q, np.array([1.0, 1.0, 2.0])), [2.75, 4.0])
    # One vector per transition: (1, 1, 2) / 4 for the first, (0, 1, 0) for the second.
    close(reference.rem(Q, np.array([[1.0, 0.0], [1.0, 5.0], [2.0, 0.0]])), [2.75, 2.0])


def test_random_min():
    close(reference.random_min(Q, [0, 2]), [1.0, 4.0])
    close(reference.random_min(Q, [2, 1]), [2.0, 2.0])


def test_weighted_min_pair():
    # First transition: min(1,2) = 1, min(1,4) = 1, min(2,4) = 2; 4 / 3.
    # Second: min(6,2) = 2, min(6,4) = 4, min(2,4) = 2; 8 / 3.
    close(reference.weighted_min_pair(Q), [4.0 / 3.0, 8.0 / 3.0])


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_weighted_min_pair_closed_form(count):
    """Sorted ascending, the k-th of N values (k = 1..N) is the minimum of N - k pairs."""
    q = np.random.default_rng(count).normal(size=(count, 7))
    weights = np.arange(count - 1, -1, -1) / (count * (count - 1) / 2)
    close(weights.sum(), 1.0)
    value = reference.weighted_min_pair(q)
    close(value, weights @ np.sort(q, axis=0))
    assert np.all(reference.min_q(q) <= value + 1e-12) and np.all(value <= reference.mean_q(q))
    pairs = [reference.random_min(q, pair) for pair in itertools.combinations(range(count), 2)]
    close(value, np.mean(pairs, axis=0))


def test_weighted_min_pair_limits():
    close(reference.weighted_min_pair(Q[:2]), reference.min_q(Q[:2]))
    close(reference.weighted_min_pair(np.full((10, 3), 2.5)), 2.5)


def test_independent():
    q = np.array([[1.0, 6.0], [2.0, 2.0], [4.0, 4.0], [3.0, 9.0]])
    close(reference.independent(q, 1), q)
    close(reference.independent(q, 2), [[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0]])
    close(reference.independent(q, 4), [[1.0, 2.0]] * 4)
    with pytest.raises(ValueError, match="4 critics do not divide into groups of 3"):
        reference.independent(q, 3)


# SUNRISE, bootstrapped heads and optimism.


def test_standard_deviations():
    # (1, 2, 3, 6): mean 3, squares 4 + 1 + 0 + 9 = 14.
    close(reference.population_std([1.0, 2.0, 3.0, 6.0]), 1.8708286933869707)  # sqrt(14 / 4)
    close(reference.unbiased_std([1.0, 2.0, 3.0, 6.0]), 2.160246899469287)  # sqrt(14 / 3)


def test_sunrise_weight():
    # Two critics 2 log 3 apart: population std log 3; sigmoid(-log 3) = 1 / (1 + 3).
    # Agreement: sigmoid(0) + 0.5 = 1.
    next_q = np.array([[0.0, 5.0], [2.0 * LOG3, 5.0]])
    close(reference.sunrise_weight(next_q, 1.0), [0.75, 1.0])
    # T = 2: sigmoid(-log 9) = 1 / 10.
    close(reference.sunrise_weight(next_q, 2.0), [0.6, 1.0])
    # Far apart: 0.5, and no overflow.
    close(reference.sunrise_weight(np.array([[0.0], [1e4]]), 10.0), [0.5])


def test_batch_weight():
    # Draw 0: member means (0 + 2) / 2 = 1 and (4 + 2) / 2 = 3, std 1.
    # Draw 1: member means 0 and (5 + 7) / 2 = 6, std 3. Mean 2; T = log 3 / 2: sigmoid(-log 3).
    draws = [np.array([[0.0, 2.0], [4.0, 2.0]]), np.array([[-1.0, 1.0], [5.0, 7.0]])]
    close(reference.batch_weight(draws, LOG3 / 2.0), 0.75)


def test_batch_weight_misses_disagreement_that_cancels():
    next_q = np.array([[0.0, 9.0], [9.0, 0.0]])  # Both member means are 4.5.
    close(reference.batch_weight([next_q], 10.0), 1.0)
    close(reference.sunrise_weight(next_q, 10.0), [0.5, 0.5], 1e-9)


def test_ucb_choice():
    # Means 1, 2, 2; unbiased std 0, 4 / sqrt 2, 6 / sqrt 2.
    q = np.array([[1.0, 0.0, 5.0], [1.0, 4.0, -1.0]])
    assert reference.ucb_choice(q, 0.0) == 1  # A tie: the first.
    assert reference.ucb_choice(q, 10.0) == 2
    assert reference.ucb_choice(q, -1.0) == 0


def test_ucb_choice_is_unbiased():
    # Score 2 against 1 + 0.8 std of (0, 2): unbiased 1 + 1.131, but population 1 + 0.8.
    assert reference.ucb_choice(np.array([[2.0, 0.0], [2.0, 2.0]]), 0.8) == 1


def test_bootstrapped_choice():
    q = np.array([[1.0, 0.0, 5.0], [1.0, 4.0, -1.0]])
    assert reference.bootstrapped_choice(q, 0) == 2
    assert reference.bootstrapped_choice(q, 1) == 1


def test_oac_q_upper():
    # Mean 3, unbiased std of (1, 5) sqrt(8) = 2.8284...
    close(reference.oac_q_upper(np.array([1.0, 5.0]), 2.0), 3.0 + 2.0 * 2.8284271247461903)


def test_oac_mean():
    # g (3, 2), std (1, 2): g^2 std^2 = 9 + 16, norm 5. delta 2: factor 2. Sigma g = (3, 8).
    shift = np.array([6.0, 16.0]) / 5.00001
    mean, std, g = np.array([0.5, -1.0]), np.array([1.0, 2.0]), np.array([3.0, 2.0])
    close(reference.oac_mean(mean, std, g, 2.0), mean + shift)
    # The same in a batch, next to a state without a gradient, which does not move.
    batch = reference.oac_mean(
        np.array([mean, mean]), np.array([std, std]), np.array([g, np.zeros(2)]), 2.0
    )
    close(batch, [mean + shift, mean])


# Soft actor-critic.


def test_sac_target():
    reward, terminated = np.array([1.0, 1.0]), np.array([0.0, 1.0])
    log_prob = np.array([2.0, 2.0])
    # 1 + 0.5 (4 - 0.5 * 2) = 2.5; terminated: 1.
    close(
        reference.sac_target(reward, terminated, 0.5, np.array([4.0, 4.0]), 0.5, log_prob),
        [2.5, 1.0],
    )
    # A second member with value 6: 1 + 0.5 (6 - 1) = 3.5.
    close(
        reference.sac_target(
            reward, terminated, 0.5, np.array([[4.0, 4.0], [6.0, 6.0]]), 0.5, log_prob
        ),
        [[2.5, 1.0], [3.5, 1.0]],
    )


def test_critic_loss():
    q = np.array([[1.0, 2.0], [3.0, 4.0]])
    y = np.array([1.0, 4.0])
    # Squares (0, 4) and (4, 0): 2 + 2.
    close(reference.critic_loss(q, y), 4.0)
    close(reference.critic_loss(q, y, 0.75), 3.0)
    # Weights (0.5, 2): (0 + 8) / 2 + (2 + 0) / 2.
    close(reference.critic_loss(q, y, np.array([0.5, 2.0])), 5.0)
    # Own targets: squares (1, 0) and (0, 9): 0.5 + 4.5.
    own = np.array([[0.0, 2.0], [3.0, 1.0]])
    close(reference.critic_loss(q, own), 5.0)
    # Mask: (0 + 4) / (2 + 1) + 4 / (1 + 1).
    mask = np.array([[1.0, 1.0], [1.0, 0.0]])
    close(reference.critic_loss(q, y, mask=mask), 10.0 / 3.0)
    # Both: (0 + 2 * 4) / 3 + 0.5 * 4 / 2.
    close(reference.critic_loss(q, y, np.array([0.5, 2.0]), mask), 11.0 / 3.0)
    # Mask, weights and own targets: 0.5 * 1 / 3 + 0 / 2; all masked: 0 / 1.
    close(reference.critic_loss(q, own, np.array([0.5, 2.0]), mask), 1.0 / 6.0)
    close(reference.critic_loss(q, y, mask=np.zeros((2, 2))), 0.0)


def test_actor_loss():
    # alpha log pi = (1, -1). Min (1, 2): (0 - 3) / 2. Mean (7/3, 4): (-4/3 - 5) / 2.
    log_prob = np.array([2.0, -2.0])
    close(reference.actor_loss(0.5, log_prob, Q), -1.5)
    close(reference.actor_loss(0.5, log_prob, Q, "mean"), -19.0 / 6.0)


def test_temperature_loss():
    # log pi + H = (-3, 1), mean -1. exp(log 2) = 2.
    log_prob = np.array([-1.0, 3.0])
    close(reference.temperature_loss(LOG2, log_prob, -2.0, "exp"), 2.0)
    close(reference.temperature_loss(LOG2, log_prob, -2.0, "log"), 0.693147180559945309)


# Conservative Q-learning.


def cql_case():
    """Two critics, one candidate of each kind, one transition; values are logarithms of integers."""
    return {
        "q_data": np.array([[0.0], [LOG2]]),
        "q_random": np.log(np.array([[[1.0]], [[2.0]]])),
        "q_current": np.log(np.array([[[4.0]], [[2.0]]])),
        "q_next": np.log(np.array([[[3.0]], [[12.0]]])),
        "log_prob_current": np.array([[LOG2]]),
        "log_prob_next": np.array([[LOG3]]),
        "action_size": 2,
    }


def test_cql_penalty_importance_sampling():
    # A log 0.5 = -log 4, so uniform entries are multiplied by 4, the others divided by 2 and by 3.
    # Critic 0: 1 * 4 + 4 / 2 + 3 / 3 = 7, data 1: log 7.
    # Critic 1: 2 * 4 + 2 / 2 + 12 / 3 = 13, data 2: log 6.5.
    gap, gaps = reference.cql_penalty(**cql_case())
    close(gaps, [1.945910149055313305, 1.871802176901591298])
    close(gap, (1.945910149055313305 + 1.871802176901591298) / 2.0)
    close(reference.cql_penalty(**cql_case(), reduction="sum")[0], np.log(45.5))


def test_cql_penalty_without_importance_sampling():
    # Critic 0: 1 + 4 + 3 + 1 (data) = 9, data 1: log 9. Critic 1: 2 + 2 + 12 + 2 = 18, data 2: log 9.
    gap, gaps = reference.cql_penalty(**cql_case(), importance_sampling=False)
    close(gaps, [2.0 * LOG3, 2.0 * LOG3])
    close(gap, 2.0 * LOG3)


def test_cql_penalty_clips_each_transition_before_the_mean():
    # No densities, 3 entries 0 and the data's: differences log((3 + e^q) / e^q).
    # q = 0: log 4. q = log 3: log 2. q = -log 3: log 10.
    zeros = np.zeros((1, 1, 3))
    arguments = dict(
        q_data=np.array([[0.0, LOG3, -LOG3]]),
        q_random=zeros,
        q_current=zeros,
        q_next=zeros,
        log_prob_current=None,
        log_prob_next=None,
        action_size=1,
        importance_sampling=False,
    )
    close(reference.cql_penalty(**arguments)[0], np.log(80.0) / 3.0)
    # Clipped to [1, 2]: log 4, 1, 2.
    close(reference.cql_penalty(**arguments, clip=(1.0, 2.0))[0], (2.0 * LOG2 + 3.0) / 3.0)


def test_cql_penalty_does_not_divide_by_the_number_of_candidates():
    # All values 2 and all densities 1 in size 0: gap = log(3 K).
    values, log_probs = np.full((2, 10, 4), 2.0), np.zeros((10, 4))
    gap, _ = reference.cql_penalty(
        np.full((2, 4), 2.0), values, values, values, log_probs, log_probs, action_size=0
    )
    close(gap, 3.4011973816621555)  # log 30


def test_cql_lagrange_d3rlpy():
    # ENOTO's: multiplier 1, 5 * 3 - 5 = 10. Multiplier 2: 20.
    close(reference.cql_lagrange_d3rlpy(0.0, 3.0, 5.0, 5.0), [10.0, -10.0])
    close(reference.cql_lagrange_d3rlpy(LOG2, 3.0, 5.0, 5.0), [20.0, -20.0])


def test_cql_lagrange_corl():
    # 2 * 5 * (3 - 0.8) + 2 * 5 * (1 - 0.8) = 22 + 2; multiplier loss -0.5 * 24.
    close(reference.cql_lagrange_corl(LOG2, np.array([3.0, 1.0]), 5.0, 0.8), [24.0, -12.0])


def test_multiplier_is_clamped():
    close(reference.multiplier(1.0), 2.718281828459045)
    close(reference.multiplier(20.0), 1e6)


def test_deterministic_backup():
    actor = {
        "params": {
            "layer_0": layer([[1]], [0]),
            "mean": layer([[1]], [0]),
            "log_std": layer([[0]], [0]),
        }
    }
    # s2 = log 3 / 2: mean the same, action tanh = 0.5. Critics as max(a, 0) * 4 and max(a, 0) * 6.
    targets = {
        "params": {
            "layer_0": layer([[[0], [1]], [[0], [1]]], [[0], [0]]),
            "out": layer([[[4]], [[6]]], [[0], [0]]),
        }
    }
    next_observation = np.array([[0.5 * LOG3], [0.5 * LOG3]])
    reward, terminated = np.array([1.0, 1.0]), np.array([0.0, 1.0])
    # Values 2 and 3. Min: 1 + 0.9 * 2; mean: 1 + 0.9 * 2.5; each its own: 1 + 0.9 * (2, 3).
    arguments = (actor, targets, reward, terminated, 0.9, next_observation)
    close(reference.deterministic_backup(*arguments), [2.8, 1.0])
    close(reference.deterministic_backup(*arguments, reference.mean_q), [3.25, 1.0])
    close(reference.deterministic_backup(*arguments, lambda q: q), [[2.8, 1.0], [3.7, 1.0]])


def test_max_backup():
    # One transition, critics in rows, samples in columns: (1, 5, 3) and (4, 2, 3). Min over critics
    # (1, 2, 3), max 3. (Max first, then min, would be 4.)
    q = np.array([[1.0, 5.0, 3.0], [4.0, 2.0, 3.0]])[:, :, None]
    close(reference.max_backup(q), [3.0])


# Optimisation.


def test_polyak():
    target = {"a": {"kernel": np.array([1.0, 2.0])}, "b": np.array(0.0)}
    online = {"a": {"kernel": np.array([3.0, 2.0])}, "b": np.array(8.0)}
    updated = reference.polyak(target, online, 0.25)
    close(updated["a"]["kernel"], [1.5, 2.0])
    close(updated["b"], 2.0)
    close(target["a"]["kernel"], [1.0, 2.0])


def test_adam():
    # Step 1, g = 1: m / (1 - 0.9) = 1, v / (1 - 0.999) = 1. Step 2, g = -1: m = 0.09 - 0.1 = -0.01,
    # over 0.19; v = 0.000999 + 0.001 = 0.001999, over 1 - 0.998001 = 0.001999.
    first, second = reference.adam([np.array([1.0, 0.0]), np.array([-1.0, 0.0])], 0.1)
    close(first, [-0.1 / (1.0 + 1e-8), 0.0])
    close(second, [0.1 * (0.01 / 0.19) / (1.0 + 1e-8), 0.0])
    # The gradient's scale hardly matters, but eps is outside the root: 1e-8 halves the step.
    close(reference.adam([np.array([1e-8])], 0.1)[0], [-0.05])
