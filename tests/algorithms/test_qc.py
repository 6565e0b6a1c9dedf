"""Q-chunking, QC-FQL and BFN: losses on chunks against the oracle, the best of K, acting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core, targets
from enoto_jax.algorithms import bellman
from enoto_jax.algorithms.fql import fql
from enoto_jax.algorithms.qc import qc
from enoto_jax.exploration import policy, sunrise
from enoto_jax.handover import distil
from enoto_jax.recipes import domains, registry, table
from enoto_jax.recipes.building import build
from enoto_jax.replay import chunks
from enoto_jax.types import Chunk, InputError, Spec, Transition
from experiments.benchmarks import flops
from tests.algorithms.losses import (
    KEY,
    A,
    B,
    D,
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

H, GAMMA, STEPS = 3, 0.9, 4
MAKE = qc
SHAPE = {
    "n": N,
    "hidden": (8, 7),
    "discount": GAMMA,
    "flow_steps": STEPS,
    "chunk": H,
    "candidates": K,
}
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def steps():
    """Steps [B, H], and flags of those that end the recording.

    Chunk 1 terminates at its last row, chunk 2 is truncated at its first, chunk 3 terminates in the
    middle, and in chunk 4 the recording continues after a terminal row.
    """
    rng = np.random.default_rng(5)
    terminated, truncated = np.zeros((B, H), bool), np.zeros((B, H), bool)
    terminated[1, 2] = terminated[3, 1] = terminated[4, 0] = truncated[2, 0] = True
    ends = truncated | terminated
    ends[4, 0] = False
    found = Transition(
        observation=rng.normal(size=(B, H, D)).astype(np.float32),
        action=rng.uniform(-1, 1, (B, H, A)).astype(np.float32),
        reward=rng.normal(size=(B, H)).astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        next_observation=rng.normal(size=(B, H, D)).astype(np.float32),
    )
    return found, ends


@pytest.fixture(scope="module")
def chunked(steps):
    """chunked(whole) -> the batch that the losses get, and the oracle's version of it."""

    def make(whole=False):
        rows, ends = steps
        batch = chunks.joined(rows, ends, Chunk(H, GAMMA, whole))
        told = [
            flows.chunk(np.float64(rows.reward[b]), rows.terminated[b], ends[b], GAMMA, whole)
            for b in range(B)
        ]
        reward, over, valid, learns = zip(*told)
        exact = Transition(
            observation=np.float64(rows.observation[:, 0]),
            action=np.float64(rows.action.reshape(B, H * A)),
            reward=np.array(reward),
            terminated=np.float64(over),
            truncated=None,
            next_observation=np.float64(rows.next_observation[:, -1]),
            extras={"valid": np.array(valid), "learns": np.array(learns)},
        )
        return batch, exact

    return make


def test_the_batch_is_the_oracles(chunked):
    for whole in (False, True):
        batch, exact = chunked(whole)
        close(batch.reward, exact.reward)
        np.testing.assert_array_equal(batch.terminated, exact.terminated)
        np.testing.assert_array_equal(batch.extras["valid"], exact.extras["valid"])
        np.testing.assert_array_equal(batch.extras["learns"], exact.extras["learns"])
    assert exact.extras["learns"].tolist() == [1, 1, 0, 0, 1, 1]
    assert exact.terminated.tolist() == [0, 1, 0, 1, 1, 0]


# The critics.


def fql_of(state_of, double, spec, **options):
    shape = {name: x for name, x in SHAPE.items() if name != "candidates"}
    algorithm = fql(**{**shape, **options}).build(spec)
    state = state_of(algorithm)
    return algorithm, state, double(state)


def q_of(tree, observation, action):
    return flows.critics(tree, observation, action, flows.gelu)


def best(exact, observation, key, rule=reference.mean_q):
    """The policy's action: the best of K flow samples according to the online critics."""
    drawn = noise(jax.random.split(key)[0], K, len(observation), H * A)
    trees = exact.params["flow"], exact.params["critic"]
    return flows.best_flow(*trees, observation, drawn, STEPS, rule)


