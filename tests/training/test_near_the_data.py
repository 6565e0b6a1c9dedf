"""Complete runs of ReBRAC and FQL: next actions offline, evaluations with noise, resuming."""

import pytest

from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.result import Again
from enoto_jax.types import RunError
from tests.helpers import tiny
from tests.small_runs import SEEDS, table, train


def scores(folder):
    return [
        (row["phase"], row["step"], row["return_mean"]) for row in table(folder / "evaluations.csv")
    ]


@pytest.fixture(scope="module")
def fql_run(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "fql"
    train(source, folder, row=tiny("fql", algorithm__flow_steps=2))
    return folder


def test_rebrac_learns_near_the_next_action_offline_alone(source, tmp_path):
    train(source, tmp_path, row=tiny("rebrac"))
    seen = {}
    for line in table(tmp_path / "metrics.csv"):
        seen.setdefault(line["name"], []).append(float(line["value"]))
    assert min(seen["offline/critic/bc"]) > 0.0
    assert "online/critic/bc" not in seen
    # The actor's weight decays over the table's steps, so a run's few steps hardly change it.
    assert max(seen["online/actor/cloning"]) <= 0.01


def test_an_evaluation_of_fql_is_the_same_when_it_is_made_again(source, fql_run):
    """Its noise depends on the seed, the evaluation's number and the step."""
    last = [row for row in table(fql_run / "evaluations.csv") if row["step"] == "12"]
    found = Again(fql_run, "latest").evaluate(2)
    assert [row["seed"] for row in found] == list(SEEDS)
    told = [float(row["return_mean"]) for row in last]
    assert [row["return_mean"] for row in found] == pytest.approx(told, rel=1e-6)


def test_a_run_of_fql_that_was_stopped_goes_on_to_the_same_scores(
    source, fql_run, tmp_path, monkeypatch
):
    row = tiny("fql", algorithm__flow_steps=2)
    plain, calls = Evaluator.__call__, []

    def fails_at_the_fourth(*arguments, **how):
        calls.append(1)
        if len(calls) == 4:
            raise RunError("the environment failed")
        return plain(*arguments, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "__call__", fails_at_the_fourth)
        with pytest.raises(RunError, match="the environment failed"):
            train(source, tmp_path, row=row)
    train(source, tmp_path, row=row)
    assert scores(tmp_path) == scores(fql_run)
