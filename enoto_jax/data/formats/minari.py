"""Read Minari data sets: `<root>/<id>/data/main_data.hdf5` and `metadata.json` next to it.

If the metadata specify arrow or parquet, `minari_columns` reads the episodes; the rest is the same.

Each episode is a group `episode_<i>`: observations `[T + 1, size]`, whose last row is the true
successor of the last step, and actions, rewards, terminations and truncations `[T]`. The minari
package is needed only to download. How an episode maps to the flat layout:

* Its last row is marked as a time-out if the data do not record how it ended.
* Terminations are kept. Minari's AntMaze episodes continue at the goal without one.
* Actions are rescaled to [-1, 1] from the bounds of the action space, as `envs.make_env` does.
* Dictionaries are flattened as Gymnasium flattens their space, or as `envs.robotics` does.
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
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from enoto_jax.data import files, words
from enoto_jax.data.formats import minari_columns
from enoto_jax.data.formats.episodes import Layout, Rows, below, survey, width_of
from enoto_jax.envs import robotics
from enoto_jax.types import InputError, plural

PREFIX = "minari:"
# "namespace/environment/name-v0": no dots, so that no id leads out of the root.
_ID = re.compile(r"([\w-]+/)*[\w-]+-v\d+", re.ASCII)
_EPISODE = re.compile(r"episode_(0|[1-9]\d{0,9})", re.ASCII)
_ROWS = ("rewards", "terminations", "truncations")
_MOST_LEAVES = 1000  # groups that contain each other could have any number


def root() -> Path:
    """Return Minari's own folder: `$MINARI_DATASETS_PATH`, else `~/.minari/datasets`."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()


def resolve(dataset_id: str, *, download: bool = True) -> Path:
    """Return the folder of a data set's files; the minari package downloads it if it is missing.

    Args:
      dataset_id: A Minari id, such as `mujoco/hopper/medium-v0`.
      download: Whether the data set may be downloaded.

    Raises:
      InputError: The id is malformed, or the data set is missing and cannot be downloaded.
    """
    if not _ID.fullmatch(dataset_id):
        raise InputError(
            f"{PREFIX + dataset_id!r} is not a Minari id; "
            f"ids look like {PREFIX}mujoco/hopper/medium-v0"
        )
    folder = root() / dataset_id
    if not os.path.exists(folder):  # False, not an error, for a name that is too long
        if not download:
            raise InputError(f"{PREFIX}{dataset_id}: not in {root()}{_near(dataset_id)}; fetch it")
        _download(dataset_id, folder)
    return folder / "data"


def _near(dataset_id: str) -> str:
    """A hint with the ids in the root that look similar, else ""."""
    known = [p.parents[1].relative_to(root()) for p in root().glob("**/data/metadata.json")]
    near = difflib.get_close_matches(dataset_id, map(str, known), n=3, cutoff=0.5)
    return f" (which has {', '.join(near)})" if near else ""


def _download(dataset_id: str, folder: Path) -> None:
    """Download in a separate process to a temporary folder of the root, then move into place."""
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
    """Open a data set in the flat layout, with the attributes of D4RL's files, and notes."""
    metadata = files.read_json(
        folder / "metadata.json", "give the id of a Minari data set, or fetch it"
    )
    kind = metadata.get("data_format", "hdf5")
    if kind != "hdf5" and kind not in minari_columns.KINDS:
        raise InputError(
            f"{folder}: its data_format is {kind!r:.20}; it must be hdf5, arrow or parquet"
        )
    path = folder / "main_data.hdf5" if kind == "hdf5" else folder
    with files.guarded(path):
        spec = _part(metadata, "eval_env_spec", folder) or _part(metadata, "env_spec", folder)
        if kind == "hdf5":
            files.check_file(path)
        with files.open_hdf5(path) if kind == "hdf5" else nullcontext() as file:
            file = file or minari_columns.Episodes(folder, kind)
            found = _surveyed(file, metadata, robotics.keys_of(str(spec.get("id"))), path)
            attributes = _attributes(metadata, spec, found)
            if found.problems:
                yield files.Opened({}, attributes, found.problems)
                return
            bounds = _bounds(metadata, found.layout, folder)
            if np.isfinite(bounds).all():
                attributes["action_bounds"] = bounds
            else:  # nothing is rescaled: the user has to give the bounds of all actions
                bounds = np.full_like(bounds[0], -1.0), np.full_like(bounds[1], 1.0)
            arrays = _arrays(file, found.layout, *bounds)
            files.check_memory(arrays.values(), path)
            yield files.Opened(arrays, attributes, {})


def _surveyed(
    file: Any, metadata: Mapping[str, Any], keys: Sequence[str] | None, path: Path
) -> minari_columns.Survey:
    """The episodes found, and what is wrong with them."""
    space = _part(metadata, "observation_space", path)
    if isinstance(file, minari_columns.Episodes):
        return minari_columns.survey(file, metadata.get("total_episodes"), space, keys)
    layout, problems = _survey(file, metadata.get("total_episodes"), space, keys, path)
    return minari_columns.Survey(layout, problems, () if problems else _unread(file, layout))


