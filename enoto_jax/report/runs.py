"""Find runs, name their rows, and join runs that belong together."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enoto_jax.report import identity
from enoto_jax.report.evaluations import Row, read_evaluations
from enoto_jax.runs.files import flat, read_config, read_json
from enoto_jax.runs.folder import OWN
from enoto_jax.runs.starts import data_hash_of, start_of
from enoto_jax.types import InputError


@dataclass
class Run:
    """One run's folder.

    `row` is its method with its changes; see `name`. `start` is the folder that it restored.
    """

    folder: Path
    config: dict[str, Any]
    rows: list[Row]
    timing: dict[str, Any]
    finished: bool
    row: str = ""
    task: str = ""
    start: Path | None = None

    @property
    def seeds(self) -> set[int]:
        return {row["seed"] for row in self.rows}


def find(folders: Sequence[str | os.PathLike]) -> tuple[list[Run], list[str]]:
    """Find all runs under these folders; return them, sorted and named, and a line per problem.

    Raises:
      InputError: A folder is missing, or no run can be read.
    """
    runs, problems = [], []
    for folder in _folders(folders):
        try:
            runs.append(read(folder))
        except (InputError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
            what = str(error) if isinstance(error, InputError) else f"{folder}: damaged ({error!r})"
            problems.append(f"left out: {what}")
    if not runs:
        raise InputError(
            f"{', '.join(map(str, folders))}: no run that can be read (a run's folder contains "
            f"config.json and evaluations.csv){''.join('; ' + line for line in problems)}"
        )
    runs = _joined(runs)
    name(runs)
    return _without_duplicates(runs, problems), problems


def _folders(given: Iterable[str | os.PathLike]) -> list[Path]:
    found = {}
    for start in map(Path, given):
        if not start.is_dir():
            raise InputError(
                f"{start}: is not a folder; give a run's folder or one that contains runs"
            )
        for where, inner, files in os.walk(start):
            inner[:] = [name for name in inner if name != "checkpoints"]
            if {"config.json", "evaluations.csv"} <= set(files):
                found[Path(where).resolve()] = Path(where)
    return sorted(found.values())


def read(folder: Path) -> Run:
    """Read one run's folder.

    Raises:
      InputError: A file in the folder is missing or damaged.
    """
    config = {"method": OWN, **read_config(folder / "config.json")}
    for key in ("method", "task"):
        if not isinstance(config.get(key), str):
            raise InputError(f"{folder}: is not a run's folder: config.json has no {key}")
    rows = read_evaluations(folder)
    clock = folder / "timing.json"
    timing = read_json(clock) if clock.exists() else {}
    for key in ("data_hash", "command"):
        if not isinstance(config.get(key), (str, type(None))):
            raise InputError(f"{folder / 'config.json'}: {key} is not text; is it from a run?")
    online = flat(config.get("recipe") or {}).get("online.steps")
    reached = max((row["step"] for row in rows if row["phase"] == "online"), default=-1)
    finished = (folder / "summary.json").exists() or (isinstance(online, int) and reached >= online)
    start = start_of(folder, config)
    if config.get("data_hash") is None and start is not None:
        config = {**config, "data_hash": data_hash_of(start)}
    return Run(folder, config, rows, timing, finished, task=config["task"], start=start)


def _joined(runs: list[Run]) -> list[Run]:
    """Make a run from which another one continued that one's offline phase, not a separate row."""
    by_folder, used = {run.folder.resolve(): run for run in runs}, set()
    for run in runs:
        start = by_folder.get(run.start)
        if start is not None and start.task == run.task:
            if not any(row["phase"] == "offline" for row in run.rows):
                last = run.config.get("restored_step") or math.inf  # none in older runs
                own = (row for row in start.rows if row["seed"] in run.seeds)
                own = (row for row in own if row["phase"] == "offline" and row["step"] <= last)
                run.rows = [*own, *run.rows]
            used.add(run.start)
    return [
        run
        for run in runs
        if run.folder.resolve() not in used or any(row["env_steps"] for row in run.rows)
    ]


def name(runs: list[Run]) -> None:
    """Name tasks, with environment or data if these differ, and rows, with settings that differ.

    Runs are one row if they agree in method, changes, task, environment, data and transform.
    """
    for task in {run.task for run in runs}:
        own = [run for run in runs if run.task == task]
        for key, length in (("env", None), ("data_hash", 12)):
            values = {run.config.get(key) for run in own} - {None}
            for run in own if len(values) > 1 else ():
                # A run that reads no data, such as one from scratch, has no hash.
                if run.config.get(key) is not None:
                    run.task += f" ({run.config[key].removeprefix('sha256:')[:length]})"
    for method in {run.config["method"] for run in runs}:
        own = [run for run in runs if run.config["method"] == method]
        found = identity.names(
            [run.config for run in own],
            [run.task for run in own],
            [run.folder for run in own],
        )
        for run, words in zip(own, found, strict=True):
            run.row = words + " (unfinished)" * (not run.finished)


def twice(runs: Iterable[Run]) -> list[tuple[Run, Run]]:
    """Find runs that share row, task and a seed with an earlier run, as (run, earlier run)."""
    kept: list[Run] = []
    found = []
    for run in runs:
        same = [k for k in kept if (k.row, k.task) == (run.row, run.task) and k.seeds & run.seeds]
        if same:
            found.append((run, same[0]))
        else:
            kept.append(run)
    return found


def counted_twice(run: Run, other: Run) -> str:
    """Return the message on a seed that two runs share."""
    seeds = ", ".join(map(str, sorted(other.seeds & run.seeds)))
    return f"{run.folder}: the same method, task and seed ({seeds}) as {other.folder}"


def _without_duplicates(runs: list[Run], problems: list[str]) -> list[Run]:
    found = twice(runs)
    problems += [f"left out: {counted_twice(*pair)}" for pair in found]
    return [run for run in runs if all(run is not second for second, _ in found)]
