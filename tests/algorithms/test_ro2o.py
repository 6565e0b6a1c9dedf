"""RO2O's terms against loops in float64, and by hand."""

import math

import jax
import numpy as np
import pytest

from enoto_jax import core
from enoto_jax.algorithms.ro2o import divergence, noisy, q_pessimism, q_smoothness, ro2o
from enoto_jax.algorithms.sac import sac
from enoto_jax.nets.distributions import TanhNormal
from enoto_jax.types import InputError

KEY = jax.random.key(5)
N, n = 4, 3
SHAPE = {"n": N, "hidden": (8, 7), "discount": 0.9}
NOISE = {"epsilon": 0.3, "noises": n, "weight": 2.0}


def term_of(term, spec, state_of, batch, key=KEY):
    """The term's (value, metrics), the algorithm, its state and its policy."""
    algorithm = sac(**SHAPE).build(spec)
    state = state_of(algorithm)

    def policy(params, observation):
        return TanhNormal(*algorithm.nets["actor"].apply(params, observation))

    bound = term.bind(algorithm.q, policy, spec)
    q_data = algorithm.q(state.params["critic"], batch.observation, batch.action)
    return bound(state.params["critic"], state, batch, key, q_data), algorithm, state, policy


def test_noise_is_one_for_all_rows_and_within_the_box():
    observation = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    found = np.asarray(noisy(KEY, observation, 0.1, 200)) - observation
    np.testing.assert_allclose(found, np.repeat(found[:, :1], 4, axis=1), atol=2e-6)
    assert 0.09 < found.max() <= 0.1001 and -0.1001 <= found.min() < -0.09


def test_smoothness_against_loops(spec, state_of, batch):
    (value, about), algorithm, state, _ = term_of(q_smoothness(**NOISE), spec, state_of, batch)
    near = np.asarray(noisy(KEY, batch.observation, 0.3, n))
    q = np.asarray(algorithm.q(state.params["critic"], batch.observation, batch.action), float)
    rows = []
    for b in range(len(batch.reward)):
        costs = []
        for j in range(n):
            there = algorithm.q(state.params["critic"], near[j, b], batch.action[b])
            x = np.asarray(there, float) - q[:, b]
            costs.append(sum(0.8 * v * v if v > 0 else 0.2 * v * v for v in x) / N)
        rows.append(max(costs))
    assert float(about["smoothness"]) == pytest.approx(np.mean(rows), rel=1e-4)
    assert float(value) == pytest.approx(2.0 * np.mean(rows), rel=1e-4)


def test_pessimism_against_loops(spec, state_of, batch):
    term = q_pessimism(**NOISE, spread=1.0, spread_fall=0.1, least_spread=0.1)
    (value, about), algorithm, state, policy = term_of(term, spec, state_of, batch)
    assert int(state.step) == 3  # so k is 1 - 3 * 0.1
    noise_key, sample_key = jax.random.split(KEY)
    near = noisy(noise_key, batch.observation, 0.3, n)
    action, _ = policy(state.params["actor"], near).sample(sample_key)
    q = np.asarray(algorithm.q(state.params["critic"], near, action), float)
    total, spreads = 0.0, []
    for j in range(n):
        for b in range(q.shape[-1]):
            mean = sum(q[:, j, b]) / N
            std = math.sqrt(sum((v - mean) ** 2 for v in q[:, j, b]) / (N - 1))
            spreads.append(std)
            total += N * (0.7 * std) ** 2  # each critic is k std above its target
    count = q.size
    assert float(about["disagreement"]) == pytest.approx(np.mean(spreads), rel=1e-4)
    assert float(value) == pytest.approx(2.0 * total / count, rel=1e-4)


