"""Fixtures for tests of `enoto train`: calls inside this process, and data files."""

import json
import signal

import h5py
import numpy as np
import pytest

from enoto_jax.cli import command, compiled, train
from enoto_jax.cli.command import define_only
from enoto_jax.recipes import units
from enoto_jax.recipes.table import RECIPES
from enoto_jax.training import offline, online, run
from tests.cli.called import MODULE, Called
from tests.helpers import reach_data


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """call(*arguments) runs the command in an empty folder and fails if training begins."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def begins(*arguments):
        raise AssertionError("training began")

    monkeypatch.setattr(offline, "compile_blocks", begins)
    monkeypatch.setattr(online, "compile_step", begins)
    monkeypatch.setattr(compiled, "keep", lambda given: None)  # this process has its own cache

    def call(*arguments) -> Called:
        arguments = [MODULE, *map(str, arguments)]
        define_only(train)
        monkeypatch.setattr("sys.argv", arguments)
        capsys.readouterr()
        code = command.execute(train.main, arguments)
        return Called(code, *capsys.readouterr())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def plan(monkeypatch, call):
    """plan(*arguments) -> the arguments that `run.train` would get."""
    given = {}

    def capture(recipe, source, folder, **settings):
        given.update(settings, recipe=recipe, task=source.name, folder=folder)
        return {}

    monkeypatch.setattr(run, "train", capture)

    def plan(*arguments) -> dict:
        given.clear()
        assert call(*arguments).code == 0
        return dict(given)

    return plan


def write(path, **attributes):
    """Write Reach's data to a file; an attribute named like an array replaces that array."""
    with h5py.File(path, "w") as file:
        for key, array in reach_data(episodes=2).items():
            file[key] = attributes.pop(key, array)
        file.attrs.update({"env_id": "Reach-v0", **attributes})
    return path


@pytest.fixture
def files(tmp_path_factory):
    """Invalid data sets and a valid one, invalid configurations, and folders that are not runs."""
    folder, arrays = tmp_path_factory.mktemp("files"), reach_data(episodes=2)
    write(folder / "good.hdf5")
    whole = (folder / "good.hdf5").read_bytes()
    (folder / "cut.hdf5").write_bytes(whole[: len(whole) // 2])
    broken = arrays["rewards"].copy()
    broken[5] = np.nan
    write(folder / "nan.hdf5", rewards=broken)
    write(folder / "wide.hdf5", actions=3.0 * np.ones_like(arrays["actions"]))
    write(folder / "nameless.hdf5", env_id="")
    write(folder / "hopper.hdf5", env_id="Hopper-v4")
    (folder / "folder").mkdir()
    (folder / "file").write_text("")
    sac = units.to_json(RECIPES["sac"])
    whole = {"method": "sac", "recipe": sac, "seeds": [0], "eval_episodes": 1, "env": "Hopper-v4"}
    configs = {
        "empty": {},
        "list": [],
        "part": {name: x for name, x in whole.items() if name != "method"},
        "foreign": {**whole, "recipe": {**sac, "offline": 3}},
        "no_unit": {**whole, "recipe": {**sac, "handover": {"unit": "cary"}}},
        "no_argument": {**whole, "recipe": {**sac, "handover": {"unit": "carry", "all": True}}},
    }
    for name, content in configs.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "cut.json").write_text('{"method": ')
    return folder
