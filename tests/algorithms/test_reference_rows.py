"""Tests of the NumPy oracle for methods with one policy, against values worked out by hand."""

import numpy as np
import pytest

from tests.oracle import methods as rows
from tests.oracle import reference

LOG2, LOG3 = np.log(2.0), np.log(3.0)
REWARD, TERMINATED = np.array([1.0, 2.0]), np.array([0.0, 1.0])


def close(actual, expected, tolerance=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def layer(kernel, bias):
    return {"kernel": np.array(kernel, float), "bias": np.array(bias, float)}


def random_critics(seed, count=3, inputs=5, hidden=(7, 6)):
    rng = np.random.default_rng(seed)
    widths = (inputs, *hidden)
    layers = {
        f"layer_{k}": layer(
            rng.normal(size=(count, widths[k], widths[k + 1])),
            rng.normal(size=(count, widths[k + 1])),
        )
        for k in range(len(hidden))
    }
    layers["out"] = layer(rng.normal(size=(count, hidden[-1], 1)), rng.normal(size=(count, 1)))
    return {"params": layers}


# Networks.


def test_value_and_tanh_actor():
    # s = 3: relu(3 - 1, -3) = (2, 0); head 5 * 2 + 1. s = -2: relu(-3, 2) = (0, 2); 7 * 2 + 1.
    tree = {"params": {"layer_0": layer([[1, -1]], [-1, 0]), "out": layer([[5], [7]], [1])}}
    close(rows.value_net(tree, np.array([[3.0], [-2.0]])), [11.0, 15.0])
    # Head log 3 / 2 on s = 1: tanh is 0.5.
    tree = {"params": {"layer_0": layer([[1]], [0]), "out": layer([[0.5 * LOG3]], [0])}}
    close(rows.tanh_actor(tree, np.array([[1.0]])), [[0.5]])
    close(rows.tanh_actor(tree, np.array([[1.0]]), scale=2.0), [[1.0]])


def test_gaussian_actor():
    tree = {
        "params": {
            "layer_0": layer([[1]], [0]),
            "mean": layer([[0.5 * LOG3, 0]], [0, 0]),
            "log_std": np.array([3.0, -9.0]),
        }
    }
    observation = np.array([[1.0], [0.0]])
    mean, log_std = rows.gaussian_actor(tree, observation, -5.0, 2.0, tanh_mean=True)
    close(mean, [[0.5, 0.0], [0.0, 0.0]])
    close(log_std, [[2.0, -5.0], [2.0, -5.0]])
    mean, _ = rows.gaussian_actor(tree, observation, -5.0, 2.0, tanh_mean=False)
    close(mean, [[0.5 * LOG3, 0.0], [0.0, 0.0]])


def test_gaussian_log_prob():
    # Std 2, a - m = (2, -4): -(1 + 4) / 2 - 2 log 2 - log(2 pi).
    log_prob = rows.gaussian_log_prob(
        np.array([[1.0, 1.0]]), np.full((1, 2), LOG2), np.array([[3.0, -3.0]])
    )
    close(log_prob, [-2.5 - 2.0 * 0.693147180559945309 - 1.837877066409345484])


def test_numerical_gradient():
    # f = a0^2 b + a1: (2 a0 b, 1) and a0^2.
    gradient = rows.numerical_gradient(
        lambda t: t["a"][0] ** 2 * t["b"]["c"][0] + t["a"][1],
        {"a": np.array([3.0, 1.0]), "b": {"c": np.array([2.0])}},
    )
    close(gradient["a"], [12.0, 1.0], 1e-8)
    close(gradient["b"]["c"], [9.0], 1e-8)


# EDAC.


def test_action_gradients_by_hand():
    # One critic, s = 1, a = 1. z_0 = (s + 2 a, -s - a) = (3, -2): only the first unit is open.
    # z_1 = 3 * 4 - 1 = 11, open; head 5. dQ/da = 5 * 4 * 2. With the head alone closed: 0.
    tree = {
        "params": {
            "layer_0": layer([[[1, -1], [2, -1]]], [[0, 0]]),
            "layer_1": layer([[[4], [6]]], [[-1]]),
            "out": layer([[[5]]], [[0]]),
        }
    }
    one = np.array([[1.0]])
    close(rows.action_gradients(tree, one, one), [[[40.0]]])
    # s = 0, a = -1: z_0 = (-2, 1): h (0, 1), z_1 = 6 - 1; dQ/da = 5 * 6 * -1.
    close(rows.action_gradients(tree, 0.0 * one, -one), [[[-30.0]]])
    # s = 1, a = -0.45: z_0 = (0.1, -0.55): z_1 = 0.4 - 1, closed.
    close(rows.action_gradients(tree, one, -0.45 * one), [[[0.0]]])


@pytest.mark.parametrize("hidden", [(7,), (7, 6), (5, 6, 7)])
def test_action_gradients_by_differences(hidden):
    rng = np.random.default_rng(1)
    tree = random_critics(2, hidden=hidden)
    observation, action = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    gradients = rows.action_gradients(tree, observation, action)
    assert gradients.shape == (3, 4, 2)
    for j in range(2):
        shift = np.zeros(2)
        shift[j] = 1e-6
        above = reference.critics(tree, observation, action + shift)
        below = reference.critics(tree, observation, action - shift)
        close(gradients[:, :, j], (above - below) / 2e-6, 1e-6)
    assert np.any(gradients != 0.0)


def test_edac_similarity():
    # Directions (1, 0), (0, 1), (0.6, 0.8): products 0, 0.6, 0.8; twice their sum over N - 1 = 2.
    # Second transition: equal and opposite to one: 1 - 1 - 1, twice that over 2.
    gradients = np.array(
        [[[2.0, 0.0], [3.0, 0.0]], [[0.0, 5.0], [9.0, 0.0]], [[3.0, 4.0], [-1.0, 0.0]]]
    )
    close(rows.edac_similarity(gradients), (1.4 - 1.0) / 2.0, 1e-9)
    # Equal directions: N. Two opposite ones: 2 * -1 / 1. A gradient of zero adds nothing.
    close(rows.edac_similarity(np.ones((4, 3, 2))), 4.0, 1e-9)
    close(rows.edac_similarity(np.array([[[1.0]], [[-7.0]]])), -2.0, 1e-9)
    close(rows.edac_similarity(np.array([[[1.0]], [[0.0]]])), 0.0)


def test_edac_critic_loss():
    # Q_1 = 2 relu(a), Q_2 = -relu(a) + 1: at a = 1 (2, 0), gradients 2 and -1: ES = -2.
    # y = 1: squares 1 and 1. 2 + 0.5 * -2 = 1.
    tree = {
        "params": {
            "layer_0": layer([[[0], [1]], [[0], [1]]], [[0], [0]]),
            "out": layer([[[2]], [[-1]]], [[0], [1]]),
        }
    }
    one = np.ones((1, 1))
    close(rows.edac_critic_loss(tree, one, one, np.ones(1), 0.5), 1.0, 1e-9)
    close(rows.edac_critic_loss(tree, one, one, np.ones(1), 0.0), 2.0)


# Cal-QL.


def test_returns_to_go():
    # g = 0.5. Backwards: 4; 2 + 2 = 4; 1 + 2 = 3. A termination in the middle cuts the sum there.
    reward = np.array([1.0, 2.0, 4.0])
    close(rows.returns_to_go(reward, np.zeros(3), 0.5), [3.0, 4.0, 4.0])
    close(rows.returns_to_go(reward, np.array([0.0, 0.0, 1.0]), 0.5), [3.0, 4.0, 4.0])
    close(rows.returns_to_go(reward, np.array([0.0, 1.0, 0.0]), 0.5), [2.0, 2.0, 4.0])


def test_returns_to_go_of_sparse_rewards():
    zeros = np.zeros(3)
    failed, reached = np.full(3, -5.0), np.array([-5.0, -5.0, 5.0])
    left = np.array([5.0, -5.0, -5.0])
    # -5 / (1 - 0.99).
    for sparse in ("all", "last"):
        close(rows.returns_to_go(failed, zeros, 0.99, sparse, -5.0), [-500.0] * 3, 1e-9)
        # 5; -5 + 2.5; -5 - 1.25.
        close(rows.returns_to_go(reached, zeros, 0.5, sparse, -5.0), [-6.25, -2.5, 5.0])
    # Without the rule: -5; -5 - 2.5; -5 - 3.75.
    close(rows.returns_to_go(failed, zeros, 0.5), [-8.75, -7.5, -5.0])
    # The two rules differ if only the last reward is the negative one: 5 - 3.75, or -5 / 0.5.
    close(rows.returns_to_go(left, zeros, 0.5, "all", -5.0), [1.25, -7.5, -5.0])
    close(rows.returns_to_go(left, zeros, 0.5, "last", -5.0), [-10.0] * 3)


def test_calibrated():
    q = np.array([[[1.0, -3.0], [4.0, 2.0]]])  # [N, K, B]
    values, wins = rows.calibrated(q, np.array([2.0, 2.0]))
    close(values, [[[2.0, 2.0], [4.0, 2.0]]])
    assert wins.tolist() == [[[False, False], [True, False]]]
    close(q, [[[1.0, -3.0], [4.0, 2.0]]])


def calql_case():
    """One critic, one candidate of each kind, one transition; logarithms of integers."""
    return {
        "q_data": np.array([[0.0]]),
        "q_random": np.log(np.array([[[1.0]]])),
        "q_current": np.log(np.array([[[4.0]]])),
        "q_next": np.log(np.array([[[3.0]]])),
        "log_prob_current": np.array([[LOG2]]),
        "log_prob_next": np.array([[LOG3]]),
        "action_size": 1,
    }


def test_calql_penalty():
    # Return log 12: uniform 1 * 2 stays, current 12 / 2, next 12 / 3: log(2 + 6 + 4).
    gap, gaps = rows.calql_penalty(**calql_case(), return_to_go=np.log([12.0]))
    close(gaps, [np.log(12.0)])
    close(gap, np.log(12.0))
    # Uniform ones too: 12 * 2 + 6 + 4.
    both, _ = rows.calql_penalty(**calql_case(), return_to_go=np.log([12.0]), calibrate_random=True)
    close(both, np.log(34.0))
    # A return between the two: 2 + 4 / 2 + 3.5 / 3. A return below everything: CQL itself.
    close(
        rows.calql_penalty(**calql_case(), return_to_go=np.log([3.5]))[0], np.log(4.0 + 3.5 / 3.0)
    )
    close(
        rows.calql_penalty(**calql_case(), return_to_go=np.array([-500.0]))[0],
        reference.cql_penalty(**calql_case())[0],
    )
    clipped = rows.calql_penalty(**calql_case(), return_to_go=np.log([12.0]), clip=(-1.0, 2.0))
    close(clipped[0], 2.0)


# IQL.


def test_iql_value_loss():
    # u = (2, -1): 0.9 * 4 and 0.1 * 1.
    q_target, v = np.array([3.0, 1.0]), np.array([1.0, 2.0])
    close(rows.iql_value_loss(q_target, v, 0.9), 1.85)
    # Expectile 0.5 is half the mean squared error.
    close(rows.iql_value_loss(q_target, v, 0.5), 0.5 * (4.0 + 1.0) / 2.0)
    close(rows.iql_value_loss(q_target, q_target, 0.7), 0.0)


def test_expectile_is_the_minimiser():
    # Expectile 0.75 of {0, 1}: 0.75 (1 - v) = 0.25 v, v = 0.75.
    def slope(v, step=1e-6):
        q = np.array([0.0, 1.0])
        above = rows.iql_value_loss(q, np.full(2, v + step), 0.75)
        return (above - rows.iql_value_loss(q, np.full(2, v - step), 0.75)) / (2.0 * step)

    close(slope(0.75), 0.0, 1e-8)
    assert slope(0.7) < 0.0 < slope(0.8)


def test_iql_critic_loss():
    # y = (1 + 0.5 * 4, 2) = (3, 2). Critic 0 errors (-2, 0), critic 1 (1, 2): 2 and 2.5.
    q, next_v = np.array([[1.0, 2.0], [4.0, 4.0]]), np.array([4.0, 9.0])
    close(rows.bootstrapped(REWARD, TERMINATED, 0.5, next_v), [3.0, 2.0])
    close(rows.iql_critic_loss(q, REWARD, TERMINATED, next_v, 0.5), 4.5)
    close(rows.iql_critic_loss(q, REWARD, TERMINATED, next_v, 0.5, reduction="mean"), 2.25)
    # Weights (0.5, 1): (2 + 0) / 2 + (0.5 + 4) / 2.
    weight = np.array([0.5, 1.0])
    close(rows.iql_critic_loss(q, REWARD, TERMINATED, next_v, 0.5, weight), 3.25)


def test_iql_actor_loss():
    # beta 2: weights exp(log 4) = 4 and exp(-log 9) = 1 / 9. -(4 * -1 + 9 / 9) / 2.
    advantage, log_prob = np.array([LOG2, -LOG3]), np.array([-1.0, 9.0])
    close(rows.exponential_weight(advantage, 2.0), [4.0, 1.0 / 9.0])
    close(rows.iql_actor_loss(advantage, log_prob, 2.0), 1.5)
    # Capped at 3: -(-3 + 1) / 2. An advantage far above: the cap, without overflow.
    close(rows.iql_actor_loss(advantage, log_prob, 2.0, cap=3.0), 1.0)
    close(rows.exponential_weight(np.array([1e6, -1e6]), 10.0), [100.0, 0.0])
    # beta 0 clones behaviour.
    close(rows.iql_actor_loss(advantage, log_prob, 0.0), -4.0)


def test_iql_deterministic_actor_loss():
    # Squares 1 + 4 and 0 + 9, weights 4 and 1 / 9: (20 + 1) / 2.
    policy_action, action = np.array([[1.0, 2.0], [0.0, 3.0]]), np.zeros((2, 2))
    advantage = np.array([LOG2, -LOG3])
    close(rows.iql_deterministic_actor_loss(advantage, policy_action, action, 2.0), 10.5)


# AWAC.


def test_awac():
    # 0.5 + 1 * (0.25, 3) clamped; std 2: 0 - 2.
    sample = rows.clamped_gaussian_sample(
        np.array([[0.5, 0.5], [0.0, 0.1]]),
        np.array([[0.0, 0.0], [LOG2, 0.0]]),
        np.array([[0.25, 3.0], [-1.0, 0.2]]),
    )
    close(sample, [[0.75, 1.0], [-1.0, 0.3]])
    # Minima (1, 2) and (0, 5).
    advantage = rows.awac_advantage(
        np.array([[1.0, 6.0], [2.0, 2.0]]), np.array([[0.0, 5.0], [4.0, 7.0]])
    )
    close(advantage, [1.0, -3.0])
    # y = (1 + 0.5 * 3, 2) = (2.5, 2); errors (-1.5, 0) and (0.5, 2): 1.125 + 2.125.
    q, next_q = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[3.0, 1.0], [4.0, 0.0]])
    close(rows.awac_critic_loss(q, REWARD, TERMINATED, next_q, 0.5), 3.25)
    close(rows.td3_critic_loss(q, REWARD, TERMINATED, next_q, 0.5), 3.25)


