"""ReBRAC and ENOTO with it: losses against the oracle and by hand, next actions, cloning decay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core, targets
from enoto_jax.algorithms.rebrac import rebrac
from enoto_jax.data.returns import next_actions
from enoto_jax.exploration import sunrise
from enoto_jax.recipes import building, domains, registry, table
from enoto_jax.types import InputError, Transition
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
from tests.oracle import flows, methods, reference

MAKE = rebrac
SHAPE = {"n": N, "hidden": (8, 7), "discount": 0.9, "critic_cloning": 0.4, "actor_cloning": 0.3}
ACTIVATIONS = {"relu": flows.relu, "gelu": flows.gelu}
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def following():
    """The data's next actions [B, A]."""
    return np.random.default_rng(5).uniform(-1, 1, (B, A)).astype(np.float32)


@pytest.fixture(scope="module")
def known(batch, following):
    return batch._replace(extras={"next_action": jnp.asarray(following)})


# The critics.


def next_action(exact, data, key, activation=flows.relu):
    chosen = np.tanh(flows.network(exact.targets["actor"], data.next_observation, activation))
    return methods.smoothed_action(chosen, noise(key, B, A))


def oracle_critic_loss(exact, data, following, activation=flows.relu, coefficient=0.4):
    action = next_action(exact, data, jax.random.split(KEY, 3)[0], activation)
    found = flows.critics(exact.targets["critic"], data.next_observation, action, activation)
    y = flows.rebrac_target(
        data.reward,
        data.terminated,
        data.truncated,
        0.9,
        reference.min_q(found),
        action,
        following,
        coefficient,
    )
    q = flows.critics(exact.params["critic"], data.observation, data.action, activation)
    return reference.critic_loss(q, y)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_critic_loss(evaluate, known, data, following, activation):
    algorithm, state, exact = evaluate(activation=activation)
    loss, metrics = loss_of(algorithm, "critic", state, known)
    close(loss, oracle_critic_loss(exact, data, following, ACTIVATIONS[activation]))
    assert metrics["weight"] == 1 and metrics["bc"] > 0.1


def test_without_a_coefficient_no_next_action_is_read(evaluate, batch, data, following):
    algorithm, state, exact = evaluate(critic_cloning=0.0)
    assert not algorithm.next_actions
    loss, _ = loss_of(algorithm, "critic", state, batch)
    close(loss, oracle_critic_loss(exact, data, following, coefficient=0.0))


def test_an_end_of_the_data_has_no_penalty(evaluate, known):
    """There is none at a time limit (no next action is known) nor at a termination."""
    algorithm, state, _ = evaluate()
    other = jnp.where((known.truncated | known.terminated)[:, None], 9.0, 0.0)
    moved = known._replace(extras={"next_action": known.extras["next_action"] + other})
    one, two = (loss_of(algorithm, "critic", state, rows)[0] for rows in (known, moved))
    assert one == two
    elsewhere = known._replace(extras={"next_action": known.extras["next_action"] + 9.0})
    assert loss_of(algorithm, "critic", state, elsewhere)[0] > 2 * one


def test_targets_by_hand(spec, numbers):
    """With every critic 5 and the actor 0, y = r + 0.9 (5 - 0.4 |a2_data|^2)."""
    algorithm = rebrac(**{**SHAPE, "n": 2, "policy_noise": 0.0}).build(spec)
    shapes = jax.eval_shape(lambda key: core.init(algorithm, key), KEY)
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    state.targets["critic"]["params"]["out"]["bias"][:] = 5.0
    batch = Transition(
        observation=np.ones((3, 3), np.float32),
        action=np.ones((3, 2), np.float32),
        reward=np.float32([1.0, 1.0, 1.0]),
        terminated=np.array([False, True, False]),
        truncated=np.array([False, False, True]),
        next_observation=np.ones((3, 3), np.float32),
        extras={"next_action": np.float32([[0.5, -1.0], [1.0, 1.0], [1.0, 1.0]])},
    )
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    y = [1 + 0.9 * (5 - 0.4 * 1.25), 1.0, 1 + 0.9 * 5]
    close(metrics["target"], np.mean(y))
    close(loss, 2 * np.mean(np.square(y)))


