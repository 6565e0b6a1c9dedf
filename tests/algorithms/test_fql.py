"""FQL and ENOTO with it: losses against the oracle and by hand, what the flow learns, acting."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from enoto_jax import core, targets
from enoto_jax.algorithms.bc import bc
from enoto_jax.algorithms.bellman import best_of
from enoto_jax.algorithms.fql import fql
from enoto_jax.exploration import sunrise
from enoto_jax.nets.flow import Unbounded, integrate
from enoto_jax.recipes import domains, table
from enoto_jax.replay import ring
from enoto_jax.training.evaluate import acting
from enoto_jax.training.seeds import SeedMap
from enoto_jax.types import InputError, Spec, Transition
from experiments.benchmarks import flops
from tests.algorithms.losses import (
    KEY,
    A,
    B,
    K,
    N,
    along,
    close,
    loss_of,
    noise,
    reads,
    uniform,
)
from tests.helpers import tiny
from tests.oracle import flows, reference

MAKE = fql
SHAPE = {"n": N, "hidden": (8, 7), "discount": 0.9, "alpha": 1.7, "flow_steps": 4}
pytestmark = pytest.mark.usefixtures("quick")


# The critics.


def next_q(exact, data, key):
    action = flows.one_step(exact.params["actor"], data.next_observation, noise(key, B, A))
    action = flows.clipped(action)
    return flows.critics(exact.targets["critic"], data.next_observation, action, flows.gelu)


def q_data(exact, data):
    return flows.critics(exact.params["critic"], data.observation, data.action, flows.gelu)


def oracle_critic_loss(exact, data, rule=reference.mean_q, weight=None):
    found = next_q(exact, data, jax.random.split(jax.random.split(KEY)[0])[0])
    y = data.reward + 0.9 * (1.0 - data.terminated) * rule(found)
    weight = None if weight is None else reference.sunrise_weight(found, weight)
    return reference.critic_loss(q_data(exact, data), y, weight)


@pytest.mark.parametrize("rule", ["mean_q", "min_q", "weighted_min_pair"])
def test_critic_loss(evaluate, batch, data, rule):
    algorithm, state, exact = evaluate(target=getattr(targets, rule)())
    loss, _ = loss_of(algorithm, "critic", state, batch)
    close(loss, oracle_critic_loss(exact, data, getattr(reference, rule)))


def test_critic_loss_of_enoto(evaluate, batch, data):
    algorithm, state, exact = evaluate(
        target=targets.weighted_min_pair(), exploration=sunrise(temperature=1.0)
    )
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, oracle_critic_loss(exact, data, reference.weighted_min_pair, 1.0))
    assert 0.5 < metrics["weight"] < 1.0


def test_the_best_of_k_samples_as_the_next_action(evaluate, batch, data):
    algorithm, state, exact = evaluate(backup=best_of(k=K))
    key = jax.random.split(jax.random.split(KEY)[0])[0]
    drawn, values = noise(key, K, B, A), []
    for k in range(K):
        action = flows.one_step(exact.params["actor"], data.next_observation, drawn[k])
        found = flows.critics(
            exact.targets["critic"], data.next_observation, flows.clipped(action), flows.gelu
        )
        values.append(reference.mean_q(found))
    y = data.reward + 0.9 * (1.0 - data.terminated) * np.max(values, axis=0)
    expected = reference.critic_loss(q_data(exact, data), y)
    close(loss_of(algorithm, "critic", state, batch)[0], expected)


# The flow.


def oracle_flow_loss(exact, data):
    noise_key, time_key = jax.random.split(KEY)
    drawn, time = noise(noise_key, B, A), uniform(time_key, B, 1)[:, 0]
    return flows.matching_loss(exact.params["flow"], data.observation, data.action, drawn, time)


def test_flow_loss(evaluate, batch, data):
    algorithm, state, exact = evaluate()
    close(loss_of(algorithm, "flow", state, batch)[0], oracle_flow_loss(exact, data))


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_euler_steps(evaluate, batch, data, steps):
    algorithm, state, exact = evaluate()
    velocity = algorithm.nets["flow"].apply
    drawn = jax.random.normal(KEY, (B, A))
    found = integrate(velocity, state.params["flow"], batch.observation, drawn, steps)
    expected = flows.flow(exact.params["flow"], data.observation, noise(KEY, B, A), steps)
    assert (abs(expected) == 1.0).any() and (abs(expected) < 1.0).any()
    close(found, expected)


def test_euler_by_hand():
    """dx/dt = t: four steps of 1/4 give 0/16 + 1/16 + 2/16 + 3/16 on top of the noise."""

    def velocity(params, observation, x, time):
        return params * jnp.broadcast_to(time, x.shape)

    found = integrate(velocity, 1.0, jnp.zeros((2, 1)), jnp.float32([[0.1], [0.9]]), 4)
    close(found, [[0.1 + 6 / 16], [1.0]])


# The policy.


def policy_at(exact, data):
    drawn = noise(jax.random.split(KEY)[0], B, A)
    action = flows.one_step(exact.params["actor"], data.observation, drawn)
    wanted = flows.flow(exact.params["flow"], data.observation, drawn, 4)
    q = flows.critics(exact.params["critic"], data.observation, flows.clipped(action), flows.gelu)
    return action, wanted, q


def oracle_actor_loss(exact, data, rule=reference.mean_q, normalise=False, alpha=1.7):
    action, wanted, q = policy_at(exact, data)
    scale = abs(rule(q)).mean() if normalise else 1.0
    return flows.fql_actor_loss(action, wanted, rule(q), alpha, scale)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("rule", ["mean_q", "min_q"])
def test_actor_loss(evaluate, batch, data, rule, normalise):
    algorithm, state, exact = evaluate(actor_value=getattr(targets, rule)(), normalise=normalise)
    loss, metrics = loss_of(algorithm, "actor", state, batch)
    action, wanted, q = policy_at(exact, data)
    assert (abs(action) > 1.0).any()  # so clipping matters
    close(loss, oracle_actor_loss(exact, data, getattr(reference, rule), normalise))
    close(metrics["bc"], np.mean((action - wanted) ** 2))
    close(metrics["lambda"], 1.0 / abs(getattr(reference, rule)(q)).mean() if normalise else 1.0)


@pytest.mark.parametrize(("step", "share"), [(0, 1.0), (10, 0.9), (95, 0.1), (200, 0.1)])
def test_alpha_falls_to_its_floor(evaluate, batch, data, step, share):
    algorithm, state, exact = evaluate(alpha_decay_steps=100)
    loss, metrics = loss_of(algorithm, "actor", state.replace(step=jnp.int32(step)), batch)
    close(metrics["alpha"], 1.7 * share)
    close(loss, oracle_actor_loss(exact, data, alpha=1.7 * share))


ORACLES = {"critic": oracle_critic_loss, "flow": oracle_flow_loss, "actor": oracle_actor_loss}


@pytest.mark.parametrize("name", ["critic", "flow"])
def test_gradients_against_finite_differences(evaluate, numbers, batch, data, double, name):
    algorithm, state, exact = evaluate()
    gradient = jax.grad(lambda p: algorithm.losses[name](p, state, batch, KEY)[0])(
        state.params[name]
    )
    direction = double(numbers(state.params[name], 100))
    products = jax.tree.map(lambda g, d: np.sum(g * d), double(gradient), direction)
    expected = along(exact, name, lambda exact: ORACLES[name](exact, data), direction)
    close(sum(jax.tree.leaves(products)), expected, 1e-4)


def test_the_policys_gradient_against_finite_differences(evaluate, numbers, batch, data, double):
    """Small parameters keep actions away from the bounds, where clipping has a kink."""
    algorithm, state, _ = evaluate()
    small = jax.tree.map(lambda x: 0.3 * x, state.params["actor"])
    state = state.replace(params={**state.params, "actor": small})
    exact = double(state)
    gradient = jax.grad(lambda p: algorithm.losses["actor"](p, state, batch, KEY)[0])(small)
    direction = double(numbers(small, 100))
    products = jax.tree.map(lambda g, d: np.sum(g * d), double(gradient), direction)
    expected = along(exact, "actor", lambda exact: oracle_actor_loss(exact, data), direction)
    close(sum(jax.tree.leaves(products)), expected, 1e-4)


def test_a_loss_reads_only_the_networks_it_should(evaluate, batch):
    """The flow's action is a constant: no gradient reaches the flow through it."""
    algorithm, state, _ = evaluate(exploration=sunrise())
    found = {name: reads(algorithm, state, name, batch) for name in algorithm.losses}
    assert found == {
        "critic": {"params.actor", "targets.critic"},
        "flow": set(),
        "actor": {"params.critic"},
    }


