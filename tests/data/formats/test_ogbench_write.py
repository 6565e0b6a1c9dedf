"""Recording files in OGBench's layout: reading back, naming, stopping and resuming."""

import numpy as np
import pytest

from enoto_jax.cli import collect, command
from enoto_jax.cli.command import define_only
from enoto_jax.data import load_source
from enoto_jax.data.formats import ogbench_write

NAME = "pointmaze-medium-navigate-v0"
TASK = "pointmaze-medium-navigate-singletask-task1-v0"


class Recorder:
    """Episodes of two steps whose position is the episode's number; episode `fails_at` fails."""

    fails_at: int | None = None
    asked: list[int]

    def __init__(self, name, seed):
        pass

    def episode(self, number):
        if number == self.fails_at:
            raise RuntimeError
        self.asked.append(number)
        place = np.full((3, 2), number, np.float32)
        ends = np.array([False, False, True])
        return {
            "observations": place,
            "actions": np.zeros((3, 2), np.float32),
            "terminals": ends,
            "qpos": place,
        }


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr(ogbench_write, "Recorder", Recorder)
    monkeypatch.setattr(ogbench_write, "versions", lambda: "ogbench 0, mujoco 0")
    Recorder.asked, Recorder.fails_at = [], None
    return Recorder


def test_a_stopped_recording_goes_on_and_is_no_file_of_ogbench(recorder, tmp_path):
    told: list[str] = []
    recorder.fails_at = 2
    with pytest.raises(RuntimeError):
        ogbench_write.record(NAME, tmp_path, 4, 2, 7, told.append)
    assert not list(tmp_path.glob("*.npz")) and told == []
    recorder.fails_at = None
    ogbench_write.record(NAME, tmp_path, 4, 2, 7, told.append)
    assert recorder.asked == [0, 1, 2, 3, 1_000_000, 1_000_001]  # none is recorded twice
    assert sorted(x.name for x in tmp_path.iterdir()) == [f"{NAME}-val.npz", f"{NAME}.npz"]
    assert all("not OGBench's own file" in line for line in told) and len(told) == 2
    source = load_source(f"ogbench:{tmp_path}/{TASK}")
    assert source.notes[0] == "recorded by enoto collect, seed 7; not a file of OGBench's own"
    assert source.physics == "ogbench 0, mujoco 0" and source.unread == ()
    assert source.load().transitions.observation[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    ogbench_write.record(NAME, tmp_path, 4, 2, 7, told.append)
    assert told[2:] == [f"{tmp_path / name}.npz already exists" for name in (NAME, f"{NAME}-val")]


def call(*arguments) -> int:
    define_only(collect)
    return command.execute(collect.main, ["enoto_jax.cli.collect", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe=cube-single-play-v0"], "give ogbench: and the name of a data set"),
        (["--recipe=ogbench:cube"], "unknown recipe ogbench:cube; known: pointmaze-medium"),
        (["--recipe=ogbench:scene-play-v0", "--episodes=0"], "must be at least 1"),
        (["--recipe=ogbench:scene-play-v0", "--env=Hopper-v5"], "leave out --env and --run"),
    ],
)
def test_what_cannot_be_recorded_is_refused_in_a_line(arguments, message, tmp_path, capsys):
    assert call(*arguments, f"--out={tmp_path}") == command.BAD_INPUT
    text = capsys.readouterr().err.strip()
    assert message in text and "\n" not in text
    assert not list(tmp_path.iterdir())


def test_the_command_records_what_the_shared_data_hold(shared_data, tmp_path):
    """The seeds are the same; the last digits depend on the machine."""
    package = pytest.importorskip("ogbench")
    arguments = ("--episodes=2", "--validation=1", f"--out={tmp_path}")
    assert call(f"--recipe=ogbench:{NAME}", *arguments) == command.DONE
    _, train, _ = package.make_env_and_datasets(TASK, dataset_path=str(tmp_path / f"{NAME}.npz"))
    mine = load_source(f"ogbench:{tmp_path}/{TASK}").load().transitions
    np.testing.assert_array_equal(mine.reward, train["rewards"])
    np.testing.assert_array_equal(mine.observation, train["observations"])
    if not (shared_data / "ogbench" / f"{NAME}.npz").exists():
        pytest.skip("the generated data are not here")
    whole = load_source(f"ogbench:{shared_data}/ogbench/{TASK}").load().transitions
    np.testing.assert_allclose(mine.observation, whole.observation[:2000], atol=1e-4)
    np.testing.assert_allclose(mine.action, whole.action[:2000], atol=1e-4)
