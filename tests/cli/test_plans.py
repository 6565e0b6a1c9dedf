"""What the flags of `enoto train` become: the recipe and the settings that `run.train` gets."""

import json

import pytest

from enoto_jax.recipes import budgets, units
from enoto_jax.recipes.table import RECIPES
from enoto_jax.training.entrance import source_of


def test_flags_change_what_they_say(plan):
    given = plan(
        "--preset=smoke",
        "--method=cql_to_sac",
        "--seeds=3",
        "--seed=7",
        "--eval_episodes=4",
        "--offline_steps=30",
        "--online_steps=40",
        "--eval_every=10",
        "--batch_size=16",
        "--utd=2",
        "--warmup=5",
        "--num_critics=6",
        "--target=mean_q",
        "--exploration=oac",
        "--replay=mixed",
        "--set=online.replay.fraction=0.25",
        "--set=algorithm.hidden=8,4",
        "--set=offline.algorithm.lagrange=1",
        "--precision=bf16",
        "--overlap",
        "--out=there",
        "--eval_processes=3",
    )
    assert given["eval_processes"] == 3
    assert given["seeds"] == (7, 8, 9) and given["eval_episodes"] == 4
    assert given["folder"].name == "there" and given["signals"] is True
    found = {path: value for path, value, _ in units.leaves(given["recipe"])}
    wanted = {
        "offline.steps": 30,
        "online.steps": 40,
        "offline.eval_every": 10,
        "online.eval_every": 10,
        "offline.batch_size": 16,
        "online.batch_size": 16,
        "online.utd": 2,
        "online.warmup": 5,
        "offline.algorithm.n": 6,
        "online.algorithm.n": 6,
        "online.replay.fraction": 0.25,
        "offline.algorithm.hidden": (8, 4),
        "online.algorithm.hidden": (8, 4),
        "offline.algorithm.lagrange": 1,
        "precision": "bf16",
        "online.overlap": True,
        "offline.overlap": False,
    }
    assert {path: found[path] for path in wanted} == wanted
    assert found["online.algorithm.target"].name == "mean_q"
    assert found["online.algorithm.exploration"].name == "oac"
    assert found["online.replay"].name == "mixed"
    assert found["offline.algorithm.target"].name == "min_q"  # the offline phase keeps its own rule


def test_several_files_are_one_task(plan, files):
    task = f"{files}/good.hdf5+{files}/nameless.hdf5"
    given = plan(f"--task={task}")
    assert given["task"] == "good+nameless" and given["env"] == "Reach-v0"
    assert given["about"]["task_given"] == task and given["about"]["data_physics"] == "unknown"


def test_an_environment_completes_the_task_of_a_file(files):
    source = source_of(str(files / "nameless.hdf5"), "Reach-v0", RECIPES["cql"])
    assert (source.env_id, source.max_episode_steps) == ("Reach-v0", 20)


def test_paper_is_the_row_itself(plan):
    given = plan("--budget=paper")
    assert given["recipe"] == RECIPES["enoto_cql"]
    assert given["seeds"] == (0, 1, 2, 3, 4) and given["eval_episodes"] == 10
    assert given["final_episodes"] == 100
    assert given["folder"].parts[0] == "runs" and "enoto_cql" in given["folder"].name


def test_an_online_row_needs_no_data(plan):
    given = plan("--method=sac", "--env=Hopper-v4")
    assert given["task"] == given["env"] == "Hopper-v4"


def test_the_budget_that_fits_the_device(plan, call, monkeypatch):
    """On a CPU, the command without flags announces the laptop budget, not the paper's."""
    given = plan()
    assert given["recipe"].offline.steps == 280_000 and given["seeds"] == (0,)
    assert "budget laptop, which fits a CPU: " in given["announce"]
    assert "--budget=paper" in given["announce"]
    monkeypatch.setattr(budgets, "fitting", lambda: "paper")  # as on an accelerator
    given = plan()
    assert given["recipe"] == RECIPES["enoto_cql"]
    assert "budget paper, which fits an accelerator: " in given["announce"]
    assert "budget" not in plan("--budget=smoke")["announce"]


