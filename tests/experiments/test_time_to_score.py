"""What `experiments.benchmarks.time_to_score` reports for scripts with known scores."""

import csv

import h5py
import numpy as np
import pytest
from absl import flags

from enoto_jax.cli import command, plans, train
from enoto_jax.cli.command import define_only
from experiments.benchmarks import time_to_score
from experiments.benchmarks.peer_scripts import Peer
from experiments.benchmarks.time_to_score import Case, Run

SCRIPT = """
import sys
import d4rl, gym, wandb
import numpy as np

def returns(score):
    return np.full(2, -280.178953 + score * (12135.0 + 280.178953) / 100)

env = gym.wrappers.TransformObservation(gym.make("d"), lambda x: x - 100.0)
data = d4rl.qlearning_dataset(env)
assert len(data["rewards"]) == 5 and data["rewards"].tolist() == [0, 1, 3, 4, 5]
assert data["next_observations"][:, 0].tolist() == [1, 2, 4, 5, 6]
env.seed(0)
assert env.reset().shape == (17,) and env.reset().mean() < -50
observation, reward, done, _ = env.step(env.action_space.sample())
assert observation.mean() < -50 and not done
several = gym.vector.make("d", num_envs=2)
assert several.reset().shape == (2, *several.single_observation_space.shape)
assert several.step(np.zeros((2, 6)))[2].tolist() == [False, False]
wandb.init()
for score in sys.argv[2].split(","):
    if sys.argv[1] == "broken":
        raise ValueError("out of luck")
    d4rl.get_normalized_score("d", returns(float(score)))
print("what a script prints is not read")
"""


@pytest.fixture
def contest(tmp_path, monkeypatch):
    """The command's flags, for two scripts and seven rows of data with a time-out in the third."""
    cases = {
        "toy": Case("", 40.0, (Peer("a/s.py", "{seed} 0,41,39,41"), Peer("b/s.py", "{seed} 1"))),
        "bad": Case("", 40.0, (Peer("a/s.py", "broken 1"),)),
    }
    monkeypatch.setattr(time_to_score, "CASES", cases)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "s.py").write_text(SCRIPT)
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        file["observations"] = np.tile(np.arange(7.0, dtype="f4")[:, None], 17)
        file["actions"] = np.zeros((7, 6), "f4")
        file["rewards"] = np.arange(7.0)
        file["terminals"] = np.zeros(7, bool)
        file["timeouts"] = np.arange(7) == 2
    return [
        f"--peers={tmp_path}",
        f"--data={tmp_path / 'data.hdf5'}",
        f"--out={tmp_path / 'out.csv'}",
        "--only=a/,b/",
        "--rounds=2",
        "--last=2",
        "--every=7",
    ]


def run(*arguments) -> int:
    define_only(time_to_score)
    return command.execute(time_to_score.main, ["time_to_score", *arguments])


def test_scripts_are_run_until_they_have_the_score(contest, tmp_path, capsys):
    assert run(*contest, "--case=toy") == command.DONE
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["case", "who"]
    assert first.split()[:2] == ["toy", "a/s.py"] and first.endswith("2 of 2")
    assert second.split()[:2] == ["toy", "b/s.py"] and second.endswith("0 of 2")
    assert second.count("(>") == 2 and "(>" not in first
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert tuple(rows[0]) == time_to_score.COLUMNS
    mine = [row for row in rows if (row["who"], row["seed"]) == ("a/s.py", "1")]
    assert [float(row["score"]) for row in mine] == pytest.approx([0.0, 41.0, 39.0, 41.0])
    assert [int(row["updates"]) for row in mine] == [7, 14, 21, 28]
    assert all(0 < float(row["wall_s"]) < 60 for row in mine)
    other = [row for row in rows if (row["who"], row["seed"]) == ("b/s.py", "1")]
    assert [row["score"] for row in other][1:] == [""] and other[1]["updates"] == ""
    assert float(other[1]["wall_s"]) >= float(other[0]["wall_s"])


