"""`enoto check-data` as a user sees it: exit codes, the report, the picture."""

import h5py
import numpy as np
import pytest

from enoto_jax.cli import check_data, command
from enoto_jax.cli.command import define_only
from tests.cli.called import Called
from tests.helpers import reach_data


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """call(*arguments) runs the command in a folder with good.hdf5 and bad.hdf5."""
    monkeypatch.chdir(tmp_path)
    arrays = reach_data(episodes=3)
    for name, actions in (("good", arrays["actions"]), ("bad", arrays["actions"] * 9)):
        with h5py.File(tmp_path / f"{name}.hdf5", "w") as file:
            file.attrs["env_id"] = "Reach-v0"
            for key, array in (arrays | {"actions": actions}).items():
                file[key] = array

    np.savez(tmp_path / "plain.npz", **arrays)

    def call(*arguments) -> Called:
        define_only(check_data)
        capsys.readouterr()
        arguments = ["enoto_jax.cli.check_data", *map(str, arguments)]
        code = command.execute(check_data.main, arguments, positional="task")
        return Called(code, *capsys.readouterr())

    return call


@pytest.mark.parametrize("form", ["good.hdf5", "--task=good.hdf5"])
def test_usable(call, tmp_path, form):
    called = call(form)
    assert (called.code, called.err) == (0, "")
    assert called.out.startswith("good\n") and "transitions: 60" in called.out
    assert "ERROR" not in called.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.hdf5", "good.hdf5", "plain.npz"]


def test_the_verdict_comes_last(call):
    assert call("good.hdf5").out.splitlines()[-1] == "  usable"
    called = call("good.hdf5", "--env=InvertedPendulum-v5")
    assert called.out.splitlines()[-1] == "  not usable, 1 error"
    assert called.out.count("observation size 4") == 1 and "observation" not in called.err
    lines = call("good.hdf5+bad.hdf5", "--out=pictures").out.splitlines()
    verdicts = [line for line in lines if line.startswith(("  usable", "  not usable, 1 error"))]
    assert len(verdicts) == 2 and lines[-1] == verdicts[1]


def test_actions_in_units_of_their_own(call):
    bounds = ("--action_low=-9", "--action_high=9")
    called = call("bad.hdf5", *bounds)
    assert called.code == 0 and "  actions: scaled from [-9, 9] to [-1, 1]" in called.out
    called = call("good.hdf5", "--env=ReachWide-v0", "--action_low=env", "--action_high=env")
    assert called.code == 0 and "scaled from [-3, 3]" in called.out and "parity" not in called.out
    called = call("bad.hdf5", "--action_low=-9")
    assert called.code == 2 and "must both be given" in called.out


def test_an_environment_completes_the_time_limit(call):
    called = call("good.hdf5", "--env=ReachShort-v0")
    assert "limit 20" in called.out  # the file's own environment comes first
    called = call("plain.npz", "--env=ReachShort-v0")
    assert called.code == 0 and "environment ReachShort-v0, 2 numbers observed" in called.out
    assert "limit 5\n" in called.out and "the longest episode has 20 steps" in called.out


def test_not_usable(call):
    called = call("bad.hdf5")
    assert called.code == 2 and "  ERROR: actions range from" in called.out
    assert called.err == ("error: not usable (number of errors): bad (1); see the errors above\n")


def test_default_is_the_data_set_of_the_package(call):
    called = call("--env=none")
    assert called.code == 0 and called.out.startswith("pendulum-replay\n")


def test_several_at_once(call):
    called = call("good.hdf5+bad.hdf5")
    assert called.code == 2
    assert called.out.startswith("good\n") and "\nbad\n" in called.out
    assert call("good.hdf5+good.hdf5").code == 0


def test_several_that_do_not_fit_together(call, tmp_path):
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        for key, array in reach_data(episodes=3).items():
            file[key] = np.hstack([array, array]) if array.ndim == 2 else array
    called = call("good.hdf5+other.hdf5")
    assert called.code == 2 and "its spec is" in called.err


@pytest.mark.parametrize("out, name", [("pictures", "pictures/good.png"), ("p.svg", "p.svg")])
def test_picture(call, tmp_path, out, name):
    called = call("good.hdf5", f"--out={out}")
    assert called.code == 0 and f"picture: {name}" in called.out
    assert (tmp_path / name).stat().st_size > 10_000


def test_picture_of_data_that_cannot_be_used(call, tmp_path):
    assert call("bad.hdf5", "--out=.").code == 2
    assert (tmp_path / "bad.png").exists()


BAD = {
    "two arguments": (["good.hdf5", "bad.hdf5"], "'bad.hdf5' is not a flag"),
    "both": (["good.hdf5", "--task=good.hdf5"], "'good.hdf5' is not a flag"),
    "unknown id": (["hoper-medium-v2"], "did you mean hopper-medium-v2"),
    "empty": (["--task="], "does not name a data set"),
    "a folder": (["."], "is a folder; give one of its files (bad.hdf5, good.hdf5, plain.npz)"),
    "an environment": (["CartPole-v1"], "is an environment; give it as --env"),
    "no Minari id": (["minari:../x"], "is not a Minari id"),
    "no picture": (["good.hdf5", "--out=p.xyz"], "p.xyz: cannot be written"),
    "one picture for two": (["good.hdf5+good.hdf5", "--out=p.png"], "give a folder"),
    "absent file": (["absent.hdf5"], "not usable (number of errors): absent (1)"),
    "unknown environment": (["good.hdf5", "--env=NoSuch-v0"], "not usable"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input(call, what):
    arguments, words = BAD[what]
    called = call(*arguments)
    assert called.code == 2
    assert words in called.err and called.err.startswith("error: ")
    assert called.err.count("\n") == 1


def test_parity_needs_recorded_states(call):
    called = call("good.hdf5", "--env=Reach-v0")
    assert called.code == 0 and "parity: none: good.hdf5: no infos/qpos" in called.out


def test_parity_with_the_environment_that_made_the_data(call, tmp_path):
    import gymnasium

    env = gymnasium.make("Hopper-v5")
    arrays = {key: [] for key in ("observations", "actions", "rewards", "infos/qpos", "infos/qvel")}
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    for _ in range(12):
        data = env.unwrapped.data
        state = data.qpos.copy(), data.qvel.copy()
        action = env.action_space.sample()
        following, reward, *_ = env.step(action)
        for key, value in zip(arrays, (observation, action, reward, *state)):
            arrays[key].append(value)
        observation = following
    env.close()
    with h5py.File(tmp_path / "states.hdf5", "w") as file:
        for key, values in arrays.items():
            file[key] = np.array(values)
        file["terminals"] = file["timeouts"] = np.zeros(12, bool)
    called = call("states.hdf5", "--env=Hopper-v5")
    assert called.code == 0, called
    line = next(x for x in called.out.splitlines() if "parity: root position: error " in x)
    assert float(line.split("error ")[1].split()[0]) < 1e-6
