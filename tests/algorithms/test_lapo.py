"""LAPO: losses against the oracle, the networks they read, acting, refusals and learning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import core, targets
from enoto_jax.algorithms.lapo import lapo
from enoto_jax.exploration import gaussian, sunrise
from enoto_jax.recipes import building, registry
from enoto_jax.recipes.table import RECIPES
from enoto_jax.runs.streams import stream
from enoto_jax.training import offline
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.seeds import SeedMap
from enoto_jax.types import InputError
from tests.algorithms.losses import (
    KEY,
    A,
    B,
    K,
    N,
    along,
    close,
    loss_of,
    noise,
    reads,
)
from tests.helpers import REACH, differ, reach_source, tiny
from tests.oracle import composite as composite
from tests.oracle import methods as rows
from tests.oracle import reference

MAKE, SHAPE = lapo, {"n": N, "hidden": (8, 7), "discount": 0.9}
Z = 2 * A
pytestmark = pytest.mark.usefixtures("quick")


# The oracle's side.


def part(tree, name):
    """Parameters of the encoder or the decoder."""
    return {"params": tree["params"][name]}


def decode(exact, observation, latent):
    """The action that the target decoder returns."""
    inputs = np.concatenate([observation, latent], axis=-1)
    return rows.mlp(part(exact.targets["cvae"], "decoder"), inputs)


def latent(tree, observation, draw=None, **options):
    return composite.latent_action(rows.mlp(tree, observation), draw, **options)


def target_q(exact, observation, draw=None, **options):
    """The target critics at the target policy's action, [N, B]."""
    z = latent(exact.targets["actor"], observation, draw, **options)
    return reference.critics(exact.targets["critic"], observation, decode(exact, observation, z))


def v_of(exact, observation):
    return rows.value_net(exact.params["value"], observation)


def q_data(exact, data):
    return reference.critics(exact.params["critic"], data.observation, data.action)


def oracle_critic_loss(exact, data, weight=None):
    next_v = v_of(exact, data.next_observation)
    return composite.lapo_critic_loss(
        q_data(exact, data), data.reward, data.terminated, next_v, 0.9, weight
    )


def oracle_value_loss(exact, data, k=1.0, low=-np.inf, high=np.inf):
    q = target_q(exact, data.observation, noise(jax.random.split(KEY)[0], B, Z))
    return composite.lapo_value_loss(v_of(exact, data.observation), q, k, low, high)


def advantage(exact, data, k=1.0):
    return composite.lapo_advantage(
        data.reward,
        data.terminated,
        target_q(exact, data.next_observation),
        v_of(exact, data.observation),
        0.9,
        k,
    )


def both_signs(batch, data, advantages):
    """The same batch with rewards moved so that half of the advantages are positive."""
    shift = np.float32(-np.median(advantages))
    return (
        batch._replace(reward=batch.reward + shift),
        data._replace(reward=np.float64(batch.reward + shift)),
    )


def reconstruction(exact, data):
    """Decoded action, mean and log variance from the trained (not the target) parameters."""
    encoder = part(exact.params["cvae"], "encoder")
    inputs = np.concatenate([data.observation, data.action], axis=-1)
    mean, log_var = (rows.mlp(encoder, inputs, head) for head in ("mean", "log_var"))
    z = composite.reparameterised(mean, log_var, noise(jax.random.split(KEY)[0], B, Z))
    inputs = np.concatenate([data.observation, z], axis=-1)
    return rows.mlp(part(exact.params["cvae"], "decoder"), inputs), mean, log_var


def oracle_cvae_loss(exact, data, k=1.0, expectile=0.9, kl_weight=1.0):
    weight = composite.lapo_weight(advantage(exact, data, k), expectile)
    again, mean, log_var = reconstruction(exact, data)
    return composite.lapo_cvae_loss(again, data.action, mean, log_var, weight, kl_weight)


def oracle_actor_loss(exact, data, critic=0):
    action = decode(exact, data.observation, latent(exact.params["actor"], data.observation))
    q = reference.critics(exact.params["critic"], data.observation, action)
    return composite.lapo_latent_actor_loss(q, critic)


# Losses.


def test_critic_loss(evaluate, batch, data):
    """It bootstraps from the online V; without SUNRISE all transitions have weight 1."""
    algorithm, state, exact = evaluate()
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, oracle_critic_loss(exact, data))
    close(metrics["td_loss"], loss)
    assert metrics["weight"] == 1