def oracle_target(exact, data, rule=reference.mean_q, choice=reference.mean_q):
    key = jax.random.split(jax.random.split(KEY)[0])[0]
    action = best(exact, data.next_observation, key, choice)
    found = q_of(exact.targets["critic"], data.next_observation, action)
    return data.reward + GAMMA**H * (1.0 - data.terminated) * rule(found), found


def oracle_critic_loss(exact, data, rule=reference.mean_q, weight=None, choice=reference.mean_q):
    y, found = oracle_target(exact, data, rule, choice)
    weight = None if weight is None else reference.sunrise_weight(found, weight)
    q = q_of(exact.params["critic"], data.observation, data.action)
    return flows.chunk_critic_loss(q, y, data.extras["learns"], weight)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("rule", ["mean_q", "min_q", "weighted_min_pair"])
def test_critic_loss(evaluate, chunked, rule, whole):
    batch, data = chunked(whole)
    algorithm, state, exact = evaluate(target=getattr(targets, rule)(), whole_chunks=whole)
    assert algorithm.chunk == Chunk(H, GAMMA, whole)
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, oracle_critic_loss(exact, data, getattr(reference, rule)))
    close(metrics["target"], oracle_target(exact, data, getattr(reference, rule))[0].mean())


def test_the_choice_follows_its_own_rule(evaluate, chunked):
    batch, data = chunked()
    algorithm, state, exact = evaluate(actor_value=targets.min_q())
    found = loss_of(algorithm, "critic", state, batch)[0]
    close(found, oracle_critic_loss(exact, data, choice=reference.min_q))
    assert abs(found - oracle_critic_loss(exact, data)) > 1e-3


def test_a_target_per_critic(evaluate, chunked):
    batch, data = chunked()
    algorithm, state, exact = evaluate(target=targets.independent(group=1))
    _, found = oracle_target(exact, data)
    y = data.reward + GAMMA**H * (1.0 - data.terminated) * found
    q = q_of(exact.params["critic"], data.observation, data.action)
    expected = [
        flows.chunk_critic_loss(q[i : i + 1], y[i], data.extras["learns"]) for i in range(N)
    ]
    close(loss_of(algorithm, "critic", state, batch)[0], sum(expected))


def test_critic_loss_of_enoto(evaluate, chunked):
    batch, data = chunked()
    algorithm, state, exact = evaluate(
        target=targets.weighted_min_pair(), exploration=sunrise(temperature=1.0)
    )
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, oracle_critic_loss(exact, data, reference.weighted_min_pair, 1.0))
    assert 0.5 < metrics["weight"] < 1.0


def test_critic_loss_of_fql_on_chunks(state_of, double, spec, chunked):
    batch, data = chunked()
    algorithm, state, exact = fql_of(state_of, double, spec, target=targets.min_q())
    drawn = noise(jax.random.split(jax.random.split(KEY)[0])[0], B, H * A)
    action = flows.clipped(flows.one_step(exact.params["actor"], data.next_observation, drawn))
    found = reference.min_q(q_of(exact.targets["critic"], data.next_observation, action))
    y = data.reward + GAMMA**H * (1.0 - data.terminated) * found
    q = q_of(exact.params["critic"], data.observation, data.action)
    expected = flows.chunk_critic_loss(q, y, data.extras["learns"])
    close(loss_of(algorithm, "critic", state, batch)[0], expected)


def test_the_actors_loss_of_fql_counts_whole_chunks(state_of, double, spec, chunked):
    batch, data = chunked()
    algorithm, state, exact = fql_of(state_of, double, spec, alpha=1.7)
    drawn = noise(jax.random.split(KEY)[0], B, H * A)
    action = flows.one_step(exact.params["actor"], data.observation, drawn)
    wanted = flows.flow(exact.params["flow"], data.observation, drawn, STEPS)
    q = q_of(exact.params["critic"], data.observation, flows.clipped(action))
    expected = flows.fql_actor_loss(action, wanted, reference.mean_q(q), 1.7)
    close(loss_of(algorithm, "actor", state, batch)[0], expected)


# The flow.


