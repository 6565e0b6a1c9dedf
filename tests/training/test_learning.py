"""Methods learn, on a one-dimensional task, with fixed seeds and wide margins.

In Reach-v0, a point has 20 steps to walk from one random position to another. Returns are about -13
for random actions, -5 for the data's slow walk (a quarter of full speed), and -2 for the best
policy.
"""

import csv

import numpy as np
import pytest

from enoto_jax import core
from enoto_jax.algorithms.sac import sac
from enoto_jax.envs.gym import make_env
from enoto_jax.recipes import registry
from enoto_jax.recipes.table import RECIPES
from enoto_jax.runs.streams import stream
from enoto_jax.targets import mean_q, min_q
from enoto_jax.training import offline, run
from enoto_jax.training.seeds import SeedMap
from enoto_jax.types import Spec, Transition
from tests.helpers import quick_compiling, reach_source

CHANGES = {
    "batch_size": 64,
    "algorithm.n": 4,
    "algorithm.hidden": (32, 32),
    "algorithm.actor_rate": 1e-3,
    "algorithm.critic_rate": 3e-3,
    "algorithm.temperature_rate": 3e-3,
    "algorithm.initial_temperature": 0.1,
    "algorithm.discount": 0.9,
    "offline.algorithm.candidates": 2,
    "offline.steps": 1_500,
    "offline.eval_every": 1_500,
    "online.steps": 1_000,
    "online.eval_every": 250,
    "online.warmup": 100,
    "online.replay.capacity": 1_000,
}


@pytest.fixture(scope="module", autouse=True)
def quick():
    with quick_compiling():
        yield


def random_return(episodes: int = 50) -> float:
    env, rng, total = make_env("Reach-v0"), np.random.default_rng(0), 0.0
    for episode in range(episodes):
        env.reset(seed=episode)
        ended = False
        while not ended:
            _, reward, _, ended, _ = env.step(rng.uniform(-1, 1, 1).astype(np.float32))
            total += reward
    return total / episodes


@pytest.fixture(scope="module")
def returns(tmp_path_factory):
    """(phase, step) -> each seed's return, for ENOTO-CQL on 400 transitions of a slow walk."""
    row = RECIPES["enoto_cql"]
    for path, value in CHANGES.items():
        row = registry.override(row, path, value)
    folder = tmp_path_factory.mktemp("learning")
    run.train(row, reach_source(episodes=20), folder, seeds=(0, 1), eval_episodes=20)
    found: dict = {}
    with open(folder / "evaluations.csv", newline="") as file:
        for line in csv.DictReader(file):
            at = (line["phase"], int(line["step"]))
            found.setdefault(at, []).append(float(line["return_mean"]))
    return {at: np.asarray(values) for at, values in found.items()}


def test_offline_beats_random_actions(returns):
    assert (returns["offline", 1_500] > random_return() + 4.0).all(), returns


def test_online_improves_on_the_handover(returns):
    at_handover = returns["online", 0]
    assert (returns["online", 1_000] > at_handover + 1.0).all(), returns
    assert (returns["online", 1_000] > -4.0).all(), returns


def test_little_is_lost_after_the_handover(returns):
    worst = np.min([value for (phase, _), value in returns.items() if phase == "online"], axis=0)
    assert (worst > returns["online", 0] - 1.5).all(), returns


def test_bfloat16_products_learn_as_well(tmp_path):
    row = RECIPES["td3_bc"]
    mine = {
        path: CHANGES[path] for path in ("batch_size", "algorithm.hidden", "algorithm.discount")
    }
    mine |= {"algorithm.actor_rate": 3e-3, "algorithm.critic_rate": 3e-3, "precision": "bf16"}
    mine |= {"offline.steps": 500, "offline.eval_every": 500, "online.steps": 0}
    for path, value in mine.items():
        row = registry.override(row, path, value)
    summary = run.train(row, reach_source(episodes=20), tmp_path / "run", eval_episodes=20)
    assert summary["overall"]["final"]["mean"] > random_return() + 4.0


def test_chunks_of_two_actions_learn_to_walk_faster_than_the_data(tmp_path):
    """QC-FQL learns to walk offline and, with chunks online, nearly reaches the best return."""
    row = RECIPES["qc_fql"]
    kept = ("batch_size", "algorithm.hidden", "algorithm.discount", "online.replay.capacity")
    mine = {path: CHANGES[path] for path in kept}
    mine |= {"algorithm.chunk": 2, "algorithm.flow_steps": 4}
    mine |= {f"algorithm.{name}_rate": 3e-3 for name in ("critic", "flow", "actor")}
    mine |= {"algorithm.alpha": 1.0, "offline.steps": 1_000, "offline.eval_every": 1_000}
    mine |= {"online.steps": 300, "online.eval_every": 300, "online.warmup": 100}
    for path, value in mine.items():
        row = registry.override(row, path, value)
    summary = run.train(row, reach_source(episodes=20), tmp_path / "run", eval_episodes=20)
    assert summary["offline"]["final"]["mean"] > random_return() + 6.0
    assert summary["online"]["final"]["mean"] > -4.0


def noise_data(rows: int = 200) -> Transition:
    """Rewards are noise around 0 for every action, so every value is exactly 0."""
    rng = np.random.default_rng(0)
    return Transition(
        observation=rng.normal(size=(rows, 2)).astype(np.float32),
        action=rng.uniform(-1, 1, (rows, 1)).astype(np.float32),
        reward=rng.normal(size=rows).astype(np.float32),
        terminated=np.zeros(rows, bool),
        truncated=np.zeros(rows, bool),
        next_observation=rng.normal(size=(rows, 2)).astype(np.float32),
    )


def overestimation(rule) -> np.ndarray:
    """Each of three seeds' estimate of its policy's value, whose true value is 0."""
    seeds = SeedMap([0, 1, 2])
    algorithm = sac(
        n=2,
        target=rule(),
        actor_value=rule(),
        hidden=(32, 32),
        discount=0.9,
        tau=0.05,
        actor_rate=3e-3,
        critic_rate=3e-3,
        temperature_rate=0.0,
        initial_temperature=1e-3,
    ).build(Spec(2, 1))
    numbers, data = seeds.put(seeds.seeds), seeds.share(noise_data())
    state = seeds.compile(lambda s: core.init(algorithm, stream(s, "init")))(numbers)
    learn = offline.compile_blocks(algorithm, 64, 50, seeds)
    for step in (0, 500):
        counts = (seeds.share(np.int32(step)), seeds.share(np.int32(10)))
        state, sums = learn(state, numbers, *counts, data)
    return seeds.get(sums)["actor"]["q_policy"] / 500


def test_the_minimum_of_two_overestimates_less_than_their_mean():
    low, high = overestimation(min_q), overestimation(mean_q)
    assert (high > 0.5).all(), (low, high)
    assert (high > low + 0.3).all(), (low, high)
