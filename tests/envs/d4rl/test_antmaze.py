"""AntMaze's task, and the physics of its model and of the locomotion variants."""

import os
import subprocess
import sys

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from enoto_jax.data import scores
from enoto_jax.envs.d4rl import physics
from enoto_jax.envs.d4rl.mazes import MAZES
from enoto_jax.envs.gym import make_env, spec_of
from enoto_jax.envs.registration import ENVIRONMENTS
from enoto_jax.types import Spec

EVALUATED = {name: family for name, family in scores.FAMILIES.items() if family.env_id}


@pytest.mark.parametrize("name", EVALUATED)
def test_a_family_is_evaluated_in_an_environment_of_its_sizes(name):
    family = EVALUATED[name]
    env = make_env(family.env_id)
    assert spec_of(env) == family.spec
    assert env.spec.max_episode_steps == family.max_episode_steps
    assert scores.family_of(family.env_id, family.spec) is family
    env.close()


def test_ids_say_what_is_scored():
    for name, (_, limit, _) in ENVIRONMENTS.items():
        env = gymnasium.make(f"enoto/{name}")
        family = scores.family_of(f"enoto/{name}", spec_of(env))
        assert family is not None and family.max_episode_steps == limit
        env.close()
    assert scores.family_of("AntMaze_UMaze-v4", Spec(29, 8)) is None
    assert scores.family_of("other/Hopper-v4", Spec(11, 3)) is None


@pytest.mark.parametrize(
    "maze, shape, walls, goal",
    [  # goals by hand: 4 m per cell from the start cell
        ("umaze", (5, 5), 18, (0.0, 8.0)),
        ("medium", (8, 8), 38, (20.0, 20.0)),
        ("large", (9, 12), 62, (32.0, 24.0)),
    ],
)
def test_maps(maze, shape, walls, goal):
    found = MAZES[maze]
    assert {len(row) for row in found.rows} == {shape[1]} and len(found.rows) == shape[0]
    assert len(found.walls) == walls
    np.testing.assert_array_equal(found.goal, goal)


