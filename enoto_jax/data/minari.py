"""Reads Minari data sets: `<root>/<id>/data/main_data.hdf5` and `metadata.json` beside it.

Each episode is a group `episode_<i>`: observations `[T + 1, size]`, whose last row is the true
successor of the last step, and actions, rewards, terminations and truncations `[T]`. The minari
package is needed only to download. What the flat layout makes of it:

* An episode's last row is marked as a time-out where the data do not say how it ended.
* Terminations stay where they are. Minari's AntMaze episodes go on at the goal, without one.
* Actions are rescaled to [-1, 1] from the bounds of the action space, as `envs.make_env` does.
* Dictionaries are flattened in the order of their keys, as Gymnasium does, or as LAYOUTS says.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from enoto_jax.data import files, words
from enoto_jax.types import InputError

PREFIX = "minari:"
# Which parts of a dictionary are observed, by the environment's id. As in D4RL, AntMaze's agent
# sees its position first and never the goal.
LAYOUTS = ((r"AntMaze_", ("achieved_goal", "observation")),)
# "namespace/environment/name-v0": no dots, so that no id leads out of the root.
_ID = re.compile(r"([\w-]+/)*[\w-]+-v\d+", re.ASCII)
_EPISODE = re.compile(r"episode_(0|[1-9]\d{0,9})", re.ASCII)
_ROWS = ("rewards", "terminations", "truncations")
_METADATA_LIMIT = 1 << 24  # bytes
_MOST_LEAVES = 1000  # groups that hold each other could have any number


def root() -> Path:
    """Minari's own: `$MINARI_DATASETS_PATH`, else `~/.minari/datasets`."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()


def resolve(dataset_id: str, *, download: bool = True) -> Path:
    """The folder of a data set's files, fetched by the minari package if it is not there.

    Args:
        dataset_id: such as `mujoco/hopper/medium-v0`.
        download: whether it may be fetched.

    Raises:
        InputError: if that is no id, or the data set is not there and cannot be fetched.
    """
    if not _ID.fullmatch(dataset_id):
        raise InputError(
            f"{PREFIX + dataset_id!r} is no Minari id; "
            f"ids look like {PREFIX}mujoco/hopper/medium-v0"
        )
    folder = root() / dataset_id
    if not folder.exists():
        if not download:
            raise InputError(f"{PREFIX}{dataset_id}: not in {root()}{_near(dataset_id)}; fetch it")
        _download(dataset_id, folder)
    return folder / "data"


def _near(dataset_id: str) -> str:
    """The ids in the root that look like it."""
    known = [p.parents[1].relative_to(root()) for p in root().glob("**/data/metadata.json")]
    near = difflib.get_close_matches(dataset_id, map(str, known), n=3, cutoff=0.5)
    return f" (which has {', '.join(near)})" if near else ""


def _download(dataset_id: str, folder: Path) -> None:
    """Fetches into a folder beside it, in a process of its own, and then moves it into place."""
    print(f"fetching {PREFIX}{dataset_id} to {folder}", file=sys.stderr)
    code = "import sys, minari; minari.download_dataset(sys.argv[1])"
    try:
        root().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=root()) as part:
            done = subprocess.run(
                [sys.executable, "-c", code, dataset_id],
                env={**os.environ, "MINARI_DATASETS_PATH": part},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            if "No module named" in reason or "is not installed" in reason:
                reason += "; pip install 'enoto_jax[minari]'"
            if done.returncode or not (Path(part) / dataset_id).is_dir():
                raise InputError(
                    f"{PREFIX}{dataset_id}: cannot be fetched ({reason}){_near(dataset_id)}; "
                    f"or put it at {folder}"
                )
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(part) / dataset_id, folder)
    except OSError as error:
        raise InputError(f"{PREFIX}{dataset_id}: cannot be fetched: {error}") from error