def test_pessimisms_gradient_lowers_every_critic(spec, state_of, batch):
    """Each value's gradient is 2 weight k std; critics cannot lower it by agreeing."""
    term = q_pessimism(epsilon=0.0, noises=1, weight=1.0, spread=0.5, spread_fall=0.0)
    algorithm = sac(**SHAPE).build(spec)
    state = state_of(algorithm)

    def policy(params, observation):
        return TanhNormal(*algorithm.nets["actor"].apply(params, observation))

    def shifted(shift):  # shifts each critic's values by its own number
        def q(params, observation, action):
            return algorithm.q(params, observation, action) + shift.reshape(N, 1, 1)

        bound = term.bind(q, policy, spec)
        zeros = np.zeros((N, len(batch.reward)))
        return bound(state.params["critic"], state, batch, KEY, zeros)[0]

    gradient = np.asarray(jax.grad(shifted)(np.zeros(N, np.float32)))
    assert (gradient > 0).all()
    np.testing.assert_allclose(gradient, gradient[0], rtol=1e-5)


def test_divergence_by_hand():
    one = TanhNormal(np.zeros((1, 2)), np.zeros((1, 2)))
    other = TanhNormal(np.array([[1.0, 0.0]]), np.array([[0.0, math.log(2.0)]]))
    # Means 1 apart: 1/2 + 1/2. Standard deviations 1 and 2: (4 + 1/4) / 2 - 1.
    assert float(divergence(one, other)[0]) == pytest.approx(1.0 + 1.125)
    assert float(divergence(one, one)[0]) == 0.0


def test_the_actors_loss_grows_by_the_largest_change_in_the_box(spec, state_of, batch):
    options = {"policy_weight": 3.0, "policy_epsilon": 0.3, "policy_noises": n}
    mine, plain = ro2o(**SHAPE, **options).build(spec), sac(**SHAPE).build(spec)
    state = state_of(mine)
    arguments = (state.params["actor"], state, batch, KEY)
    total, about = mine.losses["actor"](*arguments)
    before, _ = plain.losses["actor"](*arguments)
    near = np.asarray(noisy(jax.random.fold_in(KEY, 1), batch.observation, 0.3, n))
    actor = mine.nets["actor"]
    mean, log_std = (
        np.asarray(x, float) for x in actor.apply(state.params["actor"], batch.observation)
    )
    rows = []
    for b in range(len(mean)):
        changes = []
        for j in range(n):
            there = [np.asarray(x, float) for x in actor.apply(state.params["actor"], near[j, b])]
            kl = 0.0
            for m, s, m2, s2 in zip(mean[b], log_std[b], *there):
                v, v2 = math.exp(2 * s), math.exp(2 * s2)
                kl += s2 - s + (v + (m - m2) ** 2) / (2 * v2) - 0.5
                kl += s - s2 + (v2 + (m - m2) ** 2) / (2 * v) - 0.5
            changes.append(kl)
        rows.append(max(changes))
    assert float(about["policy_change"]) == pytest.approx(np.mean(rows), rel=1e-4)
    assert float(total - before) == pytest.approx(3.0 * np.mean(rows), rel=1e-3)


def test_without_its_weight_the_actors_loss_is_sacs(spec, state_of, batch):
    mine, plain = ro2o(**SHAPE, policy_weight=0.0).build(spec), sac(**SHAPE).build(spec)
    state = state_of(plain)
    arguments = (state.params["actor"], state, batch, KEY)
    assert mine.losses["actor"](*arguments)[0] == plain.losses["actor"](*arguments)[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: q_smoothness(noises=0), "q_smoothness: noises is 0"),
        (lambda: q_pessimism(epsilon=-1.0), "q_pessimism: .*epsilon -1.0"),
    ],
)
def test_options_that_cannot_work(make, said):
    with pytest.raises(InputError, match=said):
        make()


@pytest.mark.parametrize("options", [{"n": 1}, {"n": 3, "learners": 1}])
def test_one_critic_is_refused(spec, state_of, batch, options):
    algorithm = ro2o(hidden=(4,), **options).build(spec)
    state = state_of(algorithm)
    with pytest.raises(InputError, match="needs at least 2 critics that learn; raise n or learn"):
        jax.eval_shape(lambda s: core.update(algorithm, s, batch, KEY), state)
