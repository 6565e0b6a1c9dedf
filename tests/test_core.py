"""One update against the oracle's optimiser, and what an update must not change."""

from functools import partial
from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from enoto_jax import core, targets
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.sac import sac
from enoto_jax.exploration import policy, sunrise
from enoto_jax.nets.networks import Scalar
from enoto_jax.types import InputError
from tests.helpers import assert_same, differ, refused_in_a_line
from tests.oracle import reference

KEY = jax.random.key(5)
N, K = 4, 5
RATES = {"actor": 1e-2, "critic": 2e-2, "temperature": 3e-2}
OPTIONS = {f"{name}_rate": rate for name, rate in RATES.items()} | {"n": N, "hidden": (8, 7)}


def flat(tree):
    return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}


# Against the oracle.


@pytest.fixture(scope="module")
def enoto(spec):
    return sac(
        target=targets.weighted_min_pair(),
        exploration=sunrise(temperature=1.0),
        tau=0.3,
        **OPTIONS,
    ).build(spec)


@pytest.fixture(scope="module")
def start(enoto, state_of, double):
    """A state as after `init`, with fresh Adam states."""
    state = state_of(enoto)
    fresh = {name: tx.init(state.params[name]) for name, tx in enoto.optimisers.items()}
    return state.replace(opt_states=fresh)


def last_change(rate, *gradients):
    return reference.adam(gradients, rate)[-1]


def two_updates_by_hand(algorithm, state, batch, keys, order, double):
    """Two updates with the oracle's Adam and Polyak and the losses' own gradients: each at the
    current state, or, if `simultaneous`, all at the state before, which the targets then follow."""
    gradients = {name: [] for name in order}
    for key in keys:
        before = state
        for name, loss_key in zip(order, jax.random.split(key, len(order))):
            gradient = jax.grad(algorithm.losses[name], has_aux=True)
            seen = before if algorithm.simultaneous else state
            found, _ = gradient(seen.params[name], seen, batch, loss_key)
            gradients[name].append(double(found))
            changes = jax.tree.map(partial(last_change, RATES[name]), *gradients[name])
            moved = jax.tree.map(lambda x, c: np.float32(x + c), state.params[name], changes)
            state = state.replace(params={**state.params, name: moved})
        followed = before if algorithm.simultaneous else state
        critic, target = double(followed.params["critic"]), double(state.targets["critic"])
        target = reference.polyak(target, critic, 0.3)
        state = state.replace(targets={"critic": jax.tree.map(np.float32, target)})
    return state


@pytest.mark.parametrize("simultaneous", [False, True])
@pytest.mark.parametrize("order", ["temperature,critic,actor", "temperature,actor,critic"])
def test_two_updates_against_the_oracle(enoto, spec, start, batch, double, order, simultaneous):
    """Order, keys, Adam's moments over two steps, and the targets that follow at the end."""
    names = order.split(",")
    losses = {name: enoto.losses[name] for name in names}
    algorithm = enoto._replace(losses=losses, simultaneous=simultaneous)
    assert list(sac(order=order).build(spec).losses) == names
    keys = jax.random.split(KEY, 2)
    expected = two_updates_by_hand(algorithm, start, batch, keys, names, double)
    state = start
    for key in keys:
        state, _ = core.update(algorithm, state, batch, key)
    for part in ("params", "targets"):
        before, found = flat(getattr(start, part)), flat(getattr(state, part))
        for path, value in flat(getattr(expected, part)).items():
            np.testing.assert_allclose(found[path], value, rtol=1e-4, atol=2e-5, err_msg=path)
        assert all((before[path] != found[path]).any() for path in found)
    assert state.step == start.step + 2


def test_the_default_order_is_d3rlpys(spec):
    assert list(sac().build(spec).losses) == ["temperature", "critic", "actor"]
    learned = cql(lagrange=1.0).build(spec)
    assert list(learned.losses) == ["temperature", "critic", "actor"]
    assert list(learned.duals) == ["multiplier"]