def test_awac_actor_loss():
    # lambda 1 / 2: weights 4 and 1 / 9, as in IQL.
    advantage, log_prob = np.array([LOG2, -LOG3]), np.array([-1.0, 9.0])
    close(rows.awac_actor_loss(advantage, log_prob, 0.5), 1.5)
    # Softmax: 4 and 1 / 9 over 37 / 9, times 2: weights 72 / 37 and 2 / 37. -(-72 + 18) / 37.
    close(rows.awac_actor_loss(advantage, log_prob, 0.5, form="softmax"), 54.0 / 37.0)
    # Equal advantages: behaviour cloning, summed over the batch.
    close(rows.awac_actor_loss(np.full(2, 7.0), log_prob, 0.5, form="softmax"), -8.0)


# REDQ and RLPD.


def test_redq():
    next_q = np.array([[3.0, 1.0], [1.0, 5.0], [4.0, 8.0]])
    log_prob = np.array([2.0, 2.0])
    # Members 0 and 2: minimum 3. 1 + 0.5 (3 - 0.5 * 2); terminated 2. Without entropy 1 + 1.5.
    arguments = (REWARD, TERMINATED, 0.5, next_q, [2, 0], 0.5, log_prob)
    close(rows.redq_target(*arguments), [2.0, 2.0])
    close(rows.redq_target(*arguments, entropy_backup=False), [2.5, 2.0])
    # All members: minimum 1.
    close(rows.redq_target(REWARD, TERMINATED, 0.5, next_q, [0, 1, 2], 0.5, log_prob), [1.0, 2.0])
    # Squares (1, 1), (1, 9), (4, 36): 1 + 5 + 20.
    y = np.array([2.0, 2.0])
    close(rows.redq_critic_loss(next_q, y), 26.0)
    close(rows.redq_critic_loss(next_q, y, reduction="mean"), 26.0 / 3.0)
    # Means 8 / 3 and 14 / 3: 1 - 11 / 3.
    close(rows.redq_actor_loss(0.5, log_prob, next_q), -8.0 / 3.0)