def test_sunrises_weight_is_of_the_critics_though_the_bootstrap_is_v(evaluate, batch, data):
    """The weight varies between transitions; from V alone it would always be 1."""
    algorithm, state, exact = evaluate(exploration=sunrise(temperature=1.0))
    weight = reference.sunrise_weight(target_q(exact, data.next_observation), 1.0)
    assert np.ptp(weight) > 0.05 and len(np.unique(weight.round(6))) == B
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, oracle_critic_loss(exact, data, weight))
    close(metrics["weight"], weight.mean())


def test_a_weight_per_batch_is_of_noisy_latents(evaluate, batch, data):
    algorithm, state, exact = evaluate(exploration=sunrise(temperature=3.0, scope="batch"))
    draws = [
        target_q(exact, data.next_observation, noise(key, B, Z)) for key in jax.random.split(KEY, N)
    ]
    weight = reference.batch_weight(draws, 3.0)
    loss, metrics = loss_of(algorithm, "critic", state, batch)
    close(loss, oracle_critic_loss(exact, data, weight))
    close(metrics["weight"], weight)
    assert weight < 0.99


def test_critic_loss_with_masks(evaluate, batch, data):
    algorithm, state, exact = evaluate(exploration=sunrise(temperature=None, mask=0.5))
    mask = np.random.default_rng(0).integers(0, 2, (B, N))
    masked = batch._replace(extras={"mask": jnp.float32(mask)})
    y = rows.bootstrapped(data.reward, data.terminated, 0.9, v_of(exact, data.next_observation))
    expected = reference.critic_loss(q_data(exact, data), y, None, mask.T)
    close(loss_of(algorithm, "critic", state, masked)[0], expected)


@pytest.mark.parametrize("k", [1.0, 0.7])
def test_value_loss(evaluate, batch, data, k):
    """The latent noise is clipped, and some draws exceed the limit."""
    algorithm, state, exact = evaluate(target=targets.mix(k=k))
    loss, metrics = loss_of(algorithm, "value", state, batch)
    close(loss, oracle_value_loss(exact, data, k))
    close(metrics["v"], v_of(exact, data.observation).mean())
    assert abs(noise(jax.random.split(KEY)[0], B, Z)).max() > 2


def test_value_loss_within_a_range(evaluate, batch, data):
    q = target_q(evaluate()[2], data.observation, noise(jax.random.split(KEY)[0], B, Z)).min(axis=0)
    low, high = (float(x) for x in np.quantile(q, [0.3, 0.7]))
    algorithm, state, exact = evaluate(value_range=(low, high))
    loss, metrics = loss_of(algorithm, "value", state, batch)
    close(loss, oracle_value_loss(exact, data, low=low, high=high))
    close(metrics["target"], np.clip(q, low, high).mean())


def test_weighted_min_pair_reduces_in_both_places(evaluate, batch, data):
    """Both places are V's target and the advantage."""
    rule = reference.weighted_min_pair
    algorithm, state, exact = evaluate(target=targets.weighted_min_pair())
    q = rule(target_q(exact, data.observation, noise(jax.random.split(KEY)[0], B, Z)))
    v = v_of(exact, data.observation)
    close(loss_of(algorithm, "value", state, batch)[0], np.mean((v - q) ** 2))

    def expected(data):
        next_value = rule(target_q(exact, data.next_observation))
        return rows.bootstrapped(data.reward, data.terminated, 0.9, next_value) - v

    batch, data = both_signs(batch, data, expected(data))
    loss, metrics = loss_of(algorithm, "cvae", state, batch)
    close(metrics["advantage"], expected(data).mean())
    again, mean, log_var = reconstruction(exact, data)
    weight = composite.lapo_weight(expected(data))
    close(loss, composite.lapo_cvae_loss(again, data.action, mean, log_var, weight))
    assert (weight != composite.lapo_weight(advantage(exact, data))).any()  # not min_q's weight


