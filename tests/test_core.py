"""One update against the oracle's optimiser, and what an update must not change."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core, targets
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.sac import sac
from enoto_jax.exploration import sunrise
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
    """Take two updates with the oracle's Adam and Polyak averaging, and the losses' gradients.

    Gradients are taken at the current state or, if the algorithm is `simultaneous`, all at the
    state before the update, which the targets then follow.
    """
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
    """This covers order, keys, Adam's moments over two steps, and the targets' final update."""
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
    """Of four updates per environment step, three train only the critics, the last everything."""
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
        factor = 1 if name == "critic" else 4  # makes the mean over updates right
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
    """A copy of the state before one compiled update, and the update's results."""
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
    for name in ("actor", "critic"):  # a scalar's first Adam step is always its rate
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


def swapped(batch):
    return batch._replace(
        observation=batch.action, action=batch.observation, next_observation=batch.action
    )


@pytest.mark.parametrize("change", [lambda b: b._replace(action=b.action[:, :1]), swapped])
def test_a_batch_of_other_sizes_is_refused(enoto, start, batch, change):
    with refused_in_a_line("a network built for inputs of size . was given ."):
        jax.eval_shape(lambda: core.update(enoto, start, change(batch), KEY))


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
    """Check the shapes returned by an algorithm's other functions."""
    observation = batch.observation
    assert enoto.act(start, KEY, observation[0], K).shape == (K, 2)
    assert enoto.mode(start, observation).shape == (6, 2)
    mean, std = enoto.moments(start, observation[0])
    np.testing.assert_allclose(np.tanh(mean), enoto.mode(start, observation[0]), rtol=1e-6)
    assert (std > 0).all()
    assert enoto.q(start.params["critic"], observation, batch.action).shape == (N, 6)
    assert enoto.critics == N and enoto.tracked == ("critic",)
