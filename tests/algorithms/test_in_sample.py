"""Behaviour cloning, AWAC, IQL and PEX against the oracle, with draws from the same keys.

The golden numbers in tests/golden/in_sample.json pin every loss and metric. After a change that is
meant to move them: `python -m pytest tests/algorithms/test_in_sample.py -k golden --regenerate-golden`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core, targets
from enoto_jax.algorithms.awac import awac
from enoto_jax.algorithms.bc import bc
from enoto_jax.algorithms.iql import iql
from enoto_jax.algorithms.pex import pex
from enoto_jax.exploration import oac, sunrise
from enoto_jax.recipes.building import build
from enoto_jax.recipes.registry import override
from enoto_jax.recipes.table import RECIPES
from enoto_jax.types import InputError, Spec
from tests.algorithms.losses import KEY, A, B, D, K, N, along, close, loss_of, noise, reads
from tests.oracle import composite as composite
from tests.oracle import methods as rows
from tests.oracle import reference

GAMMA = 0.9
SHAPE = {"n": N, "hidden": (8, 7), "discount": GAMMA}
# Bounds on the log standard deviation that bind; expectile and beta differ from the defaults.
IQL = {**SHAPE, "expectile": 0.8, "beta": 2.0, "cap": 3.0, "log_std_range": (-0.3, 0.2)}
AWAC = {**SHAPE, "lam": 0.4, "cap": 3.0, "log_std_range": (-0.3, 0.2)}
SEED = 13  # gives IQL advantages of both signs, and a cap that binds
WEIGHTED = {"target": targets.weighted_min_pair(), "exploration": sunrise(temperature=2.0)}


@pytest.fixture(scope="module")
def evaluate(spec, state_of, double):
    """(make, options) -> the algorithm, a state of it, and that state in float64."""

    def evaluate(make, **options):
        algorithm = make(**options).build(spec)
        state = state_of(algorithm, SEED if make is iql else 0)
        return algorithm, state, double(state)

    return evaluate


# The oracle's side.


def moments(actor, observation, bounded=True):
    return rows.gaussian_actor(actor, observation, -0.3, 0.2, tanh_mean=bounded)


def sampled(actor, observation, key, bounded=True, lead=()):
    mean, log_std = moments(actor, observation, bounded)
    return rows.clamped_gaussian_sample(mean, log_std, noise(key, *lead, *mean.shape))


def q_of(tree, observation, action):
    return reference.critics(tree, observation, action)


def q_data(state, data):
    return q_of(state.params["critic"], data.observation, data.action)


def advantage(state, data, action=None, rule=reference.min_q):
    action = data.action if action is None else action
    q = q_of(state.targets["critic"], data.observation, action)
    return rule(q) - rows.value_net(state.params["value"], data.observation)


def next_q(state, data, key, bounded=True):
    """The target critics' values at the next observation and a sampled next action."""
    action = sampled(state.params["actor"], data.next_observation, key, bounded)
    return q_of(state.targets["critic"], data.next_observation, action)


# Behaviour cloning.


def test_bc_loss_and_actions(evaluate, batch, data):
    algorithm, state, exact = evaluate(bc, hidden=(8, 7))
    action = rows.tanh_actor(exact.params["actor"], data.observation)
    close(loss_of(algorithm, "actor", state, batch)[0], rows.bc_loss(action, data.action))
    close(algorithm.mode(state, batch.observation), action)
    acted = algorithm.act(state, KEY, batch.observation[0], K)
    close(acted, np.stack([action[0]] * K))
    assert algorithm.q is None and algorithm.critics == 0


# AWAC.


def test_awac_critic_loss(evaluate, batch, data):
    algorithm, state, exact = evaluate(awac, **AWAC)
    found = next_q(exact, data, jax.random.split(KEY, 3)[0], bounded=False)
    expected = rows.awac_critic_loss(
        q_data(exact, data), data.reward, data.terminated, found, GAMMA
    )
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, expected)
    assert metrics["weight"] == 1


