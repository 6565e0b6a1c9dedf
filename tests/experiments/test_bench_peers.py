"""What `experiments.benchmarks.peers` reports for scripts of known speed, which sleep."""

import json
import subprocess
import sys

import pytest

from enoto_jax.cli import command
from enoto_jax.cli.command import define_only
from experiments.benchmarks import peers
from experiments.benchmarks.peer_scripts import CASES, Case, Peer, script
from tests.helpers import quick_compiling

SMALL = ("algorithm.hidden=8,8",)
SCRIPT = """
import sys, time
from dataclasses import dataclass
import d4rl, gym, wandb

updates = int(sys.argv[1])
env = gym.wrappers.TransformObservation(gym.make("d"), None)
vector = gym.vector.make("d", num_envs=3)
data = d4rl.qlearning_dataset(env)
assert data["observations"].shape == data["next_observations"].shape
assert len(data["rewards"]) == len(data["terminals"]) == len(data["actions"])
wandb.init(project="p")
wandb.run.save()
print("what a script prints is not what is measured")
while True:
    for _ in range(updates):
        time.sleep(0.005)
        wandb.log({"loss": 0.0}, step=1)
    observation, done = vector.reset(), False
    assert observation.shape == (3, *vector.single_observation_space.shape)
    observation, _, done, _ = vector.step(env.action_space.sample())
    assert done.all()
    time.sleep(0.001)
"""
OURS = {"case": "toy", "who": "enoto_jax", "updates_per_s": 120.0, "fraction_of_matmul_rate": 0.25}
THEIRS = {"who": "a/train.py", "updates_per_s": 40.0, "fraction_of_matmul_rate": 0.08}
LINES = [
    OURS,
    {**OURS, **THEIRS, "times": 3.0, "times_two_seeds": 4.5},
    {"case": "toy", "who": "broken/train.py", "failed": "division by zero"},
]


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with quick_compiling(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory):
    """Checkouts of scripts: one in a repository, one outside, one that fails, and one missing."""
    folder = tmp_path_factory.mktemp("peers")
    scripts = (
        Peer("sleeper/a/train.py", "{updates}"),
        Peer("two/train.py", "{updates}", per_step=2),
        Peer("broken/train.py", ""),
        Peer("missing/train.py", ""),
    )
    for name, text in {"sleeper/a": SCRIPT, "two": SCRIPT, "broken": "1 / 0"}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "train.py").write_text(text)
    git = ["git", "-C", str(folder / "sleeper")]
    subprocess.run([*git, "init", "--quiet"], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, *who, "commit", "--quiet", "--allow-empty", "-m", "a"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "CASES", {"toy": Case("td3_bc", SMALL, 20, scripts)})
        yield folder


def run(*arguments) -> int:
    define_only(peers)
    return command.execute(peers.main, ["peers", *arguments])


def test_every_contender_has_a_line(checkouts, capsys):
    assert run(f"--peers={checkouts}", "--rounds=2", "--json") == command.DONE
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_who = {line["who"]: line for line in lines}
    assert list(by_who) == [*peers.OURS, "sleeper/a/train.py", "two/train.py", "broken/train.py"]
    assert by_who["broken/train.py"]["failed"] == "ZeroDivisionError: division by zero"
    sleeper, two = by_who["sleeper/a/train.py"], by_who["two/train.py"]
    assert 0 < sleeper["updates_per_s"] <= 200 and 0 < two["updates_per_s"] <= 400
    assert len(sleeper["commit"]) == 40
    for line in (sleeper, two):
        assert line["times"] > 0 and line["times_two_seeds"] > 0
    for line in lines[:4]:
        assert 0 < line["fraction_of_matmul_rate"] < 1


def test_the_table(checkouts, capsys, monkeypatch):
    monkeypatch.setattr(peers, "compare", lambda name, folder: LINES)
    assert run(f"--peers={checkouts}") == command.DONE
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == peers.HEAD
    assert [row.split() for row in rows] == [
        ["toy", "enoto_jax", "120.0", "25%"],
        ["toy", "a/train.py", "40.0", "8%", "3.00", "4.50"],
        ["toy", "broken/train.py", "failed:", "division", "by", "zero"],
    ]


def test_processor_seconds_are_those_in_which_it_works(checkouts):
    """The script mostly sleeps, so by processor time it is faster than by the clock."""
    arguments = [sys.executable, script.__file__, str(checkouts / "two" / "train.py"), "20"]
    worker = peers.Worker(arguments, 20, "cpu")
    try:
        assert 200 < worker.rate() <= 20 / peers.TICK
    finally:
        worker.stop()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--case=nope"], "--case: 'nope'; choose of: toy"),
        (
            ["--peers=nowhere"],
            "nowhere contains no script to compare with, such as sleeper/a/train.py",
        ),
        (["--python=nowhere/python"], "--python: "),
    ],
)
def test_what_is_wrong_is_said_in_a_line(flags, message, checkouts, capsys):
    assert run(f"--peers={checkouts}", *flags) == command.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_our_side_of_every_case_can_be_built():
    for case in CASES.values():
        assert case.row().offline.batch_size == 256
        assert case.updates % peers.rates.BLOCK == 0
