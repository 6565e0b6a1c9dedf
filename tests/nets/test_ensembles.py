"""Ensembles: unstacked members compute the same as stacked ones, and restack exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core
from enoto_jax.nets.cpu_kernels import Unstacked
from enoto_jax.nets.ensembles import PerCopy, ensemble
from enoto_jax.nets.networks import Critic
from enoto_jax.recipes import building
from enoto_jax.recipes.table import RECIPES
from enoto_jax.training import unstack
from enoto_jax.training.unstack import restack
from tests.algorithms.losses import close
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
    """Check that a function of parameters has the same value and gradient unstacked and stacked."""
    weights = drawn(*jax.eval_shape(function, params).shape)
    loss = jax.value_and_grad(lambda params: jnp.sum(weights * function(params)))
    (value, gradient), (expected, whole) = loss(unstack._unstack(net, params)), loss(params)
    assert isinstance(gradient, Unstacked)
    close(value, expected)
    jax.tree.map(close, restack(gradient), whole)
    close(function(unstack._unstack(net, params)), function(params))


@pytest.mark.parametrize("candidates", [(), (K,)])
def test_one_input_for_all_copies(critics, params, candidates):
    observation, action = drawn(B, D), drawn(*candidates, B, A)
    alike(lambda params: critics.apply(params, observation, action), critics, params)


def test_inputs_of_every_copys_own(critics, params):
    observation, action = drawn(N, B, D), drawn(N, B, A)
    own = PerCopy(observation), PerCopy(action)
    q = critics.apply(params, *own)
    for i in range(N):
        one = reference.member(params, i)
        close(q[i], Critic((8, 7)).apply(one, observation[i], action[i]))
    alike(lambda params: critics.apply(params, *own), critics, params)


def test_a_single_network_is_not_unstacked(numbers):
    net = Critic((8,))
    params = numbers(jax.eval_shape(net.init, KEY, jnp.zeros((1, D)), jnp.zeros((1, A))), 0)
    assert unstack._unstack(net, params) is params


@pytest.mark.parametrize("method", RECIPES)
def test_a_state_is_stacked_again_exactly(method, spec, state_of):
    algorithm = building.build(tiny(method), spec).offline
    if algorithm is None:
        pytest.skip("no offline phase")
    state = state_of(algorithm)
    parts = unstack.unstack(algorithm, state)
    assert_same(restack(parts), state)
    if algorithm.critics and algorithm.batches == 1:
        assert isinstance(parts.params["critic"], Unstacked)
        assert isinstance(parts.targets["critic"], Unstacked)
        assert isinstance(parts.opt_states["critic"][0].mu, Unstacked)
        assert len(parts.params["critic"].copies) == algorithm.critics


@pytest.mark.parametrize("method", ["sac_n", "edac", "cql", "iql", "lapo"])
def test_an_update_is_the_same(method, spec, state_of, batch):
    algorithm = building.build(tiny(method), spec).offline
    state = state_of(algorithm)
    with quick_compiling():
        update = jax.jit(lambda state: core.update(algorithm, state, batch, KEY))
        after, metrics = update(unstack.unstack(algorithm, state))
        expected, seen = update(state)
    jax.tree.map(close, restack(after), expected)
    jax.tree.map(close, metrics, seen)
