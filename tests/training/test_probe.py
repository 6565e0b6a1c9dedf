"""What is logged of the networks around the hand-over, against the oracle."""

import dataclasses

import jax
import numpy as np
import pytest

from enoto_jax.data.loading import from_env
from enoto_jax.data.memory import from_arrays
from enoto_jax.data.source import concatenate
from enoto_jax.recipes.building import build
from enoto_jax.training.probe import compile_probe, steps_after
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import Transform
from tests.helpers import REACH, quick_compiling, reach_data, reach_source, tiny
from tests.oracle import reference

SCALED = Transform(
    np.float32([0.1, -0.2]),
    np.float32([0.5, 2.0]),
    np.float32([0.05]),
    np.float32([0.3]),
    1.0,
    0.0,
    1.0,
)


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compiling():
        yield


def test_a_probe_is_what_its_definition_says(state_of):
    algorithm = build(tiny("cql_n_to_sac_n"), REACH).offline
    sample, seeds = reach_source().sample(7), SeedMap([4, 9])
    states = [state_of(algorithm, seed) for seed in (0, 1)]
    look = compile_probe(algorithm, seeds, SCALED, sample)
    found = look(seeds.put(_stacked(states)))
    assert set(found) == {
        *("q_mean", "q_std", "q_policy", "policy_gap", "target", "weight"),
        *("action_distance", "temperature"),
    }
    for index, state in enumerate(states):
        rows = SCALED.transitions(sample)
        q = np.float64(algorithm.q(state.params["critic"], rows.observation, rows.action))
        assert q.shape == (3, 7)
        assert found["q_mean"][index] == pytest.approx(q.mean(), rel=1e-4)
        assert found["q_std"][index] == pytest.approx(q.std(axis=0).mean(), rel=1e-4)
        chosen = SCALED.world_action(np.asarray(algorithm.mode(state, rows.observation)))
        expected = np.sqrt(np.square(chosen - sample.action).sum(-1)).mean()
        assert found["action_distance"][index] == pytest.approx(expected, rel=1e-4)


def test_the_target_and_the_weight_are_the_phases_own_on_the_data(state_of, double):
    """Compare with NumPy: sampled next actions, the pairwise minimum, SUNRISE's weight."""
    algorithm = build(tiny("enoto_cql"), REACH).online
    sample, seeds, state = reach_source().sample(7), SeedMap([4]), state_of(algorithm)
    found = compile_probe(algorithm, seeds, SCALED, sample)(seeds.put(_stacked([state])))
    rows, state = double(SCALED.transitions(sample)), double(state)
    backup_key = jax.random.split(jax.random.key(0), 2)[0]
    noise = np.float64(jax.random.normal(jax.random.split(backup_key)[0], (7, 1)))
    mean, log_std = reference.mlp_actor(state.params["actor"], rows.next_observation)
    action, log_prob = reference.tanh_normal(mean, log_std, noise)
    next_q = reference.critics(state.targets["critic"], rows.next_observation, action)
    temperature = np.exp(state.params["temperature"]["params"]["value"])
    y = reference.sac_target(
        rows.reward,
        rows.terminated,
        0.99,
        reference.weighted_min_pair(next_q),
        temperature,
        log_prob,
    )
    weight = reference.sunrise_weight(next_q, 10.0)
    chosen = np.asarray(algorithm.mode(state_of(algorithm), np.float32(rows.observation)))
    q = reference.critics(state.params["critic"], rows.observation, np.float64(chosen))
    data = reference.critics(state.params["critic"], rows.observation, rows.action)
    expected = {
        "target": y.mean(),
        "weight": weight.mean(),
        "temperature": temperature,
        "q_policy": q.mean(),
        "policy_gap": q.mean() - data.mean(),
    }
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("row", ["cal_ql", "iql", "td3_bc", "lapo", "awac", "pex"])
def test_every_kind_of_critic_has_a_target(row, state_of):
    algorithm = build(tiny(row), REACH).online
    seeds = SeedMap([0])
    look = compile_probe(algorithm, seeds, SCALED, reach_source().sample(3))
    found = look(seeds.put(_stacked([state_of(algorithm)])))
    assert np.isfinite(found["target"]).all() and found["weight"] == 1.0
    assert ("temperature" in found) == ("temperature" in algorithm.nets)


def test_looks_lie_where_the_updates_after_the_hand_over_are_reached():
    row = tiny("enoto_cql")
    phase = dataclasses.replace(row.online, warmup=30, utd=1)
    assert steps_after(phase) == {130, 1_030, 5_030}
    assert steps_after(dataclasses.replace(phase, utd=4)) == {55, 280, 1_280}
    # Step 31 does 60 updates at once, plus its own.
    caught_up = dataclasses.replace(phase, catch_up=2)
    assert steps_after(caught_up) == {30 + 40, 30 + 940, 30 + 4_940}
    assert steps_after(dataclasses.replace(phase, catch_up=200)) == {31}


@pytest.mark.parametrize("row", ["bc", "br"])
def test_without_critics_to_ask_there_is_no_q(row, state_of):
    algorithm = build(tiny(row), REACH).offline
    seeds = SeedMap([0])
    look = compile_probe(algorithm, seeds, SCALED, reach_source().sample(3))
    assert set(look(seeds.put(_stacked([state_of(algorithm)])))) - {"temperature"} == {
        "action_distance"
    }


def test_without_data_there_is_nothing_to_see():
    assert from_env("Reach-v0", REACH).sample(5) is None
    assert compile_probe(None, SeedMap([0]), SCALED, None)(None) == {}


def test_a_sample_is_the_same_however_the_data_are_held():
    one = reach_source()
    parts = [from_arrays(**reach_data(episodes=5, seed=s), name=f"part {s}") for s in (0, 1)]
    for source in (one, concatenate(parts)):
        source.__dict__.pop("_dataset", None)
        before = source.sample(50)
        assert "_dataset" not in source.__dict__
        whole = source.load().transitions
        for drawn, again, array in zip(before, source.sample(50), whole[:6]):
            assert drawn.shape == (50, *array.shape[1:])
            np.testing.assert_array_equal(drawn, again)
        rows = {tuple(row) for row in whole.observation.tolist()}
        assert {tuple(row) for row in before.observation.tolist()} <= rows
        assert len(source.sample(10_000).reward) == len(whole.reward)


def _stacked(states):

    return jax.tree.map(lambda *x: np.stack(x), *states)
