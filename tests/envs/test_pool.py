"""envpool steps as Gymnasium does (physics, episode ends, seeds), and refusals."""

from itertools import pairwise

import mujoco
import numpy as np
import pytest

from enoto_jax.envs import pool
from enoto_jax.envs.gym import make_env, spec_of
from enoto_jax.transforms import transform
from enoto_jax.types import InputError

ENV = "Hopper-v4"


@pytest.mark.parametrize(
    "backend, env_id, message",
    [
        ("other", ENV, "'other'; choose gymnasium or envpool"),
        ("envpool", "Reach-v0", "not for Reach-v0; use --envs_backend=gymnasium"),
    ],
)
def test_refused(backend, env_id, message):
    with pytest.raises(InputError, match=message):
        pool.check(backend, env_id)


def test_gymnasium_needs_nothing():
    pool.check("gymnasium", "Reach-v0")


@pytest.fixture(scope="module")
def steps():
    """Random steps over some episodes: of two seeds together, and of the second seed alone."""
    pytest.importorskip("envpool")
    spec = spec_of(make_env(ENV))
    actions = np.random.default_rng(0).uniform(-1, 1, (80, 2, spec.action_size)).astype(np.float32)
    found = []
    for seeds in ((3, 5), (5,)):
        envs = pool.PoolEnvs(ENV, seeds, transform()(spec, None))
        made = [envs.begin(7)]
        made += [envs.step(own[-len(seeds) :]) for own in actions]
        assert envs.capture() is None
        envs.close()
        found.append(made)
    return found


def test_a_step_is_gymnasiums(steps):
    env = make_env(ENV)
    env.reset(seed=0)
    simulator = env.unwrapped
    ended = 0
    for step in steps[1][1:]:
        one = step.transition
        seen = one.observation[0].astype(np.float64)
        mujoco.mj_resetData(simulator.model, simulator.data)
        simulator.set_state(np.concatenate([[0.0], seen[:5]]), seen[5:])
        after, reward, terminated, _, _ = env.step(one.action[0])
        assert terminated == one.terminated[0]
        ended += terminated
        # The recorded state is rounded to float32.
        np.testing.assert_allclose(one.next_observation[0], after, rtol=1e-3, atol=2e-3)
        np.testing.assert_allclose(one.reward[0], reward, rtol=1e-3, atol=2e-3)
    assert ended


def test_episodes_follow_one_another_without_a_lost_step(steps):
    for seeds in steps:
        for before, step in pairwise(seeds):
            np.testing.assert_array_equal(step.transition.observation, before.observation)
            ended = step.transition.terminated | step.transition.truncated
            np.testing.assert_array_equal(step.starts, ended)
            same = (step.observation == step.transition.next_observation).all(axis=1)
            np.testing.assert_array_equal(same, ~ended)
            assert (np.abs(step.observation[ended, 1:]) < 0.01).all()  # a start state


def test_a_seed_does_not_depend_on_the_others(steps):
    for together, alone in zip(*steps):
        np.testing.assert_array_equal(together.observation[1], alone.observation[0])
    first = steps[0][0].observation
    assert not np.array_equal(first[0], first[1])
