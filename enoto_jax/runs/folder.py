"""A run's folder: which run it holds, whether that has ended, and who works in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from enoto_jax.recipes import registry
from enoto_jax.runs import files
from enoto_jax.runs.lock import locked
from enoto_jax.types import InputError

OWN = "own"  # the method of a recipe that has no name in the table

# What must be the same for a start on a folder to be a resume.
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
    """A run's config.json.

    Raises:
      InputError: It is not there, or cannot be read.
    """
    if not (folder / "config.json").exists():
        raise InputError(f"{folder}: not a run's folder: it has no config.json")
    return files.read_config(folder / "config.json")


def finished(folder: Path, steps: int) -> bool:
    """Whether the folder's run has ended, and had at least so many online steps.

    Raises:
      InputError: Its config.json cannot be read.
    """
    return (folder / "summary.json").exists() and began(folder, steps)


def began(folder: Path, steps: int) -> bool:
    """Whether the folder holds a run of at least so many online steps, or one that is damaged."""
    if not (folder / "config.json").exists():
        return False
    try:
        return config_of(folder)["recipe"]["online"]["steps"] >= steps
    except (KeyError, TypeError):
        return True


def summary(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """That of a run with nothing left to do; None if there is, or it has not begun.

    Raises:
      InputError: The folder holds another run.
    """
    same_run(folder, config)
    done = finished(folder, config["recipe"]["online"]["steps"])
    return json.loads((folder / "summary.json").read_text()) if done else None


def begin(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json, of a new run or of more online steps of the run that is there."""
    if not began(folder, config["recipe"]["online"]["steps"]):
        (folder / "summary.json").unlink(missing_ok=True)  # of fewer online steps
        files.write_json(folder / "config.json", config)


def claim(folder: Path, stack: ExitStack) -> None:
    """Make the folder, before anything is computed for it, and hold it until the stack unwinds.

    Raises:
      InputError: It cannot be written to, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise InputError(f"--out: cannot write to {folder}: {error.strerror}") from error
    stack.enter_context(locked(folder))


def moved(folder: Path, now: Mapping[str, Any]) -> str:
    """What a run computes with that is not what it began with: "jax 0.10.2, now 0.12.0", or ""."""
    then = config_of(folder) if (folder / "config.json").exists() else {}
    old, new = ({**c.get("versions", {}), "device": c.get("device")} for c in (then, now))
    names = [name for name in new if old.get(name) not in (None, new[name])]
    return "; ".join(f"{name} {old[name]}, now {new[name]}" for name in names)


def same_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a folder of a run of other settings than these, fewer online steps excepted.

    Raises:
      InputError: It names the first that differs.
    """
    if not (folder / "config.json").exists():
        return
    old, new = config_of(folder), json.loads(json.dumps(config))
    old, new = ({**c, "recipe": registry.settings(c.get("recipe") or {})} for c in (old, new))
    if not began(folder, steps := new["recipe"]["online"]["steps"]):
        old["recipe"]["online"]["steps"] = steps
    for name in IDENTITY:
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
    """A setting in a few words: units by their names, the rest of a long value left out."""
    if isinstance(value, Mapping):
        return value.get("unit", "given")
    if isinstance(value, list):
        text = f"[{', '.join(map(_short, value))}]"
    else:
        text = "none" if value is None else repr(value)
    return text if len(text) <= 70 else f"{text[:67]}..."
