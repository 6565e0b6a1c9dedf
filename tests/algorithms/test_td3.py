"""TD3, TD3+BC and ENOTO with it: losses against the oracle, delayed steps, acting, refusals."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core, targets
from enoto_jax.algorithms.td3 import td3, td3_bc
from enoto_jax.exploration import sunrise
from enoto_jax.recipes import building, registry, table
from enoto_jax.types import InputError
from experiments.benchmarks import flops
from tests.algorithms.losses import (
    KEY,
    A,
    B,
    N,
    along,
    close,
    loss_of,
    noise,
    reads,
)
from tests.helpers import differ, tiny
from tests.oracle import methods, reference

MAKE, SHAPE = td3, {"n": N, "hidden": (8, 7), "discount": 0.9}
pytestmark = pytest.mark.usefixtures("quick")


# The critics.


def next_q(exact, data, key, std=0.2, limit=0.5):
    """The target critics at the target actor's smoothed action, [N, B]."""
    chosen = methods.tanh_actor(exact.targets["actor"], data.next_observation)
    action = methods.smoothed_action(chosen, noise(key, B, A), std, limit)
    return reference.critics(exact.targets["critic"], data.next_observation, action)


def q_data(exact, data):
    return reference.critics(exact.params["critic"], data.observation, data.action)


def oracle_critic_loss(exact, data):
    found = next_q(exact, data, jax.random.split(KEY, 3)[0])
    return methods.td3_critic_loss(q_data(exact, data), data.reward, data.terminated, found, 0.9)


def test_critic_loss(evaluate, batch, data):
    algorithm, state, exact = evaluate()
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, oracle_critic_loss(exact, data))
    assert metrics["weight"] == 1


def test_the_noise_is_clipped_where_it_is_told_to(evaluate, batch, data):
    algorithm, state, exact = evaluate(policy_noise=2.0, noise_clip=0.3)
    key = jax.random.split(KEY, 3)[0]
    assert (abs(2.0 * noise(key, B, A)) > 0.3).any()
    expected = methods.td3_critic_loss(
        q_data(exact, data), data.reward, data.terminated, next_q(exact, data, key, 2.0, 0.3), 0.9
    )
    close(loss_of(algorithm, "critic", state, batch)[0], expected)


def test_critic_loss_of_enoto(evaluate, batch, data):
    """ENOTO's target rule, and a weight at the action that the target bootstraps from."""
    algorithm, state, exact = evaluate(
        target=targets.weighted_min_pair(), exploration=sunrise(temperature=3.0)
    )
    found = next_q(exact, data, jax.random.split(KEY, 3)[0])
    weight = reference.sunrise_weight(found, 3.0)
    assert np.ptp(weight) > 0.05
    y = data.reward + 0.9 * (1.0 - data.terminated) * reference.weighted_min_pair(found)
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, reference.critic_loss(q_data(exact, data), y, weight))
    close(metrics["weight"], weight.mean())


def test_critic_loss_with_a_weight_per_batch(evaluate, batch, data):
    algorithm, state, exact = evaluate(exploration=sunrise(temperature=3.0, scope="batch"))
    _, _, weight_key = jax.random.split(KEY, 3)
    draws = [next_q(exact, data, key) for key in jax.random.split(weight_key, N)]
    weight = reference.batch_weight(draws, 3.0)
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(metrics["weight"], weight)
    close(loss, weight * oracle_critic_loss(exact, data))


def test_a_time_limit_does_not_end_the_bootstrap(evaluate, batch):
    algorithm, state, _ = evaluate()
    ended = batch._replace(truncated=jnp.ones(B, bool))
    assert loss_of(algorithm, "critic", state, ended) == loss_of(algorithm, "critic", state, batch)


# The actor.


def oracle_actor_loss(exact, data, rule="first_q", scale=None, alpha=2.5):
    action = methods.tanh_actor(exact.params["actor"], data.observation)
    q = reference.critics(exact.params["critic"], data.observation, action)
    value = q[0] if rule == "first_q" else reference.min_q(q)
    return methods.td3_bc_actor_loss(value, action, data.action, alpha, scale), value


