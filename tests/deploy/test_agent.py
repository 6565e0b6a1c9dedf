"""The push interface: driven by the loop's own environments it must do what the loop does."""

import threading

import jax
import numpy as np
import pytest

from enoto_jax import Agent
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.training import online, run
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
    """A whole run's folder, and what it carried at its end."""
    folder, ends, plain = tmp_path_factory.mktemp("run"), [], online.train

    def train(*arguments):
        ends.append(plain(*arguments))
        return ends[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online, "train", train)
        run.train(ROW, source, folder, seeds=[SEED], eval_episodes=1)
    return folder, jax.tree.map(np.asarray, ends[0])


def worlds():
    """The environment of the run, in the world's numbers: episodes of 5 steps."""
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
    found = jax.tree.map(np.asarray, agent._online)
    # The run's last evaluation has set its sums back; nothing else may differ.
    assert_same(found.train, expected.train)
    assert_same(found.storage, expected.storage)
    assert agent.steps == STEPS and found.train.step == STEPS - ROW.online.warmup


def test_it_goes_on_from_what_it_saved(trained, source, tmp_path):
    envs, agent = worlds(), Agent(ROW, source, trained[0], tmp_path, seed=SEED)
    now = drive(agent, envs, envs.begin(), 7)
    agent.act(now.observation[0])
    agent.save()
    again = Agent(ROW, source, trained[0], tmp_path, seed=SEED)
    assert again.steps == 7
    assert_same(jax.tree.map(np.asarray, agent._online), jax.tree.map(np.asarray, again._online))
    np.testing.assert_array_equal(
        again.act(now.observation[0], explore=False), agent.act(now.observation[0], explore=False)
    )
    with pytest.raises(InputError, match="holds another run or agent"):
        Agent(tiny("cql_n_to_sac_n", **CHANGES), source, trained[0], tmp_path, seed=SEED)


def test_acting_twice_neither_stores_nor_learns_twice(trained, source):
    agent, envs = Agent(ROW, source, trained[0], seed=SEED), worlds()
    now = drive(agent, envs, envs.begin(), 6)
    agent.act(now.observation[0])
    before = jax.tree.map(np.asarray, agent._online)
    agent.act(now.observation[0])
    after = jax.tree.map(np.asarray, agent._online)
    assert_same(before.train, after.train)
    assert_same(before.storage, after.storage)
    agent.act(now.observation[0], explore=False)
    assert not differ(after, jax.tree.map(np.asarray, agent._online))


GOOD = Transition(np.zeros(2), np.zeros(1), 0.5, False, True, np.ones(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation": np.zeros(3)}, r"observation has shape \[3\], \[2\] is needed"),
        ({"action": 0.5}, r"action has shape \[\], \[1\] is needed"),
        ({"reward": np.nan}, "reward holds NaN"),
        ({"next_observation": np.float32([np.inf, 0])}, "next_observation holds NaN or infinity"),
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
    agent.observe(GOOD)
    with pytest.raises(InputError, match="still waits for the next act"):
        agent.observe(GOOD)
    with pytest.raises(InputError, match="observation has shape"):
        agent.act(np.zeros(3))
    with pytest.raises(InputError, match="give the agent a folder"):
        agent.save()


def test_a_row_with_an_offline_phase_needs_its_run(source):
    with pytest.raises(InputError, match="give the folder of its run"):
        Agent(ROW, source)


@pytest.fixture
def hurried(trained, source, tmp_path):
    """An agent with a budget that nothing here exceeds, and a folder to save in."""
    agent = Agent(ROW, source, trained[0], tmp_path / "out", seed=SEED, budget_s=60.0)
    yield agent
    agent._background.close()


def test_with_a_budget_it_learns_what_the_loop_learns(hurried, trained, source):
    """Given time, from the same transitions; actions may be older, so they are handed in."""
    plain, envs = Agent(ROW, source, trained[0], seed=SEED), worlds()
    now = envs.begin()
    for _ in range(STEPS):
        action = plain.act(now.observation[0])
        told = hurried.act(now.observation[0])
        if plain.steps <= ROW.online.warmup:  # the same parameters so far
            np.testing.assert_allclose(told, action, rtol=0, atol=1e-6)
        now = envs.step(action[None])
        moved = jax.tree.map(lambda x: x[0], now.transition)
        plain.observe(moved)
        hurried.observe(moved)
        hurried.settle()
    plain.act(now.observation[0])
    one, two = (jax.tree.map(np.asarray, agent._online) for agent in (plain, hurried))
    assert_same(one.train, two.train)
    assert_same(one.storage, two.storage)
    assert (hurried.updates, hurried.skipped, hurried.late) == (plain.updates, 0, 0)
    for seen in now.observation:  # what acts is the newest that was learned
        np.testing.assert_array_equal(
            hurried.act(seen, explore=False), plain.act(seen, explore=False)
        )
    hurried.save()
    hurried.settle()
    hurried._checkpoints.wait()
    folder = hurried._checkpoints._managers["latest"].directory.parent.parent
    again = Agent(ROW, source, trained[0], folder, seed=SEED)
    assert again.steps == STEPS
    assert_same(jax.tree.map(np.asarray, again._online.train), two.train)


def test_updates_that_there_is_no_time_for_are_skipped_and_nothing_is_lost(hurried):
    gate = threading.Event()
    hurried._background.put(lambda behind: gate.wait())  # a long update
    for step in range(6):
        hurried.act(np.zeros(2))
        hurried.observe(GOOD._replace(reward=float(step)))  # none of these waits
    assert hurried.updates == 0 and hurried.steps == 6
    gate.set()
    hurried.settle()
    # Behind the fourth and the fifth others waited, behind the sixth none did.
    assert (hurried.skipped, hurried.updates) == (2, 1) and ROW.online.warmup == 3
    stored = np.asarray(hurried._online.storage.ring.reward)[0, :6]
    np.testing.assert_allclose(stored, 10.0 * np.arange(6))


def test_a_late_action_is_the_last_one_again(hurried):
    gate, first = threading.Event(), hurried.act(np.ones(2))
    hurried._background._budget_s = 0.05
    compute, hurried._compute = hurried._compute, lambda *x: gate.wait() and compute(*x)
    for _ in range(2):
        np.testing.assert_array_equal(hurried.act(-np.ones(2)), first)
    assert hurried.late == 2
    gate.set()
    hurried._background._budget_s = 60.0
    hurried.act(-np.ones(2), explore=False)
    assert hurried.late == 2


def test_parameters_that_are_no_longer_numbers_never_act(hurried):
    before = hurried.act(np.ones(2), explore=False)
    broken = jax.tree.map(lambda x: x * np.nan, hurried._online.train.params)
    hurried._online = hurried._online.replace(train=hurried._online.train.replace(params=broken))
    hurried._background.put(lambda behind: hurried._publish())
    with pytest.raises(RunError, match="no longer a number"):
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
