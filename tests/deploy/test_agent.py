"""The push interface must do what the training loop does in the same environments."""

import dataclasses
import json
import threading
from contextlib import suppress

import jax
import numpy as np
import pytest

from enoto_jax import Agent, load_policy, load_run, load_source
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.training import online, run
from enoto_jax.training.buffer import record
from enoto_jax.transforms import transform
from enoto_jax.types import InputError, RunError, Transition
from tests.helpers import REACH, assert_same, differ, quick_compiling, reach_source, tiny

SEED, STEPS = 3, 12
CHANGES = {"transform__observations": True, "transform__reward_scale": 10.0}
ROW = tiny("enoto_cql", online__algorithm__exploration__mask=0.7, **CHANGES)


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    with quick_compiling(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def source():
    return reach_source(env_id="ReachShort-v0")


@pytest.fixture(scope="module")
def trained(source, tmp_path_factory):
    """The folder of a whole run, and its online state at the end."""
    folder, ends, plain = tmp_path_factory.mktemp("run"), [], online.train

    def train(*arguments):
        ends.append(plain(*arguments))
        return ends[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "train", train)
        run.train(ROW, source, folder, seeds=[SEED], eval_episodes=1)
    return folder, jax.tree.map(np.asarray, ends[0])


def worlds():
    """The run's environment without a transform, in episodes of 5 steps."""
    return SeedEnvs("ReachShort-v0", [SEED], transform()(REACH, None))


def drive(agent: Agent, envs: SeedEnvs, now, steps: int):
    for _ in range(steps):
        action = agent.act(now.observation[0])
        now = envs.step(action[None])
        agent.observe(jax.tree.map(lambda x: x[0], now.transition))
    return now


def test_it_does_what_the_loop_does(trained, source):
    folder, expected = trained
    agent, envs = Agent(ROW, source, folder, seed=SEED), worlds()
    now = drive(agent, envs, envs.begin(), STEPS)
    agent.act(now.observation[0])
    found = jax.tree.map(np.asarray, agent._learner.state)
    # The run's last evaluation resets the metric sums; nothing else may differ.
    assert_same(found.train, expected.train)
    assert_same(found.storage, expected.storage)
    assert agent.steps == STEPS and found.train.step == STEPS - ROW.online.warmup


def test_it_goes_on_from_what_it_saved(trained, source, tmp_path):
    envs, agent = worlds(), Agent(ROW, source, trained[0], tmp_path, seed=SEED)
    now = drive(agent, envs, envs.begin(), 7)
    agent.act(now.observation[0])
    agent.save()
    agent.close()
    again = Agent(ROW, source, trained[0], tmp_path, seed=SEED)
    assert again.steps == 7
    assert_same(
        jax.tree.map(np.asarray, agent._learner.state),
        jax.tree.map(np.asarray, again._learner.state),
    )
    np.testing.assert_array_equal(
        again.act(now.observation[0], explore=False), agent.act(now.observation[0], explore=False)
    )
    again.close()
    reworded = dataclasses.replace(ROW, about="another description")
    Agent(reworded, source, trained[0], tmp_path, seed=SEED).close()
    with pytest.raises(InputError, match="holds another run or agent, with different recipe"):
        Agent(tiny("cql_n_to_sac_n", **CHANGES), source, trained[0], tmp_path, seed=SEED)
    with pytest.raises(InputError, match="holds another run or agent; give another folder"):
        Agent(ROW, source, trained[0], trained[0], seed=SEED)


def test_acting_twice_neither_stores_nor_learns_twice(trained, source):
    agent, envs = Agent(ROW, source, trained[0], seed=SEED), worlds()
    now = drive(agent, envs, envs.begin(), 6)
    agent.act(now.observation[0])
    before = jax.tree.map(np.asarray, agent._learner.state)
    agent.act(now.observation[0])
    after = jax.tree.map(np.asarray, agent._learner.state)
    assert_same(before.train, after.train)
    assert_same(before.storage, after.storage)
    agent.act(now.observation[0], explore=False)
    assert not differ(after, jax.tree.map(np.asarray, agent._learner.state))


def test_a_session_may_act_without_exploring(trained, source):
    one, other = (Agent(ROW, source, trained[0], seed=SEED) for _ in range(2))
    seen = np.zeros(2)
    for _ in range(4):
        for agent in (one, other):
            agent.act(seen, explore=False)
            agent.observe(GOOD._replace(truncated=False))
        other.act(seen)  # learns now instead of in the next call
    one.act(seen)
    assert one.steps == 4 and one.updates == other.updates > 0
    assert_same(one._learner.state.storage, other._learner.state.storage)
    assert_same(one._learner.state.train, other._learner.state.train)


GOOD = Transition(np.zeros(2), np.zeros(1), 0.5, False, True, np.ones(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation": np.zeros(3)}, r"observation has shape \[3\]; expected \[2\]"),
        ({"action": 0.5}, r"action has shape \[\]; expected \[1\]"),
        ({"reward": np.nan}, "reward contains NaN"),
        ({"reward": 1e300}, "reward contains NaN or infinity"),  # in float32
        (
            {"next_observation": np.float32([np.inf, 0])},
            "next_observation contains NaN or infinity",
        ),
        (
            {"observation": {"a": 0.0}},
            "of type dict; expected numbers; flatten it with gymnasium.sp",
        ),
        ({"observation": [[0.0], 1.0]}, "observation is of type list; expected numbers"),
        ({"action": np.float32([2.0])}, r"action 0 is 2, outside \[-1, 1\].* action_low"),
        ({"reward": None}, "reward is None; expected a number"),
        ({"reward": [1.0, 2.0]}, r"reward has shape \[2\]; expected one number"),
        ({"terminated": None}, "terminated is None; expected true or false"),
        ({"truncated": "False"}, "truncated is 'False'; expected true or false"),
    ],
)
def test_a_transition_that_cannot_be_used_is_refused_and_not_stored(
    trained, source, change, message
):
    agent = Agent(ROW, source, trained[0], seed=SEED)
    agent.act(np.zeros(2))
    with pytest.raises(InputError, match=message):
        agent.observe(GOOD._replace(**change))
    assert agent.steps == 0
    with pytest.raises(InputError, match="observe: tuple; give a Transition"):
        agent.observe(tuple(GOOD))
    agent.observe(GOOD._replace(reward=[0.5], terminated=np.asarray([0])))
    with pytest.raises(InputError, match=r"call act\(\) once between"):
        agent.observe(GOOD)
    with pytest.raises(InputError, match="observation has shape"):
        agent.act(np.zeros(3))
    with pytest.raises(InputError, match="this agent has no folder"):
        agent.save()


def test_a_row_with_an_offline_phase_needs_its_run(source):
    with pytest.raises(InputError, match="give the folder of its run"):
        Agent(ROW, source)


def test_a_row_without_an_offline_phase_restores_nothing(trained, source):
    with pytest.raises(InputError, match="starts from scratch and restores nothing"):
        Agent(tiny("sac"), source, trained[0])


def test_an_action_that_is_no_number_is_neither_returned_nor_saved(trained, source, tmp_path):
    agent = Agent(ROW, source, trained[0], tmp_path, seed=SEED)
    agent.act(np.zeros(2))
    agent.observe(GOOD)
    state = agent._learner.state
    broken = jax.tree.map(lambda x: x * np.nan, state.train.params)
    agent._learner.state = state.replace(train=state.train.replace(params=broken))
    for explore in (False, True):
        with pytest.raises(RunError, match="act: the action is NaN or infinite"):
            agent.act(np.zeros(2), explore=explore)
    with pytest.raises(RunError, match="online step 1: .*actor.* is NaN or infinite"):
        agent.save()
    with pytest.raises(RunError, match="online step 1: .*actor.* is NaN or infinite"):
        agent.close()
    assert not list((tmp_path / "checkpoints" / "latest").iterdir())


@pytest.mark.parametrize("budget_s", [None, 60.0])
def test_what_was_not_saved_is_saved_when_a_block_is_left(trained, source, tmp_path, budget_s):
    how = {"seed": SEED, "budget_s": budget_s}
    with pytest.raises(KeyboardInterrupt), Agent(ROW, source, trained[0], tmp_path, **how) as agent:
        envs = worlds()
        drive(agent, envs, envs.begin(), 7)
        raise KeyboardInterrupt
    with Agent(ROW, source, trained[0], tmp_path, **how) as again:
        assert again.steps == 7
        assert_same(*(jax.tree.map(np.asarray, x._learner.state.train) for x in (agent, again)))


def test_a_failed_save_does_not_hide_the_error_that_ended_the_block(
    trained, source, tmp_path, monkeypatch
):
    def fails(checkpoints):
        raise RunError("no space left")

    with (
        pytest.raises(KeyboardInterrupt) as stopped,
        Agent(ROW, source, trained[0], tmp_path, seed=SEED) as agent,
    ):
        agent.act(np.zeros(2))
        agent.observe(GOOD)
        monkeypatch.setattr(agent._learner, "save", fails)
        raise KeyboardInterrupt
    assert stopped.value.__notes__ == ["closing the agent failed too: no space left"]


@pytest.fixture
def hurried(trained, source, tmp_path):
    """An agent with a budget that these tests never exceed, and a folder to save in."""
    agent = Agent(ROW, source, trained[0], tmp_path / "out", seed=SEED, budget_s=60.0)
    yield agent
    with suppress(RunError):  # if learning has failed
        agent.close()


def test_with_a_budget_it_learns_what_the_loop_learns(hurried, trained, source, tmp_path):
    """It gets time to learn, and the plain agent's actions, because its own may be older."""
    plain, envs = Agent(ROW, source, trained[0], seed=SEED), worlds()
    now = envs.begin()
    for _ in range(STEPS):
        action = plain.act(now.observation[0])
        told = hurried.act(now.observation[0])
        if plain.steps <= ROW.online.warmup:  # parameters are still the same
            np.testing.assert_allclose(told, action, rtol=0, atol=1e-6)
        now = envs.step(action[None])
        moved = jax.tree.map(lambda x: x[0], now.transition)
        plain.observe(moved)
        hurried.observe(moved)
        hurried.settle()
    plain.act(now.observation[0])
    one, two = (jax.tree.map(np.asarray, agent._learner.state) for agent in (plain, hurried))
    assert_same(one.train, two.train)
    assert_same(one.storage, two.storage)
    assert (hurried.updates, hurried.skipped, hurried.late) == (plain.updates, 0, 0)
    for seen in now.observation:  # it acts with the newest parameters
        np.testing.assert_array_equal(
            hurried.act(seen, explore=False), plain.act(seen, explore=False)
        )
    hurried.save()
    hurried.close()
    again = Agent(ROW, source, trained[0], tmp_path / "out", seed=SEED)
    assert again.steps == STEPS
    assert_same(jax.tree.map(np.asarray, again._learner.state.train), two.train)


def test_updates_that_there_is_no_time_for_are_skipped_and_nothing_is_lost(hurried):
    gate = threading.Event()
    hurried._learner._background.put(lambda behind: gate.wait())  # a long update
    for step in range(6):
        hurried.act(np.zeros(2))
        hurried.observe(GOOD._replace(reward=float(step)))  # none of these calls blocks
    assert hurried.updates == 0 and hurried.steps == 6
    gate.set()
    hurried.settle()
    # Transitions 4 and 5 have others waiting behind them, so their updates are skipped.
    assert (hurried.skipped, hurried.updates) == (2, 1) and ROW.online.warmup == 3
    stored = np.asarray(hurried._learner.state.storage.ring.reward)[0, :6]
    np.testing.assert_allclose(stored, 10.0 * np.arange(6))


def test_a_late_action_is_the_last_one_again(hurried):
    gate, first = threading.Event(), hurried.act(np.ones(2))
    hurried._learner._background._budget_s = 0.05
    compute, hurried._learner._compute = (
        hurried._learner._compute,
        lambda *x: gate.wait() and compute(*x),
    )
    for _ in range(2):
        np.testing.assert_array_equal(hurried.act(-np.ones(2)), first)
    assert hurried.late == 2
    gate.set()
    hurried._learner._background._budget_s = 60.0
    hurried.act(-np.ones(2), explore=False)
    assert hurried.late == 2


def test_an_episode_starts_with_the_first_action_that_is_computed(hurried):
    gate, starts, compute = threading.Event(), [], hurried._learner._compute

    def slow(seen, begins, *rest):
        starts.append(bool(begins))
        gate.wait()
        return compute(seen, begins, *rest)

    hurried._learner._compute = slow
    hurried._learner._background._budget_s = 0.05
    for ends in (True, False):  # the second action waits for the first, so it is not computed
        hurried.act(np.zeros(2))
        hurried.observe(GOOD._replace(truncated=ends))
    gate.set()
    hurried._learner._background._budget_s = 60.0
    for _ in range(2):
        hurried.act(np.zeros(2))
        hurried.observe(GOOD._replace(truncated=False))
    assert starts == [True, True, False]


def test_a_save_that_fails_is_reported_by_the_next_one_and_ends_nothing(hurried, tmp_path):
    def fails(*_):
        raise RunError("the disk is full")

    write, hurried._learner._write = hurried._learner._write, fails
    for _ in range(2):
        hurried.act(np.zeros(2))
        hurried.observe(GOOD)
    hurried.save()
    hurried.settle()
    hurried._learner._write = write
    hurried.act(np.zeros(2))
    hurried.observe(GOOD)
    with pytest.raises(RunError, match="the disk is full"):
        hurried.save()
    hurried.close()
    assert [x.name for x in (tmp_path / "out" / "checkpoints" / "latest").iterdir()] == ["3"]


def test_parameters_that_are_no_longer_numbers_never_act(hurried):
    before = hurried.act(np.ones(2), explore=False)
    broken = jax.tree.map(lambda x: x * np.nan, hurried._learner.state.train.params)
    hurried._learner.state = hurried._learner.state.replace(
        train=hurried._learner.state.train.replace(params=broken)
    )
    hurried._learner._background.put(lambda behind: hurried._learner._publish())
    with pytest.raises(RunError, match="is NaN or infinite"):
        hurried.settle()
    np.testing.assert_array_equal(hurried.act(np.ones(2), explore=False), before)
    with pytest.raises(RunError, match="learning has stopped"):
        hurried.observe(GOOD)


def test_a_damaged_save_is_passed_over(trained, source, tmp_path, capsys):
    agent, envs = Agent(ROW, source, trained[0], tmp_path, seed=SEED), worlds()
    now = envs.begin()
    for steps in (4, 3):
        now = drive(agent, envs, now, steps)
        agent.act(now.observation[0])
        agent.save()
    agent.close()
    state = tmp_path / "checkpoints" / "latest" / "7" / "state"
    for path in state.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    again = Agent(ROW, source, trained[0], tmp_path, seed=SEED)
    assert again.steps == 4
    assert "latest/7 is damaged, moved aside" in capsys.readouterr().err


def test_a_budget_is_above_zero(source):
    with pytest.raises(InputError, match="budget_s is 0"):
        Agent(ROW, source, budget_s=0)


@pytest.mark.parametrize(
    "how, message",
    [
        ({"seed": [0, 1]}, r"seed: \[0, 1\]; give one whole number"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": True}, "seed: True"),
        ({"action_low": -1.0}, "give both or neither"),
        (
            {"action_low": [0.0, 0.0], "action_high": 1.0},
            r"action_low has shape \[2\]; expected \[1\]",
        ),
        (
            {"action_low": [[1], [2, 3]], "action_high": 1.0},
            "action_low is of type list; expected numbers",
        ),
        ({"action_low": 1.0, "action_high": 1.0}, "action 0 has the bounds 1 and 1"),
        ({"action_low": -np.inf, "action_high": 1.0}, "action_low contains NaN or infinity"),
        ({"env": "Reach-v0", "action_low": 0.0}, "give the environment or the bounds"),
        ({"env": "Hopper-v5"}, "Hopper-v5 has actions of size 3, not 1"),
        ({"budget_s": "0.1"}, "budget_s is '0.1'; give seconds"),
        ({"restore": 5}, "restore: 5; give the path of a folder"),
        ({"out": 5}, "out: 5; give the path of a folder"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(source, how, message):
    with pytest.raises(InputError, match=message):
        Agent(ROW, source, **how)


def test_names_in_place_of_objects_are_refused_in_a_line(source):
    with pytest.raises(InputError, match="recipe: str"):
        Agent("enoto_cql", source)
    with pytest.raises(InputError, match="source: str"):
        Agent(ROW, "hopper-medium-v2")


@pytest.mark.parametrize("budget_s", [None, 60.0])
def test_a_caller_may_reuse_its_arrays(trained, source, budget_s):
    """Each buffer is overwritten as soon as a call returns."""
    agent, envs = Agent(ROW, source, trained[0], seed=SEED, budget_s=budget_s), worlds()
    seen, following, action = np.zeros(2, np.float32), np.zeros(2, np.float32), np.zeros(1, "f")
    now, expected = envs.begin(), []
    for _ in range(STEPS):
        seen[:] = now.observation[0]
        action[:] = agent.act(seen)
        seen[:] = np.nan
        now = envs.step(action[None].copy())
        moved = jax.tree.map(lambda x: x[0], now.transition)
        seen[:], following[:] = moved.observation, moved.next_observation
        agent.observe(moved._replace(observation=seen, action=action, next_observation=following))
        for buffer in (seen, following, action):
            buffer[:] = np.nan
        expected.append(moved)
    agent.act(now.observation[0])
    agent.close()
    ring = jax.tree.map(lambda x: np.asarray(x)[0, :STEPS], agent._learner.state.storage.ring)
    kept = agent.transform.transitions(jax.tree.map(lambda *x: np.stack(x), *expected))
    for name in ("observation", "action", "reward", "next_observation"):
        np.testing.assert_allclose(getattr(ring, name), getattr(kept, name), atol=1e-6)
    assert agent.steps == STEPS


def test_an_action_that_the_caller_changes_is_not_what_is_held(hurried):
    first = hurried.act(np.ones(2))
    kept = first.copy()
    first[:] = 9.0
    np.testing.assert_array_equal(hurried._learner._held, kept)


@pytest.mark.parametrize("how", ["numbers", "environment"])
def test_with_bounds_both_sides_speak_the_worlds_units(trained, source, how):
    """ReachWide-v0 has actions in [-3, 3]; stored actions are in [-1, 1]."""
    bounds = {"env": "ReachWide-v0"} if how == "environment" else dict(action_low=-3, action_high=3)
    plain = Agent(ROW, source, trained[0], seed=SEED)
    wide = Agent(ROW, source, trained[0], seed=SEED, **bounds)
    for explore in (False, True):
        one = plain.act(np.ones(2), explore=explore)
        np.testing.assert_allclose(wide.act(np.ones(2), explore=explore), 3.0 * one, rtol=1e-6)
    with pytest.raises(InputError, match=r"action 0 is 3.1, outside \[-3, 3\]"):
        wide.observe(GOOD._replace(action=np.float32([3.1])))
    wide.observe(GOOD._replace(action=np.float32([1.5])))
    wide.act(np.zeros(2))
    stored = np.asarray(wide._learner.state.storage.ring.action)[0, 0]
    np.testing.assert_allclose(stored, wide.transform.action(np.float32([0.5])), rtol=1e-6)


def test_bounds_need_not_be_symmetric(trained, source):
    low, high = np.float32([1.0]), np.float32([5.0])
    plain = Agent(ROW, source, trained[0], seed=SEED)
    agent = Agent(ROW, source, trained[0], seed=SEED, action_low=low, action_high=high)
    one = plain.act(np.ones(2), explore=False)
    np.testing.assert_allclose(agent.act(np.ones(2), explore=False), 3.0 + 2.0 * one, rtol=1e-6)


def test_without_bounds_it_acts_in_the_units_of_the_run_or_the_data(
    trained, source, tmp_path, capsys
):
    """A copy of the run claims bounds of [0, 4]; `load_policy` is in the same units."""
    (tmp_path / "checkpoints").symlink_to(trained[0] / "checkpoints")
    config = json.loads((trained[0] / "config.json").read_text())
    config["action_bounds"] = [[0.0], [4.0]]
    (tmp_path / "config.json").write_text(json.dumps(config))
    scaled = dataclasses.replace(source, action_bounds=(np.float32([-3]), np.float32([3])))
    policy = load_policy(tmp_path, SEED, "handover")
    agent = Agent(ROW, scaled, tmp_path, seed=SEED)
    np.testing.assert_allclose(
        agent.act(np.ones(2), explore=False), policy.act(np.ones(2)), rtol=1e-5
    )
    assert "actions are in [0, 4]; the data set has [-3, 3]" in capsys.readouterr().err
    given = Agent(ROW, source, tmp_path, seed=SEED, action_low=-1, action_high=1)
    assert given.act(np.ones(2), explore=False) < 1
    assert f"in [-1, 1]; the run {tmp_path} has [0, 4]" in capsys.readouterr().err
    older = {**config, "action_bounds": None, "env": "lab:Arm-v0"}  # a simulator that is not here
    (tmp_path / "config.json").write_text(json.dumps(older))
    assert Agent(ROW, source, tmp_path, seed=SEED, action_low=-2, action_high=2)._world.high == 2
    alone = Agent(tiny("sac"), scaled)
    assert (alone._world.low, alone._world.high) == (-3, 3)
    alone.act(np.zeros(2))
    alone.observe(GOOD._replace(action=np.float32([2.9])))
    assert "actions are in" not in capsys.readouterr().err


def test_a_session_becomes_a_data_set(trained, source, tmp_path):
    """The commands that need an environment say so; the replay needs none."""
    out, row = tmp_path / "out", load_run(trained[0]).recipe
    with Agent(row, source, trained[0], out, seed=SEED, action_low=-3, action_high=3) as agent:
        agent.act(np.zeros(2))
        agent.observe(GOOD._replace(action=np.float32([1.5])))
    record(out, tmp_path, ["replay"], 10, 0, say=print)
    found = load_source(tmp_path / "replay.hdf5")
    np.testing.assert_allclose(found.load().transitions.action, [[0.5]], rtol=1e-5)
    np.testing.assert_allclose(found.action_bounds, [[-3.0], [3.0]])
    with pytest.raises(InputError, match="has no environment to act in; .*--kinds=replay"):
        record(out, tmp_path, ["policy"], 10, 0, say=print)
    with pytest.raises(InputError, match="was trained without an environment; give its id"):
        load_run(out).evaluate()
    assert len(load_run(out).evaluate(1, env="ReachShort-v0")) == 1


def test_one_agent_a_folder_at_a_time(trained, source, tmp_path):
    with Agent(ROW, source, trained[0], tmp_path, seed=SEED) as agent:
        with pytest.raises(InputError, match="is using .*; an Agent locks its folder until"):
            Agent(ROW, source, trained[0], tmp_path, seed=SEED)
        agent.act(np.zeros(2))
        agent.observe(GOOD)
        agent.act(np.ones(2))
        agent.save()
    with pytest.raises(InputError, match="or is closed"):
        agent.save()
    with pytest.raises(InputError, match="observe: this agent is closed; make a new one"):
        agent.observe(GOOD)
    agent.close()  # closing again does nothing
    again = Agent(ROW, source, trained[0], tmp_path, seed=SEED)
    assert again.steps == 1
    del again  # it was never closed
    Agent(ROW, source, trained[0], tmp_path, seed=SEED).close()


def test_an_agent_that_cannot_be_made_lets_go_of_the_folder(trained, source, tmp_path, monkeypatch):
    def fails(*_):
        raise RunError("no compiler")

    with monkeypatch.context() as patch:
        patch.setattr("enoto_jax.deploy.agent.Learner", fails)
        with pytest.raises(RunError, match="no compiler"):
            Agent(ROW, source, trained[0], tmp_path, seed=SEED)
    Agent(ROW, source, trained[0], tmp_path, seed=SEED).close()


def test_other_data_of_the_same_size_are_refused(trained, source, tmp_path):
    row = tiny("enoto_cql", online__replay="append", **CHANGES)
    Agent(row, source, trained[0], tmp_path, seed=SEED).close()
    other = reach_source(env_id="ReachShort-v0", seed=7)
    with pytest.raises(InputError, match="with different data; give another folder"):
        Agent(row, other, trained[0], tmp_path, seed=SEED)
    bounds = {"action_low": -2, "action_high": 2}
    with pytest.raises(InputError, match=r"different action bounds; .* or its own .*, \[-"):
        Agent(row, source, trained[0], tmp_path, seed=SEED, **bounds)
    # Files that an earlier version's agent wrote.
    config = json.loads((tmp_path / "config.json").read_text())
    older = {name: config[name] for name in ("recipe", "seeds")}
    (tmp_path / "config.json").write_text(json.dumps(older))
    Agent(row, source, trained[0], tmp_path, seed=SEED).close()


def test_a_closed_agent_says_that_it_learns_no_more(hurried):
    hurried.act(np.zeros(2))
    hurried.close()
    with pytest.raises(InputError, match="observe: this agent is closed"):
        hurried.observe(GOOD)


def test_a_folder_that_cannot_be_written_is_refused(trained, source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"out: cannot write to {tmp_path}/file/out"):
        Agent(ROW, source, trained[0], tmp_path / "file" / "out", seed=SEED)
