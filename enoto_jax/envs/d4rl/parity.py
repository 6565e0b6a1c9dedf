"""Measure how far an environment's physics is from that of a recorded data set.

Each recorded state is set in the simulator and stepped once with the recorded action. The result is
compared with the next recorded state.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import gymnasium
import h5py
import mujoco
import numpy as np

from enoto_jax.envs.gym import make_env
from enoto_jax.types import InputError, plural

STATE = ("infos/qpos", "infos/qvel")
NEEDED = ("observations", "actions", "rewards", *STATE)


class Errors(NamedTuple):
    """Distribution over the replayed steps of the largest absolute error within a group."""

    median: float
    percentile_90: float
    worst: float
    change: float  # median of the largest recorded change in a step, for scale


class Parity(NamedTuple):
    """One-step replay of a data set in an environment.

    Attributes:
      env_id: Gymnasium id.
      steps: Number of replayed steps.
      skipped: Rows whose start state is unknown, because its velocities were clipped in the file.
      groups: Errors of `root position` (m), `other positions`, `velocities`.
      reward: Errors of the reward; None if the environment has a goal that the file does not give.
      termination: Fraction of steps on which environment and file agree; None as for `reward`.
    """

    env_id: str
    steps: int
    skipped: int
    groups: dict[str, Errors]
    reward: Errors | None
    termination: float | None


def replay(path: str | os.PathLike, env_id: str, steps: int = 200) -> Parity:
    """Replay recorded steps of a D4RL file in an environment.

    Args:
      path: HDF5 file in D4RL's layout with `infos/qpos` and `infos/qvel`.
      env_id: Id of a MuJoCo environment of Gymnasium, gymnasium-robotics or this package.
      steps: Number of steps, drawn without replacement; all if the file has fewer.

    Raises:
      InputError: The file has no recorded states, or the environment is not MuJoCo's or has other
        sizes.
    """
    data, goal = _read(path)
    env = make_env(env_id)
    try:
        return _replay(path, env, env_id, data, goal, steps)
    finally:
        env.close()


def _replay(path, env, env_id: str, data, goal, steps: int) -> Parity:
    simulator = _simulator(env, env_id)
    model, (nq, nv) = simulator.model, (data[key].shape[1] for key in STATE)
    if (model.nq, model.nv, env.action_space.shape) != (nq, nv, data["actions"].shape[1:]):
        raise InputError(
            f"{path}: qpos, qvel and actions have sizes {nq}, {nv} and {data['actions'].shape[1]}, "
            f"but {env_id} has {model.nq}, {model.nv} and {env.action_space.shape[0]}; give the "
            "environment that the data come from"
        )
    start, end, whole = _pairs(path, data)
    bound = _velocity_bound(data["infos/qvel"])
    recorded = (np.abs(start[1]) < bound).all(axis=1)
    usable = np.flatnonzero(recorded & np.isfinite(start[0]).all(axis=1))
    rows = np.random.default_rng(0).permutation(usable)[:steps]
    if not len(rows):
        raise InputError(f"{path}: no row has a state that can be replayed")

    env.reset(seed=0)
    goals = hasattr(env.unwrapped, "goal")
    if goals and goal is not None:
        env.unwrapped.goal = goal
    after, paid, over = [], [], []
    for row in rows:
        mujoco.mj_resetData(model, simulator.data)
        simulator.set_state(start[0][row], start[1][row])
        _, reward, terminated, _, _ = env.step(data["actions"][row].astype(np.float32))
        after.append(np.concatenate([simulator.data.qpos, simulator.data.qvel]))
        paid.append(reward)
        over.append(terminated)

    # A row that ends an episode has no recorded successor; its reward and its flag still count.
    followed, known = whole[rows], np.asarray(after)
    begin = np.concatenate([part[rows] for part in start], axis=1)[followed]
    truth = np.concatenate([part[rows] for part in end], axis=1)[followed]
    known = known[followed]
    known[:, nq:] = np.clip(known[:, nq:], -bound, bound)
    columns = {
        "root position": slice(0, 2),
        "other positions": slice(2, nq),
        "velocities": slice(nq, nq + nv),
    }
    groups = {
        name: _errors(known[:, part], truth[:, part], begin[:, part])
        for name, part in columns.items()
    }
    reward = termination = None
    if goal is not None or not goals:
        rewards = data["rewards"].reshape(-1)[rows]
        reward = _errors(np.asarray(paid)[:, None], rewards[:, None], np.zeros((len(rows), 1)))
        flags = data["terminals"].reshape(-1)[rows].astype(bool)
        termination = float(np.mean(np.asarray(over, bool) == flags))
    return Parity(env_id, len(rows), int((~recorded).sum()), groups, reward, termination)


def _read(path):
    """The arrays that a replay needs, and the goal that the file's rewards are given for."""
    try:
        with h5py.File(path) as file:
            missing = [key for key in NEEDED if key not in file]
            if missing:
                raise InputError(
                    f"{path}: no {' and no '.join(missing)}; only files that record the "
                    "simulator's state can be replayed"
                )
            keys = (*NEEDED, "terminals", "timeouts")
            data = {key: file[key][()] for key in keys if key in file}
            goal = file.attrs.get("target_goal")
    except OSError as error:
        raise InputError(f"{path}: cannot be read as HDF5: {error}") from error
    none = np.zeros(len(data["actions"]), bool)
    data = {"terminals": none, "timeouts": none, **data}
    return data, goal if goal is None else np.asarray(goal, np.float64)


