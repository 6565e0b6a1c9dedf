"""Read OGBench's single tasks: its .npz files, with the rewards of one of an environment's tasks.

A file has one row more per episode than steps. The last row's action leads nowhere, so the row is
dropped. The file holds no rewards: they are computed from the simulator's state (`qpos`,
`button_states`) before the action, as in ogbench's `relabel_dataset`. With n subtasks the reward is
the number of subtasks done minus n, and a row in which all are done is terminal. The recording
continues there, so terminal rows lie within episodes, as in AntMaze. An id that ends in
`-sparse-v0` selects rewards of -1 until all are done, as Q-chunking uses in scenes and puzzles.

The goals of all tasks are in ogbench_goals.tsv, as the ogbench package (1.2.2) sets them; the
package itself is needed only for the environments.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.data import arrays as flat
from enoto_jax.data import files, words
from enoto_jax.data.formats import d4rl
from enoto_jax.types import InputError

PREFIX = "ogbench:"
_GOALS = Path(__file__).with_name("ogbench_goals.tsv")
_KINDS = "navigate|stitch|explore|play|noisy"
_ID = re.compile(rf"([\w-]+)-({_KINDS})-singletask(?:-task([1-5]))?(-sparse)?-v0", re.ASCII)
_FILE = re.compile(rf"([\w-]+)-({_KINDS})-v0", re.ASCII)
_CUBES, _CUBE = 14, 7  # index of the first cube's position in qpos, numbers per cube
_NEAR = 0.04  # tolerance for a cube, a drawer, a window


class Task(NamedTuple):
    """One task of an environment.

    Attributes:
      environment: The environment's name, such as pointmaze-medium.
      number: The task's number, 1 to 5.
      limit: Time limit of an episode in steps.
      numbers: The goal. In mazes x, y and the tolerance; for cubes x, y, z of each; in the scene
        also the positions of the drawer and the window.
      buttons: Goal states of the buttons.
      sparse: Whether the reward is -1 until all subtasks are done.
    """

    environment: str
    number: int
    limit: int
    numbers: tuple[float, ...]
    buttons: tuple[int, ...]
    sparse: bool = False

    @property
    def env_id(self) -> str:
        """The Gymnasium id, registered once the package is imported."""
        return f"{self.environment}-singletask-task{self.number}-v0"


@functools.cache
def tasks() -> Mapping[tuple[str, int], Task]:
    """Return all tasks, by environment and number; number 0 is the environment's default."""
    found = {}
    for line in _GOALS.read_text().splitlines()[1:]:
        environment, number, default, limit, numbers, buttons = line.split("\t")
        places = () if numbers == "-" else tuple(map(float, numbers.split(",")))
        states = () if buttons == "-" else tuple(map(int, buttons))
        task = Task(environment, int(number), int(limit), places, states)
        found[environment, task.number] = task
        if int(default):
            found[environment, 0] = task
    return found


def root() -> Path:
    """Return `$OGBENCH_DATASET_DIR`, else the package's own folder, `~/.ogbench/data`."""
    return Path(os.environ.get("OGBENCH_DATASET_DIR") or "~/.ogbench/data").expanduser()


class Found(NamedTuple):
    """A data set's file, and the task that it is read for."""

    path: Path
    name: str  # the task's id
    opened: files.Opener


def resolve(text: str) -> Found:
    """Find the file of an id, in `root` or in the folder that precedes the id.

    Args:
      text: An id, such as `pointmaze-medium-navigate-singletask-task1-v0`.

    Raises:
      InputError: The id is not a single task's, or its file is missing.
    """
    path = Path(os.path.expanduser(text))
    folder = root() if path.name == text else path.parent
    parts = _ID.fullmatch(path.name)
    if parts is None:
        raise InputError(
            f"{PREFIX}{text} is not a single task of OGBench; ids look like "
            f"{PREFIX}pointmaze-medium-navigate-singletask-task1-v0"
        )
    environment, kind, number, sparse = parts.groups()
    task = tasks().get((environment, int(number or 0)))
    if task is None:
        known = sorted({name for name, _ in tasks()})
        near = difflib.get_close_matches(environment, known, n=3, cutoff=0.5) or known
        raise InputError(
            f"{PREFIX}{text}: no environment {environment!r} with that task; "
            f"nearest: {', '.join(near)}"
        )
    file = folder / f"{environment}-{kind}-v0.npz"
    if not file.exists():
        raise InputError(
            f"{PREFIX}{text}: no {file.name} in {folder}; fetch it with "
            f"ogbench.download_datasets(['{file.stem}'], '{folder}'), or set OGBENCH_DATASET_DIR"
        )
    task = task._replace(sparse=sparse is not None)
    return Found(file, path.name, functools.partial(opened, task))


def hint(path: Path) -> str:
    """Return what to give instead of a file of OGBench's without rewards; "" for other files."""
    parts = _FILE.fullmatch(path.stem)
    if parts is None or (parts[1], 1) not in tasks() or not zipfile.is_zipfile(path):
        return ""
    with files.guarded(path), zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    if "qpos.npy" not in names or "rewards.npy" in names:
        return ""
    one = path.with_name(f"{parts[1]}-{parts[2]}-singletask-task1-v0")
    return f"is an OGBench file, which has no rewards: name a task, such as {PREFIX}{one}"


