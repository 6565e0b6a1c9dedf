"""Chunks in whole runs: executed open-loop, dropped at an episode's end, resumed exactly."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enoto_jax import Agent, core, load_policy
from enoto_jax.cli import collect, command
from enoto_jax.cli import export as export_program
from enoto_jax.cli.command import define_only
from enoto_jax.data.memory import from_arrays
from enoto_jax.deploy import export
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.exploration import gaussian
from enoto_jax.recipes import registry
from enoto_jax.recipes.building import build
from enoto_jax.runs.policies import kept
from enoto_jax.training import online, open_loop
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.record import Stopped
from enoto_jax.training.result import Again
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import transform
from enoto_jax.types import Chunk, InputError
from tests.helpers import REACH, assert_same, reach_data, reach_source, tiny
from tests.small_runs import (
    SEEDS,
    Killed,
    kept_handover,
    last_state,
    table,
    train,
    watched,
)

SHORT = reach_source("ReachShort-v0")  # episodes of 5 steps
H = 3
ROW = tiny(
    "enoto_qc",
    algorithm__flow_steps=2,
    algorithm__chunk=H,
    online__utd=2,
    online__algorithm__exploration__mask=0.7,
)
# Without noise and learning online, actions can be computed by hand.
STILL = tiny(
    "qc_fql",
    algorithm__flow_steps=2,
    algorithm__chunk=H,
    online__warmup=12,
    online__algorithm__exploration=gaussian(std=0.0),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(SHORT, folder, row=ROW)
    return folder


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "still"
    train(SHORT, folder, row=STILL, about={"method": "qc_fql"})
    return folder


def test_shuffled_rows_are_refused_before_anything_is_written(tmp_path):
    data = reach_data(episodes=3)
    order = np.random.default_rng(0).permutation(len(data["rewards"]))
    shuffled = from_arrays(**{k: x[order] for k, x in data.items()}, name="mine", env_id="Reach-v0")
    with pytest.raises(InputError, match=r"^mine: at most \d of its rows follow each other"):
        train(shuffled, tmp_path / "new", row=STILL)
    assert not (tmp_path / "new").exists()


# The queue.


def test_a_chunk_goes_on_until_nothing_is_left_or_an_episode_begins():
    """Chunk t is (10 t, 10 t + 1, 10 t + 2); episodes start at steps 0 and 5."""
    waiting, found = open_loop.empty(Chunk(3, 0.9), 2), []
    for t in range(10):
        chosen = jnp.repeat(10.0 * t + jnp.arange(3.0), 2)
        for _ in range(2):  # a repeated call returns the same
            starts = jnp.bool_(t in (0, 5))
            waiting, action = open_loop.following(waiting, chosen, starts, jnp.int32(t))
        np.testing.assert_array_equal(action, np.repeat(action[0], 2))
        found.append(float(action[0]))
    assert found == [0, 1, 2, 30, 31, 50, 51, 52, 80, 81]


def test_an_evaluation_takes_chunks_to_their_end_in_every_round():
    """20 steps in chunks of three take seven choices in each of two rounds."""
    evaluator, calls = Evaluator("Reach-v0", 2, SeedMap([3]), transform()(REACH, None)), []

    def mode(state, seen):
        calls.append(np.array(seen))
        return np.tile(np.float32([1.0, -1.0, 0.5]), (1, 2, 1))

    found = evaluator(mode, None, 0, episodes=4)
    steps = iter([*np.tile([1.0, -1.0, 0.5], 7)[:20]] * 2)
    alone = evaluator(lambda state, seen: np.full((1, 2, 1), next(steps)), None, 0, episodes=4)
    evaluator.close()
    assert len(calls) == 14 and found.returns.shape == (1, 4)
    np.testing.assert_array_equal(found.returns, alone.returns)


def test_the_online_loop_executes_chunks_in_open_loop(still):
    """Each stored action is from the chunk that was chosen at the chunk's first step."""
    algorithm, ring = build(STILL, REACH).online, last_state(still, STILL).storage.ring
    starts = [0, 3, 5, 8, 10]  # episodes start at 0, 5 and 10
    for i in range(len(SEEDS)):
        state = jax.tree.map(lambda x, i=i: x[i], kept_handover(still, STILL))
        for first, after in zip(starts, [*starts[1:], 12]):
            chosen = algorithm.mode(state, ring.observation[i, first])
            taken = ring.action[i, first:after, 0]
            limit = STILL.transform.action_limit
            expected = np.clip(chosen[: after - first], -limit, limit)
            np.testing.assert_allclose(taken, expected, atol=1e-6)
    assert not np.allclose(ring.action[:, 3], ring.action[:, 5])


# Resuming.


