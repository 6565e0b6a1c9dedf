"""Losses (float32) against the oracle (float64), with draws from the same keys.

The golden numbers in tests/golden/losses.json pin every loss and metric for fixed parameters and
keys. After a change that is meant to move them:
`python -m pytest tests/algorithms/test_losses.py -k golden --regenerate-golden`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import targets
from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.sac import sac
from enoto_jax.exploration import sunrise
from tests.algorithms import losses
from tests.algorithms.losses import (
    GAMMA,
    KEY,
    RULES,
    B,
    K,
    N,
    along,
    alpha_of,
    close,
    deterministic_target,
    each_candidate,
    loss_of,
    oracle_actor_loss,
    oracle_cql_loss,
    oracle_temperature_loss,
    policy_sample,
    q_data,
    reads,
    soft_target,
)
from tests.oracle import reference

MAKE, SHAPE = sac, losses.SHAPE


# The critics' temporal difference.


@pytest.mark.parametrize("rule", RULES)
def test_critic_loss_with_each_target_rule(evaluate, batch, data, rule):
    algorithm, state, exact = evaluate(target=RULES[rule][0])
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    backup_key, _ = jax.random.split(KEY)
    y, _ = soft_target(exact, data, backup_key, RULES[rule][1], alpha_of(exact))
    q = q_data(exact, data)
    close(loss, reference.critic_loss(q, y))
    close(metrics["td_loss"], loss)
    close(metrics["q_data"], q.mean())
    close(metrics["q_std"], np.mean([reference.population_std(c) for c in q.T]))
    close(metrics["target"], y.mean())
    assert metrics["weight"] == 1


@pytest.mark.parametrize("rule", ["min_q", "rem_per_sample", "pairs"])
def test_critic_loss_with_a_sampled_backup_has_no_entropy(evaluate, batch, data, rule):
    algorithm, state, exact = evaluate(target=RULES[rule][0], backup=bellman.sampled())
    y, _ = soft_target(exact, data, jax.random.split(KEY)[0], RULES[rule][1], 0.0)
    expected = reference.critic_loss(q_data(exact, data), y)
    close(loss_of(algorithm, "critic", state, batch)[0], expected)


@pytest.mark.parametrize("rule", ["min_q", "random_min_pair", "independent"])
def test_critic_loss_with_a_deterministic_backup(evaluate, batch, data, rule):
    algorithm, state, exact = evaluate(target=RULES[rule][0], backup=bellman.deterministic())
    y = deterministic_target(exact, data, jax.random.split(KEY)[0], RULES[rule][1])
    expected = reference.critic_loss(q_data(exact, data), y)
    close(loss_of(algorithm, "critic", state, batch)[0], expected)


@pytest.mark.parametrize("rule", ["min_q", "mean_q", "independent"])
def test_critic_loss_with_the_best_of_k_actions(evaluate, batch, data, rule):
    """SUNRISE's weight is taken at the action with the largest target.

    With a target for every critic, it is the action with the largest minimum over critics.
    """
    algorithm, state, exact = evaluate(
        target=RULES[rule][0], backup=bellman.best_of(k=K), exploration=sunrise(temperature=1.0)
    )
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    sample_key, rule_key = jax.random.split(jax.random.split(KEY)[0])
    actions, _ = policy_sample(exact, data.next_observation, sample_key, (K,))
    q = each_candidate(exact.targets["critic"], data.next_observation, actions)
    values = np.stack([RULES[rule][1](rule_key, q[:, k]) for k in range(K)], axis=-2)
    value = values.max(axis=-2)
    if rule == "min_q":
        close(value, reference.max_backup(q))
    ranked = q.min(axis=0) if rule == "independent" else values
    best = [reference.first_argmax(ranked[:, b]) for b in range(B)]
    assert len(set(best)) > 1
    next_q = np.stack([q[:, k, b] for b, k in enumerate(best)], axis=1)
    weight = reference.sunrise_weight(next_q, 1.0)
    y = reference.sac_target(data.reward, data.terminated, GAMMA, value, 0.0, np.zeros(B))
    close(loss, reference.critic_loss(q_data(exact, data), y, weight))
    close(metrics["weight"], weight.mean())


def test_critic_loss_with_a_weight_per_transition(evaluate, batch, data):
    algorithm, state, exact = evaluate(exploration=sunrise(temperature=3.0))
    y, next_q = soft_target(
        exact, data, jax.random.split(KEY)[0], RULES["min_q"][1], alpha_of(exact)
    )
    weight = reference.sunrise_weight(next_q, 3.0)
    assert np.ptp(weight) > 0.05
    expected = reference.critic_loss(q_data(exact, data), y, weight)
    close(loss_of(algorithm, "critic", state, batch)[0], expected)


def test_critic_loss_with_a_weight_per_batch(evaluate, batch, data):
    algorithm, state, exact = evaluate(exploration=sunrise(temperature=3.0, scope="batch"))
    backup_key, weight_key = jax.random.split(KEY)
    y, _ = soft_target(exact, data, backup_key, RULES["min_q"][1], alpha_of(exact))
    draws = []
    for key in jax.random.split(weight_key, N):
        action, _ = policy_sample(exact, data.next_observation, key)
        draws.append(reference.critics(exact.targets["critic"], data.next_observation, action))
    weight = reference.batch_weight(draws, 3.0)
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, reference.critic_loss(q_data(exact, data), y, weight))
    close(metrics["weight"], weight)


def test_critic_loss_with_masks(evaluate, batch, data):
    algorithm, state, exact = evaluate(exploration=sunrise(temperature=3.0, mask=0.5))
    mask = np.random.default_rng(0).integers(0, 2, (B, N))
    mask[:, 2] = 0  # this critic learns nothing from the batch
    masked = batch._replace(extras={"mask": jnp.float32(mask)})
    y, next_q = soft_target(
        exact, data, jax.random.split(KEY)[0], RULES["min_q"][1], alpha_of(exact)
    )
    weight = reference.sunrise_weight(next_q, 3.0)
    expected = reference.critic_loss(q_data(exact, data), y, weight, mask.T)
    close(loss_of(algorithm, "critic", state, masked)[0], expected)


def test_termination_ends_the_bootstrap_and_a_time_limit_does_not(evaluate, batch, data):
    algorithm, state, _ = evaluate()
    ones, zeros = jnp.ones(B, bool), jnp.zeros(B, bool)

    def target(terminated, truncated):
        changed = batch._replace(terminated=terminated, truncated=truncated)
        return loss_of(algorithm, "critic", state, changed)[1]["target"]

    assert target(zeros, ones) == target(zeros, zeros)
    close(target(ones, zeros), data.reward.mean())
    assert abs(target(zeros, zeros) - data.reward.mean()) > 0.01


# The actor and the temperature.


@pytest.mark.parametrize("reduce", ["min", "mean"])
def test_actor_loss(evaluate, batch, data, reduce):
    rule = {"min": targets.min_q(), "mean": targets.mean_q()}[reduce]
    algorithm, state, exact = evaluate(actor_value=rule, target=targets.weighted_min_pair())
    loss, metrics = loss_of(algorithm, "actor", state, batch)
    close(loss, oracle_actor_loss(exact, data, reduce))
    action, log_prob = policy_sample(exact, data.observation, jax.random.split(KEY)[0])
    value = RULES[f"{reduce}_q"][1](
        None, reference.critics(exact.params["critic"], data.observation, action)
    )
    close(metrics["q_policy"], value.mean())
    close(metrics["entropy"], -log_prob.mean())
    std = np.exp(reference.mlp_actor(exact.params["actor"], data.observation)[1])
    close(metrics["std"], std.mean())


@pytest.mark.parametrize("form", ["exp", "log"])
def test_temperature_loss(evaluate, batch, data, form):
    algorithm, state, exact = evaluate(
        temperature_of_logarithm=form == "log", target_entropy_per_action=-0.7
    )
    loss, metrics = loss_of(algorithm, "temperature", state, batch)
    close(loss, oracle_temperature_loss(exact, data, form, -0.7))
    close(metrics["value"], alpha_of(exact))


# Gradients, and the networks that a loss reads.


ORACLES = {
    "critic": lambda exact, data: oracle_cql_loss(exact, data, 5.0)[0],
    "actor": oracle_actor_loss,
    "temperature": lambda exact, data: oracle_temperature_loss(exact, data, "exp", -1.0),
}


@pytest.mark.parametrize("name", ORACLES)
def test_gradients_against_finite_differences(evaluate, numbers, batch, data, double, name):
    """The critics' target is a constant: the oracle's does not read the moved critics."""
    algorithm, state, exact = evaluate(cql, candidates=K)
    gradient = jax.grad(lambda p: algorithm.losses[name](p, state, batch, KEY)[0])(
        state.params[name]
    )
    for seed in range(2):
        direction = double(numbers(state.params[name], 100 + seed))
        products = jax.tree.map(lambda g, d: np.sum(g * d), double(gradient), direction)
        expected = along(exact, name, lambda e: ORACLES[name](e, data), direction)
        close(sum(jax.tree.leaves(products)), expected, 1e-4)


@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (
            sac,
            {"exploration": sunrise()},
            {
                "temperature": set(),
                "critic": {"params.actor", "params.temperature", "targets.critic"},
                "actor": {"params.critic", "params.temperature"},
            },
        ),
        (
            cql,
            {"candidates": K, "lagrange": 0.5},
            {
                "temperature": set(),
                "critic": {"params.actor", "params.multiplier", "targets.critic"},
                "actor": {"params.critic", "params.temperature"},
            },
        ),
    ],
    ids=["sac", "cql"],
)
def test_a_loss_reads_only_the_networks_it_should(evaluate, batch, make, options, expected):
    """Its own network enters only as the first argument; only the critics' targets are read."""
    algorithm, state, _ = evaluate(make, **options)
    found = {name: reads(algorithm, state, name, batch) for name in algorithm.losses}
    assert found == expected


