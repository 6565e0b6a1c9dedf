"""Balanced replay's algorithm: its losses against the oracle, its agents, its first updates.

The golden numbers in tests/golden/br.json are pinned as in test_losses.py:
`python -m pytest tests/algorithms/test_br.py -k golden --regenerate-golden`.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from enoto_jax import core, targets
from enoto_jax.algorithms.agents import agents, cql_agents
from enoto_jax.algorithms.br import br
from enoto_jax.algorithms.cql import cql
from enoto_jax.nets import distributions
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.networks import Mixture, TanhGaussian
from enoto_jax.recipes import registry
from enoto_jax.recipes.building import build
from enoto_jax.recipes.table import RECIPES
from enoto_jax.replay import balanced
from enoto_jax.training import run
from enoto_jax.types import InputError, Transition
from tests.algorithms.losses import KEY, A, B, D, close, loss_of, noise
from tests.helpers import assert_same, differ, reach_source, tiny
from tests.oracle import composite as composite
from tests.oracle import reference

GOLDEN = Path(__file__).parents[1] / "golden" / "br.json"
POLICIES = 3
SHAPE = {"policies": POLICIES, "n": 2, "hidden": (8, 7), "discount": 0.9}
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def algorithm(spec):
    return br(**SHAPE).build(spec)


@pytest.fixture(scope="module")
def state(algorithm, state_of):
    return state_of(algorithm)


@pytest.fixture(scope="module")
def exact(state, double):
    return double(state)


@pytest.fixture(scope="module")
def full(batch, numbers):
    """The batch as balanced replay returns it."""
    plain = batch._replace(extras={})
    extras = {"row": jnp.arange(B), "offline": numbers(plain, 5), "online": numbers(plain, 6)}
    extras = {k: jax.tree.map(jnp.asarray, v) for k, v in extras.items()}
    return batch._replace(extras=extras)


@pytest.fixture(scope="module")
def data(full, double):
    return double(full)


def mixture(tree, observation):
    members = {"params": tree["params"]["members"]}
    each = [reference.mlp_actor(reference.member(members, k), observation) for k in range(POLICIES)]
    return composite.mixture_moments(*(np.stack(part) for part in zip(*each)))


def policy_sample(exact, observation, key):
    return reference.tanh_normal(*mixture(exact.params["actor"], observation), noise(key, B, A))


def alpha_of(exact):
    return np.exp(exact.params["temperature"]["params"]["value"])


# The losses.


def test_the_policy_is_the_matched_mixture(algorithm, state, exact, batch, data):
    mean, log_std = algorithm.nets["actor"].apply(state.params["actor"], batch.observation)
    expected = mixture(exact.params["actor"], data.observation)
    close(mean, expected[0])
    close(log_std, expected[1])
    close(algorithm.mode(state, batch.observation), np.tanh(expected[0]))
    found, std = algorithm.moments(state, batch.observation[0])
    close(found, expected[0][0])
    close(std, np.exp(expected[1][0]))


def test_the_deviation_is_clipped_after_the_matching():
    net = Mixture(ensemble(TanhGaussian(A, (8,), log_std_range=(-3.0, -2.0)), 2))
    params = net.init(KEY, jnp.zeros(D))
    params["params"]["members"]["mean"]["bias"] = jnp.float32([[5.0] * A, [-5.0] * A])
    mean, log_std = net.apply(params, jnp.zeros(D))
    assert (log_std == -2.0).all()  # two distant, narrow modes
    assert (jnp.abs(mean) < 1.0).all()


def test_equal_narrow_members_give_no_nan():
    """The textbook formula subtracts nearly equal squares, which would cancel."""
    mean, log_std = jnp.full((5, A), 1234.567), jnp.full((5, A), -20.0)

    def total(mean, log_std):
        return sum(jnp.sum(x) for x in distributions.matched(mean, log_std))

    close(distributions.matched(mean, log_std)[1], np.full(A, -20.0))
    gradients = jax.grad(total, (0, 1))(mean, log_std)
    assert all(np.isfinite(x).all() for x in gradients)


def test_critic_loss_has_a_target_for_each_pair(algorithm, state, exact, full, data):
    loss, metrics = loss_of(algorithm, "critic", state, full)
    sample_key, _ = jax.random.split(jax.random.split(KEY)[0])
    action, log_prob = policy_sample(exact, data.next_observation, sample_key)
    next_q = reference.critics(exact.targets["critic"], data.next_observation, action)
    y = composite.br_target(
        data.reward, data.terminated, SHAPE["discount"], next_q, alpha_of(exact), log_prob
    )
    q = reference.critics(exact.params["critic"], data.observation, data.action)
    close(loss, composite.br_critic_loss(q, y))
    close(metrics["target"], y.mean())


def test_actor_loss_climbs_the_mean_of_the_pairs_minima(algorithm, state, exact, full, data):
    loss, metrics = loss_of(algorithm, "actor", state, full)
    action, log_prob = policy_sample(exact, data.observation, jax.random.split(KEY)[0])
    q = reference.critics(exact.params["critic"], data.observation, action)
    close(loss, composite.br_actor_loss(alpha_of(exact), log_prob, q))
    close(metrics["q_policy"], composite.br_value(q).mean())


def test_temperature_loss_is_of_the_logarithm(algorithm, state, exact, full, data):
    _, log_prob = policy_sample(exact, data.observation, KEY)
    value = exact.params["temperature"]["params"]["value"]
    expected = reference.temperature_loss(value, log_prob, -A, "log")
    close(loss_of(algorithm, "temperature", state, full)[0], expected)


def ratios(exact, data):
    tree = exact.params["ratio"]
    return [
        composite.density_ratio(tree, part.observation, part.action)
        for part in (data, data.extras["offline"], data.extras["online"])
    ]


def test_ratio_loss(algorithm, state, exact, full, data):
    _, w_old, w_new = ratios(exact, data)
    assert {0.0} < set(w_old) | set(w_new)  # both sides of the output ReLU are covered
    loss, metrics = loss_of(algorithm, "ratio", state, full)
    close(loss, composite.density_ratio_loss(w_old, w_new))
    close(metrics["offline"], w_old.mean())
    close(metrics["online"], w_new.mean())


@pytest.mark.parametrize("temperature", [5.0, 0.5])
def test_priorities(spec, state, exact, full, data, temperature):
    w, w_old, _ = ratios(exact, data)
    found = br(**SHAPE, ratio_temperature=temperature).build(spec).priority(state, full)
    close(found, composite.balanced_priorities(w, w_old, temperature))


@pytest.mark.parametrize("bias", [-1e4, -1.0, 0.0, 1e6])
def test_priorities_are_never_nan(algorithm, state, full, bias):
    """Not even if the ratio is 0 or huge everywhere."""
    ratio = jax.tree.map(jnp.asarray, state.params["ratio"])
    ratio["params"]["out"]["bias"] = jnp.float32([bias])
    changed = state.replace(params={**state.params, "ratio": ratio})
    found = np.asarray(algorithm.priority(changed, full))
    assert ((found >= np.float32(1e-3)) & (found <= 1e3)).all()
    loss, gradient = jax.value_and_grad(
        lambda p: algorithm.losses["ratio"](p, changed, full, KEY)[0]
    )(ratio)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((loss, gradient)))


def test_the_ratio_starts_about_1_and_finds_the_true_one(algorithm):
    """Two kinds of rows, 3 : 1 in the data set and 1 : 3 in new data: the ratios are 1/3 and 3."""
    net, loss = algorithm.nets["ratio"], algorithm.losses["ratio"]
    params = net.init(KEY, *algorithm.inputs["ratio"])
    kinds = jnp.float32([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    close(net.apply(params, kinds, jnp.zeros((2, A))), [1.0, 1.0], 2e-2)

    def part(which):
        count = len(which)
        zeros = jnp.zeros(count)
        return Transition(kinds[which], jnp.zeros((count, A)), zeros, zeros, zeros, kinds[which])

    old, new = part(jnp.int32([0, 0, 0, 1])), part(jnp.int32([0, 1, 1, 1]))
    batch = old._replace(extras={"offline": old, "online": new})
    optimiser = optax.adam(1e-2)

    def step(carried, _):
        params, memory = carried
        gradient = jax.grad(lambda p: loss(p, None, batch, KEY)[0])(params)
        changes, memory = optimiser.update(gradient, memory)
        return (optax.apply_updates(params, changes), memory), None

    (params, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), length=500)
    close(net.apply(params, kinds, jnp.zeros((2, A))), [1 / 3, 3.0], 1e-2)


def test_defaults_are_the_authors(spec):
    recipe = RECIPES["br"]
    online, made = recipe.online, build(recipe, spec)
    assert list(made.online.losses) == ["temperature", "actor", "critic", "ratio"]
    assert made.online.critics == 10 and made.offline.batches == 5
    assert (online.warmup, online.catch_up, online.utd) == (1_000, 10, 1)
    assert online.replay == balanced(online_fraction=0.5, first=1_000, capacity=250_000)
    assert online.algorithm.ratio_temperature == 5.0


def test_other_rules_take_the_place_of_the_pairs(spec, state, exact, full, data):
    changed = br(**SHAPE, target=targets.min_q(), actor_value=targets.mean_q()).build(spec)
    action, log_prob = policy_sample(exact, data.observation, jax.random.split(KEY)[0])
    q = reference.critics(exact.params["critic"], data.observation, action)
    expected = reference.actor_loss(alpha_of(exact), log_prob, q, "mean")
    close(loss_of(changed, "actor", state, full)[0], expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("temperature", set()),
        ("actor", {"params.critic", "params.temperature"}),
        ("critic", {"params.actor", "params.temperature", "targets.critic"}),
        ("ratio", set()),
    ],
)
def test_a_loss_reads_only_the_networks_it_should(algorithm, state, full, name, expected):
    def value(params, targets):
        moved = state.replace(params=params, targets=targets)
        return algorithm.losses[name](state.params[name], moved, full, KEY)[0]

    params, slow = jax.grad(value, (0, 1))(state.params, state.targets)
    named = {f"params.{k}": v for k, v in params.items()}
    named |= {f"targets.{k}": v for k, v in slow.items()}
    found = {k for k, v in named.items() if any(np.any(x) for x in jax.tree.leaves(v))}
    # The temperature's loss reads the policy through a log-density that carries no gradient.
    assert found == expected


def test_every_member_learns_through_the_mixture(algorithm, state, full):
    gradient = jax.grad(lambda p: algorithm.losses["actor"](p, state, full, KEY)[0])
    for leaf in jax.tree.leaves(gradient(state.params["actor"])):
        assert leaf.shape[0] == POLICIES and all(np.any(member) for member in leaf)


@pytest.fixture(scope="module")
def golden(request, algorithm, state, full):
    found = {"priorities": [float(x) for x in algorithm.priority(state, full)]}
    for key, name in zip(jax.random.split(KEY, len(algorithm.losses)), algorithm.losses):
        loss, metrics = loss_of(algorithm, name, state, full, key)
        found |= {f"{name}/{k}": float(v) for k, v in {"loss": loss, **metrics}.items()}
    if request.config.getoption("--regenerate-golden"):
        GOLDEN.write_text(json.dumps(found, indent=2) + "\n")
    return found, json.loads(GOLDEN.read_text())


def test_golden_numbers(golden):
    found, pinned = golden
    assert list(found) == list(pinned)
    for name in found:
        close(found[name], pinned[name], 2e-5)


# The agents.

COUNT = 3
AGENT = {"n": 2, "hidden": (8, 7), "candidates": 2, "lagrange": 0.7}


@pytest.fixture(scope="module")
def team(spec):
    return cql_agents(count=COUNT, **AGENT).build(spec)


def agent(tree, k):
    """The state of agent k alone."""
    parts = {
        name: jax.tree.map(lambda x: x[k], getattr(tree, name))
        for name in ("params", "targets", "opt_states", "frozen")
    }
    return tree.replace(**parts)


def keyed(algorithm, k):
    """The algorithm, with losses that use the keys of the team's agent k."""

    def of(loss):
        return lambda params, state, batch, key: loss(
            params, state, batch, jax.random.split(key, COUNT)[k]
        )

    return algorithm._replace(losses={name: of(loss) for name, loss in algorithm.losses.items()})