def test_critic_loss_of_enoto(evaluate, batch, data):
    algorithm, state, exact = evaluate(
        critic_cloning=0.0,
        target=targets.weighted_min_pair(),
        exploration=sunrise(temperature=1.0),
    )
    action = next_action(exact, data, jax.random.split(KEY, 3)[0])
    found = flows.critics(exact.targets["critic"], data.next_observation, action, flows.relu)
    weight = reference.sunrise_weight(found, 1.0)
    assert np.ptp(weight) > 0.05
    y = data.reward + 0.9 * (1.0 - data.terminated) * reference.weighted_min_pair(found)
    q = flows.critics(exact.params["critic"], data.observation, data.action, flows.relu)
    close(loss_of(algorithm, "critic", state, batch)[0], reference.critic_loss(q, y, weight))


# The actor.


def oracle_actor_loss(exact, data, coefficient=0.3, scale=None, rule=reference.min_q):
    action = np.tanh(flows.network(exact.params["actor"], data.observation, flows.relu))
    value = rule(flows.critics(exact.params["critic"], data.observation, action, flows.relu))
    return flows.rebrac_actor_loss(value, action, data.action, coefficient, scale), value


@pytest.mark.parametrize("rule", ["min_q", "mean_q", "weighted_min_pair"])
def test_actor_loss(evaluate, batch, data, rule):
    algorithm, state, exact = evaluate(actor_value=getattr(targets, rule)())
    loss, metrics = loss_of(algorithm, "actor", state, batch)
    expected, value = oracle_actor_loss(exact, data, rule=getattr(reference, rule))
    close(loss, expected)
    close(metrics["q_policy"], value.mean())
    close(metrics["lambda"], 1.0 / abs(value).mean())
    close(metrics["cloning"], 0.3)


@pytest.mark.parametrize(("step", "share"), [(0, 1.0), (10, 0.9), (49, 0.51), (50, 0.5), (90, 0.5)])
def test_the_actors_weight_falls_to_its_floor(evaluate, batch, data, step, share):
    algorithm, state, exact = evaluate(cloning_decay_steps=100)
    found, metrics = loss_of(algorithm, "actor", state.replace(step=jnp.int32(step)), batch)
    close(metrics["cloning"], 0.3 * share)
    close(share, flows.fallen(1.0, step, 100, 0.5))
    close(found, oracle_actor_loss(exact, data, 0.3 * share)[0])


@pytest.mark.parametrize("name", ["critic", "actor"])
def test_gradients_against_finite_differences(
    evaluate, numbers, known, data, following, double, name
):
    """The targets and lambda are constants."""
    algorithm, state, exact = evaluate()
    scale = abs(oracle_actor_loss(exact, data)[1]).mean()
    oracle = {
        "critic": lambda exact: oracle_critic_loss(exact, data, following),
        "actor": lambda exact: oracle_actor_loss(exact, data, scale=scale)[0],
    }[name]
    gradient = jax.grad(lambda p: algorithm.losses[name](p, state, known, KEY)[0])(
        state.params[name]
    )
    direction = double(numbers(state.params[name], 100))
    products = jax.tree.map(lambda g, d: np.sum(g * d), double(gradient), direction)
    close(sum(jax.tree.leaves(products)), along(exact, name, oracle, direction), 1e-4)


def test_a_loss_reads_only_the_networks_it_should(evaluate, known):
    algorithm, state, _ = evaluate(exploration=sunrise())
    found = {name: reads(algorithm, state, name, known) for name in algorithm.losses}
    assert found == {"critic": {"targets.actor", "targets.critic"}, "actor": {"params.critic"}}


# Golden numbers.

