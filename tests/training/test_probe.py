import jax
import numpy as np
import pytest

from enoto_jax.data.source import concatenate, from_arrays, from_env
from enoto_jax.recipes.recipe import build
from enoto_jax.training.probe import compile_probe
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import Transform
from tests.helpers import REACH, quick_compiling, reach_data, reach_source, tiny

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
    assert set(found) == {"q_mean", "q_std", "action_distance"}
    for index, state in enumerate(states):
        rows = SCALED.transitions(sample)
        q = np.float64(algorithm.q(state.params["critic"], rows.observation, rows.action))
        assert q.shape == (3, 7)
        assert found["q_mean"][index] == pytest.approx(q.mean(), rel=1e-4)
        assert found["q_std"][index] == pytest.approx(q.std(axis=0).mean(), rel=1e-4)
        chosen = SCALED.world_action(np.asarray(algorithm.mode(state, rows.observation)))
        expected = np.sqrt(np.square(chosen - sample.action).sum(-1)).mean()
        assert found["action_distance"][index] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("row", ["bc", "br"])
def test_without_critics_to_ask_there_is_no_q(row, state_of):
    algorithm = build(tiny(row), REACH).offline
    seeds = SeedMap([0])
    look = compile_probe(algorithm, seeds, SCALED, reach_source().sample(3))
    assert set(look(seeds.put(_stacked([state_of(algorithm)])))) == {"action_distance"}


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
