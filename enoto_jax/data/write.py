"""Writes data sets in D4RL's layout, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from enoto_jax.types import Transition


def write_d4rl(
    path: Path,
    transitions: Transition,
    attributes: Mapping[str, Any],
    more: Mapping[str, np.ndarray | str] | None = None,
) -> None:
    """One HDF5 file in D4RL v2's layout; it appears under its name when it is complete.

    Args:
      path: of the file; its folder is made.
      transitions: [M, ...] in the world's numbers, in the order of the steps. The last one is
        marked as a time-out if its episode goes on.
      attributes: of the file's root, e.g. env_id, ref_min_score, ref_max_score.
      more: further data sets by path, such as infos/qpos or metadata/algorithm.
    """
    timeouts = transitions.truncated.copy()
    timeouts[-1] |= not transitions.terminated[-1]
    arrays = {
        "observations": transitions.observation,
        "actions": transitions.action,
        "rewards": transitions.reward,
        "next_observations": transitions.next_observation,
        "terminals": transitions.terminated,
        "timeouts": timeouts,
        **(more or {}),
    }
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(part, "w") as file:
        for name, array in arrays.items():
            if np.ndim(array):
                file.create_dataset(name, data=array, compression="gzip", shuffle=True)
            else:
                file[name] = _plain(array)
        for name, value in attributes.items():
            file.attrs[name] = _plain(value)
    os.replace(part, path)


def _plain(value: Any) -> Any:
    # Fixed-length text: a damaged heap of variable-length text can hang the HDF5 library.
    return np.bytes_(value) if isinstance(value, str) else value
