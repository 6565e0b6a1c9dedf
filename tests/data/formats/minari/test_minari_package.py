"""The minari package: downloads through it, and a data set that it wrote."""

import sys
from pathlib import Path

import numpy as np
import pytest

from enoto_jax.data import load_source
from enoto_jax.data.formats import minari
from enoto_jax.types import Spec
from tests.data.formats.minari.helpers import load, refused

KEYS = ("observations", "actions", "rewards", "terminations", "truncations")


STUB = """
import os, pathlib, shutil
def download_dataset(name):
    if "absent" in name:
        raise ValueError(f"Couldn't find any version for dataset {name}")
    target = pathlib.Path(os.environ["MINARI_DATASETS_PATH"]) / name
    shutil.copytree(os.environ["STUB_SOURCE"], target)
    if "broken" in name:
        raise OSError("connection lost")
"""


def test_downloads_through_the_package(write, episodes, root, tmp_path, monkeypatch, capsys):
    source = write(episodes).parent
    (tmp_path / "minari.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("STUB_SOURCE", str(source))
    assert len(load("tests/fetched-v0")) == 7
    assert "fetching minari:tests/fetched-v0" in capsys.readouterr().err
    refused("cannot be fetched .*Couldn't find any version", "tests/absent-v0")
    refused("cannot be fetched .*connection lost", "tests/broken-v0")
    assert sorted(p.name for p in root.iterdir()) == ["tests"]  # nothing half-fetched
    assert sorted(p.name for p in (root / "tests").iterdir()) == ["fetched-v0", "point"]


def test_download_without_the_package_says_what_to_install(root, tmp_path, monkeypatch):
    (tmp_path / "minari.py").write_text("raise ModuleNotFoundError(\"No module named 'minari'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    refused(r"pip install 'enoto_jax\[minari\]'", "tests/absent-v0")


@pytest.mark.filterwarnings("ignore:`eval_env` is set to None")
def test_data_set_that_minari_wrote(root):
    package = pytest.importorskip("minari")
    gymnasium = pytest.importorskip("gymnasium")
    buffer_of = pytest.importorskip("minari.data_collector").EpisodeBuffer
    env = gymnasium.make("Pendulum-v1", max_episode_steps=5)
    env.action_space.seed(0)
    buffers = []
    for episode in range(2):
        observation, _ = env.reset(seed=episode)
        steps = {"observations": [observation]}
        ended = False
        while not ended:
            action = env.action_space.sample()
            observation, *rest = env.step(action)
            ended = rest[1] or rest[2]
            for key, value in zip(KEYS, (observation, action, *rest)):
                steps.setdefault(key, []).append(value)
        buffers.append(buffer_of(**{key: np.array(values) for key, values in steps.items()}))
    package.create_dataset_from_buffers(
        "tests/pendulum-v1",
        buffers,
        env,
        algorithm_name="random",
        author="us",
        author_email="us@example.org",
        code_permalink="none",
        description="random",
        requirements=["gymnasium>=1.0"],
    )
    env.close()
    source = load_source("minari:tests/pendulum-v1")
    assert (source.env_id, source.spec) == ("Pendulum-v1", Spec(3, 1))
    assert (source.max_episode_steps, source.physics) == (5, "gymnasium>=1.0")
    found = source.load()
    theirs = list(package.load_dataset("tests/pendulum-v1"))
    for ours, key in (("observation", slice(None, -1)), ("next_observation", slice(1, None))):
        wanted = np.concatenate([episode.observations[key] for episode in theirs])
        np.testing.assert_array_equal(getattr(found.transitions, ours), wanted)
    actions = np.concatenate([episode.actions for episode in theirs])
    np.testing.assert_allclose(found.transitions.action, actions / 2, atol=1e-7)  # [-2, 2]
    rewards = np.concatenate([episode.rewards for episode in theirs])
    np.testing.assert_allclose(found.transitions.reward, rewards, rtol=1e-6)
    np.testing.assert_array_equal(found.episode_lengths, [5, 5])
    assert found.transitions.truncated.sum() == 2 and not found.transitions.terminated.any()


def test_reading_needs_no_minari_package(write, episodes, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)  # importing it fails
    write(episodes)
    assert len(load()) == 7


def test_root_is_minaris_own(monkeypatch):
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    assert minari.root() == Path.home() / ".minari" / "datasets"
