"""Layers: LayerNorm against Flax's, and both implementations of backend-specific layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from enoto_jax.nets import cpu_kernels, cvae, initialisers, networks
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.networks import LayerNorm, Linear
from tests.algorithms.losses import close
from tests.helpers import quick_compiling

KEY = jax.random.key(0)
B, I, O = 6, 5, 4  # noqa: E741
LINEAR = Linear(O, initialisers.torch_init())


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compiling():
        yield


@pytest.fixture(params=["as on a CPU", "as elsewhere"])
def backend(request, monkeypatch):
    jax.clear_caches()  # layers choose their implementation when traced
    monkeypatch.setattr(cpu_kernels, "_on_cpu", lambda: request.param == "as on a CPU")
    yield
    jax.clear_caches()


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def gradients(layer, params, x):
    """Return the gradients with respect to parameters and input, and mixed second derivatives."""

    def value(params, x):
        return jnp.sum(jnp.asarray(drawn(9, *shape)) * jnp.square(layer(params, x)))

    def steep(params):
        return jnp.sum(drawn(8, *x.shape) * jax.grad(value, argnums=1)(params, x))

    shape = jax.eval_shape(layer, params, x).shape
    return jax.grad(value, argnums=(0, 1))(params, x), jax.grad(steep)(params)


def test_layer_norm_is_flaxs(backend):
    x = 3.0 + 2.0 * drawn(0, B, I)
    params = {"params": {"scale": drawn(1, I), "bias": drawn(2, I)}}
    ours, theirs = LayerNorm(), nn.LayerNorm()
    close(ours.apply(params, x), theirs.apply(params, x), 1e-4)
    for mine, other in zip(gradients(ours.apply, params, x), gradients(theirs.apply, params, x)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-3, 1e-4), mine, other)
    jax.tree.map(np.testing.assert_array_equal, ours.init(KEY, x), theirs.init(KEY, x))


def test_layer_norm_by_hand(backend):
    params = {"params": {"scale": np.float32([2, 1]), "bias": np.float32([0, 5])}}
    out = LayerNorm().apply(params, np.float32([[1, 3], [7, 7]]))  # means 2, 7; deviations 1, 0
    close(out, [[-2, 6], [0, 5]])


def test_layer_norm_keeps_its_statistics_in_float32(backend):
    x = jnp.asarray(300.0 + drawn(0, B, I), jnp.bfloat16)
    layer = LayerNorm(jnp.bfloat16)
    params = layer.init(KEY, x)
    out = layer.apply(params, x)
    assert out.dtype == jnp.bfloat16 and params["params"]["scale"].dtype == jnp.float32
    np.testing.assert_allclose(out, LayerNorm().apply(params, x.astype(jnp.float32)), 0.01, 0.01)


def test_a_linear_layers_gradients(backend):
    params, x = {"params": {"kernel": drawn(1, I, O), "bias": drawn(2, O)}}, drawn(0, B, I)

    def plain(params, x):
        return x @ params["params"]["kernel"] + params["params"]["bias"]

    expected = gradients(plain, params, x)
    jax.tree.map(close, gradients(LINEAR.apply, params, x), expected)


def test_layers_take_numpy_arrays_under_vmap(backend):
    """Restored parameters are NumPy arrays when a program is traced for export."""
    kernels, x = drawn(0, 3, I, O), drawn(1, B, I)
    params = {"params": {"kernel": kernels, "bias": drawn(2, 3, O)}}
    norm = {"params": {"scale": drawn(3, 3, O), "bias": drawn(4, 3, O)}}

    def run(params, norm):
        return LayerNorm().apply(norm, LINEAR.apply(params, x))

    out = jax.jit(lambda: jax.vmap(run)(params, norm))()
    assert out.shape == (3, B, O)


def test_linear_reads_its_parts_in_order(numbers):
    parts = [jnp.float32(np.random.default_rng(i).normal(size=(B, i + 1))) for i in range(3)]
    params = numbers(jax.eval_shape(LINEAR.init, KEY, *parts), 0)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    assert kernel.shape == (6, O)
    close(LINEAR.apply(params, *parts), np.concatenate(parts, axis=-1) @ kernel + bias)
    first = parts[0][0]
    joined = np.concatenate([np.broadcast_to(first, (B, 1)), *parts[1:]], axis=-1)
    close(LINEAR.apply(params, first, *parts[1:]), joined @ kernel + bias)


NETWORKS = {
    "critic": (networks.Critic((8, 7), layer_norm=True), (I, O)),
    "actor": (networks.TanhGaussian(O, (8, 7), layer_norm=True), (I,)),
    "ensemble": (ensemble(networks.Critic((8, 7), layer_norm=True), 3), (I, O)),
    "cvae": (cvae.CVAE(O, 2, (8,)), (I, O, 2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_mode_and_second_derivatives(backend, name):
    """jvp against finite differences and the gradient; the Hessian is symmetric."""
    net, sizes = NETWORKS[name]
    first, *rest = (jnp.asarray(drawn(i, B, size)) for i, size in enumerate(sizes))
    params = jax.jit(net.init)(KEY, first, *rest)

    def value(x):
        return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(net.apply(params, x, *rest)))

    direction, step = jnp.asarray(drawn(7, B, I)), 1e-3

    @jax.jit  # without jit it takes three times as long
    def derivatives(x):
        slope = jax.jvp(value, (x,), (direction,))[1]
        around = value(x + step * direction) - value(x - step * direction)
        hessian = jax.hessian(lambda row: value(x.at[0].set(row)))(x[0])
        return slope, jnp.sum(jax.grad(value)(x) * direction), around / (2 * step), hessian

    slope, projected, around, hessian = derivatives(first)
    close(slope, projected, 1e-4)
    np.testing.assert_allclose(slope, around, rtol=2e-2, atol=2e-2)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-4)
    assert np.isfinite(hessian).all()