@pytest.mark.parametrize("maze", MAZES)
def test_goals_and_starts_are_drawn_at_every_reset(maze):
    env = make_env(f"enoto/AntMaze-{maze}-v0")
    goals, starts = [], []
    for number in range(200):
        observation, info = env.reset(seed=0 if number == 0 else None)
        goals.append(info["goal"])
        starts.append(observation)
        assert info["success"] is False
    offset, starts = np.asarray(goals) - MAZES[maze].goal, np.asarray(starts)
    assert offset.min() >= 0 and offset.max() <= 1.5 and len(np.unique(offset)) == 400
    np.testing.assert_allclose(offset.mean(axis=0), 0.75, atol=0.08)
    assert offset.min() < 0.2 and offset.max() > 1.3
    position, velocity = starts[:, :15], starts[:, 15:]
    assert np.abs(position[:, :2]).max() <= 0.1 and np.abs(position[:, 2] - 0.75).max() <= 0.1
    np.testing.assert_allclose(np.linalg.norm(position[:, 3:7], axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(velocity.std(), 0.1, atol=0.005)
    again, info = env.reset(seed=0)
    np.testing.assert_array_equal(again, starts[0])
    np.testing.assert_array_equal(info["goal"], goals[0])
    env.close()


@pytest.mark.parametrize("distance, success", [(0.3, True), (0.8, False)])
def test_the_goal_ends_the_task_and_pays_one(distance, success):
    env = make_env("enoto/AntMaze-umaze-v0")
    observation, _ = env.reset(seed=1)
    env.unwrapped.goal = observation[:2] + [distance, 0.0]
    _, reward, terminated, truncated, info = env.step(np.zeros(8, np.float32))
    assert (reward, terminated, truncated, info["success"]) == (success, success, False, success)
    env.close()


def test_the_time_limit():
    env = make_env("enoto/AntMaze-umaze-v0")
    env.reset(seed=1)
    env.unwrapped.goal = np.full(2, 100.0)
    flags = [env.step(np.zeros(8, np.float32))[2:4] for _ in range(700)]
    assert flags == [(False, False)] * 699 + [(False, True)]
    env.close()


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is -?infinity")
def test_gymnasiums_own_checks():
    env = gymnasium.make("enoto/AntMaze-umaze-v0").unwrapped
    check_env(env, skip_render_check=True)
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (8,), np.float32)
    np.testing.assert_array_equal(env.model.actuator_gear[:, 0], 30.0)
    assert env.dt == pytest.approx(0.1)
    env.close()


def test_pictures():
    """Rendering runs in its own process, because a renderer without a display may kill it."""
    code = (
        "import gymnasium, enoto_jax.envs; "
        "env = gymnasium.make('enoto/AntMaze-umaze-v0', render_mode='rgb_array'); "
        "env.reset(seed=0); picture = env.render(); print(picture.shape, picture.std() > 10)"
    )
    environment = {"MUJOCO_GL": "egl", **os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        pytest.skip(f"no renderer here: {done.stderr.strip().splitlines()[-1:]}")
    assert done.stdout.strip() == "(480, 480, 3) True"


CAPSULES = """<mujoco><compiler inertiafromgeom="true" {total}/><worldbody>
  <geom type="plane" size="1 1 1" margin="0.02"/>
  <body><freejoint/>
    <geom type="capsule" size="0.1 0.3" density="500" margin="0.02"/>
  </body>
  <body pos="1 0 0"><freejoint/>
    <geom type="capsule" size="0.1" fromto="0 0 0 0 0.6 0" density="500" margin="{margin}"/>
  </body>
</worldbody></mujoco>"""


def test_capsules_weigh_what_they_did():
    """By hand: a cylinder of the same radius, longer by half the radius at each end."""
    text = CAPSULES.format(total="", margin=0.02)
    model = physics.compile_d4rl(mujoco.MjSpec.from_string(text))
    length = 2 * 0.3 + 0.1
    mass = 500 * np.pi * 0.1**2 * length
    across, along = mass * (3 * 0.1**2 + length**2) / 12, mass * 0.1**2 / 2
    np.testing.assert_allclose(model.body_mass[1:], mass, rtol=1e-12)
    np.testing.assert_allclose(
        np.sort(model.body_inertia[1:], axis=1), [[along, across, across]] * 2, rtol=1e-9
    )
    np.testing.assert_allclose(model.body_ipos[2], [0, 0.3, 0], atol=1e-12)
    assert set(model.geom_margin[model.geom_contype > 0]) == {0.01}
    text = CAPSULES.format(total='settotalmass="3"', margin=0.02)
    model = physics.compile_d4rl(mujoco.MjSpec.from_string(text))
    np.testing.assert_allclose(model.body_mass[1:], 1.5, rtol=1e-12)
    np.testing.assert_allclose(model.body_inertia[1].max(), across * 1.5 / mass, rtol=1e-9)


def test_margins_that_differ_cannot_be_halved():
    with pytest.raises(ValueError, match="all must have one margin"):
        physics.compile_d4rl(mujoco.MjSpec.from_string(CAPSULES.format(total="", margin=0.01)))


def test_runge_kutta_is_mujocos_own_where_nothing_turns_freely():
    env = gymnasium.make("enoto/Hopper-d4rl-v0").unwrapped
    env.reset(seed=0)
    model, one, other = env.model, env.data, mujoco.MjData(env.model)
    other.qpos[:], other.qvel[:] = one.qpos, one.qvel
    other.ctrl[:] = one.ctrl[:] = [0.5, -0.3, 0.2]
    mujoco.mj_step(model, one, nstep=20)
    physics.runge_kutta(model, other, 20)
    np.testing.assert_allclose(other.qpos, one.qpos, atol=1e-8)
    np.testing.assert_allclose(other.qvel, one.qvel, atol=1e-6)
    assert other.time == pytest.approx(one.time)
    env.close()
