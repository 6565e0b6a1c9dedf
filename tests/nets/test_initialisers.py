"""Initialisers: the distribution of each layer, per ensemble member."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from enoto_jax.nets import initialisers
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.networks import Critic, TanhGaussian
from enoto_jax.recipes.registry import named
from tests.helpers import quick_compiling

KEY = jax.random.key(0)
D, A = 3, 2
WIDE = 300


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compiling():
        yield


def started(init):
    """Return the layers of two critics with a wide hidden layer and input; members come first."""
    critics = ensemble(Critic((WIDE,), start=init), 2)
    observation, action = jnp.zeros((1, 9)), jnp.zeros((1, 7))
    params = jax.jit(lambda key: critics.init(key, observation, action))(KEY)["params"]
    return jax.tree.map(np.asarray, (params["layer_0"], params["out"]))


def is_uniform(values, bound):
    """Check that values are within the bound, with a uniform distribution's deviation and mean."""
    size = values.size
    assert abs(values).max() <= bound
    assert abs(values).max() > bound * (1 - 20 / size)
    assert values.std() == pytest.approx(bound / 3**0.5, rel=4 / size**0.5)
    assert abs(values.mean()) < 4 * bound / 3**0.5 / size**0.5


@pytest.fixture(scope="module")
def torch():
    return started(initialisers.torch_init())


def test_torch_starts_uniform_by_fan_in(torch):
    hidden, head = torch
    assert hidden["kernel"].shape == (2, 16, WIDE)  # fan-in is 9 + 7, not N * 16 or one part
    is_uniform(hidden["kernel"], 16**-0.5)
    is_uniform(hidden["bias"], 16**-0.5)
    is_uniform(head["kernel"], WIDE**-0.5)
    assert (abs(head["bias"]) <= WIDE**-0.5).all() and (head["bias"] != 0).all()


def test_members_start_apart(torch):
    for leaf in jax.tree.leaves(torch):
        assert (leaf[0] != leaf[1]).mean() > 0.99


def test_edac_starts_with_constant_hidden_biases_and_small_heads():
    hidden, head = started(initialisers.edac_init(head=2e-3))
    is_uniform(hidden["kernel"], 16**-0.5)
    np.testing.assert_array_equal(hidden["bias"], np.float32(0.1))
    is_uniform(head["kernel"], 2e-3)
    assert (abs(head["bias"]) <= 2e-3).all() and (head["bias"] != 0).all()


def test_orthogonal_starts_orthogonal():
    hidden, head = started(initialisers.orthogonal_init(head_gain=0.3))
    for i in range(2):
        kernel = hidden["kernel"][i]
        np.testing.assert_allclose(kernel @ kernel.T, 2 * np.eye(16), atol=1e-4)
        assert (head["kernel"][i] ** 2).sum() == pytest.approx(0.09, rel=1e-4)
    assert not hidden["bias"].any() and not head["bias"].any()


@pytest.mark.parametrize("shape", [(23, 64), (64, 64), (64, 1), (1, 3), (64, 12)])
def test_orthogonal_is_flaxs_without_lapack(shape):
    """LAPACK's QRs can deadlock when several run in parallel on two cores."""
    key, init = jax.random.key(3), initialisers.orthogonal_init().kernel
    flaxs = nn.initializers.orthogonal(2**0.5)(key, shape)
    np.testing.assert_allclose(init(key, shape[0], shape), flaxs, atol=1e-5)
    many = jax.jit(jax.vmap(lambda key: init(key, shape[0], shape)))
    assert "lapack" not in many.lower(jax.random.split(key)).as_text()


def test_xavier_starts_uniform_by_both_fans():
    hidden, head = started(initialisers.xavier_init())
    is_uniform(hidden["kernel"], (6 / (16 + WIDE)) ** 0.5)
    is_uniform(head["kernel"], (6 / (WIDE + 1)) ** 0.5)
    assert not hidden["bias"].any() and not head["bias"].any()


@pytest.mark.parametrize("init", list(named("init").values()))
def test_parameters_are_not_weakly_typed(init):
    """Otherwise a restored state has other types than the compiled program, which recompiles."""
    actor = TanhGaussian(A, (8,), start=init())
    shapes = jax.eval_shape(actor.init, KEY, jnp.zeros((1, D)))
    assert not any(x.weak_type for x in jax.tree.leaves(shapes))