def test_with_a_delay_the_actor_moves_once_and_sees_the_last_critic(spec, batch, state_of):
    """Four updates per environment step: three of the critics alone, then everything."""
    algorithm = sac(actor_delay=4, order="critic,actor,temperature", **OPTIONS).build(spec)
    assert algorithm.delays == {"actor": 4, "temperature": 4}
    state, update = state_of(algorithm), jax.jit(partial(core.update, algorithm))
    for number in (8, 9, 10):
        before = state
        state, metrics = update(state.replace(step=jnp.int32(number)), batch, KEY)
        for part in ("params", "opt_states"):
            for name in ("actor", "temperature"):
                assert_same(getattr(state, part)[name], getattr(before, part)[name])
        assert differ(state.params["critic"], before.params["critic"])
        assert differ(state.targets["critic"], before.targets["critic"])
        assert metrics["actor"]["loss"] == metrics["temperature"]["loss"] == 0.0
    before = state.replace(step=jnp.int32(11))
    state, metrics = update(before, batch, KEY)
    expected, alone = core.update(algorithm._replace(delays={}), before, batch, KEY)
    for name in ("critic", "actor", "temperature"):
        assert differ(expected.params[name], before.params[name])
        factor = 1 if name == "critic" else 4  # so that its mean over updates is right
        np.testing.assert_allclose(metrics[name]["loss"], factor * alone[name]["loss"], rtol=1e-5)
    for part in ("params", "targets"):
        found, wanted = flat(getattr(state, part)), flat(getattr(expected, part))
        for path in wanted:
            np.testing.assert_allclose(found[path], wanted[path], rtol=1e-5, atol=1e-6)


def test_a_delay_below_one_is_refused(spec):
    with pytest.raises(InputError, match="actor_delay is 0; it must be at least 1"):
        sac(actor_delay=0).build(spec)


@pytest.fixture(scope="module")
def jitted(enoto):
    return jax.jit(lambda state, batch, key: core.update(enoto, state, batch, key))


@pytest.fixture(scope="module")
def updated(jitted, start, batch):
    """A copy of the state before, and the results of one compiled update."""
    before = jax.tree.map(np.array, start)
    return before, *jitted(start, batch, KEY)


def test_compiled_is_as_uncompiled(enoto, start, batch, updated):
    _, found, metrics = updated
    expected, expected_metrics = core.update(enoto, start, batch, KEY)
    for one, two in ((found, expected), (metrics, expected_metrics)):
        one, two = flat(one), flat(two)
        for path in two:
            np.testing.assert_allclose(one[path], two[path], rtol=1e-4, atol=2e-5, err_msg=path)


def test_the_state_given_is_not_changed(start, updated):
    assert_same(updated[0], start)


def test_the_same_key_gives_the_same_state_and_another_a_different_one(
    jitted, start, batch, updated
):
    _, found, metrics = updated
    again, metrics_again = jitted(start, batch, KEY)
    assert_same(found, again)
    assert_same(metrics, metrics_again)
    other, _ = jitted(start, batch, jax.random.key(6))
    for name in ("actor", "critic"):  # Adam's first step of one number is its rate, either way
        assert differ(found.params[name], other.params[name])


def test_metrics_are_named_by_network_with_a_loss_each(updated):
    metrics = updated[2]
    assert set(metrics) == set(RATES)
    for name, values in metrics.items():
        assert "loss" in values, name
        assert all(np.shape(value) == () and np.isfinite(value) for value in values.values())


# Duals.


@pytest.mark.parametrize(("gap", "sign"), [(2.0, 1), (1.0, -1)])
def test_the_multiplier_rises_while_the_gap_is_above_the_wanted_one(
    spec, state_of, batch, gap, sign
):
    def critic(params, state, batch, key):
        return jnp.sum(params["params"]["out"]["bias"]), {"gap": jnp.float32(gap)}

    algorithm = cql(lagrange=1.5, lagrange_rate=0.1, **OPTIONS).build(spec)
    state = state_of(algorithm)
    fresh = algorithm.optimisers["multiplier"].init(state.params["multiplier"])
    state = state.replace(opt_states={**state.opt_states, "multiplier": fresh})
    algorithm = algorithm._replace(losses={**algorithm.losses, "critic": critic})
    after, metrics = core.update(algorithm, state, batch, KEY)
    value, before = (float(s.params["multiplier"]["params"]["value"]) for s in (after, state))
    assert value - before == pytest.approx(0.1 * sign, rel=1e-3)
    loss = float(metrics["multiplier"]["loss"])
    assert loss == pytest.approx(-np.exp(before) * 5.0 * (gap - 1.5), rel=1e-5)


