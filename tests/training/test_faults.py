"""Failures of an environment, disk or process: one line, an exit code, nothing lost."""

import re
import signal

import gymnasium
import numpy as np
import pytest

from enoto_jax.cli import command
from enoto_jax.data.loading import from_env
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.runs import saving
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.lock import locked
from enoto_jax.training import run
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import transform
from enoto_jax.types import InputError, RunError
from tests.helpers import REACH, Reach, python, quick_compiling, tiny

SAME = transform()(REACH, None)


class Breaks(Reach):
    """Reach that fails at the third step of an episode."""

    def __init__(self, how: str):
        super().__init__()
        self._how = how

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if self._steps == 3:
            if self._how == "raises":
                raise FloatingPointError("the simulation\nhas exploded")
            observation = observation * (np.nan if self._how == "observation" else 1.0)
            reward = -np.inf if self._how == "reward" else reward
        return observation, reward, *rest


WORDS = {
    "raises": "FloatingPointError: the simulation has exploded",
    "observation": "its observation is NaN or infinite",
    "reward": "its reward is NaN or infinite",
}
for _how in WORDS:
    if f"Breaks-{_how}-v0" not in gymnasium.registry:
        gymnasium.register(f"Breaks-{_how}-v0", Breaks, max_episode_steps=9, kwargs={"how": _how})


@pytest.mark.parametrize("how", WORDS)
def test_a_failing_environment_is_named_with_seed_and_step(how):
    envs = SeedEnvs(f"Breaks-{how}-v0", [7, 8], SAME)
    envs.begin(100)
    for _ in range(2):
        envs.step(np.zeros((2, 1), np.float32))
    with pytest.raises(RunError) as error:
        envs.step(np.zeros((2, 1), np.float32))
    assert str(error.value) == f"Breaks-{how}-v0 of seed 7, step 103: {WORDS[how]}"
    envs.close()


@pytest.mark.parametrize("how", WORDS)
def test_a_failing_evaluation_is_named_too(how):
    evaluator = Evaluator(f"Breaks-{how}-v0", 2, SeedMap([7]), SAME)
    with pytest.raises(RunError) as error:
        evaluator(lambda state, seen: np.zeros((1, 2, 1)), None, 0)
    name = f"Breaks-{how}-v0 of seed 7, evaluation episode 0, step 3"
    assert str(error.value) == f"{name}: {WORDS[how]}"
    evaluator.close()


@pytest.mark.parametrize("error, code", [(RunError, 1), (InputError, 2)])
def test_one_line_and_an_exit_code(error, code, capsys):
    def fails():
        raise error("Hopper-v4 of seed 1,\nstep 3: it is NaN or infinite")

    assert command.execute(fails, ["crash"]) == code
    told = capsys.readouterr().err
    assert told == "error: Hopper-v4 of seed 1, step 3: it is NaN or infinite\n"


HOLD = """
import sys, time, pathlib
from enoto_jax.runs.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_process_a_folder_and_no_lock_outlives_a_kill(tmp_path):
    other = python("-c", HOLD, tmp_path)
    assert other.stdout.readline() == "held\n"
    before = sorted(tmp_path.rglob("*"))
    source = from_env("Reach-v0", REACH)
    with pytest.raises(InputError, match=f"process {other.pid} is using {tmp_path}"):
        run.train(tiny("sac"), source, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    other.send_signal(signal.SIGKILL)
    other.communicate()
    with locked(tmp_path), pytest.raises(InputError, match="is using"), locked(tmp_path):
        pass


def test_numbers_that_break_online_stop_the_run_and_leave_the_last_good_state(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(saving, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(saving, "SAVE_SHARE", np.inf)
    row = tiny("sac", online__algorithm__critic_rate=1e30)
    source = from_env("Reach-v0", REACH)
    with quick_compiling(), pytest.raises(RunError) as error:
        run.train(row, source, tmp_path, eval_episodes=1)
    words = r"online step (\d+): .*(critic|actor).* is NaN or infinite"
    step = int(re.match(words, str(error.value))[1])
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    saved = checkpoints.record()
    checkpoints.close()
    assert 0 < saved["step"] < step
    assert saved["position"] is not None


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"--out: cannot write to {tmp_path}/file/run: Not a dir"):
        run.train(tiny("sac"), from_env("Reach-v0", REACH), tmp_path / "file" / "run")
