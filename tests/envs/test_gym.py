"""Environments as the loops use them: actions, episode ends, start states, evaluation."""

from itertools import pairwise

import gymnasium
import numpy as np
import pytest

from enoto_jax.data import contents
from enoto_jax.data.memory import from_arrays
from enoto_jax.envs.gym import check_spec, make_env, spec_of
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import transform
from enoto_jax.types import InputError, Spec
from tests.helpers import REACH, SPEED, Reach, reach_data, refused_in_a_line, successor

BOX = gymnasium.spaces.Box
SAME = transform()(REACH, None)


class Odd(Reach):
    """An environment with spaces that agents do not support."""

    def __init__(self, **spaces):
        super().__init__()
        self.__dict__.update(spaces)


class Parts(Reach):
    """Reach with a dictionary of observations."""

    def __init__(self):
        super().__init__()
        part = BOX(-2.0, 2.0, (1,), np.float64)
        self.observation_space = gymnasium.spaces.Dict({"a": part, "b": part})

    def _observation(self):
        position, offset = super()._observation().astype(np.float64)
        return {"a": np.asarray([position]), "b": np.asarray([offset])}


def register(name: str, entry_point, **options):
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point, **options)


register("OddImage-v0", Odd, kwargs={"observation_space": BOX(0.0, 1.0, (2, 2))})
register("OddActions-v0", Odd, kwargs={"action_space": gymnasium.spaces.Discrete(3)})
register("OddUnbounded-v0", Odd, kwargs={"action_space": BOX(-np.inf, np.inf, (1,))})
register("OddMissing-v0", "no_such_simulator:Env")
register("ReachParts-v0", Parts, max_episode_steps=5)


@pytest.mark.parametrize(
    "env_id, message",
    [
        ("NoSuchEnv-v0", "cannot make 'NoSuchEnv-v0'"),
        ("nosuchpackage:Env-v0", "cannot make 'nosuchpackage:Env-v0'"),
        ("OddMissing-v0", "cannot make 'OddMissing-v0'"),
        ("OddImage-v0", "observes"),
        ("OddActions-v0", "acts in"),
        ("OddUnbounded-v0", "unbounded actions"),
    ],
)
def test_an_environment_that_cannot_be_used_is_refused(env_id, message):
    with pytest.raises(InputError, match=f"^--env: .*{message}") as error:
        make_env(env_id)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("env_id, bound", [("Reach-v0", 1.0), ("ReachWide-v0", 3.0)])
def test_actions_are_rescaled_to_their_own_bounds(env_id, bound):
    env = make_env(env_id)
    assert env.action_space == BOX(-1.0, 1.0, (1,), np.float32)
    before, _ = env.reset(seed=1)
    for size in (0.5, -1.0):
        action = np.asarray([size], np.float32)
        after, *_ = env.step(action)
        np.testing.assert_allclose(after, successor(before, action, bound), atol=1e-6)
        before = after


def test_mujoco_task_of_d4rl_with_wide_actions():
    """Make -v4 without Gymnasium's warning (an error here); map actions of +-3 to [-1, 1]."""
    env = make_env("InvertedPendulum-v4")
    assert spec_of(env) == Spec(4, 1)
    assert env.action_space == BOX(-1.0, 1.0, (1,), np.float32)
    env.reset(seed=0)
    env.step(np.ones(1, np.float32))
    np.testing.assert_allclose(env.unwrapped.data.ctrl, [3.0])
    env.close()


def test_dictionaries_are_flattened():
    envs = SeedEnvs("ReachParts-v0", [0], SAME)
    observation = envs.begin().observation
    assert observation.shape == (1, 2) and observation.dtype == np.float32
    assert spec_of(make_env("ReachParts-v0")) == REACH
    checked = check_spec("ReachParts-v0", REACH, "reach")
    source = from_arrays(**reach_data(2), name="reach")
    assert checked.observed.startswith("observes ")
    assert checked.observed in contents.opening_lines(source, source.load(), *checked)