CASES = {
    "offline": (rebrac, {"critic_cloning": 0.0}),
    "gelu": (rebrac, {"critic_cloning": 0.0, "activation": "gelu", "actor_layer_norm": True}),
    "enoto": (
        rebrac,
        {
            "critic_cloning": 0.0,
            "actor_cloning": 0.0,
            "target": targets.weighted_min_pair(),
            "exploration": sunrise(temperature=1.0),
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_golden_numbers(golden, case):
    golden(case)


# The algorithm, and its methods.


def test_actor_and_targets_move_in_every_second_update(evaluate, known):
    algorithm, state, _ = evaluate()
    update = jax.jit(lambda s, t: core.update(algorithm, s.replace(step=t), known, KEY)[0])
    first = update(state, 0)
    second = update(first, 1)
    for before, after, moves in ((state, first, False), (first, second, True)):
        assert differ(before.params["critic"], after.params["critic"])
        assert differ(before.params["actor"], after.params["actor"]) == moves
        assert differ(before.targets["critic"], after.targets["critic"]) == moves
        assert differ(before.targets["actor"], after.targets["actor"]) == moves


def test_next_actions_stop_at_an_end():
    def rows(flags):
        return np.array([x == "x" for x in flags])

    action = np.arange(1, 6, dtype=np.float32)[:, None]
    data = Transition(action, action, action[:, 0], rows(".x..."), rows("....x"), action)
    assert next_actions(data)[:, 0].tolist() == [2, 0, 4, 5, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "num_critics is 0"),
        ({"delay": 0}, "delay is 0"),
        ({"activation": "tanh"}, "activation is 'tanh'; choose relu or gelu"),
        ({"actor_cloning": -0.1}, "must be 0 or more"),
        ({"cloning_decay_steps": 0}, "cloning_decay_steps is 0"),
        ({"cloning_floor": 1.5}, "cloning_floor is 1.5"),
    ],
)
def test_rebrac_refuses_what_it_cannot_be(spec, options, message):
    with pytest.raises(InputError, match=message):
        rebrac(**options).build(spec)


def test_a_penalty_online_is_refused_with_the_way_out(spec):
    row = registry.override(table.recipe("rebrac"), "online.algorithm.critic_cloning", 0.1)
    with pytest.raises(InputError, match="--set=online.algorithm.critic_cloning=0"):
        building.build(row, spec)


def test_the_constants_are_the_authors():
    row = domains.for_task(table.recipe("rebrac"), "rebrac", "antmaze-large-play-v2")
    offline, online = row.offline.algorithm, row.online.algorithm
    assert (offline.actor_cloning, offline.critic_cloning) == (0.002, 0.001)
    assert (online.actor_cloning, online.critic_cloning) == (0.002, 0.0)
    assert (offline.discount, offline.actor_rate, offline.critic_rate) == (0.999, 3e-4, 5e-5)
    assert (row.offline.batch_size, row.transform.reward_scale) == (256, 100.0)
    assert (online.cloning_decay_steps, online.cloning_floor) == (row.online.steps, 0.5)
    hopper = domains.for_task(table.recipe("rebrac"), "rebrac", "hopper-medium-replay-v2")
    assert (hopper.offline.algorithm.actor_cloning, hopper.offline.batch_size) == (0.05, 1024)


def test_enoto_rebrac_drops_both_terms_at_the_switch():
    row = domains.for_task(table.recipe("enoto_rebrac"), "enoto_rebrac", "hopper-medium-v2")
    offline, online = row.offline.algorithm, row.online.algorithm
    assert (offline.actor_cloning, offline.critic_cloning) == (0.01, 0.01)
    assert (online.actor_cloning, online.critic_cloning) == (0.0, 0.0)
    assert online.target == targets.weighted_min_pair() and online.n == offline.n == 10


def test_sunrises_weight_varies_on_enoto_rebrac(spec, batch, state_of):
    algorithm = tiny("enoto_rebrac").online.algorithm.build(spec)
    state = state_of(algorithm)
    rows = [jax.tree.map(lambda x, b=b: x[b : b + 1], batch) for b in range(3)]
    weights = [float(loss_of(algorithm, "critic", state, row)[1]["weight"]) for row in rows]
    assert all(0.5 <= weight < 1.0 for weight in weights) and np.ptp(weights) > 1e-3, weights


def test_operations_by_hand(spec):
    """D = 3, A = 2, one hidden layer of 4, N = 2, B = 10; a product of [m, k] and [k, n] is 2mkn."""
    critic, actor = 2 * 5 * 4 + 2 * 4, 2 * 3 * 4 + 2 * 4 * 2
    learn_critic, learn_actor = 3 * critic - 2 * 5 * 4, 3 * actor - 2 * 3 * 4
    through_min = 2 * critic + critic - 2 * 3 * 4
    every = actor + 2 * critic + 2 * learn_critic
    expected = 10 * (every + (learn_actor + through_min) // 2)
    assert flops.per_update(rebrac(hidden=(4,)), spec, 10) == expected
