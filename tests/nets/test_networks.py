"""Networks: forward passes against the oracle, and ensembles member by member."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax.nets import initialisers
from enoto_jax.nets.ensembles import ensemble
from enoto_jax.nets.networks import (
    Critic,
    Deterministic,
    Gaussian,
    Scalar,
    TanhGaussian,
    Value,
)
from tests.oracle import reference

KEY = jax.random.key(0)
B, N, K, D, A = 6, 4, 5, 3, 2
HIDDEN = (8, 7)


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def critics():
    return ensemble(Critic(HIDDEN), N)


@pytest.fixture(scope="module")
def params(critics, numbers):
    return numbers(jax.eval_shape(critics.init, KEY, jnp.zeros((1, D)), jnp.zeros((1, A))), 0)


@pytest.fixture(scope="module")
def draws():
    """Observations, actions and K candidate actions for B states."""
    rng = np.random.default_rng(5)
    return [jnp.float32(rng.normal(size=shape)) for shape in ((B, D), (B, A), (K, B, A))]


# Forward passes.


def test_the_ensemble_is_n_separate_networks(critics, params, draws, double):
    observation, action, _ = draws
    q = critics.apply(params, observation, action)
    assert q.shape == (N, B)
    for i in range(N):
        close(q[i], Critic(HIDDEN).apply(reference.member(params, i), observation, action), 1e-6)
    close(q, reference.critics(double(params), double(observation), double(action)))


def test_candidates_at_one_state_equal_repeated_states(critics, params, draws):
    observation, _, candidates = draws
    repeated = jnp.broadcast_to(observation, (K, B, D))
    q = critics.apply(params, observation, candidates)
    assert q.shape == (N, K, B)
    close(q, critics.apply(params, repeated, candidates))
    single = critics.apply(params, observation[2], candidates[:, 2])
    close(single, q[:, :, 2])


def test_the_actor_and_its_clipped_log_std(numbers, draws, double):
    actor = TanhGaussian(A, HIDDEN, log_std_range=(-0.4, 0.3))
    params = numbers(jax.eval_shape(actor.init, KEY, jnp.zeros((1, D))), 0)
    mean, log_std = actor.apply(params, draws[0])
    expected = reference.mlp_actor(double(params), double(draws[0]), -0.4, 0.3)
    close(mean, expected[0])
    close(log_std, expected[1])
    assert log_std.min() == np.float32(-0.4) and log_std.max() == np.float32(0.3)


def head_of(net, numbers, draws, double):
    """Return parameters, the network's output, and the last layer's output from the oracle."""
    params = numbers(jax.eval_shape(net.init, KEY, jnp.zeros((1, D))), 0)
    layers = double(params["params"])
    x = double(draws[0])
    for i in range(len(HIDDEN)):
        x = np.maximum(reference.dense(layers[f"layer_{i}"], x), 0)
    last = layers["mean"] if "mean" in layers else layers["out"]
    return layers, net.apply(params, draws[0]), reference.dense(last, x)


@pytest.mark.parametrize("bounded", [True, False])
def test_the_gaussian_has_one_standard_deviation_for_all_states(numbers, draws, double, bounded):
    net = Gaussian(A, HIDDEN, log_std_range=(-0.1, 0.1), bounded=bounded)
    layers, (mean, log_std), linear = head_of(net, numbers, draws, double)
    close(mean, np.tanh(linear) if bounded else linear)
    assert layers["log_std"].shape == (A,) and log_std.shape == (B, A)
    assert abs(layers["log_std"]).max() > 0.1
    close(log_std, np.broadcast_to(np.clip(layers["log_std"], -0.1, 0.1), (B, A)))


def test_the_gaussian_starts_with_a_standard_deviation_of_one(draws):
    net = Gaussian(A, HIDDEN)
    _, log_std = net.apply(net.init(KEY, draws[0]), draws[0])
    assert not log_std.any()


def test_the_deterministic_actor(numbers, draws, double):
    _, action, linear = head_of(Deterministic(A, HIDDEN), numbers, draws, double)
    close(action, np.tanh(linear))


def test_the_value_net(numbers, draws, double):
    _, value, linear = head_of(Value(HIDDEN), numbers, draws, double)
    assert value.shape == (B,)
    close(value, linear[:, 0])


def test_layer_norm_stands_before_the_relu(numbers, draws, double):
    critic = Critic((8,), layer_norm=True)
    params = numbers(jax.eval_shape(critic.init, KEY, jnp.zeros((1, D)), jnp.zeros((1, A))), 0)
    layers = double(params["params"])
    inputs = np.concatenate(double(draws[:2]), axis=-1)
    before = reference.dense(layers["layer_0"], inputs)
    centred = before - before.mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    hidden = np.maximum(normed * layers["norm_0"]["scale"] + layers["norm_0"]["bias"], 0)
    expected = reference.dense(layers["out"], hidden)[:, 0]
    close(critic.apply(params, *draws[:2]), expected)
    actor = jax.eval_shape(TanhGaussian(A, (8,), layer_norm=True).init, KEY, jnp.zeros((1, D)))
    assert "norm_0" in actor["params"]


def test_both_heads_of_an_actor_start_as_heads():
    """Nothing is compiled: this checks which initialiser creates which layer."""
    made = []

    def named(name):
        def make(key, fan_in, shape):
            made.append((name, fan_in, shape))
            return jnp.zeros(shape)

        return staticmethod(make)

    parts = ("kernel", "bias", "output_kernel", "output_bias")
    marked = type("marked", (initialisers.Init,), {name: named(name) for name in parts})
    jax.eval_shape(TanhGaussian(A, HIDDEN, start=marked()).init, KEY, jnp.zeros((1, D)))
    assert sorted(made) == sorted(
        [("kernel", D, (D, 8)), ("bias", D, (8,)), ("kernel", 8, (8, 7)), ("bias", 8, (7,))]
        + 2 * [("output_kernel", 7, (7, A)), ("output_bias", 7, (A,))]
    )


def test_a_scalar_starts_at_its_value():
    params = Scalar(-0.25).init(KEY)
    value = Scalar(-0.25).apply(params)
    assert value == -0.25 and value.shape == () and value.dtype == jnp.float32


@pytest.mark.parametrize("candidates", [(), (5,)])
def test_nothing_as_large_as_a_layer_is_transposed(candidates):
    """Checks XLA's program for the critics' gradients by parameters and actions, on a CPU."""
    rows, wide = 60, 48
    critics = ensemble(Critic((wide, wide)), N)
    observation, action = jnp.ones((rows, D)), jnp.ones((*candidates, rows, A))
    params = jax.eval_shape(critics.init, KEY, observation, action)

    def loss(params, action):
        return jnp.sum(jnp.square(critics.apply(params, observation, action)))

    program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, action).compile().as_text()
    moved = re.findall(r"f32\[([\d,]+)\]\S* (?:transpose|copy)\(", program)
    sizes = [math.prod(map(int, shape.split(","))) for shape in moved]
    assert max(sizes, default=0) < N * rows * wide
