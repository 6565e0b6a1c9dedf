"""Ensembles: their copies apart compute what they compute stacked, and are stacked again exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core
from enoto_jax.nets.ensembles import Apart, apart, ensemble, stacked
from enoto_jax.nets.networks import Critic
from enoto_jax.recipes import recipe
from enoto_jax.recipes.table import RECIPES
from tests.algorithms.test_losses import close
from tests.helpers import assert_same, quick_compiling, tiny
from tests.oracle import reference

KEY = jax.random.key(0)
B, N, K, D, A = 6, 4, 5, 3, 2


@pytest.fixture(scope="module")
def critics():
    return ensemble(Critic((8, 7)), N)


@pytest.fixture(scope="module")
def params(critics, numbers):
    return numbers(jax.eval_shape(critics.init, KEY, jnp.zeros((1, D)), jnp.zeros((1, A))), 0)


def drawn(*shape):
    return jnp.float32(np.random.default_rng(len(shape)).normal(size=shape))


def alike(function, net, params):
    """Of the function of parameters: its value and gradient with the copies apart and stacked."""
    weights = drawn(*jax.eval_shape(function, params).shape)
    loss = jax.value_and_grad(lambda params: jnp.sum(weights * function(params)))
    (value, gradient), (expected, whole) = loss(apart(net, params)), loss(params)
    assert isinstance(gradient, Apart)
    close(value, expected)
    jax.tree.map(close, stacked(gradient), whole)
    close(function(apart(net, params)), function(params))


@pytest.mark.parametrize("candidates", [(), (K,)])
def test_one_input_for_all_copies(critics, params, candidates):
    observation, action = drawn(B, D), drawn(*candidates, B, A)
    alike(lambda params: critics.apply(params, observation, action), critics, params)


def test_inputs_of_every_copys_own(critics, params):
    observation, action = drawn(N, B, D), drawn(N, B, A)
    q = critics.each(params, observation, action)
    for i in range(N):
        one = reference.member(params, i)
        close(q[i], Critic((8, 7)).apply(one, observation[i], action[i]))
    alike(lambda params: critics.each(params, observation, action), critics, params)


def test_a_network_alone_is_not_taken_apart(numbers):
    net = Critic((8,))
    params = numbers(jax.eval_shape(net.init, KEY, jnp.zeros((1, D)), jnp.zeros((1, A))), 0)
    assert apart(net, params) is params


@pytest.mark.parametrize("method", RECIPES)
def test_a_state_is_stacked_again_exactly(method, spec, state_of):
    algorithm = recipe.build(tiny(method), spec).offline
    if algorithm is None:
        pytest.skip("no offline phase")
    state = state_of(algorithm)
    parts = core.apart(algorithm, state)
    assert_same(stacked(parts), state)
    if algorithm.critics and algorithm.agents is None:
        assert isinstance(parts.params["critic"], Apart)
        assert isinstance(parts.targets["critic"], Apart)
        assert isinstance(parts.opt_states["critic"][0].mu, Apart)
        assert len(parts.params["critic"].copies) == algorithm.critics


@pytest.mark.parametrize("method", ["sac_n", "edac", "cql", "iql", "lapo"])
def test_an_update_is_the_same(method, spec, state_of, batch):
    algorithm = recipe.build(tiny(method), spec).offline
    state = state_of(algorithm)
    with quick_compiling():
        update = jax.jit(lambda state: core.update(algorithm, state, batch, KEY))
        after, metrics = update(core.apart(algorithm, state))
        expected, seen = update(state)
    jax.tree.map(close, stacked(after), expected)
    jax.tree.map(close, metrics, seen)