def test_awac_critic_loss_with_enotos_target_weight_and_masks(evaluate, batch, data):
    algorithm, state, exact = evaluate(awac, **AWAC, **WEIGHTED)
    mask = np.random.default_rng(0).integers(0, 2, (B, N))
    found = next_q(exact, data, jax.random.split(KEY, 3)[0], bounded=False)
    y = rows.bootstrapped(data.reward, data.terminated, GAMMA, reference.weighted_min_pair(found))
    weight = reference.sunrise_weight(found, 2.0)
    expected = reference.critic_loss(q_data(exact, data), y, weight, mask.T)
    masked = batch._replace(extras={"mask": jnp.float32(mask)})
    close(loss_of(algorithm, "critic", state, masked)[0], expected)


def awac_actor_loss(exact, data, rule=reference.min_q, weights_of=None):
    """AWAC's loss and advantage; the weights use an action of the policy in `weights_of`."""
    fixed = weights_of or exact
    action = sampled(fixed.params["actor"], data.observation, jax.random.split(KEY)[0], False)
    q_policy = q_of(exact.params["critic"], data.observation, action)
    gap = rule(q_data(exact, data)) - rule(q_policy)
    mean, log_std = moments(exact.params["actor"], data.observation, bounded=False)
    log_prob = rows.gaussian_log_prob(mean, log_std, data.action)
    return rows.awac_actor_loss(gap, log_prob, 0.4, 3.0), gap


@pytest.mark.parametrize("rule", ["min", "mean"])
def test_awac_actor_loss(evaluate, batch, data, rule):
    options = {"min": {}, "mean": {"actor_value": targets.mean_q()}}[rule]
    algorithm, state, exact = evaluate(awac, **AWAC, **options)
    oracle = {"min": reference.min_q, "mean": reference.mean_q}[rule]
    expected, gap = awac_actor_loss(exact, data, oracle)
    weight = rows.exponential_weight(gap, 1 / 0.4, 3.0)
    assert weight.max() == 3.0 > weight.min()  # the cap binds for some rows only
    loss, metrics = loss_of(algorithm, "actor", state, batch)
    close(loss, expected)
    close(metrics["weight"], weight.mean())
    close(metrics["advantage"], gap.mean())
    if rule == "min":
        q_policy = q_of(
            exact.params["critic"],
            data.observation,
            sampled(exact.params["actor"], data.observation, jax.random.split(KEY)[0], False),
        )
        close(gap, rows.awac_advantage(q_data(exact, data), q_policy))


# Implicit Q-learning.

RULES = {
    "min_q": ({}, reference.min_q),
    "weighted_min_pair": ({"target": targets.weighted_min_pair()}, reference.weighted_min_pair),
}


@pytest.mark.parametrize("rule", RULES)
def test_iql_value_loss(evaluate, batch, data, rule):
    options, oracle = RULES[rule]
    algorithm, state, exact = evaluate(iql, **IQL, **options)
    u = advantage(exact, data, rule=oracle)
    assert (u > 0).any() and (u < 0).any()
    v = rows.value_net(exact.params["value"], data.observation)
    loss, metrics = loss_of(algorithm, "value", state, batch)
    close(loss, rows.iql_value_loss(u + v, v, 0.8))
    close(metrics["advantage"], u.mean())


def iql_actor_loss(exact, data, rule=reference.min_q):
    mean, log_std = moments(exact.params["actor"], data.observation)
    log_prob = rows.gaussian_log_prob(mean, log_std, data.action)
    return rows.iql_actor_loss(advantage(exact, data, rule=rule), log_prob, 2.0, 3.0)


