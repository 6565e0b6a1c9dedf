"""Finds runs, names their rows, and joins what belongs together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enoto_jax.report.stats import Row, read_evaluations
from enoto_jax.types import InputError

_MOST = 3  # settings that a row's name can hold; with more it is named by its folder


@dataclass
class Run:
    """One run's folder. `row` is its method, and settings where a method was run with several."""

    folder: Path
    config: dict[str, Any]
    rows: list[Row]
    timing: dict[str, Any]
    finished: bool
    row: str = ""
    task: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> set[int]:
        return {row["seed"] for row in self.rows}


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Leaves of a config by their dotted paths; a unit's name stands at the path of the unit."""
    if not isinstance(tree, dict):
        return {path: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inner = path if key == "unit" else f"{path}.{key}".lstrip(".")
        found |= flat(value, inner)
    return found


def find(folders: Sequence[str | os.PathLike]) -> tuple[list[Run], list[str]]:
    """All runs under these folders, sorted and named, and a line for each that is left out.

    Raises:
        InputError: A folder is missing, or no run can be read.
    """
    runs, problems = [], []
    for folder in _folders(folders):
        try:
            runs.append(_read(folder))
        except (InputError, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
            what = str(error) if isinstance(error, InputError) else f"{folder}: damaged ({error!r})"
            problems.append(f"left out: {what}")
    if not runs:
        raise InputError(
            f"{', '.join(map(str, folders))}: no run that can be read (a run's folder holds "
            f"config.json and evaluations.csv){''.join('; ' + line for line in problems)}"
        )
    runs = _joined(runs)
    _name(runs)
    return _without_duplicates(runs, problems), problems


def _folders(given: Iterable[str | os.PathLike]) -> list[Path]:
    found = {}
    for start in map(Path, given):
        if not start.is_dir():
            raise InputError(f"{start}: is not a folder; give a run's folder or one above runs")
        for where, inner, files in os.walk(start):
            inner[:] = [name for name in inner if name != "checkpoints"]
            if {"config.json", "evaluations.csv"} <= set(files):
                found[Path(where).resolve()] = Path(where)
    return sorted(found.values())


def _read(folder: Path) -> Run:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rows = read_evaluations(folder)
    timing = folder / "timing.json"
    timing = json.loads(timing.read_text(encoding="utf-8")) if timing.exists() else {}
    for name in ("method", "task"):
        if not isinstance(config[name], str):
            raise InputError(f"{folder}: config.json has no {name}")
    online = config.get("recipe", {}).get("online", {}).get("steps")
    reached = max((row["step"] for row in rows if row["phase"] == "online"), default=-1)
    finished = (folder / "summary.json").exists() or (online is not None and reached >= online)
    settings = flat(config.get("recipe", {})) | {"env": config.get("env")}
    settings.pop("about", None)
    return Run(folder, config, rows, timing, finished, task=config["task"], settings=settings)


def _joined(runs: list[Run]) -> list[Run]:
    """A run that another one went on from is that one's offline phase, not a row of its own."""
    by_folder, used = {run.folder.resolve(): run for run in runs}, set()
    for run in runs:
        if not run.config.get("restore"):
            continue
        given = Path(run.config["restore"])
        for place in (given.resolve(), (run.folder.parent / given.name).resolve()):
            if place in by_folder and by_folder[place].config["task"] == run.config["task"]:
                offline = [
                    row
                    for row in by_folder[place].rows
                    if row["phase"] == "offline" and row["seed"] in run.seeds
                ]
                if not any(row["phase"] == "offline" for row in run.rows):
                    run.rows = offline + run.rows
                used.add(place)
                break
    return [
        run
        for run in runs
        if run.folder.resolve() not in used or any(row["env_steps"] for row in run.rows)
    ]


def _name(runs: list[Run]) -> None:
    """Tasks by name, with what tells them apart; rows by method, with the settings that differ."""
    for name in {run.task for run in runs}:
        own = [run for run in runs if run.task == name]
        for key, length in (("env", None), ("data_hash", 12)):
            values = {run.config.get(key) for run in own} - {None}
            for run in own if len(values) > 1 else ():
                # A run that reads no data, such as one from scratch, has no hash.
                if run.config.get(key) is not None:
                    run.task += f" ({run.config[key].removeprefix('sha256:')[:length]})"
    for method in {run.config["method"] for run in runs}:
        own = [run for run in runs if run.config["method"] == method]
        differing = set()
        for task in {run.task for run in own}:
            differing |= differences([run.settings for run in own if run.task == task]).keys()
        for run in own:
            words = [
                f"{path.rpartition('.')[2]}={run.settings[path]}"
                for path in sorted(differing)
                if run.settings.get(path) is not None
            ]
            if len(differing) > _MOST:  # runs of the same settings are named by the first of them
                first = next(other for other in own if other.settings == run.settings)
                words = [first.folder.name] if first.folder.name != method else []
            run.row = " · ".join([method, *words]) + " (unfinished)" * (not run.finished)


def _without_duplicates(runs: list[Run], problems: list[str]) -> list[Run]:
    kept: list[Run] = []
    for run in runs:
        same = [k for k in kept if (k.row, k.task) == (run.row, run.task) and k.seeds & run.seeds]
        if same:
            seeds = ", ".join(map(str, sorted(same[0].seeds & run.seeds)))
            problems.append(
                f"left out: {run.folder}: the same row, task and seed ({seeds}) as {same[0].folder}"
            )
        else:
            kept.append(run)
    return kept


def differences(settings: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Path -> the value in each; only where not all are the same."""
    paths = dict.fromkeys(path for own in settings for path in own)
    table = {path: [own.get(path) for own in settings] for path in paths}
    return {p: v for p, v in table.items() if len({json.dumps(x, sort_keys=True) for x in v}) > 1}
