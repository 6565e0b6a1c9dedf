"""A run's folder: which run it holds, whether the run has ended, and which process uses it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from enoto_jax.recipes import registry
from enoto_jax.runs import files, starts
from enoto_jax.runs.lock import locked
from enoto_jax.types import InputError

OWN = "own"  # the method of a recipe that has no name in the table

# Entries of config.json that must be equal for a run to resume in a folder.
IDENTITY = (
    "task",
    "env",
    "seeds",
    "eval_episodes",
    "final_episodes",
    "eval_max_steps",
    "recipe",
    "data_hash",
    "restore",
    "deterministic",
)


def config_of(folder: Path) -> dict[str, Any]:
    """Read a run's config.json.

    Raises:
      InputError: The file is missing or cannot be read.
    """
    if not (folder / "config.json").exists():
        raise InputError(f"{folder}: not a run's folder: it has no config.json")
    return files.read_config(folder / "config.json")


def finished(folder: Path, steps: int) -> bool:
    """Return whether the folder's run has ended and has at least this many online steps.

    Raises:
      InputError: Its config.json cannot be read.
    """
    return (folder / "summary.json").exists() and began(folder, steps)


def began(folder: Path, steps: int) -> bool:
    """Return whether the folder has a run of at least this many online steps, or a damaged one."""
    if not (folder / "config.json").exists():
        return False
    try:
        return config_of(folder)["recipe"]["online"]["steps"] >= steps
    except (KeyError, TypeError):
        return True


def summary(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the summary of a run that has ended; None if steps are left or it has not begun.

    Raises:
      InputError: The folder holds another run.
    """
    same_run(folder, config)
    done = finished(folder, config["recipe"]["online"]["steps"])
    return json.loads((folder / "summary.json").read_text()) if done else None


def begin(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json for a new run, or for more online steps of the folder's run."""
    if not began(folder, config["recipe"]["online"]["steps"]):
        (folder / "summary.json").unlink(missing_ok=True)  # it was for fewer online steps
        files.write_json(folder / "config.json", config)


def claim(folder: Path, stack: ExitStack) -> None:
    """Create the folder before anything is computed, and lock it until the stack unwinds.

    Raises:
      InputError: The folder cannot be written to, or another process has locked it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise InputError(f"--out: cannot write to {folder}: {error.strerror}") from error
    stack.enter_context(locked(folder))


def moved(folder: Path, now: Mapping[str, Any]) -> str:
    """Return what changed in versions or device since the run began, as "jax 0.10.2, now 0.12.0".

    "" if nothing has changed.
    """
    then = config_of(folder) if (folder / "config.json").exists() else {}
    old, new = ({**c.get("versions", {}), "device": c.get("device")} for c in (then, now))
    names = [name for name in new if old.get(name) not in (None, new[name])]
    return "; ".join(f"{name} {old[name]}, now {new[name]}" for name in names)


def same_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a folder whose run has other settings; it may have fewer online steps.

    Raises:
      InputError: A setting differs; the message names the first.
    """
    if not (folder / "config.json").exists():
        return
    old, new = config_of(folder), files.plain(config)
    if new.get("restore") and new["restore"] == str(starts.start_of(folder, old)):
        old["restore"] = new["restore"]  # both runs have moved together
    old, new = ({**c, "recipe": registry.settings(c.get("recipe") or {})} for c in (old, new))
    if not began(folder, steps := new["recipe"]["online"]["steps"]):
        old["recipe"]["online"]["steps"] = steps
    elsewhere = old.get("device") != new.get("device")  # `deterministic` is about one device
    for name in IDENTITY:
        if elsewhere and name == "deterministic":
            continue
        one, two = old.get(name, new[name]), new[name]
        if one == two or (name == "data_hash" and one is None):  # older restored runs had none
            continue
        while isinstance(one, Mapping) and isinstance(two, Mapping):
            key = next(k for k in {**one, **two} if one.get(k) != two.get(k))
            name, one, two = f"{name}.{key}", one.get(key), two.get(key)
        raise InputError(
            f"--out: {folder} holds another run: its {name} is {_short(one)}, now {_short(two)}; "
            "give another folder, or the flags that it was started with"
        )


def _short(value: Any) -> str:
    """A setting in a few words: units by name, long values cut off."""
    if isinstance(value, Mapping):
        return value.get("unit", "given")
    if isinstance(value, list):
        text = f"[{', '.join(map(_short, value))}]"
    else:
        text = "none" if value is None else repr(value)
    return text if len(text) <= 70 else f"{text[:67]}..."
