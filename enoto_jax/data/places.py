"""Find data sets: what a task names, where its files are, and what opens them."""

from __future__ import annotations

import errno
import os
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import gymnasium

from enoto_jax.data import files
from enoto_jax.data.download import catalogue, resolve
from enoto_jax.data.formats import d4rl, lerobot, minari, ogbench, robomimic
from enoto_jax.types import InputError

ASSETS = Path(__file__).with_name("assets")
_SUFFIXES = (".hdf5", ".h5", ".npz")
# A plain Gymnasium id. "module:Id-v0" would import code that a data file names, so it is excluded.
ENV_ID = re.compile(r"([\w-]+/)?[\w-]+-v\d+")
# The separator of data sets in a list: a + after a suffix or an id's version.
_PLUS = re.compile(r"(?i)(?<=\.hdf5)\+|(?<=\.h5)\+|(?<=\.npz)\+|(?<=-v\d)\+|(?<=-v\d\d)\+")


def split(task: str | os.PathLike | None) -> list[str]:
    """Split a task into its data sets: `a.hdf5+b.hdf5` is two, unless a file has that very name.

    Raises:
      InputError: The task or one of its parts is empty, as with an unset shell variable, or the
        task is neither text nor a path.
    """
    if task is None:
        return [""]
    if not isinstance(task, str | os.PathLike):
        raise InputError(
            f"--task: {type(task).__name__}; give an id or a path, and arrays to from_arrays(...)"
        )
    task = os.fspath(task)
    parts = [task] if os.path.isfile(os.path.expanduser(task)) else _PLUS.split(task)
    if not all(part.strip() for part in parts):
        raise InputError(
            f"--task: {task!r} does not name a data set (is a shell variable empty?); give an "
            "id or a file, or leave out --task for the bundled data set"
        )
    return parts


class Place(NamedTuple):
    """Where a data set is, and how it is opened."""

    opened: files.Opener
    path: Path
    name: str
    in_family: bool = True  # whether the name can mean one of D4RL's environments


def locate(task: str, *, download: bool = True) -> Place:
    """Find one data set without reading it; arguments and errors as in `load_source`."""
    if not task:
        path = _bundled()
        return Place(d4rl.opened, path, path.stem)
    if task.startswith(minari.PREFIX):
        name = task.removeprefix(minari.PREFIX)
        # Minari's tasks have other physics, so D4RL's reference returns do not apply.
        return Place(minari.opened, minari.resolve(name, download=download), name, False)
    if task.startswith(ogbench.PREFIX):
        path, name, opened = ogbench.resolve(task.removeprefix(ogbench.PREFIX))
        return Place(opened, path, name, False)
    if task.startswith(lerobot.PREFIX):
        path = Path(os.path.expanduser(task.removeprefix(lerobot.PREFIX)))
        if not lerobot.is_one(path):
            raise InputError(
                f"{task}: no meta/info.json in {path}; give the folder of a LeRobot data set"
            )
        return Place(partial(lerobot.opened, invented=True), path, path.resolve().name, False)
    path = Path(os.path.expanduser(task))
    if path.suffix.lower() in _SUFFIXES:
        if found := ogbench.hint(path):
            raise InputError(f"{path}: {found}")
        if robomimic.is_one(path):
            return Place(robomimic.opened, path, path.stem, False)
        return Place(d4rl.opened, path, path.stem)
    if lerobot.is_one(path):
        return Place(lerobot.opened, path, path.resolve().name, False)
    if task not in catalogue() and (found := _what_is_there(path) or _environment(task)):
        raise InputError(f"{task}: {found}")
    return Place(d4rl.opened, resolve(task, download=download), task)


def _environment(task: str) -> str:
    known = ENV_ID.fullmatch(task) and task in gymnasium.registry
    return "is an environment; give it as --env, and a data set as --task" if known else ""


def _what_is_there(path: Path) -> str:
    """Describe a path that no reader can open; "" if it does not exist."""
    kinds = ", ".join(_SUFFIXES)
    try:
        if not path.exists():
            return ""
        entries = sorted(p.name for p in path.iterdir()) if path.is_dir() else None
    except OSError as error:  # such as a name that is too long
        return "" if error.errno == errno.ENAMETOOLONG else f"cannot be read: {error.strerror}"
    if entries is None:
        return (
            f"is a file of an unsupported type ({path.suffix or 'no suffix'}); data sets are "
            f"{kinds} files, see docs/own_data.md"
        )
    of_minari = ("data/metadata.json", "data/main_data.hdf5", "main_data.hdf5")
    if any((path / name).exists() for name in of_minari):
        return (
            f"is a Minari data set; give {minari.PREFIX}ID, with its root in MINARI_DATASETS_PATH"
        )
    if "config.json" in entries:
        return "is the folder of a run; give the data set that it was trained on"
    held = [name for name in entries if name.lower().endswith(_SUFFIXES)]
    if not held:
        return f"is a folder without {kinds} files; give the path of one"
    shown = ", ".join(held[:5]) + f" and {len(held) - 5} more" * (len(held) > 5)
    return f"is a folder; give one of its files ({shown}), or several joined by +"


def _bundled() -> Path:
    found = sorted(ASSETS.glob("*.hdf5"))
    if len(found) != 1:
        raise InputError(
            f"{ASSETS}: contains {len(found)} .hdf5 files instead of the one that ships with the "
            "package; give a D4RL id or the path of a data set"
        )
    return found[0]