@pytest.mark.parametrize(("k", "options"), [(1.0, {}), (0.7, {"expectile": 0.6, "kl_weight": 0.3})])
def test_cvae_loss(evaluate, batch, data, k, options):
    algorithm, state, exact = evaluate(target=targets.mix(k=k), **options)
    batch, data = both_signs(batch, data, advantage(exact, data, k))
    loss, metrics = loss_of(algorithm, "cvae", state, batch)
    close(loss, oracle_cvae_loss(exact, data, k, **options))
    signs = advantage(exact, data, k) > 0
    close(metrics["better"], signs.mean())
    assert 0 < signs.mean() < 1
    again, mean, log_var = reconstruction(exact, data)
    close(metrics["reconstruction"], np.sum((again - data.action) ** 2, axis=-1).mean())
    close(metrics["kl"], composite.kl_to_standard_normal(mean, log_var).mean())


@pytest.mark.parametrize(("rule", "critic"), [(targets.first_q(), 0), (targets.min_q(), None)])
def test_actor_loss(evaluate, batch, data, rule, critic):
    """The first critic's value, as in the authors' code, or the minimum over N."""
    algorithm, state, exact = evaluate(actor_value=rule)
    loss, metrics = loss_of(algorithm, "actor", state, batch)
    close(loss, oracle_actor_loss(exact, data, critic))
    close(metrics["q_policy"], -loss)


# Gradients.

ORACLES = {
    "critic": oracle_critic_loss,
    "value": oracle_value_loss,
    "cvae": oracle_cvae_loss,
    "actor": oracle_actor_loss,
}


@pytest.mark.parametrize("name", ORACLES)
def test_gradients_against_finite_differences(evaluate, numbers, batch, data, double, name):
    algorithm, state, exact = evaluate()
    gradient = jax.grad(lambda p: algorithm.losses[name](p, state, batch, KEY)[0])(
        state.params[name]
    )
    direction = double(numbers(state.params[name], 100))
    products = jax.tree.map(lambda g, d: np.sum(g * d), double(gradient), direction)
    expected = along(exact, name, lambda e: ORACLES[name](e, data), direction)
    close(sum(jax.tree.leaves(products)), expected, 1e-4)


def test_a_loss_reads_only_the_networks_it_should(evaluate, batch):
    """Dependence is measured by gradients; the CVAE's weight is a step function and shows none."""
    targets_of_policy = {"targets.actor", "targets.cvae", "targets.critic"}
    expected = {
        "critic": {"params.value"},
        "value": targets_of_policy,
        "cvae": set(),
        "actor": {"params.critic", "targets.cvae"},
    }
    algorithm, state, _ = evaluate()
    found = {name: reads(algorithm, state, name, batch) for name in algorithm.losses}
    assert found == expected
    algorithm, state, _ = evaluate(exploration=sunrise(temperature=1.0))
    assert reads(algorithm, state, "critic", batch) == {"params.value"} | targets_of_policy


def test_a_step_moves_each_network_by_its_own_loss_alone(evaluate, batch):
    """The order is the authors': critics and V, then the CVAE, then the actor."""
    algorithm, state, _ = evaluate()
    assert list(algorithm.losses) == ["critic", "value", "cvae", "actor"]
    for name in algorithm.losses:
        alone = algorithm._replace(
            losses={name: algorithm.losses[name]},
            tracked=tuple(n for n in algorithm.tracked if n == name),
        )
        after = jax.jit(lambda s, alone=alone: core.update(alone, s, batch, KEY)[0])(state)
        moved = {k for k in state.params if differ(state.params[k], after.params[k])}
        assert moved == {name}
        assert {k for k in state.targets if differ(state.targets[k], after.targets[k])} <= {name}


def test_v_is_not_averaged(evaluate):
    """V has no target network, because the critics bootstrap from V itself."""
    _, state, _ = evaluate()
    assert set(state.targets) == {"actor", "critic", "cvae"}


# Acting.


def test_mode_is_the_target_decoders(evaluate, batch, data):
    algorithm, state, exact = evaluate()
    z = latent(exact.params["actor"], data.observation)
    close(algorithm.mode(state, batch.observation), decode(exact, data.observation, z))


def test_candidates_are_decoded_from_clipped_noise_on_the_latent(evaluate, batch, data):
    algorithm, state, exact = evaluate(latent_noise=3.0, noise_clip=4.0)
    observation = np.tile(data.observation[0], (K, 1))
    z = latent(exact.params["actor"], observation, noise(KEY, K, Z), std=3.0, limit=4.0)
    assert 0.1 < (abs(z) > 2).mean() < 0.9
    actions = algorithm.act(state, KEY, batch.observation[0], K)
    close(actions, decode(exact, observation, np.clip(z, -2, 2)))


