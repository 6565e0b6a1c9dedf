"""Fixtures for the training tests: quick compilation, and one complete run."""

import pytest

from enoto_jax.training import offline, online
from tests.helpers import quick_compiling, reach_source
from tests.small_runs import REFERENCE, Finished, train, watched


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with (
        quick_compiling(tmp_path_factory.mktemp("compiled")),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(offline, "BLOCK", 5)
        patch.setattr(offline, "PATIENCE_S", 0.0)  # one block per call
        yield


@pytest.fixture(scope="module")
def source():
    return reach_source(reference=REFERENCE)


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory) -> Finished:
    """A complete run, which most tests use."""
    folder, starts = tmp_path_factory.mktemp("runs") / "whole", []
    plain = online.train

    def train_online(phase, algorithm, replay, carried, *rest):
        starts.append(rest[2].seeds.get(carried))
        return plain(phase, algorithm, replay, carried, *rest)

    with pytest.MonkeyPatch.context() as patch, watched() as calls:
        patch.setattr(online, "train", train_online)
        summary = train(source, folder)
    return Finished(folder, summary, starts[0], dict(calls))