def _survey(
    file: h5py.File,
    total: Any,
    space: Mapping[str, Any],
    keys: Sequence[str] | None,
    path: Path,
) -> tuple[Layout, dict[str, str]]:
    """Check the shape of every array of every episode without reading numbers."""
    names = sorted((k for k in file if _EPISODE.fullmatch(k)), key=lambda k: int(k[8:]))
    if not names or total not in (None, len(names)):
        text = (
            f"contains {plural(len(names), 'episode')}, but its metadata "
            f"declares {total!r:.20}; copy it again"
        )
        return Layout([], {}, []), {"episodes": text if names else "has no episode_0"}
    for name in names:
        if not isinstance(files.find(file, name), h5py.Group):
            return Layout([], {}, []), {name: f"{name} is not a group of arrays; copy it again"}
    first = file[names[0]]
    observations = files.find(first, "observations")
    observed = ["observations"]
    if isinstance(observations, h5py.Group):
        found = [f"observations/{k}" for k in islice(below(observations), _MOST_LEAVES + 1)]
        if len(found) > _MOST_LEAVES:
            return Layout([], {}, []), {
                "observations": f"there are more than {_MOST_LEAVES} observation arrays"
            }
        if not found:
            return Layout([], {}, []), {
                "observations": "observations of episode_0 contain no array"
            }
        observed = [f"observations/{key}" for key in keys or ()]
        observed = observed or minari_columns.in_order(found, space)
    widths = {leaf: width_of(files.find(first, leaf)) for leaf in (*observed, "actions")}
    leaves = widths | dict.fromkeys(_ROWS, 0)
    episodes, problems = survey(file, names, leaves, path, longer=observed)
    return Layout(episodes, leaves, observed), problems


def _unread(file: h5py.File, layout: Layout) -> tuple[str, ...]:
    """Arrays of the first episode that are not read."""
    first = file[layout.episodes[0][0]]
    names = set(islice(first, _MOST_LEAVES)) - {"observations"}
    if layout.observed != ["observations"]:
        leaves = islice(below(files.find(first, "observations")), _MOST_LEAVES)
        names |= {f"observations/{leaf}" for leaf in leaves}
    return words.unread(names, layout.leaves)


@dataclass(frozen=True)
class _Timeouts(Rows):
    """Truncations; an episode that ends without a flag counts as cut."""

    terminations: Rows

    def __getitem__(self, index: Any) -> np.ndarray:
        result = super().__getitem__(())
        ends = np.cumsum([steps for _, steps in self.layout.episodes]) - 1
        result[ends] += (result[ends] == 0) & (self.terminations[()][ends] == 0)
        return result[index]


@dataclass(frozen=True)
class _Actions(Rows):
    """Actions, rescaled from the action space's bounds to [-1, 1]."""

    low: np.ndarray
    high: np.ndarray

    def __getitem__(self, index: Any) -> np.ndarray:
        result = super().__getitem__(())
        if (self.low != -1).any() or (self.high != 1).any():
            result -= self.low.astype(np.float32)
            result *= (2.0 / (self.high - self.low)).astype(np.float32)
            result -= np.float32(1.0)
        return result[index]


def _arrays(file: h5py.File, layout: Layout, low: np.ndarray, high: np.ndarray) -> dict:
    steps = sum(steps for _, steps in layout.episodes)
    every, number = slice(None), np.dtype(np.float32)

    def rows(leaves, kept=every, dtype=number) -> tuple[Any, ...]:
        width = sum(layout.leaves[leaf] for leaf in leaves)
        shape = (steps, width) if width else (steps,)
        return file, layout, leaves, kept, dtype, shape

    # Flags are read as numbers, so that the checks can see values that are not flags.
    terminations = Rows(*rows(["terminations"]))
    return {
        "observations": Rows(*rows(layout.observed, slice(None, -1))),
        "actions": _Actions(*rows(["actions"]), low, high),  # type: ignore[call-arg]
        "rewards": Rows(*rows(["rewards"])),
        "terminals": terminations,
        "timeouts": _Timeouts(*rows(["truncations"]), terminations),  # type: ignore[call-arg]
        "next_observations": Rows(*rows(layout.observed, slice(1, None))),
    }


def _part(metadata: Mapping[str, Any], key: str, folder: Path) -> dict[str, Any]:
    """An entry that is JSON within JSON; empty if it is missing."""
    value = metadata.get(key)
    with files.guarded(folder / "metadata.json"):
        value = json.loads(value) if isinstance(value, str) else value
    if not isinstance(value, dict | None):
        raise InputError(f"{folder}: {key} in metadata.json cannot be read; copy it again")
    return value or {}


def _bounds(
    metadata: Mapping[str, Any], layout: Layout, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest action, each [A]; infinite if the space is unknown or unbounded."""
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


def _attributes(
    metadata: Mapping[str, Any], spec: Mapping[str, Any], found: minari_columns.Survey
) -> dict[str, Any]:
    """What the metadata state about the task, under the names that D4RL's files use."""
    told = {
        "env_id": spec.get("id"),
        "max_episode_steps": spec.get("max_episode_steps"),
        "ref_min_score": metadata.get("ref_min_score"),
        "ref_max_score": metadata.get("ref_max_score"),
    }
    requirements = metadata.get("requirements")
    if isinstance(requirements, list):
        told["physics"] = ", ".join(map(str, requirements))
    notes, given = [], spec.get("kwargs")
    if isinstance(given, dict) and (
        given := {k: v for k, v in given.items() if k != "render_mode"}
    ):
        told["env_kwargs"] = given
        shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
        notes.append(f"the data are of {spec.get('id')} with arguments: {shown}")
    observed = [leaf.removeprefix("observations/") for leaf in found.layout.observed]
    if len(observed) > 1:
        notes.append(f"observations are {', '.join(observed)}, concatenated")
    if found.images:
        notes.append(f"images are left out: {', '.join(k[13:] for k in found.images)}")
    told["unread"] = words.unread(found.unread, ())
    return {k: v for k, v in told.items() if v is not None} | {"notes": notes}