# The rules of the update alone: networks of one number, losses that report what they are given.


def probe(names=("a", "b", "c"), **changes):
    def loss_of(name):
        def loss(params, state, batch, key):
            others = sum(state.params[n]["params"]["value"] for n in names if n != name)
            target = sum(state.targets[n]["params"]["value"] for n in state.targets)
            value = params["params"]["value"] * (1.0 + others + target)
            return value, {"drawn": jax.random.uniform(key), "others": others}

        return loss

    parts = {
        "nets": {name: Scalar(i + 1.0) for i, name in enumerate(names)},
        "inputs": dict.fromkeys(names, ()),
        "losses": {name: loss_of(name) for name in names},
        "optimisers": {name: optax.sgd(0.5) for name in names},
        "tracked": ("b",),
        "tau": 0.25,
        "act": None,
        "mode": None,
        "q": None,
        "moments": None,
        "critics": 1,
        "exploration": policy(),
    }
    return core.Algorithm(**(parts | changes))


def swapped(batch):
    return batch._replace(
        observation=batch.action, action=batch.observation, next_observation=batch.action
    )


def values(trees):
    return {name: float(tree["params"]["value"]) for name, tree in trees.items()}


def test_an_update_by_hand(batch):
    """a=1, b=2, c=3, target b=2; a loss x (1 + the others + target), gradient descent at 0.5."""
    algorithm = probe()
    state, metrics = core.update(algorithm, core.init(algorithm, KEY), batch, KEY)
    # a: 1 - (1 + 5 + 2) / 2 = -3; b: 2 - (1 - 3 + 3 + 2) / 2 = 0.5; c: 3 - (1 - 2.5 + 2) / 2.
    assert values(state.params) == {"a": -3.0, "b": 0.5, "c": 2.75}
    # The target follows b at its end: 0.75 * 2 + 0.25 * 0.5.
    assert values(state.targets) == {"b": 1.625}
    assert {name: float(about["loss"]) for name, about in metrics.items()} == {
        "a": 8.0,  # 1 * 8
        "b": 6.0,  # 2 * 3
        "c": 1.5,  # 3 * 0.5
    }


def test_a_dual_sees_the_metrics_of_the_losses_and_comes_last(batch):
    def dual(params, seen):
        return params["params"]["value"] * seen["a"]["loss"], {"names": len(seen)}

    parts = probe()
    algorithm = parts._replace(
        losses={name: parts.losses[name] for name in ("a", "b")}, duals={"c": dual}
    )
    state, metrics = core.update(algorithm, core.init(algorithm, KEY), batch, KEY)
    assert list(metrics) == ["a", "b", "c"] and metrics["c"]["names"] == 2
    assert values(state.params)["c"] == 3.0 - 0.5 * 8.0  # the loss of a was 8


def test_every_loss_has_a_key_of_its_own(batch):
    algorithm = probe()
    _, metrics = core.update(algorithm, core.init(algorithm, KEY), batch, KEY)
    drawn = {float(about["drawn"]) for about in metrics.values()}
    assert len({*drawn, float(jax.random.uniform(KEY))}) == 4


@pytest.mark.parametrize(
    "value", [(jnp.ones(2), {}), jnp.float32(1.0), (jnp.float32(1.0), [1.0]), (jnp.int32(1), {})]
)
def test_a_loss_that_is_no_number_with_metrics_is_refused(batch, value):
    algorithm = probe()
    odd = algorithm._replace(losses={**algorithm.losses, "b": lambda *_: value})
    with refused_in_a_line("the loss of b must return one number"):
        core.update(odd, core.init(odd, KEY), batch, KEY)


@pytest.mark.parametrize(
    "name, change",
    [
        ("reward", lambda b: b._replace(reward=b.reward[:, None])),  # would broadcast to [B, B]
        ("reward", lambda b: b._replace(reward=b.reward[:1])),
        ("terminated", lambda b: b._replace(terminated=b.terminated[:, None])),
        ("action", lambda b: b._replace(action=b.action[:, 0])),
        ("next_observation", lambda b: b._replace(next_observation=b.next_observation[:1])),
        ("observation", lambda b: jax.tree.map(lambda x: x[0], b)),
        ("observation", lambda b: jax.tree.map(lambda x: x[None], b)),
        ("dict", lambda b: b._asdict()),
    ],
)
def test_batches_of_other_shapes_are_refused(batch, name, change):
    algorithm = probe()
    with refused_in_a_line(f"batch: {name}"):
        core.update(algorithm, core.init(algorithm, KEY), change(batch), KEY)