def test_sizes_are_compared_with_the_data():
    check_spec("Reach-v0", REACH, "reach")
    with pytest.raises(InputError, match="observation size 2 and action size 1, .* have 3 and 1"):
        check_spec("Reach-v0", Spec(3, 1), "other")


def test_an_environment_is_made_anew_every_time():
    shared = Reach()
    make_env(Reach), make_env(Reach)
    make_env(lambda: shared)
    for maker in (lambda: shared, lambda: gymnasium.wrappers.TimeLimit(shared, 20)):
        with refused_in_a_line("returns the same environment again"):
            make_env(maker)


def play(env_id: str, seeds, steps: int, number: int = 0):
    """Step SeedEnvs with arbitrary actions; return its results, and copies made at once."""
    envs = SeedEnvs(env_id, seeds, SAME)
    now = envs.begin(number)
    given = [now]
    copies = [[np.array(x) for x in (*now.transition[:6], now.observation, now.starts)]]
    for step in range(steps):
        now = envs.step(np.full((len(seeds), 1), 0.9 * (-1) ** step, np.float32))
        given.append(now)
        copies.append([np.array(x) for x in (*now.transition[:6], now.observation, now.starts)])
    envs.close()
    return given, copies


def test_a_transform_changes_what_the_agent_sees_and_not_what_happens():
    """The agent's numbers are affine in the environment's; actions are stored after clipping."""
    double = SAME._replace(
        observation_shift=np.float32([0.5, -0.5]),
        observation_scale=np.float32([2.0, 4.0]),
        action_scale=np.float32([0.5]),
        reward_scale=10.0,
        reward_shift=-5.0,
    )
    plain, seen = (SeedEnvs("ReachShort-v0", [0, 1], t) for t in (SAME, double))
    before, after = plain.begin(), seen.begin()
    for action in ([0.9, -0.4], [0.1, 1.0]):
        world = np.float32(action)[:, None]
        # The agent's actions are twice as large; the second seed's last one exceeds the bound.
        agent = 2.0 * world + np.float32([[0.0], [0.5 * (action[1] == 1.0)]])
        np.testing.assert_allclose(after.observation, double.observation(before.observation))
        before, after = plain.step(world), seen.step(agent)
        one, two = before.transition, after.transition
        np.testing.assert_allclose(two.observation, double.observation(one.observation))
        np.testing.assert_allclose(two.next_observation, double.observation(one.next_observation))
        np.testing.assert_allclose(two.action, 2.0 * one.action)
        np.testing.assert_allclose(two.reward, 10.0 * one.reward - 5.0, rtol=1e-6)
    plain.close()
    seen.close()


def test_the_first_step_begins_episodes():
    first = play("Reach-v0", [0, 1], 0)[0][0]
    assert first.starts.tolist() == [True, True]
    assert first.observation.shape == (2, 2) and first.observation.dtype == np.float32
    assert not any(x.any() for x in first.transition[:6])


@pytest.mark.parametrize(
    "env_id, length, terminated",
    [("ReachEnds-v0", 3, True), ("ReachShort-v0", 5, False), ("ReachBoth-v0", 5, True)],
)
def test_the_end_of_an_episode(env_id, length, terminated):
    """The successor is stored, the next episode has started, and only one flag is set."""
    steps, _ = play(env_id, [0, 1], 2 * length)
    for step, (before, now) in enumerate(pairwise(steps), start=1):
        kept, ends = now.transition, step % length == 0
        np.testing.assert_array_equal(kept.observation, before.observation)
        expected = successor(kept.observation, kept.action)
        np.testing.assert_allclose(kept.next_observation, expected, atol=1e-6)
        np.testing.assert_allclose(kept.reward, -abs(expected[:, 1]), atol=1e-6)
        assert kept.terminated.tolist() == [ends and terminated] * 2
        assert kept.truncated.tolist() == [ends and not terminated] * 2
        assert now.starts.tolist() == [ends] * 2
        same = np.isclose(now.observation, kept.next_observation).all(axis=1)
        assert same.tolist() == [not ends] * 2
        assert [x.dtype for x in kept[:6]] == [np.float32] * 3 + [bool] * 2 + [np.float32]


