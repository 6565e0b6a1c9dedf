"""Exploration: each hook against the oracle, with draws from the same keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core, exploration
from enoto_jax.algorithms.sac import sac
from enoto_jax.recipes.recipe import Phase
from enoto_jax.replay import Replay
from enoto_jax.training import online
from enoto_jax.training.seeds import SeedMap
from enoto_jax.types import InputError
from tests.helpers import refused_in_a_line
from tests.oracle import reference

KEY = jax.random.key(7)
KEYS = jax.random.split(KEY, 12)
B, N, K, A = 6, 4, 7, 2


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def algorithm(spec):
    return sac(n=N, hidden=(8, 7)).build(spec)


@pytest.fixture(scope="module")
def state(algorithm, state_of):
    return state_of(algorithm)


@pytest.fixture(scope="module")
def observation(batch):
    return batch.observation[0]


@pytest.fixture(scope="module")
def act(algorithm, state, observation):
    """act(rule, memory) -> the rule's actions for all keys."""

    def act(rule, memory=0):
        memory = jnp.int32(memory)
        return np.array([rule.act(key, algorithm, state, memory, observation) for key in KEYS])

    return act


@pytest.fixture(scope="module")
def candidates(algorithm, state, observation, double):
    """candidates(count) -> the policy's samples for all keys, and their values by the oracle."""

    def candidates(count):
        actions = [algorithm.act(state, key, observation, count) for key in KEYS]
        repeated = np.tile(double(observation), (count, 1))
        q = [
            reference.critics(double(state.params["critic"]), repeated, double(a)) for a in actions
        ]
        return actions, q

    return candidates


@pytest.fixture(scope="module")
def plain(act):
    return act(exploration.policy())


@pytest.fixture(scope="module")
def moments(state, observation, double):
    """Mean and standard deviation before tanh, and each key's noise, in float64."""
    mean, log_std = reference.mlp_actor(double(state.params["actor"]), double(observation)[None])
    noise = np.stack([double(jax.random.normal(key, (A,))) for key in KEYS])
    return mean[0], np.exp(log_std[0]), noise


# Policy and Gaussian noise.


def test_policy_samples_the_policy(algorithm, state, observation, plain):
    for i in range(3):
        close(plain[i], algorithm.act(state, KEYS[i], observation, 1)[0])
    assert len(np.unique(plain)) == plain.size and abs(plain).max() < 1


def test_gaussian_is_clipped_noise_around_the_mode(act, moments):
    mean, _, noise = moments
    close(act(exploration.gaussian(std=0.9)), np.clip(np.tanh(mean) + 0.9 * noise, -1, 1))
    assert abs(act(exploration.gaussian(std=0.9))).max() == 1
    for options in ({"std": -0.1}, {"bound": 0.0}, {"bound": -1.0}):
        with refused_in_a_line("gaussian: std is .* and bound"):
            exploration.gaussian(**options)
    close(act(exploration.gaussian()), np.clip(np.tanh(mean) + 0.1 * noise, -1, 1))
    close(act(exploration.gaussian(std=0.0)), np.tanh([mean] * len(KEYS)))


# SUNRISE, part by part.


@pytest.mark.parametrize("count", [None, K])
@pytest.mark.parametrize("ucb", [0.0, 10.0])
def test_ucb_chooses_as_the_oracle(act, candidates, ucb, count):
    actions, q = candidates(count or N)
    chosen = [reference.ucb_choice(values, ucb) for values in q]
    expected = [a[k] for a, k in zip(actions, chosen)]
    np.testing.assert_array_equal(act(exploration.sunrise(ucb=ucb, candidates=count)), expected)
    assert len(set(chosen)) > 1
    if ucb:
        assert chosen != [reference.ucb_choice(values, 0.0) for values in q]


@pytest.mark.parametrize("count", [0, -1])
def test_candidates_are_at_least_one(act, count):
    with refused_in_a_line(f"candidates is {count}; it must be at least 1, or None"):
        act(exploration.sunrise(candidates=count))


def test_ucb_default_is_enotos_10(act):
    np.testing.assert_array_equal(
        act(exploration.sunrise()), act(exploration.sunrise(ucb=10.0, candidates=N))
    )


def test_ucb_takes_the_unbiased_deviation(algorithm, state, observation):
    """Means 1 and 0, deviations 0 and sqrt(2); the population deviation would be 1."""
    two = algorithm._replace(
        act=lambda state, key, observation, k: jnp.float32([[0.1, 0.1], [0.2, 0.2]]),
        q=lambda params, observation, actions: jnp.float32([[1, -1], [1, 1]]),
    )
    for ucb, expected in ((0.8, 0.2), (0.6, 0.1)):
        chosen = exploration.sunrise(ucb=ucb).act(KEY, two, state, 0, observation)
        assert chosen[0] == np.float32(expected)


def test_without_ucb_sunrise_acts_with_a_plain_sample(act, plain):
    np.testing.assert_array_equal(act(exploration.sunrise(ucb=None)), plain)