@contextmanager
def opened(folder: Path) -> Iterator[files.Opened]:
    """Opens a data set in the flat layout; the attributes are those of D4RL's files, and notes."""
    metadata = _read_metadata(folder / "metadata.json")
    path = folder / "main_data.hdf5"
    if (kind := metadata.get("data_format", "hdf5")) != "hdf5":
        raise InputError(
            f"{folder}: its data_format is {kind!r}, only hdf5 is read; make it again with "
            'data_format="hdf5"'
        )
    with files.guarded(path):
        files.check_file(path)
        spec = _part(metadata, "eval_env_spec", folder) or _part(metadata, "env_spec", folder)
        env_id = spec.get("id")
        with files.open_hdf5(path) as file:
            layout, problems = _survey(file, metadata, _observed(str(env_id)), path)
            attributes = _attributes(metadata, spec, layout)
            if problems:
                yield files.Opened({}, attributes, problems)
                return
            bounds = _bounds(metadata, layout, folder)
            if np.isfinite(bounds).all():
                attributes["action_bounds"] = bounds
            attributes["unread"] = _unread(file, layout)
            arrays = _arrays(file, layout, *_finite(bounds))
            files.check_memory(arrays.values(), path)
            yield files.Opened(arrays, attributes, problems)


class _Layout(NamedTuple):
    """What all episodes have in common, and how long each is."""

    episodes: list[tuple[str, int]]  # group, steps
    leaves: Mapping[str, int]  # data set below each group -> width
    observed: Sequence[str]  # those that make up the observation, in order


def _observed(env_id: str) -> Sequence[str] | None:
    return next((keys for name, keys in LAYOUTS if re.match(name, env_id)), None)


def _survey(
    file: h5py.File, metadata: Mapping[str, Any], keys: Sequence[str] | None, path: Path
) -> tuple[_Layout, dict[str, str]]:
    """Checks the shape of every array of every episode; reads no numbers."""
    names = sorted((k for k in file if _EPISODE.fullmatch(k)), key=lambda k: int(k[8:]))
    total = metadata.get("total_episodes", len(names))
    if not names or total != len(names):
        text = f"holds {len(names)} episodes, its metadata says {total!r:.20}; copy it again"
        return _Layout([], {}, []), {"episodes": text if names else "holds no episode_0"}
    for name in names:
        if not isinstance(files.find(file, name), h5py.Group):
            return _Layout([], {}, []), {name: f"{name} is no group of arrays; copy it again"}
    first = file[names[0]]
    problems: dict[str, str] = {}
    observations = files.find(first, "observations")
    observed = ["observations"]
    if isinstance(observations, h5py.Group):
        found = sorted(islice(_leaves(observations), _MOST_LEAVES + 1))
        if len(found) > _MOST_LEAVES:
            return _Layout([], {}, []), {"observations": f"more than {_MOST_LEAVES} observations"}
        observed = [f"observations/{key}" for key in keys or found]
    widths = {leaf: _width(files.find(first, leaf)) for leaf in (*observed, "actions")}
    layout = _Layout([], widths | dict.fromkeys(_ROWS, 0), observed)
    for name in names:
        rewards = files.find(file, f"{name}/rewards")
        if not isinstance(rewards, h5py.Dataset) or not rewards.shape:
            return layout, problems | {"rewards": f"{name} has no rewards [steps]"}
        steps = rewards.shape[0]
        for leaf, width in layout.leaves.items():
            if leaf not in problems:
                rows = steps + (leaf in observed)
                problem = _wrong(files.find(file, f"{name}/{leaf}"), leaf, rows, width, name, path)
                problems |= {leaf: problem} if problem else {}
        if steps:
            layout.episodes.append((name, steps))
    if not layout.episodes and not problems:
        problems["rewards"] = "has no rows; a data set needs at least one transition"
    return layout, problems


def _unread(file: h5py.File, layout: _Layout) -> tuple[str, ...]:
    """What the first episode holds beside the arrays that are read."""
    first = file[layout.episodes[0][0]]
    names = set(islice(first, _MOST_LEAVES)) - {"observations"}
    if layout.observed != ["observations"]:
        leaves = islice(_leaves(files.find(first, "observations")), _MOST_LEAVES)
        names |= {f"observations/{leaf}" for leaf in leaves}
    return words.unread(names, layout.leaves)