# TD3+BC and BC.


def test_smoothed_action():
    # Noise 0.2 * (1, 5, -5, 3): 0.2, clipped 0.5, -0.5, 0.5; the last sum 1.4 clipped to 1.
    smoothed = rows.smoothed_action(
        np.array([[0.1, 0.1], [0.1, 0.9]]), np.array([[1.0, 5.0], [-5.0, 3.0]])
    )
    close(smoothed, [[0.3, 0.6], [-0.4, 1.0]])


def test_bc_loss():
    # Squares 1, 4, 0, 9 over 4.
    policy_action = np.array([[1.0, 2.0], [0.0, -3.0]])
    close(rows.bc_loss(policy_action, np.zeros((2, 2))), 3.5)
    close(rows.bc_loss(policy_action, policy_action), 0.0)


def test_td3_bc_actor_loss():
    # Q (1, -3): mean -1, mean size 2, lambda 2.5 / 2. 1.25 + 3.5.
    q = np.array([1.0, -3.0])
    policy_action = np.array([[1.0, 2.0], [0.0, -3.0]])
    close(rows.td3_bc_actor_loss(q, policy_action, np.zeros((2, 2))), 4.75)
    # The scale of Q cancels; a fixed scale does not follow it.
    close(rows.td3_bc_actor_loss(7.0 * q, policy_action, np.zeros((2, 2))), 4.75)
    close(rows.td3_bc_actor_loss(7.0 * q, policy_action, np.zeros((2, 2)), scale=2.0), 12.25)
    close(rows.td3_bc_actor_loss(q, policy_action, policy_action, alpha=4.0), 2.0)
