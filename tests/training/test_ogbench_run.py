"""A run in one of OGBench's environments that is stopped or killed resumes bit for bit."""

import numpy as np
import pytest

from enoto_jax import load_policy, load_source
from enoto_jax.recipes import domains
from enoto_jax.training.record import Stopped
from tests.helpers import tiny
from tests.small_runs import Killed, evaluations, table, train, watched

NAME = "pointmaze-medium-navigate-singletask-task3-v0"


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Three episodes of a random walk that starts at the goal, (4, 12)."""
    folder, rng = tmp_path_factory.mktemp("ogbench"), np.random.default_rng(0)
    place = np.cumsum(rng.normal(0, 0.3, (3, 41, 2)), axis=1) + [4, 12]
    place = np.float32(place).reshape(-1, 2)
    np.savez(
        folder / "pointmaze-medium-navigate-v0.npz",
        observations=place,
        actions=rng.uniform(-1, 1, place.shape).astype(np.float32),
        terminals=np.arange(len(place)) % 41 == 40,
        qpos=place,
    )
    return load_source(f"ogbench:{folder}/{NAME}")


def run(source, folder):
    row = domains.for_task(tiny("iql"), "iql", source.name)
    return train(source, folder, row, eval_max_steps=20)


def test_stopped_and_killed_in_mid_episode(walk, tmp_path):
    pytest.importorskip("ogbench")
    assert walk.load().transitions.terminated[:-1].any()  # success does not end a recording
    run(walk, tmp_path / "whole")
    with watched(("env", 5)), pytest.raises(Stopped, match="online step 5"):
        run(walk, tmp_path / "parts")
    with watched(("eval", 1), kill=True), pytest.raises(Killed):
        run(walk, tmp_path / "parts")
    run(walk, tmp_path / "parts")
    one, other = (table(tmp_path / x / "evaluations.csv") for x in ("whole", "parts"))
    assert [{**row, "wall_s": ""} for row in one] == [{**row, "wall_s": ""} for row in other]
    assert evaluations(tmp_path / "whole")[-1][:2] == ("online", 12)
    assert {row["success"] for row in one} <= {"0.0", "0.5", "1.0"}
    metrics = [(tmp_path / x / "metrics.csv").read_text() for x in ("whole", "parts")]
    assert metrics[0] == metrics[1]
    seen = np.float32([3.0, 11.0])
    acted = [load_policy(tmp_path / x).act(seen) for x in ("whole", "parts")]
    np.testing.assert_array_equal(*acted)