def _simulator(env: gymnasium.Env, env_id: str):
    """The MuJoCo environment itself; gymnasium-robotics' AntMaze has it as an attribute."""
    env = getattr(env.unwrapped, "ant_env", env.unwrapped)
    if not all(hasattr(env, name) for name in ("model", "data", "set_state")):
        raise InputError(f"--env: {env_id} is not a MuJoCo environment; it cannot be replayed")
    return env


def _pairs(path, data):
    """States before and after every row's action, and for which rows the latter was recorded.

    D4RL's locomotion files store the state before the step, its AntMaze files the one after it.
    """
    qpos, qvel = (data[key].astype(np.float64) for key in STATE)
    ended = (data["terminals"].reshape(-1) + data["timeouts"].reshape(-1)) > 0
    if len(qpos) < 2:
        raise InputError(
            f"{path}: {plural(len(qpos), 'row')}; a step needs the state before and after it"
        )
    before = _distance(data["observations"], qpos)
    later = _distance(data["observations"][1:], qpos[:-1])
    if min(before, later) > 1e-3:
        raise InputError(
            f"{path}: infos/qpos does not match observations, so it cannot be replayed"
        )
    if before <= later:
        whole = ~ended
        whole[-1:] = False
        return (qpos, qvel), tuple(np.roll(x, -1, axis=0) for x in (qpos, qvel)), whole
    start = data["observations"].astype(np.float64)
    positions, velocities = np.split(start[:, : qpos.shape[1] + qvel.shape[1]], [qpos.shape[1]], 1)
    # In some AntMaze files time-outs are a row or two off the true end, so states are compared.
    following = np.roll(start, -1, axis=0)[:, : qpos.shape[1]]
    return (positions, velocities), (qpos, qvel), np.abs(following - qpos).max(axis=1) < 1e-5


def _distance(observations: np.ndarray, qpos: np.ndarray) -> float:
    """Median distance of the positions to those in the observations, which omit up to two."""
    nq = qpos.shape[1]
    apart = [np.abs(observations[:, : nq - k] - qpos[:, k:]).max(axis=1) for k in range(3)]
    return float(min(np.median(x) for x in apart))


def _velocity_bound(qvel: np.ndarray) -> float:
    """The bound to which the file's velocities were clipped; infinite if it occurs only once.

    Observations of Hopper and Walker2d clip velocities at 10, and D4RL's v2 files store the
    velocities of the observation in `infos/qvel`.
    """
    largest = float(np.abs(qvel).max())
    return largest if (np.abs(qvel) == largest).sum() > 1 else np.inf


def _errors(found: np.ndarray, truth: np.ndarray, begin: np.ndarray) -> Errors:
    """Statistics of [steps, numbers]; NaN without a step."""
    if not len(found):
        return Errors(*[float("nan")] * 4)
    error = np.abs(found - truth).max(axis=1)
    change = np.abs(truth - begin).max(axis=1)
    quantiles = (float(x) for x in np.quantile(error, (0.5, 0.9, 1.0)))
    return Errors._make([*quantiles, float(np.median(change))])
