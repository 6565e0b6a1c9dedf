"""Runs in a user's own environment: trained, scored, recorded and exported."""

import json

import numpy as np
import pytest

from enoto_jax.data.loading import from_env
from enoto_jax.deploy import export
from enoto_jax.envs.gym import make_env
from enoto_jax.runs import files
from enoto_jax.training import evaluate, run
from enoto_jax.types import InputError
from tests.envs import odd
from tests.helpers import REACH, quick_compiling, tiny


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with quick_compiling(tmp_path_factory.mktemp("compiled")):
        yield


def trained(folder, env, steps: int = 8):
    row = tiny("sac", online__steps=steps, online__eval_every=4)
    return run.train(row, from_env("reach", REACH), folder, env=env, eval_episodes=2)


def wide():
    return odd.Telling(bound=3.0)


def test_by_a_function_without_a_name(tmp_path, capsys, monkeypatch):
    """It has no time limit, actions in [-3, 3], and reports success."""
    monkeypatch.setattr(evaluate, "MAX_STEPS", 25)
    trained(tmp_path, lambda: wide())
    told = capsys.readouterr().err
    assert told.count("has no time limit: an evaluation cuts an episode after 25 steps") == 1
    assert told.count("cut 2 of 2 episodes") == 1
    rows = files.read_csv(tmp_path / "evaluations.csv")
    assert len(rows) == 3 and all(row["success"] in ("0.0", "0.5", "1.0") for row in rows)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["env"].endswith("<lambda> (not rebuildable)")
    assert config["action_bounds"] == [[-3.0], [3.0]]
    trained(tmp_path, lambda: wide(), steps=12)  # continues the run
    assert len(files.read_csv(tmp_path / "evaluations.csv")) == 4
    about = export.export(tmp_path, tmp_path / "policy.zip")
    assert about["action_high"] == [3.0]
    with pytest.raises(InputError, match="cannot be imported by name, so it cannot be made again"):
        make_env(config["env"])


def test_by_a_function_of_a_module_and_resumed_from_an_older_file(tmp_path):
    trained(tmp_path, odd.make_telling)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["env"] == "tests.envs.odd:make_telling"
    assert make_env(config["env"]).unwrapped.action_space.shape == (1,)
    rows = files.read_csv(tmp_path / "evaluations.csv")
    columns = [column for column in files.EVALUATION_COLUMNS if column != "success"]
    (tmp_path / "evaluations.csv").unlink()
    files.CsvLog(tmp_path / "evaluations.csv", columns).append(
        {name: row[name] for name in columns} for row in rows
    )
    trained(tmp_path, config["env"], steps=12)
    again = files.read_csv(tmp_path / "evaluations.csv")
    # The evaluation at the checkpoint that it resumes from is written again.
    assert [row["success"] != "" for row in again] == [False, False, True, True]
    for one, two in zip(rows, again):
        assert one["return_mean"] == two["return_mean"]


def test_the_environment_is_tried_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="tried before the run, step 1: its reward is None"):
        trained(tmp_path / "new", lambda: odd.Returning({1: None}, at=1))
    with pytest.raises(InputError, match="ZeroDivisionError: no robot is connected"):
        trained(tmp_path / "new", odd.Fails)
    assert not (tmp_path / "new").exists()


def test_ctrl_c_closes_the_evaluator(tmp_path, monkeypatch):
    closed, close = [], evaluate.Evaluator.close

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_phases", interrupted)
    monkeypatch.setattr(
        evaluate.Evaluator, "close", lambda self: closed.append(self) or close(self)
    )
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, "Reach-v0")
    assert closed and np.all([not x._envs._own.envs for x in closed])