@pytest.mark.parametrize("rule", RULES)
def test_iql_actor_loss(evaluate, batch, data, rule):
    options, oracle = RULES[rule]
    algorithm, state, exact = evaluate(iql, **IQL, **options)
    weight = rows.exponential_weight(advantage(exact, data, rule=oracle), 2.0, 3.0)
    assert weight.max() == 3.0 > weight.min()
    loss, metrics = loss_of(algorithm, "actor", state, batch)
    close(loss, iql_actor_loss(exact, data, oracle))
    close(metrics["weight"], weight.mean())


def test_iql_with_d3rlpys_squashed_policy(evaluate, batch, data):
    algorithm, state, exact = evaluate(iql, **IQL, squashed=True)
    # Away from the bounds, where float32 cannot resolve the inverse of tanh.
    batch, data = (x._replace(action=0.9 * x.action) for x in (batch, data))
    mean, log_std = moments(exact.params["actor"], data.observation, bounded=False)
    log_prob = reference.tanh_normal_log_prob(mean, log_std, data.action)
    expected = rows.iql_actor_loss(advantage(exact, data), log_prob, 2.0, 3.0)
    close(loss_of(algorithm, "actor", state, batch)[0], expected)
    close(algorithm.mode(state, batch.observation), np.tanh(mean))


def iql_critic_loss(exact, data, weight=None):
    next_v = rows.value_net(exact.params["value"], data.next_observation)
    q = q_data(exact, data)
    return rows.iql_critic_loss(q, data.reward, data.terminated, next_v, GAMMA, weight)


def test_iql_critic_loss(evaluate, batch, data):
    algorithm, state, exact = evaluate(iql, **IQL)
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, iql_critic_loss(exact, data))
    assert metrics["weight"] == 1


def test_sunrise_weighs_by_the_targets_at_the_policys_next_action(evaluate, batch, data):
    """IQL bootstraps from V, which has no spread, but the weight must still vary."""
    algorithm, state, exact = evaluate(iql, **IQL, **WEIGHTED)
    weight = reference.sunrise_weight(next_q(exact, data, jax.random.split(KEY)[0]), 2.0)
    assert np.ptp(weight) > 0.05
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, iql_critic_loss(exact, data, weight))
    close(metrics["weight"], weight.mean())


def test_the_weight_of_the_enoto_iql_row_varies_from_transition_to_transition(batch, state_of):
    row = override(RECIPES["enoto_iql"], "algorithm.hidden", (8, 7))
    # A random state's critics are too far apart for the method's own temperature, 10.
    row = override(row, "online.algorithm.exploration.temperature", 0.5)
    algorithm = build(row, Spec(D, A)).online
    state, critic = state_of(algorithm, SEED), algorithm.losses["critic"]

    def weight(i):
        one = jax.tree.map(lambda x: x[i : i + 1], batch)
        return float(critic(state.params["critic"], state, one, KEY)[1]["weight"])

    weights = [weight(i) for i in range(B)]
    assert all(0.5 < w < 1.0 for w in weights)
    assert np.ptp(weights) > 0.05


@pytest.mark.parametrize("order", ["value,actor,critic", "actor,critic,value"])
def test_iqls_order_decides_which_v_actor_and_critics_read(evaluate, batch, data, order):
    algorithm, state, exact = evaluate(iql, **IQL, order=order, value_rate=0.1)
    _, metrics = core.update(algorithm, state, batch, KEY)
    found = {name: float(metrics[name]["loss"]) for name in algorithm.losses}
    v = rows.value_net(exact.params["value"], data.observation)
    close(found["value"], rows.iql_value_loss(advantage(exact, data) + v, v, 0.8))
    before = {"actor": iql_actor_loss(exact, data), "critic": iql_critic_loss(exact, data)}
    for name, expected in before.items():
        assert np.isclose(found[name], expected, rtol=1e-5) == (order == "actor,critic,value")