def test_what_was_given_does_not_change_later():
    given, copies = play("ReachShort-v0", [0, 1], 7)
    for step, kept in zip(given, copies):
        for x, y in zip((*step.transition[:6], step.observation, step.starts), kept):
            np.testing.assert_array_equal(x, y)


def test_a_seed_sees_the_same_whoever_runs_beside_it():
    together, alone = play("ReachShort-v0", [7, 2, 9], 12)[0], play("ReachShort-v0", [2], 12)[0]
    for x, y in zip(together, alone):
        np.testing.assert_array_equal(x.observation[1:2], y.observation)
        np.testing.assert_array_equal(x.transition.reward[1:2], y.transition.reward)
    starts = [play("Reach-v0", [2], 0, number)[0][0].observation for number in (0, 0, 6)]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.isclose(starts[0], starts[2]).any()


class Watching:
    """A policy that walks straight to the goal and records its observations."""

    def __init__(self):
        self.seen = []

    def __call__(self, params, observation):
        self.seen.append(np.array(observation))
        return np.clip(params * self.seen[-1][..., 1:] / SPEED, -1.0, 1.0).astype(np.float32)


def evaluate(env_id: str, seeds, number: int, episodes: int = 3, speed: float = 1.0):
    evaluator, mode = Evaluator(env_id, episodes, SeedMap(seeds), SAME), Watching()
    found = evaluator(mode, speed, number)
    evaluator.close()
    return found.returns, mode.seen


@pytest.mark.parametrize("env_id", ["Reach-v0", "ReachGoal-v0"])
def test_evaluation_sums_the_rewards_of_whole_episodes(env_id):
    returns, seen = evaluate(env_id, [3, 5], number=4)
    assert returns.shape == (2, 3) and seen[0].shape == (2, 3, 2)
    expected, lengths = np.zeros((2, 3)), set()
    for place in np.ndindex(2, 3):
        observation = seen[0][place]
        length, ended = 0, False
        while not ended:
            action = np.clip(observation[1:] / SPEED, -1.0, 1.0)
            observation = successor(observation, action)
            expected[place] -= abs(observation[1])
            length += 1
            ended = length == 20 or (env_id == "ReachGoal-v0" and abs(observation[1]) < 0.1)
        lengths.add(length)
    np.testing.assert_allclose(returns, expected, atol=1e-5)
    assert (len(lengths) > 1) == (env_id == "ReachGoal-v0")
    assert len(seen) == max(lengths)


def test_evaluation_starts_depend_on_seed_and_number_alone():
    (one, seen), (again, _) = (evaluate("Reach-v0", [3, 5], 4) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one[1:], evaluate("Reach-v0", [5], 4)[0])
    starts = seen[0].reshape(6, 2)
    other = evaluate("Reach-v0", [3, 5], 5)[1][0].reshape(6, 2)
    assert len(np.unique(np.concatenate([starts, other]), axis=0)) == 12


class Listed(Reach):
    """Reach with rewards as lists of one number; Gymnasium's checker would warn."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, [reward], *rest


register("ReachHalf-v0", Odd, kwargs={"action_space": BOX(-2.0, 2.0, (1,), np.float16)})
register("ReachListed-v0", Listed)


@pytest.mark.parametrize(("env_id", "bound"), [("ReachHalf-v0", 2.0), ("ReachListed-v0", 1.0)])
def test_what_can_be_used_is_used_without_a_warning(env_id, bound):
    envs = SeedEnvs(env_id, [0], SAME)
    envs.begin()
    found = envs.step(np.float32([[0.5]])).transition  # warnings are errors here
    expected = successor(found.observation, found.action, bound)
    np.testing.assert_allclose(found.next_observation, expected, atol=1e-3)
    np.testing.assert_allclose(found.reward, -np.abs(expected[:, 1]), atol=1e-3)
    envs.close()