def test_losses_by_hand(spec):
    """The flow's velocity is 0, mu is 2 and every critic is 5."""
    algorithm = fql(**SHAPE).build(spec)
    shapes = jax.eval_shape(lambda key: core.init(algorithm, key), KEY)
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    state.params["critic"]["params"]["out"]["bias"][:] = 5.0
    state.params["actor"]["params"]["out"]["bias"][:] = 2.0
    zeros = np.zeros((4, 3), np.float32)
    ends = np.zeros(4, bool)
    batch = Transition(zeros, 0 * zeros[:, :2], zeros[:, 0], ends, ends, zeros)
    loss, metrics = loss_of(algorithm, "actor", state, batch)
    drawn = np.clip(jax.random.normal(jax.random.split(KEY)[0], (4, 2)), -1, 1)
    close(metrics["bc"], np.mean((2.0 - drawn) ** 2))
    close(loss, 1.7 * np.mean((2.0 - drawn) ** 2) - 5.0)
    x0 = np.asarray(jax.random.normal(jax.random.split(KEY)[0], (4, 2)))
    close(loss_of(algorithm, "flow", state, batch)[0], np.mean(x0**2))


# Golden numbers.

CASES = {
    "fql": (fql, {}),
    "min": (fql, {"target": targets.min_q(), "normalise": True, "activation": "relu"}),
    "enoto": (
        fql,
        {
            "target": targets.weighted_min_pair(),
            "exploration": sunrise(temperature=1.0),
            "alpha_decay_steps": 10,
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_golden_numbers(golden, case):
    golden(case)


# Acting.


def test_samples_are_what_the_policy_makes_of_noise(evaluate, batch, double):
    algorithm, state, exact = evaluate()
    observation = batch.observation[0]
    actions = algorithm.act(state, KEY, observation, 5)
    tiled = np.tile(double(observation), (5, 1))
    expected = flows.clipped(flows.one_step(exact.params["actor"], tiled, noise(KEY, 5, A)))
    close(actions, expected)
    mode = flows.clipped(flows.one_step(exact.params["actor"], tiled[:1], np.zeros((1, A))))
    close(algorithm.mode(state, observation), mode[0])


def test_an_evaluation_draws_noise_anew_in_every_step(evaluate, batch):
    """The noise depends on the seed, the evaluation and the step, not on the other seeds."""
    algorithm, state, _ = evaluate()
    seen = np.tile(batch.observation[:1], (2, 3, 1))  # [S, E, D]
    states = jax.tree.map(lambda x: np.stack([x, x]), state)

    def actions(seeds, number, states, seen):
        act = acting(algorithm, SeedMap(seeds, jax.local_devices()[:1]))(number)
        return [np.asarray(act(states, seen)) for _ in range(2)]

    first, second = actions([3, 4], 7, states, seen)
    assert (abs(first) <= 1.0).all() and len(np.unique(first)) > 6
    assert (first != second).any() and (first[0] != first[1]).any()
    one = jax.tree.map(lambda x: x[1:], states)
    alone = actions([4], 7, one, seen[1:])
    close(alone[0], first[1:])
    close(alone[1], second[1:])
    assert (actions([4], 8, one, seen[1:])[0] != alone[0]).any()


def test_ucb_chooses_among_the_policys_samples(evaluate, batch, double):
    algorithm, state, exact = evaluate(exploration=sunrise(ucb=10.0))
    observation = batch.observation[0]
    actions = double(algorithm.act(state, KEY, observation, N))
    tiled = np.tile(double(observation), (N, 1))
    q = flows.critics(exact.params["critic"], tiled, actions, flows.gelu)
    best = reference.ucb_choice(q, 10.0)
    close(algorithm.exploration.act(KEY, algorithm, state, 0, observation), actions[best])


# What it learns.


def test_a_flow_keeps_both_modes_where_a_gaussian_has_neither():
    """Actions are +-0.7 at random: the flow samples near both, a Gaussian lies in between."""
    rng, rows = np.random.default_rng(0), 512
    action = (0.7 * rng.choice([-1.0, 1.0], (rows, 1)) + 0.05 * rng.normal(size=(rows, 1))).astype(
        np.float32
    )
    seen, ends = np.zeros((rows, 1), np.float32), np.zeros(rows, bool)
    data = Transition(seen, action, seen[:, 0], ends, ends, seen)
    algorithm = fql(n=1, hidden=(32, 32), flow_rate=3e-3).build(Spec(1, 1))
    flow, tx = algorithm.losses["flow"], optax.adam(3e-3)
    net = Unbounded(1, (32, 32))
    params = net.init(KEY, seen[:1], action[:1], seen[:1])
    cloned = bc(hidden=(32, 32), actor_rate=3e-3).build(Spec(1, 1))

    def step(carried, key):
        params, opt_state, gaussian = carried
        rows_key, key = jax.random.split(key)
        batch = ring.sample(data, rows_key, 128, jnp.int32(rows))
        grads = jax.grad(lambda p: flow(p, None, batch, key)[0])(params)
        changes, opt_state = tx.update(grads, opt_state)
        gaussian, _ = core.update(cloned, gaussian, batch, key)
        return (optax.apply_updates(params, changes), opt_state, gaussian), None

    def learn(keys):
        start = (params, tx.init(params), core.init(cloned, KEY))
        (flowing, _, gaussian), _ = jax.lax.scan(step, start, keys)
        drawn = jax.random.normal(KEY, (1000, 1))
        return (
            integrate(net.apply, flowing, jnp.zeros((1000, 1)), drawn, 10),
            cloned.mode(gaussian, jnp.zeros((1, 1))),
        )

    samples, mean = jax.jit(learn)(jax.random.split(KEY, 1500))
    near = abs(abs(np.asarray(samples)) - 0.7) < 0.2
    share = np.mean(samples > 0)
    assert near.mean() > 0.85, near.mean()
    assert 0.35 < share < 0.65, share
    assert abs(float(mean[0, 0])) < 0.2  # far from every action in the data


# Methods.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "num_critics is 0"),
        ({"flow_steps": 0}, "flow_steps is 0"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"activation": "tanh"}, "activation is 'tanh'; choose relu or gelu"),
        ({"alpha_decay_steps": 0}, "alpha_decay_steps is 0"),
    ],
)
def test_fql_refuses_what_it_cannot_be(spec, options, message):
    with pytest.raises(InputError, match=message):
        fql(**options).build(spec)