def test_oac_on_iql_is_refused_for_its_reason():
    row = override(RECIPES["iql"], "online.algorithm.exploration", oac())
    with pytest.raises(InputError, match="Gaussian before tanh, which iql does not have"):
        build(row, Spec(D, A))
    squashed = override(row, "algorithm.squashed", True)
    assert build(squashed, Spec(D, A)).online.moments is not None


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (iql, {"expectile": 1.0}, "iql: expectile is 1.0; it must lie between 0 and 1"),
        (iql, {"decay_steps": 0}, "iql: decay_steps is 0; give at least 1, or None"),
        (iql, {"order": "critic"}, "order is 'critic'; choose value,actor,critic or actor"),
        (iql, {"n": 0}, "num_critics is 0; an ensemble needs at least one critic"),
        (awac, {"lam": 0.0}, "awac: lam is 0.0; it must be above 0"),
        (pex, {"actor_actions": "x"}, "pex: actor_actions is 'x'; choose composite or batch"),
        (bc, {"hidden": (8, 0)}, r"hidden is \(8, 0\); widths must be whole numbers of at least 1"),
    ],
)
def test_impossible_options_are_refused(spec, make, options, message):
    with pytest.raises(InputError, match=message):
        make(**options).build(spec)


def test_the_actors_rate_decays_to_zero_along_a_cosine(spec):
    """On a constant gradient, the length of Adam's steps equals its rate."""
    algorithm = iql(hidden=(4,), actor_rate=0.1, decay_steps=4).build(spec)
    rates = {"constant": iql(hidden=(4,), actor_rate=0.1).build(spec), "cosine": algorithm}
    for name, algorithm in rates.items():
        optimiser, params = algorithm.optimisers["actor"], jnp.zeros(1)
        state, steps = optimiser.init(params), []
        for _ in range(5):
            change, state = optimiser.update(jnp.ones(1), state, params)
            steps.append(-float(change[0]))
        expected = {
            "constant": [0.1] * 5,
            "cosine": [0.05 * (1 + np.cos(np.pi * t / 4)) for t in range(5)],
        }[name]
        np.testing.assert_allclose(steps, expected, rtol=1e-4, atol=1e-7)


# How a clipped Gaussian acts.


@pytest.mark.parametrize(("make", "options"), [(awac, AWAC), (iql, IQL)])
def test_acting_with_a_gaussian(evaluate, batch, data, make, options):
    algorithm, state, exact = evaluate(make, **options)
    bounded = make is iql
    actions = algorithm.act(state, KEY, batch.observation[0], K)
    mean, log_std = moments(exact.params["actor"], data.observation, bounded)
    raw = mean[0] + np.exp(log_std[0]) * noise(KEY, K, A)
    assert (abs(raw) > 1).any() and (abs(raw) < 1).any()
    close(actions, np.clip(raw, -1, 1))
    close(algorithm.mode(state, batch.observation), np.clip(mean, -1, 1))


# Policy expansion.


def policies_of(exact, data, key):
    """Actions [2, B, A] of the frozen policy and of the new one, and their logits [B, 2]."""
    old = moments(exact.frozen["offline_actor"], data.observation)[0]
    new = sampled(exact.params["actor"], data.observation, key, lead=(1,))[0]
    q = np.stack([q_of(exact.params["critic"], data.observation, a) for a in (old, new)], axis=1)
    return np.stack([old, new]), q


def composite_action(exact, data, key, inverse_temperature):
    sample_key, choice_key = jax.random.split(key)
    actions, q = policies_of(exact, data, sample_key)
    logits = composite.pex_logits(q, inverse_temperature)
    gumbel = np.asarray(jax.random.gumbel(choice_key, (2, 1, B)), np.float64)[:, 0].T
    choice = composite.choose_by_gumbel(logits, gumbel)
    return composite.take(actions, choice), choice


def test_pex_chooses_between_the_frozen_and_the_new_policy(evaluate, batch, data):
    algorithm, state, exact = evaluate(pex, **IQL, inv_temperature=2.0)
    expected, choice = composite_action(exact, data, KEY, 2.0)
    assert set(choice) == {0, 1}
    close(algorithm.act(state, KEY, batch.observation, 1)[0], expected)