def test_agents_are_the_same_as_each_alone(spec, team, numbers, batch):
    """Each has its own part of the batch, noise and multiplier; vmap may change the last digits."""
    alone = cql(**AGENT).build(spec)
    before = jax.jit(lambda key: core.init(team, key))(KEY)
    many = numbers(jax.tree.map(lambda x: np.concatenate([x] * COUNT), batch), 9)
    after, metrics = jax.jit(partial(core.update, team))(before, many, KEY)
    assert before.step.shape == after.step.shape == () and after.step == 1
    each = []
    for k in range(COUNT):
        part = jax.tree.map(lambda x, k=k: x[k * B : (k + 1) * B], many)
        update = jax.jit(partial(core.update, keyed(alone, k)))
        expected, seen = update(agent(before, k), part, KEY)
        assert_same(agent(after, k), expected, rtol=1e-4, atol=1e-6)
        each.append(seen)
    assert differ(agent(before, 0).params, agent(before, 1).params)
    means = jax.tree.map(lambda *x: np.mean(x), *each)
    jax.tree.map(lambda x, y: close(x, y, 1e-4), metrics, means)


def test_agents_start_as_each_alone_would(spec, team):
    alone = cql(**AGENT).build(spec)
    before = core.init(team, KEY)
    for key, (name, net) in zip(jax.random.split(KEY, len(alone.nets)), alone.nets.items()):
        for k, own in enumerate(jax.random.split(key, COUNT)):
            expected = net.init(own, *alone.inputs[name])
            assert_same(agent(before, k).params[name], expected, rtol=1e-6, atol=1e-7)