def _leaves(group: h5py.Group, prefix: str = "") -> Iterator[str]:
    for key in group:
        item = files.find(group, key)
        if isinstance(item, h5py.Group):
            yield from _leaves(item, f"{prefix}{key}/")
        else:
            yield prefix + key


def _width(item: Any) -> int:
    """Size of a vector; 0 for a number and for what is none of both, which `_wrong` reports."""
    return item.shape[1] if isinstance(item, h5py.Dataset) and len(item.shape or ()) == 2 else 0


def _wrong(item: Any, leaf: str, rows: int, width: int, name: str, path: Path) -> str | None:
    if not isinstance(item, h5py.Dataset):
        return f"{name} has no {leaf}; a flat vector for every step is needed"
    if item.dtype.kind not in "biuf":
        return f"{leaf} of {name} has type {item.dtype}, real numbers are needed"
    shape = tuple(item.shape or ())
    if leaf in _ROWS:
        good, wanted = shape in ((rows,), (rows, 1)), f"[{rows}]"
    else:
        good, wanted = width > 0 and shape == (rows, width), f"[{rows}, {width or 'size'}]"
    if not good:
        return f"{leaf} of {name} has shape {list(shape)}, {wanted} is needed"
    return files.unwritten(item, f"{leaf} of {name}", path) if rows else None


@dataclass(frozen=True)
class _Rows:
    """One array of the flat layout, put together from all episodes when it is indexed."""

    file: h5py.File
    layout: _Layout
    leaves: Sequence[str]
    rows: slice  # of each episode's array: all but its last or its first, for observations
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def stored(self) -> np.dtype:
        """The widest type in the file."""
        first = self.layout.episodes[0][0]
        types = [self.file[f"{first}/{leaf}"].dtype for leaf in self.leaves]
        return max(types, key=lambda dtype: dtype.itemsize)

    def head(self, rows: int) -> np.ndarray:
        """The first rows of numbers of one width, as they are stored."""
        parts, read = [], 0
        for name, steps in self.layout.episodes:
            leaves = [self.file[f"{name}/{leaf}"][self.rows] for leaf in self.leaves]
            parts.append(np.concatenate([leaf.reshape(steps, -1) for leaf in leaves], axis=1))
            read += steps
            if read >= rows:
                break
        return np.concatenate(parts)[:rows]

    def __getitem__(self, index: Any) -> np.ndarray:
        result, row = np.empty(self.shape, self.dtype), 0
        for name, steps in self.layout.episodes:
            column, target = 0, result[row : row + steps]
            for leaf in self.leaves:
                with np.errstate(all="ignore"):  # what overflows float32 is reported by `clean`
                    values = self.file[f"{name}/{leaf}"][self.rows].astype(self.dtype)
                if not self.layout.leaves[leaf]:
                    target[:] = values.reshape(steps)
                else:
                    width = values.shape[1]
                    target[:, column : column + width] = values
                    column += width
            row += steps
        return result[index]


@dataclass(frozen=True)
class _Timeouts(_Rows):
    """Truncations; an episode that ends without a flag was cut."""

    terminations: _Rows

    def __getitem__(self, index: Any) -> np.ndarray:
        result = super().__getitem__(())
        ends = np.cumsum([steps for _, steps in self.layout.episodes]) - 1
        result[ends] += (result[ends] == 0) & (self.terminations[()][ends] == 0)
        return result[index]


@dataclass(frozen=True)
class _Actions(_Rows):
    """Actions, rescaled from the bounds of the space to [-1, 1]."""

    low: np.ndarray
    high: np.ndarray

    def __getitem__(self, index: Any) -> np.ndarray:
        result = super().__getitem__(())
        if (self.low != -1).any() or (self.high != 1).any():
            result -= self.low.astype(np.float32)
            result *= (2.0 / (self.high - self.low)).astype(np.float32)
            result -= np.float32(1.0)
        return result[index]


