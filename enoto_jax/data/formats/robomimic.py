"""Read robomimic's HDF5 files: a group `data/demo_<i>` for each demonstration.

* Every row is a transition if the file has `next_obs`. Without it a demonstration's last row has no
  successor, and is left out unless it is terminal.
* The reward is 1 if the next state is a success, which makes the row terminal. `dones` is not read,
  as it can also be 1 at the end of a failed demonstration. That end counts as cut.
* Observations are robomimic's low-dimensional keys, or, if one of those is missing, all vectors in
  the order of their names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from enoto_jax.data import files, words
from enoto_jax.data.formats.episodes import Layout, Rows, below, survey, width_of
from enoto_jax.types import InputError

_DEMONSTRATION = re.compile(r"demo_(0|[1-9]\d{0,9})", re.ASCII)
_ROBOT = re.compile(r"(obs/robot\d)_eef_pos", re.ASCII)
_MOST_KEYS = 1000


def is_one(path: Path) -> bool:
    """Return whether a file is HDF5 with robomimic's groups."""
    if not os.path.isfile(path) or not h5py.is_hdf5(path):
        return False
    try:
        with files.guarded(path), files.open_hdf5(path) as file:
            return bool(_names(file))
    except InputError:
        return False  # the reader of D4RL's layout reports what is wrong


def _names(file: h5py.File) -> list[str]:
    """The demonstrations' groups, in numeric order."""
    data = files.find(file, "data")
    found = filter(_DEMONSTRATION.fullmatch, data if isinstance(data, h5py.Group) else ())
    return [f"data/{name}" for name in sorted(found, key=lambda name: int(name[5:]))]


@contextmanager
def opened(path: Path) -> Iterator[files.Opened]:
    """Open a file in the flat layout."""
    with files.guarded(path):
        files.check_file(path)
        with files.open_hdf5(path) as file:
            yield _flat(file, path)


def _flat(file: h5py.File, path: Path) -> files.Opened:
    names = _names(file)
    if problems := _groups_problem(file, names):
        return files.Opened({}, {}, problems)
    first = file[names[0]]
    found = {f"obs/{key}": files.find(first, f"obs/{key}") for key in _keys(first["obs"])}
    observed, images = _observed(found)
    notes = _notes(file, observed, images)
    unread = _unread(file, first, {*found} - {*observed, *images})
    attributes = {"notes": notes, "unread": unread}
    if not observed:
        text = f"no vectors in {names[0]}/obs (keys: {', '.join([*found][:12]) or 'none'})"
        return files.Opened({}, attributes, {"observations": text})
    leaves = {leaf: width_of(found[leaf]) for leaf in observed}
    if "next_obs" in first:
        leaves |= {f"next_{leaf}": width for leaf, width in leaves.items()}
    else:
        text = "no next_obs: a demonstration's last row is left out unless it is a success"
        notes.append(text)
    leaves |= {"actions": width_of(files.find(first, "actions")), "rewards": 0}
    episodes, problems = survey(file, names, leaves, path)
    if problems:
        return files.Opened({}, attributes, problems)
    arrays = _arrays(file, Layout(episodes, leaves, observed))
    files.check_memory(arrays.values(), path)
    rewards = arrays["rewards"][()]
    if problem := _rewards_problem(rewards):
        return files.Opened({}, attributes, {"rewards": problem})
    ends = np.isin(np.arange(len(rewards)), np.cumsum([steps for _, steps in episodes]) - 1)
    arrays |= {"terminals": rewards > 0, "timeouts": ends & ~(rewards > 0)}
    return files.Opened(arrays, attributes, {})


def _groups_problem(file: h5py.File, names: Sequence[str]) -> dict[str, str]:
    if not names:
        return {"data": "no data/demo_0: not a robomimic file"}
    for name in names:
        if not isinstance(files.find(file, name), h5py.Group):
            return {name: f"{name} is not a group of arrays; copy the file again"}
        if not isinstance(files.find(file, f"{name}/obs"), h5py.Group):
            text = "has no obs; robomimic's dataset_states_to_obs.py adds observations to states"
            return {name: f"{name} {text}"}
    return {}


def _keys(group: h5py.Group) -> list[str]:
    return sorted(islice(below(group), _MOST_KEYS))


def _observed(found: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The leaves of `obs/` that make up the observation, in order, and those that are images."""
    images = [leaf for leaf, item in found.items() if len(getattr(item, "shape", None) or ()) > 2]
    vectors = [leaf for leaf, item in found.items() if width_of(item) > 0]
    robots = [match[1] for leaf in vectors if (match := _ROBOT.fullmatch(leaf))]
    parts = ("eef_pos", "eef_quat", "gripper_qpos")
    usual = [*(f"{robot}_{part}" for robot in robots for part in parts), "obs/object"]
    return (usual if robots and {*usual} <= {*vectors} else vectors), images


def _notes(file: h5py.File, observed: Sequence[str], images: Sequence[str]) -> list[str]:
    def names(leaves: Sequence[str]) -> str:
        return ", ".join(leaf.removeprefix("obs/") for leaf in leaves)

    notes = [f"observations are {names(observed)}, concatenated"] if len(observed) > 1 else []
    if images:
        notes.append(f"images are left out: {names(images)}")
    told = file["data"].attrs.get("env_args")
    known = json.loads(told) if isinstance(told, str | bytes) else {}
    if isinstance(known, dict) and isinstance(name := known.get("env_name"), str):
        notes.append(f"the data are of robomimic's {name}")
    return notes


def _unread(file: h5py.File, first: h5py.Group, keys: set[str]) -> tuple[str, ...]:
    """Arrays and groups of the file and its first demonstration that are not read."""
    beside = {f"{name}/" for name in islice(file, _MOST_KEYS)} - {"data/"}
    own = set(islice(first, _MOST_KEYS)) - {"obs", "next_obs", "actions", "rewards"}
    return words.unread(keys | beside | own, ())


def _arrays(file: h5py.File, layout: Layout) -> dict[str, Any]:
    steps = sum(steps for _, steps in layout.episodes)

    def rows(*leaves: str) -> Rows:
        width = sum(layout.leaves[leaf] for leaf in leaves)
        shape = (steps, width) if width else (steps,)
        return Rows(file, layout, leaves, slice(None), np.dtype(np.float32), shape)

    following = [f"next_{leaf}" for leaf in layout.observed]
    return {
        "observations": rows(*layout.observed),
        "actions": rows("actions"),
        "rewards": rows("rewards"),
    } | ({"next_observations": rows(*following)} if following[0] in layout.leaves else {})


def _rewards_problem(rewards: np.ndarray) -> str:
    odd = np.isfinite(rewards) & (rewards != 0) & (rewards != 1)
    if not odd.any():
        return ""
    return (
        f"rewards must be 0 or 1, 1 for success, but row {odd.argmax()} is {rewards[odd][0]:g}: "
        "dense rewards do not show which rows are successes; give the file with sparse rewards"
    )
