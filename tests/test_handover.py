"""Hand-overs: what the online phase keeps of the offline one, bit for bit, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from enoto_jax import core, handover
from enoto_jax.algorithms.cql import cql
from enoto_jax.algorithms.sac import sac
from enoto_jax.exploration import policy
from enoto_jax.networks import Linear, torch_init
from enoto_jax.types import InputError

KEY = jax.random.key(0)
SHAPE = {"n": 4, "hidden": (8, 7)}


def flat(tree):
    return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}


def assert_same(one, two):
    one, two = flat(one), flat(two)
    assert one.keys() == two.keys()
    for path in one:
        np.testing.assert_array_equal(one[path], two[path], err_msg=path)


@pytest.fixture(scope="module")
def offline(spec, state_of):
    """The end of an offline phase that learnt a multiplier and kept a frozen policy."""
    state = state_of(cql(spec, lagrange=1.0, **SHAPE))
    return state.replace(frozen={"actor": state.params["actor"]}, step=np.int32(70))


@pytest.fixture(scope="module")
def online(spec):
    return sac(spec, actor_rate=1e-2, **SHAPE)


def test_carry_keeps_every_number_that_the_online_phase_uses(offline, online):
    state = handover.carry()(KEY, offline, online)
    for part in ("params", "targets", "opt_states"):
        kept = getattr(state, part)
        assert_same(kept, {name: getattr(offline, part)[name] for name in kept})
    assert set(state.params) == set(state.opt_states) == {"actor", "critic", "temperature"}
    assert set(state.targets) == {"critic"}
    moments = state.opt_states["critic"][0]
    assert moments.count == 3 and any(np.any(x) for x in jax.tree.leaves(moments.nu))


def test_carry_drops_the_multiplier_and_frozen_parameters_and_counts_anew(offline, online):
    state = handover.carry()(KEY, offline, online)
    assert "multiplier" in offline.params and "multiplier" in offline.opt_states
    assert "multiplier" not in state.params and "multiplier" not in state.opt_states
    assert state.frozen == {}
    assert state.step == 0 and state.step.dtype == jnp.int32
    assert offline.step == 70 and offline.frozen  # the offline state is not changed


def test_carry_draws_nothing(offline, online):
    assert_same(
        handover.carry()(KEY, offline, online),
        handover.carry()(jax.random.key(1), offline, online),
    )


def test_the_carried_state_is_what_the_online_phase_expects(offline, online):
    expected = jax.eval_shape(lambda key: core.init(online, key), KEY)
    assert handover.differences(expected, handover.carry()(KEY, offline, online)) == ""


def test_carry_works_on_shapes_alone_and_under_vmap(offline, online):
    shapes = jax.eval_shape(lambda state: handover.carry()(KEY, state, online), offline)
    assert shapes.params["temperature"]["params"]["value"].shape == ()
    two = jax.tree.map(lambda x: np.stack([x, x + 1]), offline)
    carried = jax.vmap(lambda state: handover.carry()(KEY, state, online))(two)
    kernel = two.params["actor"]["params"]["mean"]["kernel"]
    np.testing.assert_array_equal(carried.params["actor"]["params"]["mean"]["kernel"], kernel)
    np.testing.assert_array_equal(carried.step, [0, 0])


# Refusals.


def refusal(offline, online):
    with pytest.raises(InputError) as caught:
        handover.carry()(KEY, offline, online)
    message = str(caught.value)
    assert message.startswith("carry: ") and "\n" not in message
    return message


def test_carry_from_nothing_is_refused(online):
    assert refusal(None, online).endswith("there is no offline phase to carry from; use fresh")


def test_another_number_of_critics_is_named(spec, offline):
    message = refusal(offline, sac(spec, n=2, hidden=(8, 7)))
    assert "the two phases' networks differ: " in message
    assert "critic" in message and "float32[4, 8], expected float32[2, 8]" in message
    assert message.count(";") == 3 and " more" in message


def test_another_width_is_named(spec, offline):
    message = refusal(offline, sac(spec, n=4, hidden=(8, 9)))
    assert "params.actor.params.layer_1.bias is float32[7], expected float32[9]" in message


def test_another_depth_is_named(spec, offline):
    message = refusal(offline, sac(spec, n=4, hidden=(8, 7, 7)))
    assert "params.actor.params.layer_2.kernel is missing" in message
    message = refusal(offline, sac(spec, n=4, hidden=(8,)))
    assert "params.actor.params.layer_1.kernel is not used" in message


def test_layer_norm_is_named(spec, offline):
    assert "params.critic.params.norm_0.bias is missing" in refusal(
        offline, sac(spec, layer_norm=True, **SHAPE)
    )


def test_a_network_that_the_offline_phase_lacks_is_named(spec, state_of, online):
    message = refusal(state_of(online), cql(spec, lagrange=1.0, **SHAPE))
    assert "the offline phase has no params of multiplier, which the online algorithm" in message
    message = refusal(state_of(online), online._replace(tracked=("actor", "critic")))
    assert "the offline phase has no targets of actor, which the online algorithm" in message


# Fresh, and the words for differences.


def test_fresh_starts_anew_whatever_came_before(offline):
    net = Linear(4, torch_init().kernel, torch_init().bias)
    algorithm = core.Algorithm(
        {"a": net}, {"a": (jnp.zeros(3),)}, {}, {"a": optax.adam(0.1)}, ("a",), 0.1, None, None,
        None, None, 1, policy(),
    )  # fmt: skip
    expected = core.init(algorithm, KEY)
    for before in (None, offline):
        assert_same(handover.fresh()(KEY, before, algorithm), expected)
    other = handover.fresh()(jax.random.key(1), None, algorithm).params["a"]["params"]
    assert (other["kernel"] != expected.params["a"]["params"]["kernel"]).all()


def test_differences_in_words():
    one = {"a": np.zeros(3, np.float32), "b": {"c": np.zeros((2, 1), np.float32)}}
    assert handover.differences(one, one) == ""
    assert handover.differences(one, {"a": one["a"]}) == "b.c is missing"
    assert handover.differences({"a": one["a"]}, one) == "b.c is not used"
    other = {"a": np.zeros(3, np.int32), "b": {"c": np.zeros((2, 2), np.float32)}}
    assert handover.differences(one, other) == (
        "a is int32[3], expected float32[3]; b.c is float32[2, 2], expected float32[2, 1]"
    )


def test_only_the_first_three_differences_are_told():
    many = {name: np.zeros(1) for name in "abcde"}
    assert handover.differences(many, {}) == (
        "a is missing; b is missing; c is missing; and 2 more"
    )
    assert "more" not in handover.differences(dict(list(many.items())[:3]), {})
