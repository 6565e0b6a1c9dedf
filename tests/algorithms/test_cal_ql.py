"""Cal-QL's and WSRL's terms and RLPD's losses against the oracle, with the same draws.

The shapes, the policies and the draws are those of tests/algorithms/losses.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import targets
from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.sac import sac
from enoto_jax.types import InputError, MonteCarlo
from tests.algorithms.losses import (
    GAMMA,
    KEY,
    RULES,
    SHAPE,
    A,
    B,
    K,
    N,
    along,
    alpha_of,
    close,
    deterministic_target,
    loss_of,
    pair,
    penalty_inputs,
    policy_sample,
    q_data,
)
from tests.helpers import refused_in_a_line
from tests.oracle import methods, reference

RETURNS = np.float32([-3.0, -1.5, -0.5, 0.0, -2.5, 4.0])  # below, among and above the values
WEIGHT = 1.7


@pytest.fixture(scope="module")
def returns_batch(batch):
    return batch._replace(extras={"mc_return": jnp.asarray(RETURNS)})


@pytest.fixture(scope="module")
def evaluate(spec, state_of, double):
    """options -> Cal-QL with K candidates, a state of it, and that state in float64."""

    def evaluate(**options):
        algorithm = cql(**SHAPE, weight=WEIGHT, candidates=K, **options).build(spec)
        state = state_of(algorithm)
        return algorithm, state, double(state)

    return evaluate


def term_key():
    return jax.random.split(KEY, 3)[2]


def td_loss(exact, data):
    y = deterministic_target(exact, data, jax.random.split(KEY, 3)[0], RULES["min_q"][1])
    return reference.critic_loss(q_data(exact, data), y)


def oracle_gaps(exact, data, returns=RETURNS, **options):
    found = penalty_inputs(exact, data, term_key())
    return methods.calql_penalty(**found, return_to_go=np.float64(returns), **options)


@pytest.mark.parametrize("calibrate_random", [False, True])
@pytest.mark.parametrize("importance_sampling", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss(evaluate, returns_batch, data, reduction, importance_sampling, calibrate_random):
    algorithm, state, exact = evaluate(
        calibrate=True,
        calibrate_random=calibrate_random,
        reduction=reduction,
        importance_sampling=importance_sampling,
    )
    loss, metrics = loss_of(algorithm, "critic", state, returns_batch)
    penalty, gaps = oracle_gaps(
        exact,
        data,
        reduction=reduction,
        importance_sampling=importance_sampling,
        calibrate_random=calibrate_random,
    )
    close(loss, td_loss(exact, data) + WEIGHT * penalty)
    close(metrics["gap"], gaps.mean())
    found = penalty_inputs(exact, data, term_key())
    sources = ["q_random"] * calibrate_random + ["q_current", "q_next"]
    q = np.concatenate([found[name] for name in sources], axis=1)
    _, wins = methods.calibrated(q, np.float64(RETURNS))
    assert 0.1 < wins.mean() < 0.9  # otherwise the test could not distinguish the two cases
    close(metrics["bound_rate"], 1.0 - wins.mean())


def test_gradient_flows_only_where_the_value_wins(evaluate, returns_batch, data, numbers, double):
    algorithm, state, exact = evaluate(calibrate=True, reduction="sum")
    gradient = jax.grad(lambda p: algorithm.losses["critic"](p, state, returns_batch, KEY)[0])(
        state.params["critic"]
    )

    def oracle(exact):
        return td_loss(exact, data) + WEIGHT * oracle_gaps(exact, data, reduction="sum")[0]

    for seed in range(2):
        direction = double(numbers(state.params["critic"], 100 + seed))
        products = jax.tree.map(lambda g, d: np.sum(g * d), double(gradient), direction)
        expected = along(exact, "critic", oracle, direction)
        close(sum(jax.tree.leaves(products)), expected, 1e-4)


@pytest.mark.parametrize("returns", [-1e4, 1e4], ids=["below all", "above all"])
def test_a_return_below_all_values_is_cql_and_one_above_all_pushes_nothing_down(
    evaluate, batch, returns
):
    calibrated, state, _ = evaluate(calibrate=True, reduction="sum")
    plain, _, _ = evaluate(reduction="sum")
    bounded = batch._replace(extras={"mc_return": jnp.full(B, returns)})

    def gradient(algorithm, batch):
        return jax.grad(lambda p: algorithm.losses["critic"](p, state, batch, KEY)[0])(
            state.params["critic"]
        )

    found = gradient(calibrated, bounded)
    if returns < 0:
        expected = gradient(plain, batch)
    else:  # only the data's own values remain, and the penalty raises them

        def pulled(params):
            td = calibrated.losses["critic"](params, state, bounded, KEY)[1]["td_loss"]
            q = plain.q(params, batch.observation, batch.action)
            return td - WEIGHT * jnp.sum(jnp.mean(q, axis=1))

        expected = jax.grad(pulled)(state.params["critic"])
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("calibrate", [False, True])
def test_a_subset_of_the_critics_carries_the_whole_term(
    evaluate, returns_batch, data, reduction, calibrate
):
    """Its mean over draws is the term on all critics."""
    algorithm, state, exact = evaluate(subset=2, reduction=reduction, calibrate=calibrate)
    loss, metrics = loss_of(algorithm, "critic", state, returns_batch)
    returns = RETURNS if calibrate else np.full(B, -1e6)
    _, gaps = oracle_gaps(exact, data, returns)
    drawn = np.asarray(jax.random.choice(jax.random.fold_in(term_key(), 3), N, (2,), replace=False))
    assert len(set(drawn.tolist())) == 2 and abs(gaps[drawn].mean() - gaps.mean()) > 1e-3
    factor = {"mean": 1, "sum": N}[reduction]
    close(loss, td_loss(exact, data) + WEIGHT * factor * gaps[drawn].mean())
    close(metrics["gap"], gaps[drawn].mean())


@pytest.mark.parametrize("subset", [0, N + 1])
def test_a_subset_that_cannot_be_drawn_is_refused(spec, state_of, batch, subset):
    with pytest.raises(InputError, match=f"cql: subset is {subset}"):
        algorithm = cql(**SHAPE, subset=subset).build(spec)
        loss_of(algorithm, "critic", state_of(algorithm), batch)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"candidates": 0}, "cql: candidates is 0; it must be at least 1"),
        ({"clip": (5.0, -5.0)}, r"cql: clip is \(5.0, -5.0\); give \(low, high\)"),
        ({"lagrange": 1.0, "initial_multiplier": 0.0}, "cql: initial_multiplier is 0.0"),
        ({"backup": bellman.best_of}, "cql: backup is <class .*best_of'>; give a unit"),
    ],
)
def test_options_that_cannot_work_are_refused(spec, options, message):
    with refused_in_a_line(message):
        cql(**options).build(spec)
    with refused_in_a_line("best_of: k is 0; it must be at least 1"):
        bellman.best_of(k=0)


def test_only_calibration_asks_for_returns(spec):
    assert cql(**SHAPE).build(spec).monte_carlo is None
    assert cql(**SHAPE, calibrate=True).build(spec).monte_carlo == MonteCarlo(GAMMA, None)
    sparse = cql(**SHAPE, calibrate=True, sparse_reward=-5.0).build(spec)
    assert sparse.monte_carlo == MonteCarlo(GAMMA, -5.0)


def test_rlpds_losses(spec, state_of, batch, data, double):
    """The target uses a random pair, the actor the mean of all critics; the entropy is halved.

    The authors average the loss over critics. Adam is invariant to that factor of N.
    """
    algorithm = sac(
        **SHAPE,
        target=targets.random_min_pair(),
        actor_value=targets.mean_q(),
        target_entropy_per_action=-0.5,
        order="critic,actor,temperature",
    ).build(spec)
    assert list(algorithm.losses) == ["critic", "actor", "temperature"]
    state = state_of(algorithm)
    exact = double(state)
    sample_key, rule_key = jax.random.split(jax.random.split(KEY)[0])
    action, log_prob = policy_sample(exact, data.next_observation, sample_key)
    y = methods.redq_target(
        data.reward,
        data.terminated,
        GAMMA,
        reference.critics(exact.targets["critic"], data.next_observation, action),
        pair(rule_key),
        alpha_of(exact),
        log_prob,
    )
    expected = N * methods.redq_critic_loss(q_data(exact, data), y, reduction="mean")
    close(loss_of(algorithm, "critic", state, batch)[0], expected)
    action, log_prob = policy_sample(exact, data.observation, jax.random.split(KEY)[0])
    q = reference.critics(exact.params["critic"], data.observation, action)
    expected = methods.redq_actor_loss(alpha_of(exact), log_prob, q)
    close(loss_of(algorithm, "actor", state, batch)[0], expected)
    value = exact.params["temperature"]["params"]["value"]
    _, log_prob = policy_sample(exact, data.observation, KEY)
    expected = reference.temperature_loss(value, log_prob, -0.5 * A, "exp")
    close(loss_of(algorithm, "temperature", state, batch)[0], expected)


def test_wsrls_offline_target_is_the_best_action_of_the_drawn_pair(evaluate, batch, data):
    """The same pair is used for all candidate actions of a batch."""
    algorithm, state, exact = evaluate(
        target=targets.random_min_pair(), backup=bellman.best_of(k=K), subset=2, reduction="sum"
    )
    metrics = loss_of(algorithm, "critic", state, batch)[1]
    sample_key, rule_key = jax.random.split(jax.random.split(KEY, 3)[0])
    actions, _ = policy_sample(exact, data.next_observation, sample_key, (K,))
    q = np.stack(
        [reference.critics(exact.targets["critic"], data.next_observation, a) for a in actions],
        axis=1,
    )
    value = reference.max_backup(q[pair(rule_key)])
    y = reference.sac_target(data.reward, data.terminated, GAMMA, value, 0.0, np.zeros(B))
    close(metrics["target"], y.mean())
