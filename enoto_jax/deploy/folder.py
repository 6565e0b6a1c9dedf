"""The folder that an agent saves in: it belongs to one agent and has one user at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from enoto_jax.data.arrays import interval
from enoto_jax.recipes import registry
from enoto_jax.runs import files
from enoto_jax.runs.lock import locked
from enoto_jax.types import InputError


def hold(out: Path, config: Mapping[str, Any], about: Mapping[str, Any]) -> ExitStack:
    """Make the folder, or check that it is this agent's, and lock it until the stack is closed.

    Args:
      out: The folder.
      config: What identifies the agent: recipe, seeds, data, action bounds.
      about: What else config.json records; it may change when the agent resumes.

    Raises:
      InputError: It holds something else, another agent or run has locked it, or it cannot be
        written.
    """
    config, about = json.loads(json.dumps([config, files.plain(about)]))
    if (out / "config.json").exists():
        _check_same(out, files.read_config(out / "config.json"), config, about)
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out))
            files.write_json(out / "config.json", {**about, **config})
        except OSError as error:
            raise InputError(f"out: cannot write to {out}: {error.strerror}") from error
        except InputError as error:
            raise InputError(f"{error}; an Agent locks its folder until its close()") from error
        return stack.pop_all()


def _check_same(
    out: Path, old: Mapping[str, Any], new: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Refuse the folder of another agent; older agents recorded only a part of the config."""
    other = "holds another run or agent"
    if old.keys() - new.keys() - about.keys() or "recipe" not in old:
        raise InputError(f"out: {out} {other}; give another folder")
    for name, value in new.items():
        if name not in old or old[name] == value:
            continue
        if name == "recipe" and registry.settings(old[name]) == registry.settings(value):
            continue
        what = {"data_hash": "data", "action_bounds": "action bounds"}.get(name, name)
        mend = "give another folder"
        if name == "action_bounds":
            mend += f", or its own action_low and action_high, {interval(*old[name])}"
        raise InputError(f"out: {out} {other}, with different {what}; {mend}")