def no_draw(key):
    raise AssertionError("a weight per transition needs no fresh actions")


@pytest.fixture(scope="module")
def next_q():
    return jnp.float32(np.random.default_rng(1).normal(scale=0.2, size=(N, B)))


@pytest.mark.parametrize("temperature", [10.0, 1.0])
@pytest.mark.parametrize("ucb", [None, 10.0])
def test_a_weight_per_transition(next_q, double, temperature, ucb):
    rule = exploration.sunrise(ucb=ucb, temperature=temperature)
    weight = rule.td_weight(KEY, next_q, no_draw)
    close(weight, reference.sunrise_weight(double(next_q), temperature))
    assert weight.min() > 0.5 and weight.max() < 1 and np.ptp(weight) > 1e-3


def test_agreement_weighs_one_and_discord_a_half():
    q = jnp.float32([[1, -1e3], [1, 1e3]])
    close(exploration.sunrise().td_weight(KEY, q, no_draw), [1.0, 0.5])


def test_a_relative_weight_does_not_see_the_scale_of_rewards(next_q, double):
    rule = exploration.sunrise(temperature=1.5, scope="relative")
    weight = rule.td_weight(KEY, next_q, no_draw)
    spread = double(next_q).std(axis=0)
    close(weight, 1 / (1 + np.exp(1.5 * spread / spread.mean())) + 0.5)
    assert np.ptp(weight) > 0.05
    close(rule.td_weight(KEY, 1e3 * next_q, no_draw), weight)
    by_hand = rule.td_weight(KEY, jnp.float32([[0, 5, 1], [0, 7, 1]]), no_draw)  # std 0, 1, 0
    close(by_hand, [1.0, 1 / (1 + np.exp(4.5)) + 0.5, 1.0])
    close(rule.td_weight(KEY, jnp.ones((3, 4)), no_draw), np.ones(4))  # all critics agree


def test_one_weight_for_a_batch(next_q, double):
    """It uses N fresh draws from N keys, not the values at the backup's action."""
    fresh = lambda key: 0.5 * jax.random.normal(key, (N, B))  # noqa: E731
    rule = exploration.sunrise(temperature=2.0, scope="batch")
    weight = rule.td_weight(KEY, next_q, fresh)
    draws = [double(fresh(key)) for key in jax.random.split(KEY, N)]
    assert weight.shape == ()
    close(weight, reference.batch_weight(draws, 2.0))
    assert weight == rule.td_weight(KEY, next_q + 1.0, fresh)


@pytest.mark.parametrize("scope", ["transition", "batch"])
def test_without_temperature_all_weigh_one(next_q, scope):
    rule = exploration.sunrise(temperature=None, scope=scope)
    weight = rule.td_weight(KEY, next_q, no_draw)
    assert weight == 1 and weight.dtype == jnp.float32


def test_all_parts_off_is_policy(act, plain):
    rule = exploration.sunrise(ucb=None, temperature=None, mask=1.0)
    assert not rule.masks and rule.needs == ()
    np.testing.assert_array_equal(act(rule), plain)


@pytest.mark.parametrize(
    "rule",
    [exploration.policy(), exploration.gaussian(), exploration.oac(), exploration.bootstrapped()],
)
def test_other_rules_neither_weigh_nor_mask(rule, next_q):
    assert not rule.masks
    assert rule.td_weight(KEY, next_q, no_draw) == 1


def test_an_unknown_scope_is_refused():
    with pytest.raises(InputError, match="scope is 'row'; choose transition or "):
        exploration.sunrise(scope="row")


# Bootstrapped heads.


@pytest.mark.parametrize("head", range(N))
def test_bootstrapped_follows_its_head(act, candidates, head):
    actions, q = candidates(K)
    expected = [a[reference.bootstrapped_choice(v, head)] for a, v in zip(actions, q)]
    chosen = act(exploration.bootstrapped(candidates=K), head)
    np.testing.assert_array_equal(chosen, expected)


def test_bootstrapped_default_is_as_many_candidates_as_critics(act):
    np.testing.assert_array_equal(
        act(exploration.bootstrapped(), 1), act(exploration.bootstrapped(candidates=N), 1)
    )


def test_bootstrapped_draws_every_head_alike():
    heads = jax.vmap(lambda key: exploration.bootstrapped().reset(key, N))(
        jax.random.split(KEY, 2000)
    )
    counts = np.bincount(heads, minlength=N)
    assert len(counts) == N and abs(counts - 500).max() < 4 * (2000 * 0.25 * 0.75) ** 0.5