def test_agents_act_as_their_matched_mixture(team, state_of, batch, double):
    state = state_of(team)
    actor = double(state).params["actor"]
    each = [
        reference.mlp_actor(reference.member(actor, k), double(batch.observation))
        for k in range(COUNT)
    ]
    mean, log_std = composite.mixture_moments(*(np.stack(part) for part in zip(*each)))
    close(team.mode(state, batch.observation), np.tanh(mean))
    found, std = team.moments(state, batch.observation)
    close(found, mean)
    close(std, np.exp(log_std), 1e-4)
    expected, _ = reference.tanh_normal(mean[0], log_std[0], noise(KEY, 4, A))
    close(team.act(state, KEY, batch.observation[0], 4), expected, 1e-4)


def test_fewer_than_two_agents_are_refused(spec):
    with pytest.raises(InputError, match="agents: count is 1; it must be at least 2"):
        agents(cql(n=2, hidden=(8,)).build(spec), 1)


# The whole method.


def test_mean_of_mins():
    q = jnp.float32([[1, 5], [2, 3], [7, 0], [4, 9]])
    close(targets.mean_of_mins()(KEY, q), [2.5, 1.5])
    close(targets.mean_of_mins()(KEY, q), composite.br_value(np.asarray(q)))
    close(targets.mean_of_mins(group=4)(KEY, q), [1.0, 0.0])
    with pytest.raises(
        InputError, match="mean_of_mins: 3 critics cannot be divided into groups of 2"
    ):
        targets.mean_of_mins()(KEY, q[:3])
    with pytest.raises(InputError, match="mean_of_mins: group is 0; it must be at least 1"):
        targets.mean_of_mins(group=0)


def test_a_run_catches_up_once(tmp_path):
    """20 offline updates; then steps 4 to 6 learn, and step 4 adds 2 x 3 updates to catch up."""
    recipe = tiny("br", online__catch_up=2, online__steps=6, online__eval_every=6)
    source = reach_source()
    run.train(recipe, source, tmp_path / "run", eval_episodes=1)
    timing = json.loads((tmp_path / "run" / "timing.json").read_text())
    assert timing["updates"] == 20 + 3 + 2 * 3
    metrics = (tmp_path / "run" / "metrics.csv").read_text()
    assert "online/ratio/online" in metrics and "nan" not in metrics


@pytest.mark.parametrize("value", [-1, 1.5])
def test_catch_up_is_a_whole_number(spec, value):
    recipe = tiny("br")
    with pytest.raises(InputError, match="online.catch_up"):
        build(registry.override(recipe, "online.catch_up", value), spec)
