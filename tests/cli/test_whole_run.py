"""One tiny run through the command, from a file to the end of the online phase."""

import csv
import signal

import h5py
import numpy as np
import pytest

from enoto_jax.cli import command, compiled, train
from enoto_jax.cli.command import define_only
from tests.helpers import quick_compiling, reach_data

SEEDS = (0, 1)
ARGUMENTS = (
    "--method=enoto_cql",
    "--env=Reach-v0",
    "--budget=smoke",
    "--seeds=2",
    "--num_critics=3",
    "--offline_steps=20",
    "--online_steps=12",
    "--warmup=3",
    "--utd=1",
    "--batch_size=8",
    "--eval_episodes=2",
    "--set=algorithm.hidden=8",
    "--set=offline.eval_every=10",
    "--set=online.eval_every=6",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("run")
    with h5py.File(folder / "reach.hdf5", "w") as file:
        for key, array in reach_data(episodes=3).items():
            file[key] = array
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    arguments = ["enoto train", *ARGUMENTS, f"--task={folder / 'reach.hdf5'}"]
    with quick_compiling(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "keep", lambda given: None)  # this process has its own cache
        define_only(train)
        code = command.execute(train.main, [*arguments, f"--out={folder / 'out'}"])
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert code == command.DONE
    return folder / "out"


@pytest.fixture(scope="module")
def returns(run) -> dict[tuple[str, int], np.ndarray]:
    """(phase, step) -> mean returns [S]."""
    found: dict[tuple[str, int], list[float]] = {}
    with open(run / "evaluations.csv", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["phase"], int(row["step"])), []).append(float(row["return_mean"]))
    return {key: np.asarray(values) for key, values in found.items()}


def test_it_is_evaluated_in_both_phases(returns):
    steps = [("offline", 10), ("offline", 20), ("online", 0), ("online", 6), ("online", 12)]
    assert list(returns) == steps
    assert all(len(own) == len(SEEDS) for own in returns.values())


def test_the_hand_over_is_judged_from_the_same_start_states(returns):
    """It keeps the policy, so each seed has the same returns before and after it."""
    np.testing.assert_array_equal(returns["offline", 20], returns["online", 0])
    assert (returns["offline", 10] != returns["offline", 20]).all()


def test_the_files_are_there(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "summary.json", "metrics.csv", "curve.png", "checkpoints"} <= names
