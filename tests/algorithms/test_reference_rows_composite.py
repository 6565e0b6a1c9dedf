"""Tests of the NumPy oracle for BR, PEX, LAPO and the rest of SUNRISE, by hand."""

import numpy as np
import pytest

from tests.oracle import composite as composite
from tests.oracle import methods as rows
from tests.oracle import reference

LOG2, LOG3 = np.log(2.0), np.log(3.0)
REWARD, TERMINATED = np.array([1.0, 2.0]), np.array([0.0, 1.0])
# Four critics, two transitions. Consecutive pairs: minima (1, 2), (3, 0).
Q = np.array([[1.0, 6.0], [2.0, 2.0], [5.0, 4.0], [3.0, 0.0]])


def close(actual, expected, tolerance=1e-12):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def layer(kernel, bias):
    return {"kernel": np.array(kernel, float), "bias": np.array(bias, float)}


# Balanced replay.


def test_mixture_moments():
    # Means (1, 3), stds (1, 2): mean 2, (1 + 1 + 4 + 9) / 2 - 4 = 3.5.
    mean, log_std = composite.mixture_moments(
        np.array([[[1.0]], [[3.0]]]), np.array([[[0.0]], [[LOG2]]])
    )
    close(mean, [[2.0]])
    close(np.exp(log_std), [[3.5**0.5]])
    # Distant means: std 1000 is clamped to e^2. Members that agree keep their own std.
    apart = composite.mixture_moments(np.array([[[-1e3]], [[1e3]]]), np.zeros((2, 1, 1)))
    close(apart[1], [[2.0]])
    same = composite.mixture_moments(np.full((5, 2, 3), 0.7), np.full((5, 2, 3), -1.0))
    close(same[0], np.full((2, 3), 0.7))
    close(same[1], np.full((2, 3), -1.0))


def test_mixture_moments_are_those_of_draws():
    rng = np.random.default_rng(0)
    means, log_stds = rng.normal(size=(3, 1, 1)), 0.3 * rng.normal(size=(3, 1, 1))
    draws = means[:, 0, 0] + np.exp(log_stds[:, 0, 0]) * rng.normal(size=(200_000, 3))
    mean, log_std = composite.mixture_moments(means, log_stds)
    close(mean[0, 0], draws.mean(), 1e-2)
    close(np.exp(log_std[0, 0]), draws.std(), 1e-2)


def test_pairs():
    assert composite.consecutive_pairs(4) == [(0, 1), (2, 3)]
    assert composite.stacked_pairs(4) == [(0, 2), (1, 3)]
    close(composite.pair_minima(Q), [[1.0, 2.0], [3.0, 0.0]])
    close(composite.pair_minima(Q, composite.stacked_pairs(4)), [[1.0, 4.0], [2.0, 0.0]])
    # Two critics: the minimum itself; `independent` gives the same for consecutive pairs.
    close(composite.pair_minima(Q[:2])[0], reference.min_q(Q[:2]))
    close(np.repeat(composite.pair_minima(Q), 2, axis=0), reference.independent(Q, 2))


def test_br_target_and_critic_loss():
    # Soft values less 0.5 * 2: 1 + 0.5 (1 - 1), 1 + 0.5 (3 - 1); terminated: 2.
    y = composite.br_target(REWARD, TERMINATED, 0.5, Q, 0.5, np.array([2.0, 2.0]))
    close(y, [[1.0, 2.0], [2.0, 2.0]])
    # Errors (0, 4), (1, 0), (3, 2), (1, -2): 8 + 0.5 + 6.5 + 2.5.
    close(composite.br_critic_loss(Q, y), 17.5)
    # Critics 0 and 2 at y_0, 1 and 3 at y_1: (0, 4), (4, 2), (0, 0), (1, -2): 8 + 10 + 0 + 2.5.
    close(composite.br_critic_loss(Q, y, composite.stacked_pairs(4)), 20.5)


def test_br_actor_loss():
    # Means of pair minima 2 and 1: (0.5 * 2 - 2 + 0.5 * -2 - 1) / 2.
    close(composite.br_value(Q), [2.0, 1.0])
    close(composite.br_actor_loss(0.5, np.array([2.0, -2.0]), Q), -1.5)
    log_prob = np.array([0.3, -0.2])
    close(composite.br_actor_loss(0.5, log_prob, Q[:2]), reference.actor_loss(0.5, log_prob, Q[:2]))