def test_the_constants_are_the_authors():
    def of(name, row="fql"):
        return domains.for_task(table.recipe(row), row, name).offline.algorithm

    plain = of("cube-single-play-singletask-task2-v0")
    assert (plain.alpha, plain.target, plain.discount) == (300.0, targets.mean_q(), 0.99)
    giant = of("antmaze-giant-navigate-singletask-v0")
    assert (giant.alpha, giant.target, giant.discount) == (10.0, targets.min_q(), 0.995)
    assert of("puzzle-4x4-play-singletask-v0").alpha == 1000.0
    assert of("antmaze-large-play-v2").alpha == 3.0
    assert of("pen-cloned-v1").target == targets.min_q()
    assert (plain.n, plain.hidden, plain.flow_steps) == (2, (512,) * 4, 10)
    row = table.recipe("fql")
    assert row.transform.action_limit == 0.99999 and row.online.replay.name == "append"
    assert row.online.algorithm == row.offline.algorithm


def test_enoto_fql_keeps_its_rule_where_the_authors_choose_by_hand():
    row = domains.for_task(
        table.recipe("enoto_fql"), "enoto_fql", "antmaze-large-navigate-singletask-v0"
    )
    assert row.offline.algorithm.target == row.online.algorithm.target
    assert row.online.algorithm.target == targets.weighted_min_pair()
    assert row.online.algorithm.alpha_decay_steps == row.online.steps