def test_a_script_that_fails_is_named(contest, capsys):
    assert run(*contest, "--case=bad") == command.FAILED
    assert capsys.readouterr().err == "error: a/s.py: ValueError: out of luck\n"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--data=nowhere.hdf5", "--data: there is no file nowhere.hdf5"),
        ("--python=nowhere/python", "--python: nowhere/python is not a Python interpreter"),
        ("--last=0", "--last, --every and --episodes must be at least 1, --rounds at least 0"),
        ("--only=c/", "nobody to compare; look at --peers and --only"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(flag, message, contest, capsys):
    assert run(*contest, "--case=toy", flag) == command.BAD_INPUT
    assert capsys.readouterr().err == f"error: {message}\n"


def test_the_table_is_of_all_rows(contest, tmp_path, capsys):
    rows = [("toy", "ours", 0, 7, 9.0, 1.0, 50.0), ("toy", "a/s.py", 0, 7, 90.0, 4.0, 50.0)]
    lines = [",".join(map(str, row)) for row in (time_to_score.COLUMNS, *rows)]
    (tmp_path / "out.csv").write_text("\n".join(lines) + "\n")
    assert run(*contest, "--case=toy", "--rounds=0", "--last=1", "--clock=cpu") == command.DONE
    _, ours, theirs = capsys.readouterr().out.splitlines()
    assert ours.split() == ["toy", "ours", *["1.0", "(1.0", "to", "1.0)"] * 2, "1", "of", "1"]
    assert theirs.split()[2:] == [*["4.0", "(4.0", "to", "4.0)", "4.0"] * 2, "1", "of", "1"]


def test_a_run_without_the_score_counts_until_its_end(contest, tmp_path, capsys):
    rows = [("toy", "a/s.py", 0, 7, 9.0, 1.0, 30.0), ("toy", "a/s.py", 0, "", 30.0, 25.0, "")]
    lines = [",".join(map(str, row)) for row in (time_to_score.COLUMNS, *rows)]
    (tmp_path / "out.csv").write_text("\n".join(lines) + "\n")
    assert run(*contest, "--case=toy", "--rounds=0", "--last=1", "--clock=cpu") == command.DONE
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[2:6] == [">25.0", "(>25.0", "to", ">25.0)"] and line.endswith("0 of 1")


def test_a_second_try_is_a_run_of_its_own_and_one_without_its_end_is_incomplete(
    contest, tmp_path, capsys
):
    tries = [(7, 9.0, 1.0, 30.0), (14, 19.0, 2.0, 30.0), (7, 8.0, 3.0, 30.0), (14, 18.0, 5.0, 50.0)]
    rows = [("toy", "a/s.py", 0, *row) for row in tries] + [("toy", "b/s.py", 0, *tries[0])]
    lines = [",".join(map(str, row)) for row in (time_to_score.COLUMNS, *rows)]
    (tmp_path / "out.csv").write_text("\n".join(lines) + "\n")
    assert run(*contest, "--case=toy", "--rounds=0", "--last=2", "--clock=cpu") == command.DONE
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[2:6] == ["5.0", "(5.0", "to", "5.0)"] and first.endswith("1 of 1")
    assert second.endswith("0 of 1, 1 incomplete")


def test_the_mean_of_the_last_must_have_the_score():
    found = Run([1.0, 2.0, 3.0, 4.0], [0.0, 50.0, 38.0, 44.0])
    assert [found.reached(40.0, last).seconds for last in (1, 2, 3)] == [2.0, 3.0, 4.0]
    assert str(found.reached(60.0, 1)) == ">4.0" and str(found.reached(40.0, 1)) == "2.0"


def test_ratios_are_bounds_where_the_score_was_not_reached():
    ours = {0: Run([10.0], [50.0]), 1: Run([20.0], [50.0])}
    theirs = {0: Run([30.0], [50.0]), 1: Run([100.0], [0.0])}
    assert str(time_to_score.ratio({0: theirs[0]}, ours, 45.0, 1)) == "3.0"
    assert str(time_to_score.ratio(theirs, ours, 45.0, 1)) == ">5.0"
    assert time_to_score.ratio(ours, theirs, 45.0, 1) == "-"
    assert time_to_score.ratio({7: theirs[0]}, ours, 45.0, 1) == "-"


def test_a_half_written_line_is_not_read(tmp_path):
    path = tmp_path / "scores.csv"
    assert time_to_score.scores(path) == []
    path.write_text("phase,score\noffline,1.5\nonline,7.0\noffline,2")
    assert time_to_score.scores(path) == [1.5]


@pytest.mark.parametrize("name", time_to_score.CASES)
def test_the_flags_of_our_side_make_a_plan(name):
    define_only(train)
    arguments = [*time_to_score.CASES[name].ours.split(), "--seeds=1"]
    flags.FLAGS(["train", *arguments])
    plan = plans.resolve(flags.FLAGS, train.PATHS, arguments)
    assert plan.recipe.offline.steps == 1_000_000
