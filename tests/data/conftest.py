"""Fixtures for the data tests: tiny files in D4RL's layout, and real ones if present."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

# Rows 0 to 2 are an episode that ends in a fall, rows 3 to 5 one that ends in a time-out, and
# row 6 begins a third.
TINY = {
    "observations": np.array([[0], [1], [2], [10], [11], [12], [20]], np.float32),
    "actions": np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [0.5], [0.6]], np.float32),
    "rewards": np.array([1, 2, 3, 4, 5, 6, 7], np.float32),
    "terminals": np.array([0, 0, 1, 0, 0, 0, 0], bool),
    "timeouts": np.array([0, 0, 0, 0, 0, 1, 0], bool),
    "next_observations": np.array([[1], [2], [3], [11], [12], [13], [21]], np.float32),
}


@pytest.fixture
def tiny():
    """Fresh arrays of seven rows, which a test may change."""
    return {key: array.copy() for key, array in TINY.items()}


@pytest.fixture
def write(tmp_path):
    """write(arrays, name, **attributes) -> the path of an HDF5 file with these arrays."""

    def write(arrays, name="tiny.hdf5", **attributes):
        with h5py.File(tmp_path / name, "w") as file:
            for key, array in arrays.items():
                file[key] = array
            file.attrs.update(attributes)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def shared_data():
    """Folder of real D4RL samples and regenerated sets; tests skip if it is absent."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("ENOTO_SHARED_DATA", default))
    if not (folder / "d4rl_samples").is_dir():
        pytest.skip("no real D4RL samples: set ENOTO_SHARED_DATA to their folder")
    return folder