def test_density_ratio():
    # s + 2 a = 3: 3 - 1; s + 2 a = 0.5: relu(-0.5).
    tree = {"params": {"layer_0": layer([[1], [2]], [0]), "out": layer([[1]], [-1])}}
    ratio = composite.density_ratio(tree, np.array([[1.0], [0.5]]), np.array([[1.0], [0.0]]))
    close(ratio, [2.0, 0.0])


def test_density_ratio_loss():
    # w = 1 everywhere: log 1 twice.
    close(composite.density_ratio_loss(np.ones(3), np.ones(2)), 0.0, 1e-9)
    # Offline (0, 3): -log 2 and -log 0.5, mean 0. Online 3: -log 1.5.
    loss = composite.density_ratio_loss(np.array([0.0, 3.0]), np.array([3.0]))
    close(loss, -0.405465108108164382, 1e-9)
    # Perfect separation: the bound is 2 log 2. Online ratio 0: the constant keeps it finite.
    close(composite.density_ratio_loss(np.zeros(1), np.full(1, 1e12)), -2.0 * LOG2, 1e-9)
    close(composite.density_ratio_loss(np.zeros(1), np.zeros(1)), -LOG2 + 10.0 * np.log(10.0), 1e-9)


def test_density_ratio_loss_is_least_at_the_ratio():
    """Samples 1/4 online and 3/4 offline in one cell, the reverse in another: w = 1/3 and 3."""

    def loss(w):
        return composite.density_ratio_loss(
            np.array([w[0], w[0], w[0], w[1]]), np.array([w[0], w[1], w[1], w[1]])
        )

    close(rows.numerical_gradient(loss, np.array([1.0 / 3.0, 3.0])), [0.0, 0.0], 1e-7)
    assert loss([1.0 / 3.0, 3.0]) < min(loss([0.4, 3.0]), loss([0.3, 3.0]), loss([1.0, 1.0]))


def test_priorities():
    # T = 2: roots (2, 3, 0) over the mean of (1, 3), 2; 0 is clipped from below.
    w = np.array([4.0, 9.0, 0.0])
    close(composite.balanced_priorities(w, np.array([1.0, 9.0]), 2.0), [1.0, 1.5, 0.001], 1e-9)
    # 32^(1/5) = 2 over 1^(1/5). Offline ratio 0: 2e10, clipped.
    close(composite.balanced_priorities(np.array([32.0]), np.ones(2)), [2.0], 1e-9)
    close(composite.balanced_priorities(np.array([32.0]), np.zeros(2)), [1000.0])


def test_first_online_priority():
    # 2000 * 0.75 / (0.25 * 1000) = 6: 1000 at 6 are 6000 of 8000.
    close(composite.first_online_priority(2000, 0.75), 6.0)
    close(composite.first_online_priority(1_000_000, 0.5), 1000.0)


def test_stratified_choice():
    # Total 8: draws at (0 + 0.5) * 4 = 2 and (1 + 0.75) * 4 = 7; running sums 1, 6, 8.
    assert composite.stratified_choice([1.0, 5.0, 2.0], [0.5, 0.75]).tolist() == [1, 2]
    # An edge belongs to the next index; the very last draw stays in range.
    assert composite.stratified_choice([4.0, 4.0], [0.0, 0.0]).tolist() == [0, 1]
    assert composite.stratified_choice([1.0, 1.0], [0.0, 1.0]).tolist() == [0, 1]
    uniforms = np.random.default_rng(0).uniform(size=8000)
    counts = np.bincount(composite.stratified_choice([1.0, 5.0, 2.0], uniforms))
    close(counts / 8000, [0.125, 0.625, 0.25], 1e-3)


# PEX.


