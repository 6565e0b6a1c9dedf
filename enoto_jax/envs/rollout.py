"""Roll-outs: what a policy does in an environment, as a data set with qpos and qvel."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import gymnasium
import numpy as np

from enoto_jax.envs.choice import env_choice
from enoto_jax.envs.guard import Guard
from enoto_jax.envs.gym import Env, make_env
from enoto_jax.types import Transition

# (observation [D], rng) -> action [A] in the world's numbers and its log-density, or NaN
ActFn = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, float]]


class Rollout(NamedTuple):
    """Steps of whole episodes, the last one cut.

    Attributes:
      transitions: [M, ...] in the world's numbers.
      infos: "qpos", "qvel" [M, ...] float64, the state before each step, in MuJoCo environments;
        "action_log_probs" [M] where the policy has a density.
      returns: undiscounted, of the whole episodes [E].
    """

    transitions: Transition
    infos: dict[str, np.ndarray]
    returns: np.ndarray


def rollout(env: Env, act: ActFn, rows: int, seed: int) -> Rollout:
    """`rows` steps of episodes one after the other; the same seed gives the same numbers.

    Args:
      env: Gymnasium id, or what else `env_choice` takes.
      act: the policy.
      rows: M.
      seed: of start states and of the policy's noise.

    Raises:
      InputError: the environment cannot be made.
      RunError: it fails; the message has its name, the seed and the step.
    """
    env = Guard(make_env(env), f"{env_choice(env)} of seed {seed}")
    rng = np.random.default_rng(seed)
    d, a = env.observation_space.shape[0], env.action_space.shape[0]
    made = Transition(
        np.zeros((rows, d), np.float32),
        np.zeros((rows, a), np.float32),
        np.zeros(rows, np.float32),
        np.zeros(rows, bool),
        np.zeros(rows, bool),
        np.zeros((rows, d), np.float32),
    )
    infos, returns, total, ended = _infos(env, rows), [], 0.0, True
    for i in range(rows):
        if ended:
            observation, _ = env.reset(seed=int(rng.integers(2**31)))
            total = 0.0
        for name in infos.keys() & {"qpos", "qvel"}:
            infos[name][i] = getattr(env.unwrapped.data, name)
        action, log_prob = act(np.float32(observation), rng)
        infos["action_log_probs"][i] = log_prob
        following, reward, terminated, truncated, _ = env.step(np.float32(action))
        values = (observation, action, reward, terminated, truncated and not terminated, following)
        for field, value in zip(made[:6], values):
            field[i] = value
        observation, total, ended = following, total + float(reward), terminated or truncated
        if ended:
            returns.append(total)
    env.close()
    if np.isnan(infos["action_log_probs"]).any():
        del infos["action_log_probs"]
    return Rollout(made, infos, np.asarray(returns))


def uniform(size: int) -> ActFn:
    """Uniform random actions in [-1, 1]^size."""

    def act(observation, rng):
        del observation
        return rng.uniform(-1.0, 1.0, size).astype(np.float32), -size * np.log(2.0)

    return act


def _infos(env: gymnasium.Env, rows: int) -> dict[str, np.ndarray]:
    infos = {"action_log_probs": np.zeros(rows, np.float32)}
    data = getattr(env.unwrapped, "data", None)
    if hasattr(data, "qpos"):
        infos |= {k: np.zeros((rows, len(getattr(data, k)))) for k in ("qpos", "qvel")}
    return infos