def test_pex_draws_as_often_as_the_values_say(evaluate, batch, data):
    algorithm, state, exact = evaluate(pex, **IQL, inv_temperature=1.0)
    # Without spread, the new policy returns its mean, so there are only two possible actions.
    still = {"params": {**state.params["actor"]["params"], "log_std": jnp.full(A, -1e9)}}
    spec = Spec(D, A)
    algorithm = pex(**{**IQL, "log_std_range": (-30.0, 2.0)}, inv_temperature=1.0).build(spec)
    state = state.replace(params={**state.params, "actor": still})
    count = 4_000
    actions = algorithm.act(state, KEY, batch.observation[0], count)
    old = moments(exact.frozen["offline_actor"], data.observation)[0][0]
    new = moments(exact.params["actor"], data.observation)[0][0]
    q = np.stack(
        [q_of(exact.params["critic"], data.observation[:1], a[None]) for a in (old, new)], axis=1
    )
    chances = composite.softmax(composite.pex_logits(q, 1.0)[0])
    from_old = np.all(abs(actions - old) < 1e-5, axis=1)
    assert np.all(abs(actions[~from_old] - new) < 1e-5)
    assert 0.05 < chances[0] < 0.95
    assert abs(from_old.mean() - chances[0]) < 4 * (chances[0] * chances[1] / count) ** 0.5


def test_pex_evaluates_with_the_better_of_the_two_modes(evaluate, batch, data):
    algorithm, state, exact = evaluate(pex, **IQL)
    modes = [
        moments(tree, data.observation)[0]
        for tree in (exact.frozen["offline_actor"], exact.params["actor"])
    ]
    q = np.stack([q_of(exact.params["critic"], data.observation, a) for a in modes], axis=1)
    choice = [reference.first_argmax(row) for row in composite.pex_logits(q)]
    assert set(choice) == {0, 1}
    close(algorithm.mode(state, batch.observation), composite.take(np.stack(modes), choice))


def pex_actor_loss(exact, data, acting=None):
    action, _ = composite_action(acting or exact, data, jax.random.split(KEY)[0], 10.0)
    q = q_of(exact.targets["critic"], data.observation, action)
    mean, log_std = moments(exact.params["actor"], data.observation)
    log_prob = rows.gaussian_log_prob(mean, log_std, action)
    v = rows.value_net(exact.params["value"], data.observation)
    return composite.pex_actor_loss(q, v, log_prob, 2.0, 3.0)


def test_pex_actor_loss_ignores_the_batchs_actions(evaluate, batch, data):
    algorithm, state, exact = evaluate(pex, **IQL)
    loss, _ = loss_of(algorithm, "actor", state, batch)
    close(loss, pex_actor_loss(exact, data))
    other = batch._replace(action=-batch.action)
    assert loss_of(algorithm, "actor", state, other)[0] == loss


def test_pex_with_the_batchs_actions_is_iqls_actor_loss(evaluate, batch, data):
    algorithm, state, exact = evaluate(pex, **IQL, actor_actions="batch")
    close(loss_of(algorithm, "actor", state, batch)[0], iql_actor_loss(exact, data))


def test_pex_learns_values_as_iql_and_leaves_the_frozen_policy_alone(evaluate, batch, data):
    algorithm, state, exact = evaluate(pex, **IQL)
    v = rows.value_net(exact.params["value"], data.observation)
    expected = rows.iql_value_loss(advantage(exact, data) + v, v, 0.8)
    close(loss_of(algorithm, "value", state, batch)[0], expected)
    close(loss_of(algorithm, "critic", state, batch)[0], iql_critic_loss(exact, data))
    after, _ = core.update(algorithm, state, batch, KEY)
    assert after.frozen is not state.params and set(after.frozen) == {"offline_actor"}
    for x, y in zip(jax.tree.leaves(after.frozen), jax.tree.leaves(state.frozen), strict=True):
        np.testing.assert_array_equal(x, y)


