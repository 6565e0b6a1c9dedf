"""The folder of real D4RL samples; tests that need them skip if they are absent."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def samples():
    """Folder of the first episodes of real D4RL files."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("ENOTO_SHARED_DATA", default)) / "d4rl_samples"
    if not folder.is_dir():
        pytest.skip("no real D4RL samples: set ENOTO_SHARED_DATA to their parent folder")
    return folder
