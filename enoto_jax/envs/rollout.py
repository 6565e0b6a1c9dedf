"""Record what a policy does in an environment, as a data set with qpos and qvel.

Includes a tanh-Gaussian policy in NumPy, which samples and is faster at single observations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from enoto_jax.atomic import written_whole
from enoto_jax.envs.choice import env_choice
from enoto_jax.envs.guard import Guard
from enoto_jax.envs.gym import Env, make_env
from enoto_jax.types import InputError, Transition

# (observation [D], rng) -> untransformed action [A], and its log-density or NaN
ActFn = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, Any]]


class Rollout(NamedTuple):
    """Steps of consecutive episodes; the last episode may be cut.

    Attributes:
      transitions: [M, ...], untransformed.
      infos: "qpos", "qvel" [M, ...] float64, the state before each step, in MuJoCo environments;
        "action_log_probs" [M] if the policy has a density.
      returns: Undiscounted returns of the complete episodes, [E].
    """

    transitions: Transition
    infos: dict[str, np.ndarray]
    returns: np.ndarray


def rollout(env: Env, act: ActFn, rows: int, seed: int) -> Rollout:
    """Record `rows` steps of consecutive episodes; the same seed gives the same numbers.

    Args:
      env: Gymnasium id, or anything else that `env_choice` takes.
      act: The policy.
      rows: Number of steps M.
      seed: Seed of the start states and of the policy's noise.

    Raises:
      InputError: The environment cannot be made.
      RunError: The environment fails; the message has its name, the seed and the step.
    """
    world: Any = Guard(make_env(env), f"{env_choice(env)} of seed {seed}")
    rng = np.random.default_rng(seed)
    d, a = world.observation_space.shape[0], world.action_space.shape[0]
    made = Transition(
        np.zeros((rows, d), np.float32),
        np.zeros((rows, a), np.float32),
        np.zeros(rows, np.float32),
        np.zeros(rows, bool),
        np.zeros(rows, bool),
        np.zeros((rows, d), np.float32),
    )
    infos, returns, total, ended = _infos(world, rows), [], 0.0, True
    for i in range(rows):
        if ended:
            observation, _ = world.reset(seed=int(rng.integers(2**31)))
            total = 0.0
        for name in infos.keys() & {"qpos", "qvel"}:
            infos[name][i] = getattr(world.unwrapped.data, name)
        action, log_prob = act(np.asarray(observation, np.float32), rng)
        infos["action_log_probs"][i] = log_prob
        following, reward, terminated, truncated, _ = world.step(np.asarray(action, np.float32))
        values = (observation, action, reward, terminated, truncated and not terminated, following)
        for field, value in zip(made[:6], values):
            field[i] = value
        observation, total, ended = following, total + float(reward), terminated or truncated
        if ended:
            returns.append(total)
    world.close()
    if np.isnan(infos["action_log_probs"]).any():
        del infos["action_log_probs"]
    return Rollout(made, infos, np.asarray(returns))


def uniform(size: int) -> ActFn:
    """Return a policy of uniform random actions in [-1, 1]^size."""

    def act(observation, rng):
        del observation
        return rng.uniform(-1.0, 1.0, size).astype(np.float32), -size * np.log(2.0)

    return act


def _infos(env: gymnasium.Env, rows: int) -> dict[str, np.ndarray]:
    infos: dict[str, np.ndarray] = {"action_log_probs": np.zeros(rows, np.float32)}
    data = getattr(env.unwrapped, "data", None)
    if hasattr(data, "qpos"):
        infos |= {k: np.zeros((rows, len(getattr(data, k)))) for k in ("qpos", "qvel")}
    return infos


Layer = tuple[np.ndarray, np.ndarray]  # kernel [in, out], bias [out]


class NumpyPolicy(NamedTuple):
    """`networks.TanhGaussian` without LayerNorm, for one observation at a time or many.

    Attributes:
      trunk: Hidden layers, with ReLU.
      mean: Output layer for the mean before tanh.
      log_std: Output layer for the log standard deviation.
      log_std_range: Bounds of the log standard deviation.
    """

    trunk: tuple[Layer, ...]
    mean: Layer
    log_std: Layer
    log_std_range: tuple[float, float] = (-20.0, 2.0)

    def moments(self, observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log standard deviation before tanh, both [..., A]."""
        x = observation
        for kernel, bias in self.trunk:
            x = np.maximum(x @ kernel + bias, 0.0)
        log_std = np.clip(x @ self.log_std[0] + self.log_std[1], *self.log_std_range)
        return x @ self.mean[0] + self.mean[1], log_std

    def act(
        self, observation: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sample an action [..., A]; return it and its log-density [...] (SAC, appendix C)."""
        mean, log_std = self.moments(observation)
        noise = rng.standard_normal(mean.shape, np.float32)
        u = mean + np.exp(log_std) * noise
        normal = -0.5 * (noise**2 + np.log(2.0 * np.pi)) - log_std
        squash = 2.0 * (np.log(2.0) - u - np.logaddexp(0.0, -2.0 * u))
        return np.asarray(np.tanh(u), np.float32), np.sum(normal - squash, axis=-1)

    def save(self, path: Path, **more: Any) -> None:
        """Write one .npz file, completely or not at all; `more` are further numbers to store."""
        arrays = {"log_std_range": np.asarray(self.log_std_range), **more}
        named = [*((f"fc{i}", layer) for i, layer in enumerate(self.trunk)), ("mean", self.mean)]
        for name, (kernel, bias) in [*named, ("log_std", self.log_std)]:
            arrays |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
        with written_whole(path) as part:
            np.savez(part, **arrays)

    @classmethod
    def load(cls, path: Path) -> NumpyPolicy:
        """Load what `save` wrote.

        Raises:
          InputError: The file is missing or not a saved policy.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                names = sorted(n.partition("/")[0] for n in file.files if n.endswith("/kernel"))
                layer = {n: (file[f"{n}/kernel"], file[f"{n}/bias"]) for n in names}
                trunk = tuple(layer[f"fc{i}"] for i in range(len(layer) - 2))
                low, high = file["log_std_range"].tolist()
                return cls(trunk, layer["mean"], layer["log_std"], (low, high))
        except (OSError, KeyError, ValueError, EOFError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: not a saved policy: {reason}") from error

    @classmethod
    def from_params(
        cls, params: Mapping[str, Any], log_std_range: tuple[float, float]
    ) -> NumpyPolicy:
        """Make the policy from an actor's parameters (of one seed).

        Args:
          params: Parameters of a `networks.TanhGaussian`.
          log_std_range: The range that the actor was made with.

        Raises:
          InputError: The actor has other layers.
        """
        layers = params["params"]
        count = sum(name.startswith("layer_") for name in layers)
        if set(layers) != {*(f"layer_{i}" for i in range(count)), "mean", "log_std"}:
            raise InputError(f"expected a tanh-Gaussian of plain layers, found {sorted(layers)}")

        def layer(name: str) -> Layer:
            return np.asarray(layers[name]["kernel"]), np.asarray(layers[name]["bias"])

        trunk = tuple(layer(f"layer_{i}") for i in range(count))
        return cls(trunk, layer("mean"), layer("log_std"), log_std_range)
