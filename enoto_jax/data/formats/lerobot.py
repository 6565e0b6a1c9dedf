"""Read LeRobot's data sets (v3.0): a folder with `meta/info.json` and files of many episodes.

`data/chunk-*/file-*.parquet` hold the frames of all episodes, which are cut where `episode_index`
changes, and never where a file ends. How they map to the flat layout:

* An observation is `observation.state` and `observation.environment_state`, concatenated. Images
  are left out.
* An episode's last frame has an action, but no observation follows it. The frame is dropped unless
  `next.success` marks it as terminal, or `next.done` if there is no `next.success`.
* Actions are in physical units. Unless bounds are given, they are scaled to [-1, 1] from the lowest
  and highest action in `meta/stats.json`.
* Most recordings have no rewards. `demonstrations:` before the folder treats every episode as a
  success: its last frame is terminal, with a reward of 1. All other rewards are 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax.data import files, succession, words
from enoto_jax.data.formats.frames import Frames
from enoto_jax.types import InputError, plural

PREFIX = "demonstrations:"
_OBSERVED = ("observation.state", "observation.environment_state")
_REWARD, _SUCCESS, _DONE, _TRUNCATED = "next.reward", "next.success", "next.done", "next.truncated"
_INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def is_one(path: Path) -> bool:
    """Return whether a folder is a data set of LeRobot."""
    return os.path.isfile(path / "meta" / "info.json")  # False for impossible names


@contextmanager
def opened(folder: Path, invented: bool = False) -> Iterator[files.Opened]:
    """Open a data set in the flat layout; `invented` treats every episode as a success."""
    with files.guarded(folder):
        yield _flat(Frames.of(folder), invented=invented)


def _flat(frames: Frames, *, invented: bool) -> files.Opened:
    observed = [name for name in _OBSERVED if name in frames.types]
    if problem := _columns_problem(frames, observed, invented):
        return files.Opened({}, {}, {"columns": problem})
    arrays: dict[str, Any] = {
        "observations": frames.vectors(*observed),
        "actions": frames.vectors("action"),
    }
    files.check_memory(arrays.values(), frames.folder)
    last, problem = _last_frames(frames)
    if problem:
        return files.Opened({}, {}, {"episode_index": problem})
    notes = _notes(frames, observed)
    if invented:
        if _SUCCESS in frames.types and (failed := (last & (_flag(frames, _SUCCESS) != 1)).sum()):
            text = f"{_SUCCESS} is 0 at the end of {plural(failed, 'episode')}"
            text += f", so {PREFIX} is not true of all"
            return files.Opened({}, {}, {_SUCCESS: f"{text}; add a column {_REWARD}"})
        arrays |= {"rewards": last.astype(np.float32), "terminals": last}
        notes.append("no rewards were recorded: 1 at every episode's last frame, a success, else 0")
    else:
        arrays |= {"rewards": frames.read(_REWARD), "terminals": _terminals(frames)}
        if _TRUNCATED in frames.types:
            last = last | (_flag(frames, _TRUNCATED) == 1)
        if (
            _SUCCESS not in frames.types
            and _TRUNCATED not in frames.types
            and _DONE in frames.types
        ):
            notes.append(f"frames with {_DONE} count as terminal; it can also mark time limits")
    # The flat layout drops the row of a time-out, as its next observation is unknown.
    arrays["timeouts"] = dropped = last & ~arrays["terminals"]
    if count := dropped.sum():
        lost = int((arrays["rewards"][dropped] != 0).sum())
        told = f" (with a reward: {lost})" if lost else ""
        notes.append(
            "last frames of episodes dropped, as no observation follows and nothing marks them "
            f"as terminal: {count}{told}"
        )
    used = {*observed, "action", *_INDICES, *(() if invented else (_REWARD, _SUCCESS, _TRUNCATED))}
    used |= {_DONE} if not invented and _SUCCESS not in frames.types else set()
    attributes = {"notes": notes, "unread": words.unread(frames.types, used)}
    return files.Opened(arrays, attributes | _range(frames), {})


def _columns_problem(frames: Frames, observed: Sequence[str], invented: bool) -> str:
    """What is wrong with the columns' names and types, else ""."""
    listed = ", ".join(name for name in frames.types if name not in _INDICES)[:200] or "none"
    for name in (*(observed or _OBSERVED[:1]), "action", "episode_index"):
        if name not in frames.types:
            return f"no column {name} (columns found: {listed})"
        if name != "episode_index" and not frames.is_vector(name):
            return f"meta/info.json does not declare {name} as vectors of one size"
    if _REWARD in frames.types and invented:
        return f"has rewards ({_REWARD}); leave out {PREFIX}"
    if _REWARD not in frames.types and not invented:
        return (
            f"no rewards (columns found: {listed}); if every episode is a success, "
            f"{PREFIX}{frames.folder} gives 1 for its last frame; otherwise add a column {_REWARD}"
        )
    if frames.rows != frames.info["total_frames"]:
        found, told = plural(frames.rows, "frame"), f"{frames.info['total_frames']!r:.20}"
        return f"its files contain {found}, but meta/info.json declares {told}; copy it again"
    return "" if frames.rows else "has no rows; a data set needs at least one transition"