@pytest.mark.parametrize(
    ("at", "kill", "where"),
    [
        (("update", 3), False, "offline update 15"),
        (("env", 4), False, "online step 4"),  # the second action of a chunk
        (("env", 7), True, None),
        (("update", 14), False, "online step 9"),
    ],
)
def test_a_run_goes_on_to_the_bit_in_the_middle_of_a_chunk(whole, tmp_path, at, kill, where):
    with watched(at, kill), pytest.raises(Killed if kill else Stopped, match=where):
        train(SHORT, tmp_path, row=ROW)
    train(SHORT, tmp_path, row=ROW)
    assert_same(last_state(tmp_path, ROW), last_state(whole, ROW))
    mine, theirs = (table(folder / "evaluations.csv") for folder in (tmp_path, whole))
    assert [{**row, "wall_s": ""} for row in mine] == [{**row, "wall_s": ""} for row in theirs]
    assert (tmp_path / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


def test_what_a_run_writes(whole):
    told = {line["name"] for line in table(whole / "metrics.csv")}
    assert {"offline/flow/loss", "online/critic/weight", "online/data/q_policy"} <= told
    assert {"offline/data/action_distance", "offline/critic/target"} <= told
    assert not {"offline/data/q_mean", "offline/data/target"} & told
    last = [line for line in table(whole / "evaluations.csv") if line["step"] == "12"]
    found = Again(whole, "latest").evaluate(2)
    told = [float(line["return_mean"]) for line in last]
    assert [row["return_mean"] for row in found] == pytest.approx(told, rel=1e-6)


def test_fewer_episodes_are_the_first_of_the_runs_own_evaluation(whole):
    again = Again(whole, "latest")
    for one, two in zip(again.evaluate(1), again.evaluate(2), strict=True):
        away = abs(one["return_mean"] - two["return_mean"])
        assert away == pytest.approx(two["return_std"], rel=1e-5)


# Everything else that acts.


def test_an_agent_does_what_the_loop_does(whole):
    agent = Agent(ROW, SHORT, whole, seed=3)
    envs = SeedEnvs("ReachShort-v0", [3], transform()(REACH, None))
    now, ring = envs.begin(), last_state(whole, ROW).storage.ring
    for step in range(8):
        action = agent.act(now.observation[0])
        np.testing.assert_allclose(action, ring.action[0, step], atol=2e-5)
        now = envs.step(action[None])
        agent.observe(jax.tree.map(lambda x: x[0], now.transition))
    with pytest.raises(InputError, match="chooses several actions at once"):
        agent.act(now.observation[0], explore=False)


def test_an_agent_with_a_budget_executes_chunks(still):
    """Without noise and learning, its actions are the loop's."""
    agent = Agent(STILL, SHORT, still, seed=3, budget_s=5.0)
    envs = SeedEnvs("ReachShort-v0", [3], transform()(REACH, None))
    now, ring = envs.begin(), last_state(still, STILL).storage.ring
    with agent:
        for step in range(8):
            action = agent.act(now.observation[0])
            np.testing.assert_allclose(action, ring.action[0, step], atol=2e-5)
            now = envs.step(action[None])
            agent.observe(jax.tree.map(lambda x: x[0], now.transition))


def test_a_policy_gives_whole_chunks(still, tmp_path):
    policy, seen = load_policy(still, seed=5), np.float32([0.2, -0.4])
    found = kept(still, seed=5)
    expected = np.asarray(found.algorithm.mode(found.state, seen))
    limit = STILL.transform.action_limit
    actions = policy.actions(seen)
    assert actions.shape == (H, 1)
    np.testing.assert_allclose(actions[:, 0], np.clip(expected, -limit, limit), atol=1e-6)
    assert policy.actions(np.tile(seen, (4, 2, 1))).shape == (4, 2, H, 1)
    for call in (policy.act, policy.sample):
        with pytest.raises(InputError, match="chooses 3 actions at once: call actions"):
            call(seen)
    define_only(export_program)
    argv = ["export", str(still), f"--out={tmp_path / 'policy.zip'}", "--seed=5"]
    assert command.execute(export_program.main, argv, positional="run") == command.DONE
    bundle = export.load(tmp_path / "policy.zip")
    assert bundle.about["chunk"] == H
    np.testing.assert_allclose(bundle.actions(seen), actions, atol=1e-6)


def test_what_collect_can_take_of_a_run(still, tmp_path, capsys):
    """It can take the buffer, but not the policy's data, which would need single actions."""
    argv = ["collect", f"--run={still}", f"--out={tmp_path}"]
    define_only(collect)
    assert command.execute(collect.main, argv) == command.BAD_INPUT
    assert "acts in chunks" in capsys.readouterr().err
    define_only(collect)
    assert command.execute(collect.main, [*argv, "--kinds=replay"]) == command.DONE


def test_single_actions_are_chunks_of_one(source, tmp_path):
    train(source, tmp_path, row=tiny("fql", algorithm__flow_steps=2, online__steps=0), seeds=(3,))
    policy, seen = load_policy(tmp_path), np.float32([0.2, -0.4])
    np.testing.assert_array_equal(policy.actions(seen), policy.act(seen)[None])


def test_random_steps_are_random_chunks():
    """The last random chunk is executed to its end."""
    row = tiny("qc_fql", algorithm__chunk=H, online__random_steps=2)
    row = registry.override(row, "online.algorithm.exploration", gaussian(std=0.0))
    built, seen = build(row, REACH), jnp.float32([0.2, -0.4])
    begin = online.begin(built.online, built.replay, REACH, 8, 1)
    carried = begin(core.init(built.online, jax.random.key(0)), jnp.int32(3))
    chosen = built.online.mode(carried.train, seen)
    choose = jax.jit(partial(online.choose, row.online, built.online))
    memory, found = carried.memory, []
    for t in range(7):
        at = (jnp.int32(3), seen, jnp.bool_(t == 0), jnp.int32(t))
        memory, action = choose(carried.train, memory, *at)
        found.append(float(action[0]))
    assert len({*found[:3], *chosen.tolist()}) == 6
    np.testing.assert_allclose(found[3:], [*chosen, chosen[0]], rtol=1e-5)


@pytest.mark.parametrize("method", ["fql", "bfn"])
def test_returns_of_several_steps_need_no_chunks_to_act(method, tmp_path):
    """The replay returns sequences, but the policy chooses an action in every step."""
    row = tiny(method, algorithm__flow_steps=2, algorithm__returns=H)
    built = build(row, REACH)
    assert built.offline.chunk == built.online.chunk == Chunk(H, 0.99, single=True)
    train(SHORT, tmp_path / "run", row=row, about={"method": method})
    policy = load_policy(tmp_path / "run")
    action = policy.act(np.zeros(2, np.float32))
    assert action.shape == (1,) and np.isfinite(action).all()