def test_pex_logits():
    # [N, K, B] = [2, 2, 1]: minima 1 (of 1, 4) and 2 (of 5, 2), times 10.
    q = np.array([[[1.0], [5.0]], [[4.0], [2.0]]])
    close(composite.pex_logits(q), [[10.0, 20.0]])
    # Another state with all values smaller by 1.
    close(composite.pex_logits(np.concatenate([q, q - 1.0], axis=2), 1.0), [[1.0, 2.0], [0.0, 1.0]])


def test_choices():
    # softmax(0, log 3) = (0.25, 0.75).
    logits = np.array([[0.0, LOG3]] * 3)
    close(composite.softmax(logits[0]), [0.25, 0.75])
    assert composite.choose_by_uniform(logits, [0.0, 0.24, 0.26]).tolist() == [0, 0, 1]
    # log 3 = 1.0986: noise below it, above it, and none.
    gumbel = np.array([[1.0, 0.0], [1.2, 0.0], [0.0, 0.0]])
    assert composite.choose_by_gumbel(logits, gumbel).tolist() == [1, 0, 1]
    # u 0.05 < 0.1: the sampled one.
    chosen = composite.choose_to_evaluate(logits, [0.05, 0.1, 0.5], [0, 0, 0])
    assert chosen.tolist() == [0, 1, 1]
    actions = np.array([[[1.0], [2.0]], [[3.0], [4.0]]])
    close(composite.take(actions, [1, 0]), [[3.0], [2.0]])


@pytest.mark.parametrize("rule", ["gumbel", "uniform"])
def test_choices_follow_the_softmax(rule):
    rng = np.random.default_rng(0)
    logits = np.tile([0.0, LOG3], (20_000, 1))
    if rule == "gumbel":
        chosen = composite.choose_by_gumbel(logits, rng.gumbel(size=logits.shape))
    else:
        chosen = composite.choose_by_uniform(logits, rng.uniform(size=len(logits)))
    close(chosen.mean(), 0.75, 1.5e-2)


def test_pex_actor_loss():
    # Minima (3, 2), V (3 - log 2, 2 + log 3): advantages log 2, -log 3; as in IQL with beta 2.
    q_target = np.array([[3.0, 7.0], [4.0, 2.0]])
    v = np.array([3.0 - LOG2, 2.0 + LOG3])
    close(composite.pex_actor_loss(q_target, v, np.array([-1.0, 9.0]), 2.0), 1.5)
    close(composite.pex_actor_loss(q_target, v, np.array([-1.0, 9.0]), 2.0, cap=3.0), 1.0)


# LAPO.


def test_latent_action():
    # tanh(log 3 / 2) = 0.5, times 2. Noise 0.1 * (1, 5, -5): 0.1, clipped 0.2 and -0.2.
    latent = np.full((3, 1), 0.5 * LOG3)
    close(composite.latent_action(latent), np.ones((3, 1)))
    noisy = composite.latent_action(latent, np.array([[1.0], [5.0], [-5.0]]))
    close(noisy, [[1.1], [1.2], [0.8]])
    # The bound applies before the noise, not after it.
    close(composite.latent_action(np.array([[50.0]]), np.array([[9.0]])), [[2.2]])


def test_reparameterised():
    close(
        composite.reparameterised(np.array([1.0]), np.array([2.0 * LOG3]), np.array([2.0])), [7.0]
    )


def test_lapo_value_loss():
    # k 0.75 on minima (1, 0) and maxima (5, 6): 2 and 1.5; clamped to [1.75, 1.9]: 1.9, 1.75.
    close(composite.lapo_v_target(Q, 0.75, -9.0, 9.0), [2.0, 1.5])
    close(composite.lapo_v_target(Q, 0.75, 1.75, 1.9), [1.9, 1.75])
    close(composite.lapo_v_target(Q, 1.0, -9.0, 9.0), reference.min_q(Q))
    # Errors 1 - 2 and 4.5 - 1.5: (1 + 9) / 2.
    close(composite.lapo_value_loss(np.array([1.0, 4.5]), Q, 0.75, -9.0, 9.0), 5.0)


def test_lapo_critic_loss():
    # As IQL's: y = (1 + 0.5 * 4, 2); critic 0 errors (-2, 0), critic 1 (1, 2).
    q, next_v = np.array([[1.0, 2.0], [4.0, 4.0]]), np.array([4.0, 9.0])
    close(composite.lapo_critic_loss(q, REWARD, TERMINATED, next_v, 0.5), 4.5)