def test_episodes_at_the_hand_over_and_at_the_end(plan):
    assert plan("--budget=smoke")["final_episodes"] == 5
    assert plan("--budget=cpu", "--eval_episodes=300")["final_episodes"] == 300
    given = plan("--budget=cpu", "--eval_episodes=2", "--final_episodes=7", "--eval_max_steps=50")
    assert [given[k] for k in ("eval_episodes", "final_episodes", "eval_max_steps")] == [2, 7, 50]


def test_the_bounds_that_actions_were_recorded_with(plan, call, files):
    given = plan(f"--task={files}/wide.hdf5", "--action_low=-3", "--action_high=3")
    assert given["about"]["action_low"] == "-3" and given["about"]["action_high"] == "3"
    called = call(f"--task={files}/wide.hdf5", "--action_low=-2", "--action_high=2", "--dry_run")
    assert called.code == 2 and called.err.count("\n") == 1
    assert "wide.hdf5" in called.err and "2" in called.err
    called = call(f"--task={files}/good.hdf5", "--action_low=1", "--action_high=-1")
    assert called.code == 2 and called.err.count("\n") == 1 and "1" in called.err


def test_the_laptop_budget_keeps_the_papers_regime(plan):
    """Ten narrow critics share a weight of 5 (0.5 each), with one candidate per source."""
    row = plan("--budget=laptop")["recipe"]
    offline, online = row.offline.algorithm, row.online.algorithm
    assert (offline.n, offline.weight, offline.reduction, offline.candidates) == (
        10,
        5.0,
        "mean",
        1,
    )
    assert (online.n, online.hidden, online.target.name) == (10, (128, 128), "weighted_min_pair")
    assert {a.actor_rate for a in (offline, online)} == {3e-4}
    assert (offline.critic_rate, online.critic_rate) == (1e-3, 3e-4)
    assert row.offline.batch_size == row.online.batch_size == 128
    assert (row.offline.steps, row.online.steps) == (280_000, 20_000)
    # Other methods keep their weight, and their rate unless the penalty is averaged over critics.
    other = plan("--method=cal_ql", "--budget=laptop")["recipe"].offline.algorithm
    assert (other.weight, other.critic_rate) == (10.0, 3e-4)


@pytest.mark.parametrize(("budget", "rates"), [("paper", (3e-5, 1e-5)), ("laptop", (3e-4, 1e-4))])
def test_a_slower_actor_online_is_slower_in_every_budget(plan, budget, rates):
    """enoto_plus has the offline phase of enoto_cql, and its actor takes a third of the steps."""
    row = plan("--method=enoto_plus", f"--budget={budget}")["recipe"]
    assert (row.offline.algorithm.actor_rate, row.online.algorithm.actor_rate) == rates
    assert row.offline == plan(f"--budget={budget}")["recipe"].offline
    assert (row.online.replay.name, row.online.replay.counts_as) == ("append", 10_000)
    # A faster one online, as in balanced replay, has the budget's rate in both phases.
    row = plan("--method=br", f"--budget={budget}")["recipe"]
    assert row.online.algorithm.actor_rate == 3e-4


def test_the_budget_that_it_replaces_stays_for_earlier_results(plan):
    row = plan("--budget=cpu")["recipe"]
    offline = row.offline.algorithm
    assert (offline.n, offline.weight, offline.reduction) == (4, 10.0, "sum")
    assert row.offline.steps == 60_000


def test_the_old_name_of_the_budget(plan):
    assert plan("--preset=demo")["recipe"] == plan("--budget=demo")["recipe"]