def test_every_loss_draws_from_its_key(evaluate, batch):
    algorithm, state, _ = evaluate(cql, candidates=K, backup=bellman.soft())
    for name in algorithm.losses:
        one, same, other = (
            loss_of(algorithm, name, state, batch, key)[0] for key in (KEY, KEY, jax.random.key(12))
        )
        assert one == same and one != other


# Golden numbers.

CASES = {
    "sac": (sac, {}),
    "sac_n": (
        sac,
        {
            "order": "temperature,actor,critic",
            "temperature_of_logarithm": True,
            "log_std_range": (-5.0, 0.1),
        },
    ),
    "enoto": (
        sac,
        {"target": targets.weighted_min_pair(), "exploration": sunrise(temperature=1.0)},
    ),
    "enoto_released": (
        sac,
        {
            "target": targets.weighted_min_pair(),
            "exploration": sunrise(ucb=None, temperature=1.0, scope="batch"),
        },
    ),
    "layer_norm": (
        sac,
        {"layer_norm": True, "actor_layer_norm": True, "target": targets.random_min_pair()},
    ),
    "cql": (cql, {"candidates": K}),
    "cql_corl": (
        cql,
        {
            "importance_sampling": False,
            "reduction": "sum",
            "clip": (-200.0, 1e3),
            "lagrange": 0.8,
            "backup": bellman.best_of(k=K),
            "weight": 10.0,
            "candidates": K,
        },
    ),
    "cal_ql": (
        cql,
        {
            "calibrate": True,
            "candidates": K,
            "weight": 10.0,
            "reduction": "sum",
            "backup": bellman.sampled(),
            "order": "temperature,actor,critic",
            "critic_hidden": (7, 6, 5),
        },
    ),
    "rlpd": (
        sac,
        {
            "layer_norm": True,
            "target": targets.random_min_pair(),
            "actor_value": targets.mean_q(),
            "target_entropy_per_action": -0.5,
            "order": "critic,actor,temperature",
        },
    ),
    "wsrl": (
        cql,
        {
            "layer_norm": True,
            "actor_layer_norm": True,
            "target": targets.random_min_pair(),
            "backup": bellman.best_of(k=K),
            "subset": 2,
            "candidates": K,
            "reduction": "sum",
            "calibrate": True,
            "calibrate_random": True,
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_golden_numbers(golden, case):
    golden(case)