def oracle_flow_loss(exact, data):
    noise_key, time_key = jax.random.split(KEY)
    drawn, time = noise(noise_key, B, H * A), uniform(time_key, B, 1)[:, 0]
    pairs = (data.observation, data.action, drawn, time)
    return flows.chunk_matching_loss(exact.params["flow"], *pairs, data.extras["valid"])


@pytest.mark.parametrize("make", [qc, fql])
def test_flow_loss_counts_valid_steps(evaluate, state_of, double, spec, chunked, make):
    batch, data = chunked()
    algorithm, state, exact = evaluate() if make is qc else fql_of(state_of, double, spec)
    found = loss_of(algorithm, "flow", state, batch)[0]
    close(found, oracle_flow_loss(exact, data))
    everything = batch.extras | {"valid": jnp.ones((B, H))}
    assert abs(found - loss_of(algorithm, "flow", state, batch._replace(extras=everything))[0]) > 0


def test_n_step_returns_are_of_the_first_action(steps, chunked, state_of, double, spec):
    """Rewards, ends and next observations equal a chunk's; the action is that of one step."""
    rows, ends = steps
    chunk, exact = chunked()
    batch = chunks.joined(rows, ends, Chunk(H, GAMMA, single=True))
    np.testing.assert_array_equal(batch.action, rows.action[:, 0])
    assert batch.extras.keys() == {"learns"}
    for name in ("observation", "reward", "terminated", "truncated", "next_observation"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(chunk, name))
    np.testing.assert_array_equal(batch.extras["learns"], chunk.extras["learns"])

    algorithm, state, trees = fql_of(state_of, double, spec, chunk=1, returns=H)
    assert algorithm.chunk == Chunk(H, GAMMA, single=True) and algorithm.open_loop is None
    drawn = noise(jax.random.split(jax.random.split(KEY)[0])[0], B, A)
    action = flows.clipped(flows.one_step(trees.params["actor"], exact.next_observation, drawn))
    found = reference.mean_q(q_of(trees.targets["critic"], exact.next_observation, action))
    y = exact.reward + GAMMA**H * (1.0 - exact.terminated) * found
    q = q_of(trees.params["critic"], exact.observation, np.float64(rows.action[:, 0]))
    expected = flows.chunk_critic_loss(q, y, exact.extras["learns"])
    close(loss_of(algorithm, "critic", state, batch)[0], expected)
    noise_key, time_key = jax.random.split(KEY)
    pairs = (noise(noise_key, B, A), uniform(time_key, B, 1)[:, 0])
    expected = flows.matching_loss(
        trees.params["flow"], exact.observation, np.float64(rows.action[:, 0]), *pairs
    )
    close(loss_of(algorithm, "flow", state, batch)[0], expected)


def test_by_hand(spec):
    """Every critic is 5 and the flow's velocity is 0, so y = R + 0.729 (1 - d) 5."""
    algorithm = qc(**SHAPE).build(spec)
    shapes = jax.eval_shape(lambda key: core.init(algorithm, key), KEY)
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    state.params["critic"]["params"]["out"]["bias"][:] = 5.0
    state.targets["critic"]["params"]["out"]["bias"][:] = 5.0
    zeros = np.zeros((4, 3), np.float32)
    flags = np.array([False, True, False, True])
    extras = {"valid": np.ones((4, H), np.float32), "learns": np.float32([1, 1, 0, 1])}
    reward = np.float32([1.0, 2.0, 9.0, 0.0])
    batch = Transition(zeros, np.zeros((4, 6), np.float32), reward, flags, flags, zeros, extras)
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    errors = [1.0 + 0.729 * 5.0 - 5.0, 2.0 - 5.0, 0.0, 0.0 - 5.0]
    close(loss, N * np.mean(np.square(errors)))
    close(metrics["target"], np.mean([1.0 + 3.645, 2.0, 9.0 + 3.645, 0.0]))