def _arrays(file: h5py.File, layout: _Layout, low: np.ndarray, high: np.ndarray) -> dict:
    steps = sum(steps for _, steps in layout.episodes)
    every, number = slice(None), np.dtype(np.float32)

    def rows(leaves, kept=every, dtype=number) -> tuple[Any, ...]:
        width = sum(layout.leaves[leaf] for leaf in leaves)
        shape = (steps, width) if width else (steps,)
        return file, layout, leaves, kept, dtype, shape

    # Flags are read as numbers, so that a value that is no flag stays visible to the checks.
    terminations = _Rows(*rows(["terminations"]))
    return {
        "observations": _Rows(*rows(layout.observed, slice(None, -1))),
        "actions": _Actions(*rows(["actions"]), low, high),  # type: ignore[call-arg]
        "rewards": _Rows(*rows(["rewards"])),
        "terminals": terminations,
        "timeouts": _Timeouts(*rows(["truncations"]), terminations),  # type: ignore[call-arg]
        "next_observations": _Rows(*rows(layout.observed, slice(1, None))),
    }


def _read_metadata(path: Path) -> dict[str, Any]:
    with files.guarded(path):
        if not path.is_file():
            raise InputError(f"{path}: no such file; give the id of a Minari data set, or fetch it")
        if path.stat().st_size > _METADATA_LIMIT:
            raise InputError(f"{path}: too large for metadata; copy or download it again")
        metadata = json.loads(path.read_bytes())
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: holds no metadata; copy or download it again")
    return metadata


def _part(metadata: Mapping[str, Any], key: str, folder: Path) -> dict[str, Any]:
    """An entry that is JSON within JSON; empty where it is missing."""
    value = metadata.get(key)
    with files.guarded(folder / "metadata.json"):
        value = json.loads(value) if isinstance(value, str) else value
    if not isinstance(value, dict | None):
        raise InputError(f"{folder}: {key} in metadata.json cannot be read; copy it again")
    return value or {}


def _bounds(
    metadata: Mapping[str, Any], layout: _Layout, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest action, each [A]; infinite where the space is unknown or unbounded."""
    space, size = _part(metadata, "action_space", folder), layout.leaves["actions"]
    if not space:
        return np.full(size, -np.inf), np.full(size, np.inf)
    if space.get("type") != "Box":
        raise InputError(
            f"{folder}: its actions come from a {space.get('type')!r:.20} space; "
            "a Box is needed (continuous actions)"
        )
    if "int" in str(space.get("dtype")):
        raise InputError(f"{folder}: its actions are whole numbers; continuous ones are needed")
    given = [np.asarray(space.get(key), np.float64).reshape(-1) for key in ("low", "high")]
    if any(len(bound) != size for bound in given) or not (given[0] < given[1]).all():
        raise InputError(
            f"{folder}: the action space in metadata.json has no bounds low < high for {size} "
            "numbers; copy or download it again"
        )
    return given[0], given[1]


def _finite(bounds: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """-1 and 1 for an action without bounds."""
    bounded = np.isfinite(bounds).all(axis=0)
    return np.where(bounded, bounds[0], -1.0), np.where(bounded, bounds[1], 1.0)


def _attributes(
    metadata: Mapping[str, Any], spec: Mapping[str, Any], layout: _Layout
) -> dict[str, Any]:
    """What the metadata say of the task, under the names that D4RL's files use."""
    found = {
        "env_id": spec.get("id"),
        "max_episode_steps": spec.get("max_episode_steps"),
        "ref_min_score": metadata.get("ref_min_score"),
        "ref_max_score": metadata.get("ref_max_score"),
    }
    requirements = metadata.get("requirements")
    if isinstance(requirements, list):
        found["physics"] = ", ".join(map(str, requirements))
    notes, given = [], spec.get("kwargs")
    if isinstance(given, dict) and (
        given := {k: v for k, v in given.items() if k != "render_mode"}
    ):
        found["env_kwargs"] = given
        shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
        notes.append(f"the data are of {spec.get('id')} with arguments: {shown}")
    if len(layout.observed) > 1:
        notes.append(f"observations are {', '.join(k[13:] for k in layout.observed)} in a row")
    return {k: v for k, v in found.items() if v is not None} | {"notes": notes}