@pytest.mark.parametrize("change", [lambda b: b._replace(action=b.action[:, :1]), swapped])
def test_a_batch_of_other_sizes_is_refused(enoto, start, batch, change):
    with refused_in_a_line("a network built for inputs of size . was given ."):
        jax.eval_shape(lambda: core.update(enoto, start, change(batch), KEY))


@pytest.mark.parametrize("key", [jax.random.PRNGKey(0), 0])
def test_keys_of_another_kind_are_refused(batch, key):
    algorithm = probe()
    with refused_in_a_line("key: give a key made by jax.random.key"):
        core.init(algorithm, key)
    with refused_in_a_line("key: give a key made by jax.random.key"):
        core.update(algorithm, core.init(algorithm, KEY), batch, key)


# Delays.


def run(algorithm, batch, count):
    """The states before and after each of `count` updates, and their metrics."""
    states, metrics = [core.init(algorithm, KEY)], []
    for _ in range(count):
        state, about = core.update(algorithm, states[-1], batch, KEY)
        states.append(state)
        metrics.append(about)
    return states, metrics


def moves(states, part, name):
    """Whether each update changes a network's numbers."""
    trees = [getattr(state, part)[name] for state in states]
    return [differ(one, two) for one, two in pairwise(trees)]


def test_a_delayed_network_moves_in_the_last_of_every_so_many_updates(batch):
    adam = {name: optax.adam(0.1) for name in ("a", "b", "c")}
    algorithm = probe(optimisers=adam, delays={"b": 3, "targets": 2})
    states, _ = run(algorithm, batch, 7)
    every, third = [True] * 7, [False, False, True, False, False, True, False]
    for part in ("params", "opt_states"):
        assert moves(states, part, "a") == moves(states, part, "c") == every
        assert moves(states, part, "b") == third
    # The target of b: in the second, when it equals b still, fourth and sixth.
    assert moves(states, "targets", "b") == [False, False, False, True, False, True, False]
    assert [int(state.step) for state in states] == list(range(8))


def test_a_delayed_step_is_the_step_itself(batch):
    state = core.init(probe(), KEY).replace(step=1)
    prompt, expected = core.update(probe(), state, batch, KEY)
    due, metrics = core.update(probe(delays={"b": 2, "targets": 2}), state, batch, KEY)
    assert_same(due, prompt)
    assert metrics["b"]["loss"] == 2 * expected["b"]["loss"]
    assert metrics["a"]["loss"] == expected["a"]["loss"]


def test_metrics_of_a_delayed_network_are_right_in_the_mean(batch):
    """Over whole periods: as if only the updates that it takes part in were counted."""
    algorithm = probe(delays={"b": 3})
    states, metrics = run(algorithm, batch, 6)
    mean = sum(float(about["b"]["loss"]) for about in metrics) / 6
    losses = []
    for before in (2, 5):
        # The loss of b in that update, at the state that a has left.
        only, _ = core.update(algorithm, states[before].replace(step=0), batch, KEY)
        only = only.replace(
            params={**only.params, "c": states[before].params["c"]}, targets=states[before].targets
        )
        value, _ = algorithm.losses["b"](only.params["b"], only, batch, KEY)
        losses.append(float(value))
    assert mean == pytest.approx(sum(losses) / 2, rel=1e-6) and mean != 0.0
    assert [float(about["b"]["loss"]) == 0.0 for about in metrics] == [True, True, False] * 2


def test_a_delayed_step_that_is_not_due_is_a_branch_not_taken_for_all_seeds(batch):
    algorithm = probe(delays={"b": 2})
    states = jax.vmap(lambda key: core.init(algorithm, key))(jax.random.split(KEY, 3))

    def program(number_axis, number):
        update = jax.vmap(
            lambda state, number: core.update(algorithm, state.replace(step=number), batch, KEY),
            (0, number_axis),
        )
        return str(jax.make_jaxpr(update)(states, number))

    assert "cond[" in program(None, jnp.int32(0))
    assert "cond[" not in program(0, jnp.zeros(3, jnp.int32))


