"""One-step replay of real D4RL rows, and of rows recorded here with a known answer."""

import h5py
import numpy as np
import pytest

from enoto_jax.envs.d4rl.parity import replay
from enoto_jax.envs.gym import make_env
from enoto_jax.types import InputError

POSITIONS = ("root position", "other positions")


@pytest.mark.parametrize(
    "sample, env_id, positions, velocities",
    [
        ("hopper_medium-v2", "enoto/Hopper-d4rl-v0", 5e-7, 1e-5),
        ("halfcheetah_medium-v2", "enoto/HalfCheetah-d4rl-v0", 5e-6, 5e-4),
        ("walker2d_medium-v2", "enoto/Walker2d-d4rl-v0", 5e-7, 1e-4),
        ("antmaze-umaze-v0", "enoto/AntMaze-umaze-v0", 5e-6, 5e-5),
        ("antmaze-medium-diverse-v0", "enoto/AntMaze-medium-v0", 5e-6, 5e-5),
    ],
)
def test_real_steps_to_the_files_precision(samples, sample, env_id, positions, velocities):
    found = replay(samples / f"{sample}.hdf5", env_id, steps=300)
    for name in POSITIONS:
        assert found.groups[name].worst < positions, name
        assert found.groups[name].change > 100 * positions, name
    assert found.groups["velocities"].worst < velocities
    if found.reward is not None:
        assert found.reward.worst < 2e-6 and found.termination == 1.0


def test_real_steps_in_the_large_maze(samples):
    """All but two rows agree; in those the ant touches a wall."""
    found = replay(samples / "antmaze-large-diverse-v0.hdf5", "enoto/AntMaze-large-v0", 2000)
    assert found.steps == 1998
    for name in POSITIONS:
        assert found.groups[name].percentile_90 < 5e-6
        assert found.groups[name].worst < 5e-3


def test_stock_physics_differs(samples):
    found = replay(samples / "hopper_medium-v2.hdf5", "Hopper-v4", steps=200)
    assert 1e-3 < found.groups["velocities"].median < 0.1
    assert found.reward.median > 1e-5 and found.termination == 1.0
    assert found.skipped == 150  # clipped at +-10, so the file lacks the state


def record(path, env_id: str, rows: int, after: bool, **attributes):
    """Write a file of random actions, with the states before or after each step."""
    env, rng = make_env(env_id), np.random.default_rng(3)
    data = env.unwrapped.data
    file = {k: [] for k in ("observations", "actions", "rewards", "terminals", "timeouts")}
    states = []
    observation, _ = env.reset(seed=0)
    for _ in range(rows):
        if "target_goal" in attributes:
            env.unwrapped.goal = np.array(attributes["target_goal"])
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        before = np.concatenate([data.qpos, data.qvel])
        following, reward, ended, late, _ = env.step(action)
        states.append(np.concatenate([data.qpos, data.qvel]) if after else before)
        for key, value in zip(file, (observation, action, reward, ended, late)):
            file[key].append(value)
        observation = env.reset()[0] if ended or late else following
    with h5py.File(path, "w") as out:
        for key, values in file.items():
            out[key] = np.asarray(values)
        nq = len(data.qpos)
        out["infos/qpos"], out["infos/qvel"] = np.split(np.asarray(states), [nq], axis=1)
        out.attrs.update(attributes)
    env.close()
    return path, np.asarray(file["terminals"])


def test_own_steps_are_found_again(tmp_path):
    path, ended = record(tmp_path / "own.hdf5", "Hopper-v4", 60, after=False)
    assert ended.sum() > 1
    found = replay(path, "Hopper-v4")
    assert (found.steps, found.skipped, found.termination) == (60, 0, 1.0)
    assert max(found.groups[name].worst for name in found.groups) < 1e-6
    assert found.reward.worst < 1e-6 < found.reward.change
    assert replay(path, "Hopper-v4", steps=7).steps == 7


def test_antmaze_keeps_the_state_after_the_step(tmp_path):
    """Rewards use the file's goal; here the ant starts at the edge of the goal."""
    path, ended = record(
        tmp_path / "ant.hdf5", "enoto/AntMaze-umaze-v0", 60, after=True, target_goal=[0.5, 0.1]
    )
    assert 0 < ended.sum() < 20
    found = replay(path, "enoto/AntMaze-umaze-v0")
    assert found.steps == 60
    assert max(found.groups[name].worst for name in found.groups) < 1e-6
    assert (found.reward.worst, found.termination) == (0.0, 1.0)
    with h5py.File(path, "a") as file:
        del file.attrs["target_goal"]
    found = replay(path, "enoto/AntMaze-umaze-v0")
    assert (found.reward, found.termination) == (None, None)


def test_what_cannot_be_replayed_is_refused(tmp_path):
    path, _ = record(tmp_path / "own.hdf5", "Hopper-v4", 5, after=False)
    with pytest.raises(InputError, match="Pendulum-v1 is not a MuJoCo environment"):
        replay(path, "Pendulum-v1")
    with pytest.raises(
        InputError, match="qpos, qvel and actions have sizes 6, 6 and 3, but HalfCh"
    ):
        replay(path, "HalfCheetah-v4")
    with h5py.File(path, "a") as file:
        file["infos/qpos"][:] = file["infos/qpos"][0] + 0.1
    with pytest.raises(InputError, match="does not match observations"):
        replay(path, "Hopper-v4")
    with h5py.File(path, "a") as file:
        del file["infos"]
    with pytest.raises(InputError, match="no infos/qpos and no infos/qvel"):
        replay(path, "Hopper-v4")
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        replay(tmp_path / "absent.hdf5", "Hopper-v4")