@pytest.mark.parametrize(
    "method, warmup, random_steps, utd",
    [("sac", 100, 0, 4), ("cal_ql", 0, 0, 4), ("rlpd", 100, 100, 20), ("wsrl", 100, 0, 4)],
)
def test_a_budget_cuts_first_steps_and_never_updates(plan, method, warmup, random_steps, utd):
    row = plan("--preset=smoke", f"--method={method}")["recipe"]
    assert (row.online.warmup, row.online.random_steps) == (warmup, random_steps)
    assert row.online.utd == utd
    options = units.children(row.online.algorithm)
    assert options["hidden"] == (32, 32) and options["critic_hidden"] is None


def decay(row: dict, path: str) -> int | None:
    return {p: value for p, value, _ in units.leaves(row["recipe"])}[path]


FALL = "online.algorithm.cloning_decay_steps"


@pytest.mark.parametrize(
    "arguments, steps",
    [
        (["--budget=paper"], 250_000),
        (["--budget=smoke", "--online_steps=9000"], 36_000),  # four updates a step
        (["--budget=smoke", "--set=online.steps=9000"], 36_000),
        (["--budget=smoke", f"--set={FALL}=500"], 500),
        (["--budget=smoke", "--set=cloning_decay_steps=250000"], 250_000),  # as in the table
    ],
)
def test_a_weight_falls_over_its_whole_phase_unless_told_otherwise(plan, arguments, steps):
    arguments = [x.replace("=cloning", "=algorithm.cloning") for x in arguments]
    assert decay(plan("--method=rebrac", *arguments), FALL) == steps


def test_a_configuration_keeps_a_decay_that_was_chosen(plan, tmp_path):
    config = {"method": "rebrac", "seeds": [0], "eval_episodes": 1, "env": "Reach-v0"}

    def again(*changes, **flags):
        row = plan("--method=rebrac", "--budget=smoke", *changes)["recipe"]
        (tmp_path / "c.json").write_text(json.dumps(config | {"recipe": units.to_json(row)}))
        return decay(plan("--config=c.json", *(f"--{k}={v}" for k, v in flags.items())), FALL)

    assert again(f"--set={FALL}=500", online_steps=900) == 500
    assert again() == 12_000 and again(online_steps=900) == 3_600
    assert again("--online_steps=0", online_steps=900) == 3_600


def saved(plan, tmp_path, **changes):
    row = plan("--method=td3_bc", "--budget=smoke")["recipe"]
    config = {"method": "td3_bc", "seeds": [0], "eval_episodes": 1, "env": "Reach-v0"}
    config |= {"task": "mine", "recipe": units.to_json(row), **changes}
    (tmp_path / "c.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--budget=smoke", "--budget: --config takes lengths and network sizes from its file"),
        ("--method=iql", "--method: iql, but --config=c.json is of td3_bc; leave out one of them"),
    ],
)
def test_a_configuration_refuses_what_it_would_ignore(plan, call, tmp_path, files, flag, message):
    saved(plan, tmp_path)
    called = call("--config=c.json", flag)
    assert called.code == 2 and message in called.err and called.err.count("\n") == 1
    equal = ("--method=td3_bc", f"--task={files / 'good.hdf5'}")
    assert plan("--config=c.json", *equal)["recipe"].offline.algorithm.name == "td3_bc"


def test_a_configuration_of_a_run_on_arrays_does_not_train_on_other_data(
    plan, call, tmp_path, files
):
    saved(plan, tmp_path)
    called = call("--config=c.json")
    assert called.code == 2
    assert "a run on mine, which was not read from a file or an id; give the data" in called.err
    assert plan("--config=c.json", f"--task={files / 'good.hdf5'}")["task"] == "good"


def test_other_data_for_a_configuration_bring_their_environment_and_bounds(plan, tmp_path, files):
    saved(plan, tmp_path, env="Pendulum-v1", action_low="-2", action_high="2")
    given = plan("--config=c.json", f"--task={files / 'good.hdf5'}")
    assert given["env"] == "Reach-v0"
    assert given["env"] != "Pendulum-v1" and "action_low" not in (given.get("about") or {})