def _last_frames(frames: Frames) -> tuple[np.ndarray, str]:
    """Which frames are an episode's last, bool `[N]`, and what is wrong with their order."""
    episode = frames.read("episode_index")
    last = np.append(episode[1:] != episode[:-1], True)
    if (back := episode[1:] < episode[:-1]).any():
        row = back.argmax() + 1
        return last, f"episode_index decreases in row {row}; the files are not in order"
    if (found := int(last.sum())) != (told := frames.info["total_episodes"]):
        return (
            last,
            f"contains {plural(found, 'episode')}, but meta/info.json declares {told!r:.20}; "
            "copy it again",
        )
    if "frame_index" in frames.types:
        step = succession.step_numbers(last)
        if (odd := frames.read("frame_index") != step).any():
            row = odd.argmax()
            return last, f"frame_index of row {row} is not {step[row]}: frames are missing there"
    return last, ""


def _terminals(frames: Frames) -> np.ndarray:
    """Frames at which the task ended: at success or, if that is not recorded, done but not cut."""
    if _SUCCESS in frames.types:
        return _flag(frames, _SUCCESS) == 1
    if _DONE not in frames.types:
        return np.zeros(frames.rows, bool)
    done = _flag(frames, _DONE) == 1
    return done & (_flag(frames, _TRUNCATED) != 1) if _TRUNCATED in frames.types else done


def _flag(frames: Frames, name: str) -> np.ndarray:
    values = frames.read(name)
    if (bad := (values != 0) & (values != 1)).any():
        row = bad.argmax()
        raise InputError(f"{frames.folder}: {name} must be 0 or 1, but row {row} is {values[row]}")
    return values


def _notes(frames: Frames, observed: Sequence[str]) -> list[str]:
    notes = (
        [f"observations are {' and '.join(observed)}, concatenated"] if len(observed) > 1 else []
    )
    features = frames.info["features"].items()
    images = [
        k for k, v in features if isinstance(v, dict) and v.get("dtype") in ("image", "video")
    ]
    return notes + ([f"images are left out: {', '.join(images)}"] if images else [])


def _range(frames: Frames) -> dict[str, Any]:
    """The attribute `action_range`, if meta/stats.json gives the lowest and highest action."""
    path = frames.folder / "meta" / "stats.json"
    found = files.read_json(path, "").get("action") if path.is_file() else None
    if not isinstance(found, dict):
        return {}
    low, high = (np.asarray(found.get(key), np.float64).reshape(-1) for key in ("min", "max"))
    size = frames.width("action")
    if len(low) != size or len(high) != size or not (low <= high).all():
        raise InputError(f"{path}: action needs min <= max for {size} numbers; download it again")
    still = low == high  # an action that never moves becomes 0
    return {"action_range": (low - still, high + still)}