def test_a_head_is_kept_for_a_whole_episode(spec, batch):
    """Run the online loop's own step with an algorithm whose action is its memory."""

    class shows_memory(exploration.bootstrapped):
        def act(self, key, algorithm, state, memory, observation):
            return jnp.float32([memory, 0])

    class whole_ring(Replay):
        def sample(self, stored, data, key, batch_size, inserted):
            return stored.ring

    empty = core.Algorithm({}, {}, {}, {}, (), 0.0, None, None, shows_memory(), critics=1000)
    replay, seeds = whole_ring(capacity=3), SeedMap([0, 1])
    begin = seeds.compile(online.begin(empty, replay, spec, 2))
    step = online.compile_step(Phase(None, steps=9, batch_size=2), empty, replay, seeds)
    train = core.TrainState({}, {}, {}, {}, jnp.zeros(2, jnp.int32))
    carried = begin(train, seeds.seeds)
    transition = jax.tree.map(lambda x: jnp.stack([x[0]] * 2), batch)
    heads = []
    for t in range(9):
        # Episodes start at 0, 4 and 6 for seed 0, and only at 0 for seed 1.
        starts = jnp.asarray([t in (0, 4, 6), t == 0])
        carried, action = step(
            carried,
            seeds.seeds,
            transition,
            transition.observation,
            starts,
            jnp.int32(t),
            jnp.bool_(False),
            None,
        )
        heads.append(np.asarray(action[:, 0]))
    first, second = np.array(heads).T
    assert [len(set(part)) for part in (first[:4], first[4:6], first[6:], second)] == [1] * 4
    assert len({first[0], first[4], first[6], second[0]}) == 4


# OAC.


def oac_gradient(state, observation, mean, upper, double, step=1e-6):
    """The gradient of the bound at tanh(mean) by the mean: finite differences in float64."""
    critic, observed = double(state.params["critic"]), double(observation)[None]

    def bound(mean):
        q = reference.critics(critic, observed, np.tanh(mean)[None])[:, 0]
        return reference.oac_q_upper(q, upper)

    return np.array(
        [(bound(mean + step * e) - bound(mean - step * e)) / (2 * step) for e in np.eye(A)]
    )


@pytest.mark.parametrize(("upper", "shift"), [(4.66, 23.53), (0.5, 0.1)])
def test_oac_moves_the_mean_as_the_oracle(act, state, observation, moments, double, upper, shift):
    mean, std, noise = moments
    gradient = oac_gradient(state, observation, mean, upper, double)
    optimistic = reference.oac_mean(mean, std, gradient, shift)
    assert abs(optimistic - mean).max() > 0.05
    close(act(exploration.oac(upper=upper, shift=shift)), np.tanh(optimistic + std * noise), 1e-4)


def test_oac_defaults_are_the_published_ones(act):
    np.testing.assert_array_equal(
        act(exploration.oac()), act(exploration.oac(upper=4.66, shift=23.53))
    )
    assert exploration.oac().needs == ("q", "moments")


def test_oac_without_shift_is_the_policy(act, moments):
    mean, std, noise = moments
    close(act(exploration.oac(shift=0.0)), np.tanh(mean + std * noise))


def test_oac_acts_where_the_critics_agree_to_the_last_bit(algorithm, state, observation, moments):
    """Their values are equal in float32, but not their gradients."""
    mean, std, noise = moments
    slopes = 1e-6 * jnp.float32([1, -2])
    alike = algorithm._replace(
        critics=2, q=lambda params, observation, action: 250.0 + slopes * jnp.sum(action)
    )
    action = exploration.oac().act(KEYS[0], alike, state, 0, observation)
    close(action, np.tanh(mean + std * noise[0]), 0.5)
    assert np.isfinite(action).all()


# Masks.


@pytest.mark.parametrize(
    ("make", "p", "n"),
    [
        (exploration.sunrise, 0.5, 4),
        (exploration.sunrise, 0.05, 4),
        (exploration.bootstrapped, 0.9, 4),
        (exploration.bootstrapped, 0.3, 1),
    ],
)
def test_masks_are_bernoulli_and_never_all_zero(make, p, n):
    keys = jax.random.split(KEY, 4000)
    masks = np.asarray(jax.vmap(lambda key: make(mask=p).draw_mask(key, n))(keys))
    assert masks.shape == (4000, n) and masks.dtype == np.float32
    assert set(np.unique(masks)) <= {0.0, 1.0}
    assert masks.any(axis=1).all()
    # A mask of zeros, with probability (1 - p)^n, is replaced by one random critic.
    mean = p + (1 - p) ** n / n
    close(masks.mean(axis=0), np.full(n, mean), 4 * (mean * (1 - mean) / 4000) ** 0.5 + 1e-9)


@pytest.mark.parametrize("make", [exploration.sunrise, exploration.bootstrapped])
@pytest.mark.parametrize("p", [0.0, -0.1, 1.5])
def test_a_mask_that_is_no_probability_is_refused(make, p):
    with pytest.raises(InputError, match=f"mask is {p}; it must be a probability"):
        make(mask=p)


# A single critic has no unbiased standard deviation.


def test_oac_refuses_one_critic_or_still_gives_numbers(spec, state_of, observation):
    rule = exploration.oac()
    try:
        lonely = sac(n=1, hidden=(8, 7), exploration=rule).build(spec)
        action = rule.act(KEY, lonely, state_of(lonely), 0, observation)
    except InputError:
        return
    assert np.isfinite(action).all()