@pytest.mark.parametrize("rule", ["first_q", "min_q"])
def test_actor_loss(evaluate, batch, data, rule):
    options = {} if rule == "first_q" else {"actor_value": targets.min_q()}
    algorithm, state, exact = evaluate(td3_bc, **options)
    loss, metrics = loss_of(algorithm, "actor", state, batch)
    expected, value = oracle_actor_loss(exact, data, rule)
    close(loss, expected)
    close(metrics["q_policy"], value.mean())
    close(metrics["lambda"], 2.5 / abs(value).mean())
    action = methods.tanh_actor(exact.params["actor"], data.observation)
    close(metrics["bc"], methods.bc_loss(action, data.action))


def test_without_cloning_the_actor_only_climbs(evaluate, batch, data):
    algorithm, state, exact = evaluate()
    loss, metrics = loss_of(algorithm, "actor", state, batch)
    close(loss, -oracle_actor_loss(exact, data)[1].mean())
    assert set(metrics) == {"q_policy"}


@pytest.mark.parametrize("name", ["critic", "actor"])
def test_gradients_against_finite_differences(evaluate, numbers, batch, data, double, name):
    """The targets and lambda are constants."""
    algorithm, state, exact = evaluate(td3_bc)
    scale = abs(oracle_actor_loss(exact, data)[1]).mean()
    oracle = {
        "critic": lambda exact: oracle_critic_loss(exact, data),
        "actor": lambda exact: oracle_actor_loss(exact, data, scale=scale)[0],
    }[name]
    gradient = jax.grad(lambda p: algorithm.losses[name](p, state, batch, KEY)[0])(
        state.params[name]
    )
    for seed in range(2):
        direction = double(numbers(state.params[name], 100 + seed))
        products = jax.tree.map(lambda g, d: np.sum(g * d), double(gradient), direction)
        close(sum(jax.tree.leaves(products)), along(exact, name, oracle, direction), 1e-4)


def test_a_loss_reads_only_the_networks_it_should(evaluate, batch):
    """The critics' target reads the target actor; only the actor's own loss reads the actor."""
    algorithm, state, _ = evaluate(td3_bc, exploration=sunrise())
    found = {name: reads(algorithm, state, name, batch) for name in algorithm.losses}
    assert found == {"critic": {"targets.actor", "targets.critic"}, "actor": {"params.critic"}}


# Golden numbers.

CASES = {
    "td3": (td3, {}),
    "td3_bc": (td3_bc, {}),
    "ensemble": (
        td3_bc,
        {"actor_value": targets.min_q(), "layer_norm": True, "actor_layer_norm": True},
    ),
    "enoto": (
        td3,
        {
            "target": targets.weighted_min_pair(),
            "actor_value": targets.min_q(),
            "exploration": sunrise(temperature=1.0),
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_golden_numbers(golden, case):
    golden(case)


# The algorithm.


def test_actor_and_targets_move_in_every_second_update(evaluate, batch):
    algorithm, state, _ = evaluate(td3_bc)
    update = jax.jit(lambda s, t: core.update(algorithm, s.replace(step=t), batch, KEY))
    states, metrics = [state], []
    for number in range(4):
        after, about = update(states[-1], number)
        states.append(after)
        metrics.append(about)
    for number, (before, after) in enumerate(pairwise(states)):
        second = number % 2 == 1
        assert differ(before.params["critic"], after.params["critic"])
        assert differ(before.params["actor"], after.params["actor"]) == second
        assert differ(before.opt_states["actor"], after.opt_states["actor"]) == second
        for name in ("actor", "critic"):
            assert differ(before.targets[name], after.targets[name]) == second
        assert (metrics[number]["actor"]["bc"] == 0.0) == (not second)
    # Over two updates, the metric's mean is its value in the one step that the actor takes.
    half = (metrics[0]["actor"]["bc"] + metrics[1]["actor"]["bc"]) / 2
    close(half, loss_of(algorithm, "actor", states[1], batch)[1]["bc"])


def test_the_constants_are_the_authors(spec):
    algorithm = td3().build(spec)
    assert (algorithm.critics, algorithm.tau, algorithm.delays) == (
        2,
        0.005,
        {"actor": 2, "targets": 2},
    )
    assert list(algorithm.losses) == ["critic", "actor"]
    assert set(algorithm.tracked) == {"actor", "critic"} and algorithm.moments is None


def test_candidates_are_clipped_noise_around_the_mode(evaluate, batch):
    algorithm, state, _ = evaluate()
    observation = batch.observation[0]
    mode = algorithm.mode(state, observation)
    actions = algorithm.act(state, KEY, observation, 500)
    assert actions.shape == (500, A) and (abs(actions) <= 1.0).all()
    expected = np.clip(mode + 0.1 * np.asarray(jax.random.normal(KEY, (500, A))), -1.0, 1.0)
    close(actions, expected)
    # One candidate is therefore TD3's own exploration.
    plain = algorithm.exploration.act(KEY, algorithm, state, 0, observation)
    close(plain, np.clip(mode + 0.1 * np.asarray(jax.random.normal(KEY, (A,))), -1.0, 1.0))


def test_ucb_chooses_among_the_noisy_candidates(evaluate, batch, double):
    algorithm, state, exact = evaluate(exploration=sunrise(ucb=10.0))
    observation = batch.observation[0]
    actions = double(algorithm.act(state, KEY, observation, N))
    tiled = np.tile(np.asarray(observation, np.float64), (N, 1))
    best = reference.ucb_choice(reference.critics(exact.params["critic"], tiled, actions), 10.0)
    close(algorithm.exploration.act(KEY, algorithm, state, 0, observation), actions[best])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "num_critics is 0"),
        ({"hidden": (8, 0)}, "hidden is"),
        ({"delay": 0}, "delay is 0"),
    ],
)
def test_td3_refuses_what_it_cannot_be(spec, options, message):
    with pytest.raises(InputError, match=message):
        td3(**options).build(spec)


