"""A trained tanh-Gaussian policy in NumPy, which samples: for roll-outs. Robots have `export`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.types import InputError

Layer = tuple[np.ndarray, np.ndarray]  # kernel [in, out], bias [out]


class NumpyPolicy(NamedTuple):
    """`networks.TanhGaussian` without LayerNorm, for one observation at a time or many.

    Attributes:
      trunk: hidden layers, with ReLU.
      mean: head of the mean before tanh.
      log_std: head of the log standard deviation.
      log_std_range: its bounds.
    """

    trunk: tuple[Layer, ...]
    mean: Layer
    log_std: Layer
    log_std_range: tuple[float, float] = (-20.0, 2.0)

    def moments(self, observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log standard deviation before tanh, both [..., A]."""
        x = observation
        for kernel, bias in self.trunk:
            x = np.maximum(x @ kernel + bias, 0.0)
        log_std = np.clip(x @ self.log_std[0] + self.log_std[1], *self.log_std_range)
        return x @ self.mean[0] + self.mean[1], log_std

    def mode(self, observation: np.ndarray) -> np.ndarray:
        """The deterministic action [..., A]."""
        return np.tanh(self.moments(observation)[0])

    def act(
        self, observation: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A sampled action [..., A] and its log-density [...] (SAC, appendix C)."""
        mean, log_std = self.moments(observation)
        noise = rng.standard_normal(mean.shape, np.float32)
        u = mean + np.exp(log_std) * noise
        normal = -0.5 * (noise**2 + np.log(2.0 * np.pi)) - log_std
        squash = 2.0 * (np.log(2.0) - u - np.logaddexp(0.0, -2.0 * u))
        return np.float32(np.tanh(u)), np.sum(normal - squash, axis=-1)

    def save(self, path: Path, **more: Any) -> None:
        """One .npz file, whole or not at all; `more` are further numbers to keep with it."""
        arrays = {"log_std_range": np.asarray(self.log_std_range), **more}
        named = [*((f"fc{i}", layer) for i, layer in enumerate(self.trunk)), ("mean", self.mean)]
        for name, (kernel, bias) in [*named, ("log_std", self.log_std)]:
            arrays |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
        part = path.with_name(path.name + ".part")
        with open(part, "wb") as file:
            np.savez(file, **arrays)
        os.replace(part, path)


def load(path: str | os.PathLike) -> NumpyPolicy:
    """What `save` wrote.

    Raises:
      InputError: the file is missing or not one of these.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = sorted(n.partition("/")[0] for n in file.files if n.endswith("/kernel"))
            layer = {n: (file[f"{n}/kernel"], file[f"{n}/bias"]) for n in names}
            trunk = tuple(layer[f"fc{i}"] for i in range(len(layer) - 2))
            low, high = file["log_std_range"].tolist()
            return NumpyPolicy(trunk, layer["mean"], layer["log_std"], (low, high))
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a saved policy: {' '.join(str(error).split())}") from error


def from_params(params: Mapping[str, Any], log_std_range: tuple[float, float]) -> NumpyPolicy:
    """The policy of an actor's parameters (of one seed).

    Args:
      params: of `networks.TanhGaussian`.
      log_std_range: that it was made with.

    Raises:
      InputError: the actor has other layers.
    """
    layers = params["params"]
    count = sum(name.startswith("layer_") for name in layers)
    if set(layers) != {*(f"layer_{i}" for i in range(count)), "mean", "log_std"}:
        raise InputError(f"a tanh-Gaussian of plain layers is needed, found {sorted(layers)}")

    def layer(name: str) -> Layer:
        return np.asarray(layers[name]["kernel"]), np.asarray(layers[name]["bias"])

    trunk = tuple(layer(f"layer_{i}") for i in range(count))
    return NumpyPolicy(trunk, layer("mean"), layer("log_std"), tuple(log_std_range))
