"""The update rules in isolation, with scalar networks and losses that report their inputs."""

from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from enoto_jax import core
from enoto_jax.exploration import policy
from enoto_jax.nets.networks import Scalar
from tests.helpers import assert_same, differ, refused_in_a_line

KEY = jax.random.key(5)


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


def values(trees):
    return {name: float(tree["params"]["value"]) for name, tree in trees.items()}


def test_an_update_by_hand(batch):
    """a=1, b=2, c=3, target b=2; each loss is x (1 + others + target), with SGD at rate 0.5."""
    algorithm = probe()
    state, metrics = core.update(algorithm, core.init(algorithm, KEY), batch, KEY)
    # a: 1 - (1 + 5 + 2) / 2 = -3; b: 2 - (1 - 3 + 3 + 2) / 2 = 0.5; c: 3 - (1 - 2.5 + 2) / 2.
    assert values(state.params) == {"a": -3.0, "b": 0.5, "c": 2.75}
    # The target follows the updated b: 0.75 * 2 + 0.25 * 0.5.
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


@pytest.mark.parametrize("key", [jax.random.PRNGKey(0), 0])
def test_keys_of_another_kind_are_refused(batch, key):
    algorithm = probe()
    with refused_in_a_line("key: give a key made by jax.random.key"):
        core.init(algorithm, key)
    with refused_in_a_line("key: give a key made by jax.random.key"):
        core.update(algorithm, core.init(algorithm, KEY), batch, key)


# Delays.


def run(algorithm, batch, count):
    """Return the states before and after each of `count` updates, and the metrics."""
    states, metrics = [core.init(algorithm, KEY)], []
    for _ in range(count):
        state, about = core.update(algorithm, states[-1], batch, KEY)
        states.append(state)
        metrics.append(about)
    return states, metrics


def moves(states, part, name):
    """Return whether each update changes a network's values."""
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
    # b's target follows in updates 2 (when it still equals b), 4 and 6.
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
    """Over whole periods, the mean equals the mean over the network's own updates."""
    algorithm = probe(delays={"b": 3})
    states, metrics = run(algorithm, batch, 6)
    mean = sum(float(about["b"]["loss"]) for about in metrics) / 6
    losses = []
    for before in (2, 5):
        # b's loss in that update, after a has moved.
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
    # Adam gets its first gradient in update 3, and its momentum continues after that.
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
    # The loss reads it, 1 * 4, and one step of gradient descent gives 1 - 0.5 * 4.
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
    assert len(set(leaves)) == len(leaves)  # all buffers differ, so the state can be donated
    drawn = [np.asarray(p["params"]["value"]) for p in state.params.values()]
    assert differ(drawn[0], drawn[1]) and differ(drawn[1], drawn[2])
    for name, opt_state in state.opt_states.items():
        assert_same(opt_state, adam[name].init(state.params[name]))
    assert_same(state, core.init(algorithm, KEY))
    assert differ(state.params, core.init(algorithm, jax.random.key(6)).params)