def test_gaussian_exploration_leaves_the_bounds_to_the_environment(evaluate, batch):
    algorithm, state, _ = evaluate()
    observation = 50.0 * batch.observation[0]
    action = algorithm.exploration.act(KEY, algorithm, state, 0, observation)
    assert abs(action).max() > 1
    rule = gaussian(bound=None)
    np.testing.assert_array_equal(action, rule.act(KEY, algorithm, state, 0, observation))


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "num_critics is 0"),
        ({"hidden": (8, 0)}, "hidden is"),
        ({"expectile": 1.0}, "expectile is 1.0; it must lie between 0 and 1"),
        ({"value_range": (1.0, 1.0)}, "value_range is .* low < high"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(spec, options, message):
    with pytest.raises(InputError, match=message):
        lapo(**options).build(spec)


@pytest.mark.parametrize(
    ("path", "unit", "message"),
    [
        ("online.algorithm.exploration", "oac", "Gaussian before tanh, which lapo"),
        ("algorithm.target", "independent", "V needs a single target"),
    ],
)
def test_units_that_do_not_fit_are_refused(spec, path, unit, message):
    row = registry.override(tiny("enoto_lapo"), path, unit)
    with pytest.raises(InputError, match=message):
        building.build(row, spec)


# The methods.


def test_the_rows_differ_as_the_table_says():
    """N critics and their minimum; then ENOTO's target and exploration online, nothing else."""
    same = {"n", "target", "exploration", "actor_value"}
    pairs, lapo_n, enoto = (RECIPES[name] for name in ("lapo", "lapo_n", "enoto_lapo"))
    assert pairs.offline.algorithm == pairs.online.algorithm
    assert lapo_n.offline.algorithm == lapo_n.online.algorithm == enoto.offline.algorithm
    found = {line.partition(":")[0] for line in registry.changes(lapo_n.online, enoto.online)}
    assert {path.split(".")[1] for path in found} == {"target", "exploration"}
    found = {line.partition(":")[0] for line in registry.changes(pairs.online, lapo_n.online)}
    assert {path.split(".")[1] for path in found} <= same
    assert pairs.transform == lapo_n.transform == enoto.transform


# Golden numbers.

CASES = {
    "lapo": (lapo, {"target": targets.mix(k=0.7), "value_range": (-1.0, 1.0)}),
    "lapo_n": (lapo, {"target": targets.min_q(), "actor_value": targets.min_q()}),
    "enoto_lapo": (
        lapo,
        {
            "target": targets.weighted_min_pair(),
            "actor_value": targets.min_q(),
            "exploration": sunrise(temperature=1.0),
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_golden_numbers(golden, case):
    golden(case)


# Learning.


def test_lapo_beats_its_data():
    """Data from a slow, noisy walk on Reach-v0 return -7; the best policy returns -2.

    At kl_weight 1 the latent would be ignored, and the weighted clone returns -2.4 to -3.8.
    """
    row = RECIPES["lapo"]
    for path, value in {
        "algorithm.hidden": (32, 32),
        "algorithm.discount": 0.9,
        "algorithm.kl_weight": 0.1,
        "algorithm.tau": 0.02,
        "algorithm.actor_rate": 1e-3,
        "algorithm.critic_rate": 3e-3,
        "algorithm.value_rate": 3e-3,
        "algorithm.cvae_rate": 3e-3,
        "transform.reward_over_largest": False,
    }.items():
        row = registry.override(row, path, value)
    dataset = reach_source(episodes=20, noise=0.3).load()
    transform = row.transform(REACH, dataset)
    algorithm, seeds = row.offline.algorithm.build(REACH), SeedMap([0, 1, 2])
    numbers = seeds.put(seeds.seeds)
    data = seeds.share(transform.transitions(dataset.transitions))
    state = seeds.compile(lambda s: core.init(algorithm, stream(s, "init")))(numbers)
    learn = offline.compile_blocks(algorithm, 64, 50, seeds)
    state, _ = learn(state, numbers, seeds.share(np.int32(0)), seeds.share(np.int32(10)), data)
    evaluator = Evaluator("Reach-v0", 20, seeds, transform)
    returns = evaluator(seeds.compile(algorithm.mode), state, 0).returns.mean(axis=1)
    assert dataset.episode_returns.mean() < -6.5
    assert (returns > -3.0).all(), returns