def test_lapo_advantage_and_weight():
    # Mixes 2 and 1.5: 1 + 0.5 * 2 = 2, terminated 2; less V.
    advantage = composite.lapo_advantage(REWARD, TERMINATED, Q, np.array([0.5, 3.0]), 0.5, 0.75)
    close(advantage, [1.5, -1.0])
    close(composite.lapo_weight(np.array([1.5, -1.0, 0.0])), [0.9, 0.1, 0.1])
    close(composite.lapo_weight(np.array([1.5, -1.0]), 0.7), [0.7, 0.3])


def test_kl_to_standard_normal():
    # Mean (1, 0), variance (1, 3): 0.5, and -0.5 (1 + log 3 - 3).
    kl = composite.kl_to_standard_normal(
        np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.0, LOG3], [0.0, 0.0]])
    )
    close(kl, [0.5 + 1.0 - 0.549306144334054846, 0.0])


def test_kl_is_the_expected_log_ratio():
    """E_z [log N(z; m, s) - log N(z; 0, 1)], by quadrature over z."""
    z = np.linspace(-12.0, 12.0, 20001)
    mean, log_std = 0.7, -0.4
    log_q = reference.normal_log_density(z, mean, log_std)
    ratio = log_q - reference.normal_log_density(z, 0.0, 0.0)
    kl = composite.kl_to_standard_normal(np.array([[mean]]), np.array([[2.0 * log_std]]))
    close(kl, [np.trapezoid(np.exp(log_q) * ratio, z)], 1e-8)


def test_lapo_cvae_loss():
    # Squares 1 + 9 and 4; KL 0.5 and 2 (means 1 and 2), 4 latent entries.
    reconstruction, action = np.array([[1.0, 3.0], [0.0, 2.0]]), np.zeros((2, 2))
    mean = np.array([[1.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]])
    log_var, weight = np.zeros((2, 4)), np.array([0.9, 0.1])
    arguments = (reconstruction, action, mean, log_var, weight)
    # (0.9 * 10.5 + 0.1 * 6) / 2; KL weight 0.3: (0.9 * 10.15 + 0.1 * 4.6) / 2.
    close(composite.lapo_cvae_loss(*arguments), 5.025)
    close(composite.lapo_cvae_loss(*arguments, kl_weight=0.3), 4.7975)
    # Means over entries: (0.9 * 5.5 + 0.1 * 4) / 2; and of the KL too: (0.9 * 5.125 + 0.1 * 2.5) / 2.
    close(composite.lapo_cvae_loss(*arguments, reduction="mean"), 2.675)
    close(composite.lapo_cvae_loss(*arguments, reduction="mean", kl_reduction="mean"), 2.43125)


def test_lapo_latent_actor_loss():
    # First critic (1, 6). Minima (1, 0).
    close(composite.lapo_latent_actor_loss(Q), -3.5)
    close(composite.lapo_latent_actor_loss(Q, critic=None), -0.5)


# SUNRISE and OAC.


def test_filled_mask():
    mask = np.array([[0.0, 1.0], [0.0, 0.0]])
    close(composite.filled_mask(mask, [1, 1]), [[0.0, 1.0], [1.0, 0.0]])
    close(mask, [[0.0, 1.0], [0.0, 0.0]])


def test_sunrise_choice_is_of_the_population():
    # Score 2 against 1 + 0.8 std of (0, 2): population 1.8, though unbiased 2.13.
    q = np.array([[2.0, 0.0], [2.0, 2.0]])
    assert composite.sunrise_choice(q, 0.8) == 0
    assert reference.ucb_choice(q, 0.8) == 1
    assert composite.sunrise_choice(q, 1.2) == 1


def test_oac_pair_upper():
    # Mean 3, half the difference 2; sqrt(2) below the unbiased deviation, sqrt(8).
    close(composite.oac_pair_upper(1.0, 5.0, 3.0), 9.0)
    unbiased = reference.oac_q_upper(np.array([1.0, 5.0]), 3.0)
    close(unbiased, 3.0 + 6.0 * 2.0**0.5)