@pytest.mark.parametrize("name", ["critic", "flow"])
def test_gradients_against_finite_differences(evaluate, numbers, chunked, double, name):
    """The critics' gradient flows through Q(s, chunk) only, not through the choice of action."""
    batch, data = chunked()
    algorithm, state, exact = evaluate()
    gradient = jax.grad(lambda p: algorithm.losses[name](p, state, batch, KEY)[0])(
        state.params[name]
    )
    direction = double(numbers(state.params[name], 100))
    products = jax.tree.map(lambda g, d: np.sum(g * d), double(gradient), direction)
    y, _ = oracle_target(exact, data)

    def oracle(exact):
        if name == "flow":
            return oracle_flow_loss(exact, data)
        q = q_of(exact.params["critic"], data.observation, data.action)
        return flows.chunk_critic_loss(q, y, data.extras["learns"])

    close(sum(jax.tree.leaves(products)), along(exact, name, oracle, direction), 1e-4)


def test_a_loss_reads_only_the_networks_it_should(evaluate, chunked):
    """The critics only choose an action, and no gradient passes through the choice."""
    algorithm, state, _ = evaluate(exploration=sunrise())
    found = {name: reads(algorithm, state, name, chunked()[0]) for name in algorithm.losses}
    assert found == {"critic": {"params.flow", "targets.critic"}, "flow": set()}


# Golden numbers.

CASES = {
    "qc": (qc, {}),
    "min": (qc, {"target": targets.min_q(), "activation": "relu", "whole_chunks": True}),
    "enoto": (
        qc,
        {"target": targets.weighted_min_pair(), "exploration": sunrise(temperature=1.0)},
    ),
}


@pytest.fixture(scope="module")
def pinned_on(chunked):
    return chunked()[0]


@pytest.mark.parametrize("case", CASES)
def test_golden_numbers(golden, case):
    golden(case)


# Acting.


def test_the_policy_is_the_best_of_k_flows(evaluate, batch, data):
    algorithm, state, exact = evaluate()
    found = algorithm.evaluates(state, KEY, batch.observation)
    close(found, best(exact, data.observation, KEY))
    one = algorithm.act(state, KEY, batch.observation[0], 1)
    drawn = noise(jax.random.split(KEY)[0], K, 1, H * A)
    trees = exact.params["flow"], exact.params["critic"]
    expected = flows.best_flow(*trees, data.observation[:1], drawn, STEPS, reference.mean_q)
    close(one, expected)
    assert algorithm.act(state, KEY, batch.observation[0], 4).shape == (4, H * A)
    close(policy().act(KEY, algorithm, state, 0, batch.observation[0]), expected[0])


def test_the_deterministic_policy_is_the_best_of_k_fixed_noises(evaluate, batch, data):
    algorithm, state, exact = evaluate()
    fixed = np.random.default_rng(0).normal(size=(K, H * A))
    drawn = np.repeat(np.float64(np.float32(fixed))[:, None], B, axis=1)
    trees = exact.params["flow"], exact.params["critic"]
    expected = flows.best_flow(*trees, data.observation, drawn, STEPS, reference.mean_q)
    close(algorithm.mode(state, batch.observation), expected)
    close(algorithm.mode(state, batch.observation[0]), expected[0])


def test_ucb_chooses_among_the_flows_samples(evaluate, batch, double):
    algorithm, state, exact = evaluate(exploration=sunrise(ucb=10.0, candidates=7))
    observation = batch.observation[0]
    tiled = np.tile(double(observation), (7, 1))
    drawn = flows.flow(exact.params["flow"], tiled, noise(KEY, 7, H * A), STEPS)
    chosen = reference.ucb_choice(q_of(exact.params["critic"], tiled, drawn), 10.0)
    close(algorithm.exploration.act(KEY, algorithm, state, 0, observation), drawn[chosen])


# Methods.


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (qc, {"n": 0}, "num_critics is 0"),
        (qc, {"chunk": 0}, "chunk is 0; it must be at least 1"),
        (fql, {"returns": 0}, "returns is 0; it must be at least 1"),
        (qc, {"returns": 3}, "chunk is 5 and returns is 3"),
        (fql, {"chunk": -1}, "chunk is -1; it must be at least 1"),
        (qc, {"candidates": 0}, "candidates is 0"),
        (qc, {"flow_steps": 0}, "flow_steps is 0"),
        (qc, {"activation": "tanh"}, "activation is 'tanh'; choose relu or gelu"),
    ],
)
def test_options_that_cannot_be_are_refused(spec, make, options, message):
    with pytest.raises(InputError, match=message):
        make(**options).build(spec)


