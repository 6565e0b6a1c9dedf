"""Fixtures for the Minari tests: a root folder, three short episodes and a writer of data sets."""

import json

import h5py
import numpy as np
import pytest

from tests.data.formats.minari.helpers import ID, metadata_of


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def episodes(tiny):
    """TINY's seven rows as three episodes: a termination, a time-out, and one with no end."""
    result = []
    for rows in (slice(0, 3), slice(3, 6), slice(6, 7)):
        last = tiny["next_observations"][rows][-1:]
        result.append(
            {
                "observations": np.concatenate([tiny["observations"][rows], last]),
                "actions": tiny["actions"][rows],
                "rewards": tiny["rewards"][rows].astype(np.float64),
                "terminations": tiny["terminals"][rows],
                "truncations": tiny["timeouts"][rows],
            }
        )
    return result


@pytest.fixture
def write(root):
    """write(episodes, id, **metadata) -> the folder of the data set."""

    def write(episodes, name=ID, **changes):
        folder = root / name / "data"
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / "main_data.hdf5", "w") as file:
            for index, episode in enumerate(episodes):
                for key, array in episode.items():
                    file[f"episode_{index}/{key}"] = array
        (folder / "metadata.json").write_text(json.dumps(metadata_of(episodes, **changes)))
        return folder

    return write
