"""A short, complete run on AntMaze: its data set, our environment and the domain's constants."""

from pathlib import Path

import pytest

from enoto_jax import load_source
from enoto_jax.recipes import domains
from enoto_jax.training import run
from tests.helpers import ROOT, quick_compiling, tiny

DATA: Path = ROOT.parent / "shared" / "data" / "datasets" / "antmaze-umaze.hdf5"


@pytest.mark.skipif(not DATA.exists(), reason="the regenerated data sets are not here")
@pytest.mark.parametrize("name", ["enoto_cql", "iql", "enoto_lapo"])
def test_offline_then_online(name, tmp_path):
    source = load_source(DATA)
    assert source.env_id == "enoto/AntMaze-umaze-v0" and source.reference == (0.0, 1.0)
    row = domains.for_task(tiny(name, online__eval_every=12), name, source.name)
    with quick_compiling():
        summary = run.train(row, source, tmp_path, eval_episodes=1)
    assert summary["metric"] == "score"
    assert 0.0 <= summary["online"]["handover"]["mean"] <= 100.0
