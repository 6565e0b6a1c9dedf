"""What an evaluation reports besides returns: success and truncated episodes."""

import multiprocessing
import time
from functools import partial

import numpy as np
import pytest

from enoto_jax.envs import workers
from enoto_jax.training import evaluate
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import transform
from enoto_jax.types import InputError, RunError
from tests.envs import odd
from tests.helpers import REACH, Reach

SAME = transform()(REACH, None)
TELLING = 'tests.envs.odd:make_telling?{"word": "%s", "always": %s}'


def evaluated(env, speed: float = 1.0, episodes: int = 3, **how):
    """Two evaluations of a policy that walks to the goal at a fraction of full speed."""
    evaluator = Evaluator(env, episodes, SeedMap([3, 5]), SAME, **how)
    mode = lambda state, seen: np.clip(5.0 * seen[..., 1:], -1, 1) * speed  # noqa: E731
    found = [evaluator(mode, None, number) for number in (0, 1)]
    evaluator.close()
    return found


@pytest.mark.parametrize("word", ["success", "is_success", "successes", "goal_achieved"])
@pytest.mark.parametrize("processes", [1, 3])
def test_success_is_that_of_any_step(word, processes):
    for found in evaluated(TELLING % (word, "true"), processes=processes):
        assert found.success.shape == found.returns.shape == (2, 3)
        assert found.success.dtype == bool and found.success.all() and found.cut == 0


def test_success_is_none_where_nothing_tells_and_false_where_all_fail():
    assert evaluated("Reach-v0")[0].success is None
    failed = evaluated(TELLING % ("success", "true"), speed=-1.0)[0]
    assert failed.success.shape == (2, 3)
    assert not failed.success[failed.returns < -0.1 * 20].any()


def test_an_episode_succeeds_though_it_ends_away_from_the_goal():
    """The policy passes the goal and runs on to the wall."""
    evaluator = Evaluator(TELLING % ("success", "true"), 8, SeedMap([3]), SAME)
    found = evaluator(lambda state, seen: np.ones((1, 8, 1)), None, 0)
    evaluator.close()
    right = [Reach().reset(seed=int(x))[0][1] > 0.1 for x in evaluator._starts(0, 8)[0]]
    assert any(right) and found.success[0, right].all() and not found.success.all()


def test_who_tells_only_success_has_failed_elsewhere():
    env = TELLING % ("success", "false")
    evaluator = Evaluator(env, 8, SeedMap([3]), SAME)
    still = evaluator(lambda state, seen: np.zeros((1, 8, 1)), None, 0)
    some = evaluator(lambda state, seen: np.ones((1, 8, 1)), None, 0)
    evaluator.close()
    assert still.success is None or not still.success.all()
    assert 0 < some.success.mean() < 1


def test_without_a_time_limit_it_is_said_at_once_bounded_and_counted_once(monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "MAX_STEPS", 30)
    evaluator = Evaluator(Reach, 2, SeedMap([0, 1]), SAME)
    told = capsys.readouterr().err
    assert told == (
        "tests.helpers:Reach has no time limit: an evaluation cuts an episode after 30 steps; "
        "--eval_max_steps changes that\n"
    )
    seen = []
    for number in (0, 1):
        found = evaluator(lambda s, x: seen.append(x) or np.zeros((2, 2, 1)), None, number)
        assert found.cut == 4 and found.returns.shape == (2, 2)
    evaluator.close()
    assert len(seen) == 60
    words = "an evaluation in tests.helpers:Reach cut 4 of 4 episodes after 30 steps"
    assert capsys.readouterr().err.count(words) == 1


def test_more_episodes_than_environments_are_taken_in_rounds():
    """The first episodes are the same as in one round; the last round may be partial."""
    env = TELLING % ("success", "true")
    evaluator = Evaluator(env, 3, SeedMap([3, 5]), SAME)
    mode = lambda state, seen: np.clip(5.0 * seen[..., 1:], -1, 1)  # noqa: E731
    usual, many = evaluator(mode, None, 0), evaluator(mode, None, 0, episodes=7)
    few = evaluator(mode, None, 0, episodes=2)
    evaluator.close()
    whole = evaluated(env, episodes=7)[0]
    assert many.returns.shape == many.success.shape == (2, 7) and many.cut == 0
    np.testing.assert_array_equal(many.returns, whole.returns)
    np.testing.assert_array_equal(many.returns[:, :3], usual.returns)
    np.testing.assert_array_equal(many.returns[:, :2], few.returns)
    assert len(np.unique(many.returns)) == 14


def test_a_stop_between_rounds_leaves_no_evaluation():
    evaluator, asked = Evaluator("Reach-v0", 2, SeedMap([3]), SAME), []
    mode = lambda state, seen: np.zeros((1, 2, 1))  # noqa: E731
    stop = lambda: asked.append(1) or len(asked) > 30  # noqa: E731
    assert evaluator(mode, None, 0, stop, episodes=6) is None
    evaluator.close()


def test_only_what_goes_on_is_cut(capsys):
    """ReachGoal's episodes end at the goal, only some of them within 3 steps."""
    one = evaluated("ReachGoal-v0", episodes=6, max_steps=3)[0]
    whole = evaluated("ReachGoal-v0", episodes=6)[0]
    assert 0 < one.cut < 12 and whole.cut == 0
    assert (one.returns == whole.returns).sum() == 12 - one.cut
    assert "time limit" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["episodes", "processes", "max_steps"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3"])
def test_numbers_below_one_are_refused(name, value):
    with pytest.raises(InputError, match=f"--eval_{name}: {value!r}"):
        Evaluator(
            "Reach-v0", **{"episodes": 1, "seeds": SeedMap([0]), "transform": SAME, name: value}
        )


def test_a_function_works_in_one_process_and_is_refused_in_several():
    same = evaluated(lambda: odd.make_telling())[0]
    np.testing.assert_array_equal(same.returns, evaluated("Reach-v0")[0].returns)
    with pytest.raises(InputError, match="<lambda> cannot be made in another process"):
        Evaluator(lambda: odd.make_telling(), 2, SeedMap([0]), SAME, 2)
    assert not multiprocessing.active_children()
    several = evaluated(partial(odd.make_telling, word="success"), processes=2)[0]
    np.testing.assert_array_equal(same.returns, several.returns)


@pytest.mark.parametrize("when", ["starting", "stepping"])
def test_ctrl_c_leaves_no_process_behind(when, monkeypatch):
    """In a notebook, the parent process survives Ctrl-C."""

    def interrupted(*_):
        raise KeyboardInterrupt

    if when == "starting":
        monkeypatch.setattr(workers._Elsewhere, "answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Evaluator("Reach-v0", 2, SeedMap([0]), SAME, 2)
    else:
        evaluator = Evaluator("Reach-v0", 2, SeedMap([0]), SAME, 2)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(workers.Part, "step", interrupted)
            evaluator(lambda state, seen: np.zeros((1, 2, 1)), None, 0)
        with pytest.raises(RunError, match="its worker process has ended"):
            evaluator(lambda state, seen: np.zeros((1, 2, 1)), None, 0)
        evaluator.close()
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not multiprocessing.active_children()