# The methods.


def test_sunrises_weight_varies_on_enoto_td3_bc(spec, batch, state_of):
    algorithm = tiny("enoto_td3_bc").online.algorithm.build(spec)
    state = state_of(algorithm)
    rows = [jax.tree.map(lambda x, b=b: x[b : b + 1], batch) for b in range(3)]
    weights = [float(loss_of(algorithm, "critic", state, row)[1]["weight"]) for row in rows]
    assert all(0.5 <= weight < 1.0 for weight in weights) and np.ptp(weights) > 1e-3, weights


@pytest.mark.parametrize("name", ["td3_bc", "enoto_td3_bc"])
def test_oac_is_refused_with_the_reason(spec, name):
    row = registry.override(table.recipe(name), "online.algorithm.exploration", "oac")
    make = row.online.algorithm.name
    message = f"oac needs the online algorithm's Gaussian before tanh, which {make} does not have"
    with pytest.raises(InputError, match=message):
        building.build(row, spec)


def test_enoto_td3_bc_drops_the_cloning_at_the_switch():
    row = table.recipe("enoto_td3_bc")
    assert row.offline.algorithm.alpha == row.online.algorithm.alpha == 2.5
    assert row.offline.algorithm.cloning and not row.online.algorithm.cloning


def test_without_cloning_the_gradient_keeps_its_size(evaluate, batch, data):
    """-2.5 mean(Q) / mean|Q|; with raw values Adam's steps were 8 times as large at the switch."""
    algorithm, state, exact = evaluate(td3, alpha=2.5, cloning=False)
    loss, about = loss_of(algorithm, "actor", state, batch)
    _, value = oracle_actor_loss(exact, data)
    close(loss, -2.5 * value.mean() / abs(value).mean())
    assert "bc" not in about


def test_operations_by_hand(spec):
    """D = 3, A = 2, one hidden layer of 4, N = 2, B = 10; a product of [m, k] and [k, n] is 2mkn."""
    critic, actor = 2 * 5 * 4 + 2 * 4, 2 * 3 * 4 + 2 * 4 * 2
    learn_critic, learn_actor = 3 * critic - 2 * 5 * 4, 3 * actor - 2 * 3 * 4
    through_first_q = critic + critic - 2 * 3 * 4
    every = actor + 2 * critic + 2 * learn_critic
    algorithm = td3_bc(hidden=(4,))
    expected = 10 * (every + (learn_actor + through_first_q) // 2)
    assert flops.per_update(algorithm, spec, 10) == expected == 4280
    more = flops.per_update(td3_bc(hidden=(4,), actor_value=targets.min_q()), spec, 10) - expected
    assert more == 10 * critic // 2