# Gradients.


def iql_value_oracle(e, _, data):
    v = rows.value_net(e.params["value"], data.observation)
    return rows.iql_value_loss(advantage(e, data) + v, v, 0.8)


# (algorithm, network) -> the loss as a function of (moved state, state of constants, data)
ORACLES = {
    ("awac", "actor"): lambda e, fixed, data: awac_actor_loss(e, data, weights_of=fixed)[0],
    ("iql", "value"): iql_value_oracle,
    ("iql", "actor"): lambda e, _, data: iql_actor_loss(e, data),
    ("iql", "critic"): lambda e, _, data: iql_critic_loss(e, data),
    ("pex", "actor"): lambda e, fixed, data: pex_actor_loss(e, data, acting=fixed),
}
MAKES = {"awac": (awac, AWAC), "iql": (iql, IQL), "pex": (pex, IQL)}


@pytest.mark.parametrize(("algorithm", "name"), ORACLES)
def test_gradients_against_finite_differences(
    evaluate, numbers, batch, data, double, algorithm, name
):
    """Weights, targets and sampled actions are constants."""
    make, options = MAKES[algorithm]
    # Bounds that do not bind: clipping the deviation would give the loss a kink.
    options = {**options, "log_std_range": (-20.0, 20.0)} if name == "critic" else options
    built, state, exact = evaluate(make, **options)
    gradient = jax.grad(lambda p: built.losses[name](p, state, batch, KEY)[0])(state.params[name])
    oracle = ORACLES[algorithm, name]
    for seed in range(2):
        direction = double(numbers(state.params[name], 100 + seed))
        products = jax.tree.map(lambda g, d: np.sum(g * d), double(gradient), direction)
        expected = along(exact, name, lambda e: oracle(e, exact, data), direction)
        close(sum(jax.tree.leaves(products)), expected, 1e-4)


@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (bc, {"hidden": (8, 7)}, {"actor": set()}),
        # AWAC's and IQL's weights carry no gradient.
        (awac, AWAC, {"critic": {"params.actor", "targets.critic"}, "actor": set()}),
        (
            iql,
            {**IQL, "exploration": sunrise()},
            {
                "value": {"targets.critic"},
                "actor": set(),
                "critic": {"params.actor", "params.value", "targets.critic"},
            },
        ),
        (
            iql,
            IQL,
            {"value": {"targets.critic"}, "actor": set(), "critic": {"params.value"}},
        ),
        (
            pex,
            {**IQL, "actor_actions": "batch"},
            {"value": {"targets.critic"}, "actor": set(), "critic": {"params.value"}},
        ),
    ],
)
def test_a_loss_reads_only_the_networks_it_should(evaluate, batch, make, options, expected):
    """Its own network enters only as the first argument; only the critics' targets are read."""
    algorithm, state, _ = evaluate(make, **options)
    assert {name: reads(algorithm, state, name, batch) for name in algorithm.losses} == expected
    assert list(algorithm.losses) == list(expected)  # the order of the updates


# Golden numbers.

CASES = {
    "bc": (bc, {"hidden": (8, 7)}),
    "awac": (awac, AWAC),
    "awac_enoto": (awac, {**AWAC, **WEIGHTED, "actor_value": targets.mean_q()}),
    "iql": (iql, IQL),
    "iql_squashed": (iql, {**IQL, "squashed": True, "layer_norm": True}),
    "enoto_iql": (iql, {**IQL, **WEIGHTED}),
    "pex": (pex, IQL),
    "pex_batch": (pex, {**IQL, "actor_actions": "batch"}),
}


@pytest.mark.parametrize("case", CASES)
def test_golden_numbers(golden, case):
    golden(case)