def test_a_coasting_network_follows_its_momentum_through_skipped_updates(batch):
    adam = {name: optax.adam(0.1) for name in ("a", "b", "c")}
    algorithm = probe(optimisers=adam, delays={"b": 3}, coasting=("b",))
    states, metrics = run(algorithm, batch, 5)
    # Adam has seen nothing before its first gradient, in the third update; then it moves on.
    assert moves(states, "params", "b") == [False, False, True, True, True]
    before, after = states[3], states[4]
    changes, _ = adam["b"].update(
        jax.tree.map(jnp.zeros_like, before.params["b"]), before.opt_states["b"]
    )
    expected = values({"b": before.params["b"]})["b"] + float(changes["params"]["value"])
    assert values(after.params)["b"] == pytest.approx(expected, rel=1e-6)
    assert metrics[3]["b"]["loss"] == 0.0


# Frozen networks.


def test_a_network_without_an_optimiser_is_frozen(batch):
    def loss(params, state, batch, key):
        return params["params"]["value"] * state.frozen["old"]["params"]["value"], {}

    algorithm = probe(
        nets={"a": Scalar(1.0), "old": Scalar(4.0)},
        inputs={"a": (), "old": ()},
        losses={"a": loss},
        optimisers={"a": optax.sgd(0.5)},
        tracked=(),
    )
    state = core.init(algorithm, KEY)
    assert values(state.frozen) == {"old": 4.0}
    assert set(state.params) == set(state.opt_states) == {"a"} and state.targets == {}
    after, metrics = core.update(algorithm, state, batch, KEY)
    assert_same(after.frozen, state.frozen)
    # Read by the loss, 1 * 4, and a step down its slope: 1 - 0.5 * 4.
    assert metrics["a"]["loss"] == 4.0 and values(after.params) == {"a": -1.0}


def test_init(batch):
    class Noise(nn.Module):
        @nn.compact
        def __call__(self, x):
            return self.param("value", nn.initializers.normal(), x.shape)

    nets = {name: Noise() for name in ("a", "b", "c")}
    adam = {name: optax.adam(0.1) for name in nets}
    algorithm = probe(nets=nets, inputs={name: (jnp.zeros(3),) for name in nets}, optimisers=adam)
    state = core.init(algorithm, KEY)
    assert list(state.params) == ["a", "b", "c"]
    assert list(state.targets) == ["b"] and state.frozen == {} and state.step == 0
    assert_same(state.targets["b"], state.params["b"])
    leaves = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(leaves)) == len(leaves)  # no buffer twice, so the state can be donated
    drawn = [np.asarray(p["params"]["value"]) for p in state.params.values()]
    assert differ(drawn[0], drawn[1]) and differ(drawn[1], drawn[2])
    for name, opt_state in state.opt_states.items():
        assert_same(opt_state, adam[name].init(state.params[name]))
    assert_same(state, core.init(algorithm, KEY))
    assert differ(state.params, core.init(algorithm, jax.random.key(6)).params)


def test_sac_starts_at_its_temperature_and_cql_at_its_multiplier(spec):
    for net, value in (
        (sac(initial_temperature=0.2).build(spec).nets["temperature"], 0.2),
        (cql(lagrange=1.0, initial_multiplier=3.0).build(spec).nets["multiplier"], 3.0),
    ):
        assert np.exp(net.init(KEY)["params"]["value"]) == pytest.approx(value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "num_critics is 0"),
        ({"order": "actor,critic"}, "order is 'actor,critic'; choose"),
    ],
)
def test_sac_refuses_what_it_cannot_be(spec, options, message):
    with pytest.raises(InputError, match=message):
        sac(**options).build(spec)


def test_acting(enoto, start, batch):
    """Shapes of what an algorithm offers beside its losses."""
    observation = batch.observation
    assert enoto.act(start, KEY, observation[0], K).shape == (K, 2)
    assert enoto.mode(start, observation).shape == (6, 2)
    mean, std = enoto.moments(start, observation[0])
    np.testing.assert_allclose(np.tanh(mean), enoto.mode(start, observation[0]), rtol=1e-6)
    assert (std > 0).all()
    assert enoto.q(start.params["critic"], observation, batch.action).shape == (N, 6)
    assert enoto.critics == N and enoto.tracked == ("critic",)