def test_sunrises_weight_varies_on_enoto_fql(spec, batch, state_of):
    algorithm = tiny("enoto_fql").online.algorithm.build(spec)
    state = state_of(algorithm)
    rows = [jax.tree.map(lambda x, b=b: x[b : b + 1], batch) for b in range(3)]
    weights = [float(loss_of(algorithm, "critic", state, row)[1]["weight"]) for row in rows]
    assert all(0.5 <= weight < 1.0 for weight in weights) and np.ptp(weights) > 1e-3, weights


def test_operations_by_hand(spec):
    """D = 3, A = 2, one hidden layer of 4, N = 2, B = 10; a product of [m, k] and [k, n] is 2mkn."""
    critic, actor, flow = 2 * 5 * 4 + 2 * 4, 2 * 5 * 4 + 2 * 4 * 2, 2 * 6 * 4 + 2 * 4 * 2
    learn = 2 * (3 * critic - 2 * 5 * 4) + (3 * actor - 2 * 5 * 4) + (3 * flow - 2 * 6 * 4)
    seen = 2 * 3 * 4
    euler = 10 * (flow - seen) + seen
    climb = 2 * critic + 2 * (critic - seen)
    expected = 10 * (actor + 2 * critic + learn + euler + climb)
    assert flops.per_update(fql(hidden=(4,)), spec, 10) == expected