def test_what_takes_single_transitions_is_refused_beside_chunks():
    row = registry.override(tiny("qc"), "online.replay", "balanced")
    with pytest.raises(InputError, match="balanced draws single transitions and qc learns from"):
        build(row, Spec(D, A))
    row = registry.override(tiny("qc"), "handover", distil())
    with pytest.raises(
        InputError, match="distil learns from single transitions and qc from chunks"
    ):
        build(row, Spec(D, A))
    row = registry.override(tiny("qc"), "online.algorithm.chunk", 2)
    with pytest.raises(InputError, match="does not fit|differ|not what"):
        build(row, Spec(D, A))


def test_the_constants_are_the_authors():
    qc_row, fql_row, bfn = (table.recipe(name) for name in ("qc", "qc_fql", "bfn"))
    plain = qc_row.offline.algorithm
    assert (plain.chunk, plain.candidates, plain.n, plain.flow_steps) == (5, 32, 2, 10)
    assert (plain.target, plain.discount, plain.hidden) == (targets.mean_q(), 0.99, (512,) * 4)
    assert (fql_row.offline.algorithm.chunk, fql_row.offline.algorithm.alpha) == (5, 100.0)
    assert (bfn.offline.algorithm.chunk, bfn.offline.algorithm.candidates) == (1, 4)
    assert bfn.offline.algorithm.build(Spec(D, A)).chunk is None
    for name in ("qc", "qc_fql", "bfn", "enoto_qc"):
        row = table.recipe(name)
        assert row.online.replay.name == "append" and row.online.warmup == 5_000
        assert row.transform.action_limit == 0.99999
        changed = domains.for_task(row, name, "antmaze-large-play-v2")
        assert changed.transform.reward_shift == -1.0


def test_enoto_qc_keeps_the_flow_and_changes_the_rules():
    row = table.recipe("enoto_qc")
    assert row.offline.algorithm.n == row.online.algorithm.n == 10
    assert row.offline.algorithm.target == row.online.algorithm.target
    assert row.online.algorithm.exploration == sunrise(candidates=32)
    assert row.online.algorithm.candidates == 32


def test_operations_by_hand(spec):
    """D = 3, A = 2, h = 2, one hidden layer of 4, N = 2, K = 3; a product of [m, k], [k, n] is 2mkn."""
    critic, flow = 2 * 7 * 4 + 2 * 4, 2 * 8 * 4 + 2 * 4 * 4
    seen = 2 * 3 * 4  # the cost of a first layer's observation part
    euler = 3 * 10 * (flow - seen) + seen
    choice = 2 * (3 * (critic - seen) + seen)
    learn = 2 * (3 * critic - 2 * 7 * 4) + (3 * flow - 2 * 8 * 4)
    expected = 10 * (euler + choice + 2 * critic + learn)
    assert flops.per_update(qc(hidden=(4,), chunk=2, candidates=3), spec, 10) == expected


def test_a_backup_may_take_the_best_of_several_choices(evaluate, chunked):
    batch, data = chunked()
    algorithm, state, exact = evaluate(backup=bellman.best_of(k=2))
    key = jax.random.split(jax.random.split(KEY)[0])[0]
    drawn = noise(jax.random.split(key)[0], K, 2, B, H * A)
    trees, values = (exact.params["flow"], exact.params["critic"]), []
    for i in range(2):
        action = flows.best_flow(
            *trees, data.next_observation, drawn[:, i], STEPS, reference.mean_q
        )
        values.append(
            reference.mean_q(q_of(exact.targets["critic"], data.next_observation, action))
        )
    y = data.reward + GAMMA**H * (1.0 - data.terminated) * np.max(values, axis=0)
    q = q_of(exact.params["critic"], data.observation, data.action)
    expected = flows.chunk_critic_loss(q, y, data.extras["learns"])
    close(loss_of(algorithm, "critic", state, batch)[0], expected)
