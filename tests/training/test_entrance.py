"""`enoto_jax.train`: its arguments, as names or objects, and the run that it returns."""

import json
from functools import partial

import gymnasium
import numpy as np
import pytest

import enoto_jax
from enoto_jax.recipes import budgets
from enoto_jax.runs.files import read_csv
from enoto_jax.training import run
from enoto_jax.types import InputError
from tests.envs import odd
from tests.helpers import quick_compiling, reach_data, reach_source, tiny

WIDE = partial(odd.make_telling, word="success")
REFERENCE = (-15.0, -3.0)


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with quick_compiling(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two seeds whose environment has actions in [-1, 1] and reports success."""
    return enoto_jax.train(
        tiny("enoto_cql"),
        reach_source(reference=REFERENCE),
        tmp_path_factory.mktemp("runs") / "run",
        env=WIDE,
        seeds=[3, 5],
        eval_episodes=2,
        final_episodes=5,
        announce="",
    )


@pytest.fixture
def given(monkeypatch, tmp_path):
    """given(*arguments, **options) -> what `run.train` would be given, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    found = {}

    def capture(recipe, source, out, **options):
        found.update(options, recipe=recipe, source=source, out=out)

    monkeypatch.setattr(run, "train", capture)
    monkeypatch.setattr("enoto_jax.training.entrance.Run", lambda *arguments: None)

    def given(*arguments, **options):
        found.clear()
        enoto_jax.train(*arguments, **options)
        return dict(found)

    return given


def own_rows(folder, phase, step):
    found = read_csv(folder / "evaluations.csv")
    return [row for row in found if (row["phase"], row["step"]) == (phase, str(step))]


def test_evaluations_at_the_hand_over_and_at_the_end_have_more_episodes(trained):
    counts = {
        (row["phase"], int(row["step"])): int(row["episodes"])
        for row in read_csv(trained.folder / "evaluations.csv")
    }
    many = [at for at, count in counts.items() if count == 5]
    assert many == [("offline", 20), ("online", 0), ("online", 12)]
    assert {count for at, count in counts.items() if at not in many} == {2}
    before, after = (own_rows(trained.folder, *at) for at in (("offline", 20), ("online", 0)))
    for one, two in zip(before, after, strict=True):  # same start states, same policy
        assert one["return_mean"] == two["return_mean"]


def test_the_summary_is_the_files(trained):
    assert trained.summary == json.loads((trained.folder / "summary.json").read_text())
    assert set(trained.summary["success"]["final"]["per_seed"]) == {"3", "5"}
    assert enoto_jax.load_run(str(trained.folder)).summary == trained.summary
    assert str(trained) == f"Run({str(trained.folder)!r})"


@pytest.mark.parametrize("which, at", [("latest", ("online", 12)), ("handover", ("offline", 20))])
def test_an_evaluation_again_gives_the_same_numbers(trained, which, at):
    own = own_rows(trained.folder, *at)
    again = trained.evaluate(which=which)
    for one, two in zip(own, again, strict=True):
        assert {k: str(v) for k, v in two.items()} == {k: one[k] for k in two}
    more = trained.evaluate(episodes=100, which=which)
    assert [row["episodes"] for row in more] == [100, 100]
    few = trained.evaluate(episodes=1, which=which)
    assert few[0]["return_std"] == 0.0 != more[0]["return_std"]


def test_the_handover_of_a_run_from_scratch_is_its_untrained_policy(tmp_path):
    own = enoto_jax.train(
        tiny("sac"), env="ReachWide-v0", out=tmp_path, seeds=[3, 5], eval_episodes=2, announce=""
    )
    rows = own_rows(tmp_path, "online", 0)
    for one, two in zip(rows, own.evaluate(which="handover"), strict=True):
        assert (two["phase"], two["step"], str(two["seed"])) == ("online", 0, one["seed"])
        np.testing.assert_allclose(two["return_mean"], float(one["return_mean"]), rtol=1e-4)


def test_the_first_of_100_episodes_are_the_runs_own(trained):
    from enoto_jax.training.result import Again

    again = Again(trained.folder)
    seen = []
    plain = again._rows
    again._rows = lambda found: seen.append(found.returns) or plain(found)
    rows = (again.evaluate(), again.evaluate(100))
    np.testing.assert_array_equal(seen[1][:, :5], seen[0])
    for row, own in zip(rows[0], own_rows(trained.folder, "online", 12), strict=True):
        assert str(row["return_mean"]) == own["return_mean"]


def test_a_policy_acts_for_one_and_for_many(trained):
    policy = trained.policy(seed=5)
    observation = np.array([[0.1, -0.3], [0.5, 0.2], [0.0, 0.0]])
    actions = policy.act(observation)
    assert actions.shape == (3, 1) and actions.dtype == np.float32
    assert (np.abs(actions) <= 1.0).all()
    np.testing.assert_allclose(policy.act(list(observation[1])), actions[1], rtol=1e-5)
    assert policy.act(observation.reshape(3, 1, 2)).shape == (3, 1, 1)
    drawn = policy.sample(observation, seed=1)
    np.testing.assert_array_equal(drawn, policy.sample(observation, seed=1))
    assert drawn.shape == (3, 1) and (drawn != policy.sample(observation, seed=2)).all()
    for which in ("latest", "last"):  # "last" is the old name
        same = enoto_jax.load_policy(trained.folder, 5, which)
        np.testing.assert_array_equal(same.act(observation), actions)
    other, before = trained.policy(seed=3), trained.policy(5, which="handover")
    assert (other.act(observation) != actions).all() and trained.policy().seed == 3
    assert (policy.phase, policy.step) == ("online", 12)
    assert (before.phase, before.step) == ("offline", 20)


def test_actions_are_in_the_environments_units(trained, tmp_path):
    """A copy of the run claims action bounds of [0, 4]."""
    (tmp_path / "checkpoints").symlink_to(trained.folder / "checkpoints")
    config = {**trained.config, "action_bounds": [[0.0], [4.0]]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    policy, inner = enoto_jax.load_policy(tmp_path, 3), trained.policy(3)
    observation = np.array([0.3, -0.4])
    np.testing.assert_allclose(policy.act(observation), 2 + 2 * inner.act(observation), rtol=1e-5)
    assert (policy.action_low, policy.action_high) == ([0.0], [4.0])


@pytest.mark.parametrize(
    "observation, message",
    [
        ({"position": [0.0], "goal": [1.0]}, "a dictionary of position, goal; put its arrays side"),
        ([0.0, 1.0, 2.0], r"shape \[3\]; expected \[2\] or \[\.\.\., 2\] numbers"),
        (3.0, r"shape \[\]"),
        ("left", "str; "),
        (None, "observation"),
        ([[0.0, 1.0], [2.0]], "list; "),
        ([0.0, float("nan")], "NaN or infinity"),
    ],
)
def test_observations_that_are_none(trained, observation, message):
    policy = trained.policy()
    for act in (policy.act, policy.sample):
        with pytest.raises(InputError, match=message):
            act(observation)


def test_what_a_run_has_not(trained, tmp_path):
    with pytest.raises(InputError, match=r"trained seeds \[3, 5\], not 0"):
        trained.policy(0)
    with pytest.raises(InputError, match="'newest'; choose latest or best or handover"):
        trained.policy(which="newest")
    with pytest.raises(InputError, match="--episodes: 0; give a whole number"):
        trained.evaluate(0)
    for wrong in (tmp_path / "nothing", 3, None):
        with pytest.raises(InputError):
            enoto_jax.load_run(wrong)
        with pytest.raises(InputError):
            enoto_jax.load_policy(wrong)
    (tmp_path / "config.json").write_text(json.dumps(dict(trained.config)))
    with pytest.raises(InputError, match="is not finished: no summary.json"):
        enoto_jax.load_run(tmp_path).summary  # noqa: B018


def test_a_run_of_before_final_episodes_still_resumes(trained, capsys):
    path = trained.folder / "config.json"
    config = json.loads(path.read_text())
    older = {k: v for k, v in config.items() if k not in ("final_episodes", "eval_max_steps")}
    options = {"env": WIDE, "seeds": [3, 5], "eval_episodes": 2, "announce": ""}
    start = partial(enoto_jax.train, tiny("enoto_cql"), reach_source(reference=REFERENCE))
    try:
        path.write_text(json.dumps(older))
        assert start(trained.folder, final_episodes=9, **options).summary == trained.summary
    finally:
        path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="its final_episodes is 5, now 9"):
        start(trained.folder, final_episodes=9, **options)


def test_a_name_and_a_budget_are_what_the_command_makes_of_them(given):
    found = given("sac", env="Reach-v0", budget="cpu")
    assert found["recipe"].online.steps == 10_000 and found["seeds"] == 1
    assert (found["eval_episodes"], found["final_episodes"]) == (10, 100)
    assert found["about"]["method"] == "sac" and found["source"].name == "Reach-v0"
    assert str(found["out"]) == "runs/sac-Reach-v0"
    found = given(budget="smoke", seeds=4, eval_episodes=7)
    assert found["seeds"] == 4 and found["final_episodes"] == 7
    assert found["source"].name == "pendulum-replay" and "budget smoke" in found["announce"]
    np.savez("walks.npz", **reach_data(episodes=2))
    found = given("iql", "walks.npz", "out", env="Reach-v0", budget="paper")
    assert found["recipe"] == enoto_jax.recipe("iql") and found["seeds"] == 5
    assert found["about"]["task_given"] == "walks.npz" and found["source"].env_id == "Reach-v0"


def test_a_name_alone_gets_the_budget_that_fits(given, monkeypatch):
    monkeypatch.setattr(budgets, "fitting", lambda: "demo")
    assert given("cql")["recipe"].offline.steps == 4_000


def test_a_recipe_stays_as_it_is(given):
    row, source = tiny("cql"), reach_source(env_id=None)
    found = given(row, source, "out", env="Reach-v0")
    assert found["recipe"] is row and "seeds" not in found and found["about"]["method"] == "own"
    assert found["source"].max_episode_steps == 20  # taken from the environment
    changed = given(row, source, "out", overrides={"algorithm.hidden": [4, 4], "utd": "3"})
    assert changed["recipe"].online.utd == 3
    assert changed["recipe"].offline.algorithm.hidden == (4, 4)


class unknown_rule(enoto_jax.targets.TargetRule):
    """A rule that is not registered."""

    def __call__(self, key, q):
        return q[0]


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (["enoto_cqll"], {}, "--method: unknown method 'enoto_cqll'; nearest: .*enoto_cql"),
        ([3], {}, "method: 3; give a name, such as 'enoto_cql', or a Recipe"),
        ([enoto_jax.sac()], {}, "method: sac.*give a name"),
        (["cql", "hoper-medium-v2"], {}, "hoper-medium-v2.*hopper-medium-v2"),
        (["cql", {"observations": 1}], {}, "data: dict; give a task's id"),
        (["cql", np.zeros(3)], {}, "data: ndarray; give"),
        (["cql"], {"budget": "papre"}, "--budget: unknown budget 'papre'; nearest: paper"),
        (["cql"], {"budget": 5}, "--budget: unknown budget 5"),
        (["cql"], {"budget": ["paper"]}, r"--budget: unknown budget \['paper'\]"),
        (["cql"], {"seed": 3}, "no option 'seed'; nearest: seeds"),
        (["cql"], {"seeds": []}, "at least 1 seed"),
        (["cql"], {"seeds": [1, 1]}, "given twice"),
        (["cql"], {"eval_episodes": 0}, "--eval_episodes: 0"),
        (["cql"], {"eval_episodes": "ten"}, "--eval_episodes: 'ten'"),
        (["cql"], {"log": "tensorbord"}, "--log=tensorbord: unknown"),
        (["cql"], {"overrides": {"tua": 1.0}}, "no hyper-parameter 'tua'; nearest"),
        (["cql"], {"overrides": {"online.utd": "x"}}, "online.utd: 'x' should be a whole number"),
        (["cql"], {"overrides": ["utd=1"]}, "overrides: .*give a dictionary"),
        (["cql"], {"overrides": {3: 1}}, "override: 3 is not the path of a hyper-parameter"),
        (
            ["cql"],
            {"env": gymnasium.make("Reach-v0")},
            "several environments: give a function that makes one",
        ),
        (["cql"], {"env": "Hoper-v4"}, "Hoper"),
        (["cql", None, 3], {}, "out: 3; give the run's folder"),
        ([tiny("cql"), None], {}, "out: give the run's folder"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(budgets, "fitting", lambda: "smoke")
    with pytest.raises(InputError, match=message) as caught:
        enoto_jax.train(*arguments, **options)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"offline": "cql"}, "offline: 'cql' should be Phase"),
        ({"online": enoto_jax.Phase(enoto_jax.sac, 10)}, "online.algorithm: .* should be"),
        ({"online": enoto_jax.Phase(enoto_jax.sac(target=unknown_rule()), 10)}, "not registered"),
        ({"handover": "carry"}, "handover: 'carry' should be"),
        ({"offline": None, "online": None}, "online: None should be Phase"),
    ],
)
def test_wrong_recipes_are_one_line(change, message, tmp_path):
    import dataclasses

    row = dataclasses.replace(tiny("cql"), **change)
    with pytest.raises(InputError, match=message):
        enoto_jax.train(row, reach_source(), tmp_path / "new")
    assert not (tmp_path / "new").exists()