@contextmanager
def opened(task: Task, path: Path) -> Iterator[files.Opened]:
    """Open a file in the flat layout, relabelled for a task."""
    with files.guarded(path):
        files.check_file(path)
        with zipfile.ZipFile(path) as archive:
            file = d4rl.Npz(archive)
            used = ["observations", "actions", "terminals"]
            used += ["qpos"] * bool(task.numbers) + ["button_states"] * bool(task.buttons)
            problems = _problems(file, used, task, path)
            attributes = {
                "env_id": task.env_id,
                "env_kwargs": {"sparse": True} if task.sparse else {},
                "max_episode_steps": task.limit,
                "unread": words.unread(file, [*used, "origin", "physics"]),
                "notes": _notes(path, file),
                **file.attrs,
            }
            if problems:
                yield files.Opened({}, attributes, problems)
                return
            files.check_memory([file[name] for name in used], path)
            ends = words.flag_values(file["terminals"])
            if problem := _ends_problem(ends):
                yield files.Opened({}, attributes, {"terminals": problem})
                return
            yield files.Opened(_arrays(file, task, ends == 1), attributes, {})


def _notes(path: Path, file: d4rl.Npz) -> tuple[Any, ...]:
    beside = path.with_name(f"{path.stem}-val.npz")
    found = (f"{beside.name}, its validation data, is not read",) if beside.exists() else ()
    origin = file.get("origin")  # in files that `enoto collect` recorded
    return (origin[()], *found) if origin is not None and origin.is_setting else found


def _problems(file: Mapping[str, Any], used: list[str], task: Task, path: Path) -> dict[str, str]:
    """What is wrong with names, types and shapes, by name."""
    found = {}
    for name in used:
        if name not in file:
            text = f"no {name} (keys found: {', '.join(sorted(map(str, file))[:12]) or 'none'})"
            found[name] = f"{text}; OGBench's single tasks need {', '.join(used)}"
    if found:
        return found
    # The two arrays of the simulator's state are matrices, like observations.
    named = {name: file[name] for name in ("observations", "actions", "terminals")}
    found = flat.layout_problems(named)
    rows = file["observations"].shape[:1]
    for name in used:
        shape, kind = file[name].shape, file[name].dtype.kind
        least = {"qpos": _least(task), "button_states": len(task.buttons)}.get(name)
        if least and (
            len(shape) != 2 or shape[:1] != rows or shape[1] < least or kind not in "biuf"
        ):
            text = f"{name} has shape {list(shape)}; expected {[*rows, least]} or wider"
            found[name] = f"{text} for {task.environment}: is it another environment's file?"
        elif name not in found and (text := file[name].unwritten(name, path)):
            found[name] = text
    return found


def _least(task: Task) -> int:
    """Least width of qpos."""
    if "soccer" in task.environment:
        return 17
    if "maze" in task.environment:
        return 2
    cubes, scene = len(task.numbers) // 3, task.environment == "scene"
    return _CUBES + _CUBE * cubes + (len(task.buttons) + 2 if scene else 0)


def _ends_problem(ends: np.ndarray) -> str:
    bad = (ends != 0) & (ends != 1)
    if bad.any():
        return f"terminals must be 0 or 1, but row {bad.argmax()} is {ends[bad.argmax()]}"
    if not ends[-1]:
        return "terminals must be 1 in the last row of every episode, and is 0 in the last of all"
    return "" if (ends == 0).any() else "terminals are 1 in every row: no row has a successor"


def _arrays(file: Mapping[str, Any], task: Task, ends: np.ndarray) -> dict[str, files.Worked]:
    kept = np.flatnonzero(~ends)
    count = len(kept)

    def rows(name: str, after: int = 0) -> files.Worked:
        array = file[name]
        shape = (count, *array.shape[1:])
        return files.Worked(lambda: array[()][kept + after], shape, array.dtype)

    @functools.cache
    def done() -> np.ndarray:
        state = {name: file[name][()][kept] for name in ("qpos", "button_states") if name in file}
        return subtasks(task, state.get("qpos"), state.get("button_states"))

    def over() -> np.ndarray:
        return np.asarray(done().all(axis=1))

    def reward() -> np.ndarray:
        left = done().shape[1] - done().sum(axis=1)
        return np.asarray(-np.sign(left) if task.sparse else -left, np.float32)

    flag, number = np.dtype(bool), np.dtype(np.float32)
    return {
        "observations": rows("observations"),
        "actions": rows("actions"),
        "rewards": files.Worked(reward, (count,), number),
        "terminals": files.Worked(over, (count,), flag),
        "timeouts": files.Worked(lambda: ends[kept + 1] & ~over(), (count,), flag),
        "next_observations": rows("observations", 1),
    }


def subtasks(
    task: Task, qpos: np.ndarray | None, button_states: np.ndarray | None = None
) -> np.ndarray:
    """Return which of a task's n subtasks are done in the simulator's states: bool `[M, n]`.

    Args:
      task: One of `tasks`.
      qpos: `[M, ...]`; not needed for puzzles.
      button_states: `[M, buttons]`; needed only for tasks with buttons.
    """
    if "maze" in task.environment or "soccer" in task.environment:
        *goal, tolerance = task.numbers
        first = 15 if "soccer" in task.environment else 0  # the ball's position, or the agent's
        distance = np.linalg.norm(qpos[:, first : first + 2] - np.asarray(goal), axis=-1)
        return distance[:, None] <= tolerance
    found, cubes = [], len(task.numbers) // 3
    for i in range(cubes):
        first = _CUBES + _CUBE * i
        place = np.asarray(task.numbers[3 * i : 3 * i + 3])
        distance = np.linalg.norm(place - qpos[:, first : first + 3], axis=-1)
        found.append(distance[:, None] <= _NEAR)
    if task.buttons:
        found.append(button_states[:, : len(task.buttons)] == np.asarray(task.buttons))
    if task.environment == "scene":  # its drawer and window come after cubes and buttons
        first = _CUBES + _CUBE * cubes + len(task.buttons)
        places = np.asarray(task.numbers[3 * cubes :])
        found.append(abs(qpos[:, first : first + 2] - places) <= _NEAR)
    return np.concatenate(found, axis=1)
