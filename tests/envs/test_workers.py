"""Environments in several processes: the same numbers as in one, and no leftover process."""

import multiprocessing
import os
import signal
import time

import gymnasium
import numpy as np
import pytest

from enoto_jax.envs.workers import Crew, Part
from enoto_jax.training import evaluate
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import transform
from enoto_jax.types import InputError, RunError
from tests.helpers import REACH, Reach, python

STARTS = np.arange(5)


class Breaks(Reach):
    """Reach that raises or exits at step 3; registered only in this module."""

    def __init__(self, how: str):
        super().__init__()
        self._how = how

    def step(self, action):
        if self._steps == 2 and self._position > 0:
            if self._how == "exits":
                os._exit(3)
            raise FloatingPointError("the simulation has exploded")
        return super().step(action)


for _how in ("raises", "exits"):
    if f"CrewBreaks-{_how}-v0" not in gymnasium.registry:
        gymnasium.register(f"CrewBreaks-{_how}-v0", Breaks, kwargs={"how": _how})


@pytest.fixture
def made():
    """made(kind, *arguments) -> an object that is closed after the test."""
    crews = []

    def make(kind, *arguments):
        crews.append(kind(*arguments))
        return crews[-1]

    yield make
    for crew in crews:
        crew.close()


def names(count: int) -> list[str]:
    return [f"number {i}" for i in range(count)]


@pytest.mark.parametrize("processes, used", [(1, 1), (2, 2), (9, 5)])
def test_any_number_of_processes_shows_the_same(processes, used, made):
    """Episodes have several lengths, so some end while others continue."""
    one, crew = (
        made(Part, "ReachGoal-v0", names(5)),
        made(Crew, "ReachGoal-v0", names(5), processes),
    )
    assert len(crew._others) == used - 1
    for seeds in (STARTS, STARTS + 5):
        alive, counts = np.ones(5, bool), []
        seen = one.reset(seeds), crew.reset(seeds)
        while alive.any():
            for x, y in zip(*seen, strict=True):
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x, y)
            counts.append(alive.sum())
            action = np.sign(seen[0].observation[:, 1:])
            seen = one.step(action, alive), crew.step(action, alive)
            alive = ~seen[0].ended
        assert counts[0] == 5 and len(set(counts)) > 1


def test_what_has_ended_stays_as_it_was(made):
    crew = made(Crew, "Reach-v0", names(5), 2)
    first = crew.reset(STARTS)
    assert not first.ended.any() and not first.reward.any()
    alive = np.asarray([True, False, True, True, False])
    now = crew.step(np.ones((5, 1)), alive)
    np.testing.assert_array_equal(now.observation[~alive], first.observation[~alive])
    assert (now.observation[alive] != first.observation[alive]).any(axis=1).all()
    assert now.ended.tolist() == (~alive).tolist() and not now.reward[~alive].any()


@pytest.mark.parametrize(
    "how, words",
    [
        ("raises", r"number \d, step 3: FloatingPointError: the simulation has exploded"),
        ("exits", r"number 1: its worker process has ended with exit code 3"),
    ],
)
def test_what_fails_in_another_process_is_told_in_a_line(how, words, made):
    """An environment breaks if its point starts on the right: the second, in the other process."""
    crew = made(Crew, f"CrewBreaks-{how}-v0", names(2), 2)
    seeds = [next(s for s in range(99) if (Reach().reset(seed=s)[0][0] > 0) == x) for x in (0, 1)]
    crew.reset(np.asarray(seeds))
    still, alive = np.zeros((2, 1)), np.ones(2, bool)
    for _ in range(2):
        crew.step(still, alive)
    with pytest.raises(RunError, match=words):
        crew.step(still, alive)


def test_a_killed_process_is_told_before_the_next_evaluation(made):
    crew = made(Crew, "Reach-v0", names(2), 2)
    crew.reset(STARTS[:2])
    crew._others[0]._process.kill()
    crew._others[0]._process.join()
    with pytest.raises(RunError, match="number 1: its worker process has ended.* -9"):
        crew.reset(STARTS[:2])


def only_here() -> Reach:
    if os.environ["MAKES_IT"] != str(os.getpid()):
        raise ImportError("not in this process")
    return Reach()


def test_an_environment_that_another_process_cannot_make_is_refused_at_once(monkeypatch):
    monkeypatch.setenv("MAKES_IT", str(os.getpid()))
    if "OnlyHere-v0" not in gymnasium.registry:
        gymnasium.register("OnlyHere-v0", only_here)
    with pytest.raises(InputError, match="cannot make 'OnlyHere-v0': not in this process"):
        Crew("OnlyHere-v0", names(2), 2)
    assert not multiprocessing.active_children()


def test_an_environment_that_cannot_be_sent_is_refused():
    if "Nameless-v0" not in gymnasium.registry:
        gymnasium.register("Nameless-v0", lambda: Reach())
    with pytest.raises(InputError, match="--eval_processes: Nameless-v0 cannot be made in another"):
        Crew("Nameless-v0", names(2), 2)


def test_an_evaluation_scores_the_same():
    seeds, same = SeedMap([3, 5]), transform()(REACH, None)

    def mode(state, observation):
        return np.sign(observation[..., 1:]) * state

    scores = []
    for processes in (1, 3):
        evaluator = Evaluator("ReachGoal-v0", 4, seeds, same, processes)
        scores += [[evaluator(mode, 0.7, number).returns for number in (0, 1)]]
        evaluator.close()
    np.testing.assert_array_equal(*scores)
    assert np.shape(scores[0]) == (2, 2, 4) and len(np.unique(scores[0])) == 16


def test_how_to_shorten_a_long_evaluation_is_said_once(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "cores", lambda: 3)
    monkeypatch.setattr(evaluate, "SLOW_S", 0.0)
    same = transform()(REACH, None)
    for seeds, processes, told in (
        (1, 1, ["--eval_processes=2"]),
        (3, 1, ["--eval_processes=3"]),
        (3, 3, []),
    ):
        evaluator = Evaluator("Reach-v0", 2, SeedMap(range(seeds)), same, processes)
        for number in (0, 1):
            evaluator(lambda state, seen: seen[..., 1:], None, number)
        evaluator.close()
        lines = capsys.readouterr().err.splitlines()
        assert [line.split("; ")[1].split()[0] for line in lines] == told


LIVES = """
import numpy as np, time
from enoto_jax.envs.workers import Crew
if __name__ == "__main__":
    crew = Crew("InvertedPendulum-v5", ["a", "b"], 2)
    crew.reset(np.arange(2))
    print(crew._others[0]._process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_run(how, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(LIVES)
    run = python(str(script))
    other = int(run.stdout.readline())
    os.kill(other, 0)
    run.send_signal(how)
    run.communicate()
    for _ in range(100):
        try:
            os.kill(other, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError(f"process {other} is still there")
