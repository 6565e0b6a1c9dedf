"""Estimate a run's memory before it starts, and refuse a run that cannot fit."""

from __future__ import annotations

import math
from typing import Any

import jax

from enoto_jax import core
from enoto_jax.data import files
from enoto_jax.data.source import Dataset
from enoto_jax.recipes import examples
from enoto_jax.recipes.recipe import Built
from enoto_jax.training.seeds import SeedMap
from enoto_jax.types import InputError, Spec, plural

GIB = 2**30


def tree_bytes(tree: Any) -> int:
    """Return the bytes of the arrays (or shapes) of a tree."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def estimate(built: Built, spec: Spec, seeds: SeedMap, rows: int) -> dict[str, int]:
    """Estimate the bytes that each part of a run takes of the memory that `available` returns.

    Args:
      built: The recipe's units.
      spec: Sizes of observations and actions.
      seeds: The seeds and their devices.
      rows: Rows of the resident data set; 0 without one.

    Returns:
      Part -> bytes.
    """
    # An accelerator has a memory of its own; all devices on a CPU share one.
    sharing = len(seeds.devices) if seeds.on_cpu else 1
    count = len(seeds.seeds) // len(seeds.devices) * sharing
    states = [
        tree_bytes(jax.eval_shape(lambda a=a: core.init(a, jax.random.key(0))))
        for a in (built.offline, built.online)
        if a is not None
    ]
    one = tree_bytes(jax.eval_shape(lambda: examples.transition(spec, built.online)))
    # Gradients and the new parameters briefly exist next to the old ones.
    return {
        "train state": 2 * max(states) * count,
        "replay": one * built.replay.capacity * count,
        "data set": one * rows * sharing,  # a copy on each device
        "state of the replay": tree_bytes(jax.eval_shape(lambda: built.replay.start(rows))) * count,
    }


def available() -> int | None:
    """Return the first device's memory in bytes, or the memory that is left; None if unknown."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    return files.memory_left()


def size_line(parts: dict[str, int], dataset: Dataset | None) -> str:
    """Describe in one line how large a run is: device, data, memory.

    Args:
      parts: As `estimate` returns them.
      dataset: The loaded data set, or None.
    """
    limit, total = available(), sum(parts.values())
    words = [f"device {jax.device_count()} x {jax.devices()[0].device_kind}"]
    if dataset is not None:
        episodes = plural(len(dataset.episode_ends), "episode")
        words.append(f"{plural(len(dataset), 'transition')} in {episodes}")
    need = f"{total / GIB:.1f} GiB" if total >= GIB else f"{max(1, total >> 20)} MiB"
    words.append(f"memory about {need}" + (f" of {limit / GIB:.1f} GiB" if limit else ""))
    return ", ".join(words)


def check(parts: dict[str, int], capacity: int, limit: int | None) -> None:
    """Refuse a run that cannot fit.

    Raises:
      InputError: It does not fit; the message lists the size of each part and the largest replay
        that fits.
    """
    total = sum(parts.values())
    if limit is None or total <= limit:
        return
    room = limit - total + parts["replay"]
    fits = int(room / (parts["replay"] / capacity))
    words = ", ".join(f"{name} {size / GIB:.2f} GiB" for name, size in parts.items())
    advice = f"--set=online.replay.capacity={fits}" if fits > 0 else "fewer --seeds"
    raise InputError(
        f"memory: this run needs {total / GIB:.2f} GiB ({words}) and {limit / GIB:.2f} GiB are "
        f"available; it fits with {advice}"
    )
