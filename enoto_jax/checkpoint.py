"""Checkpoints by Orbax: written in the background, atomically; the newest few and the hand-over.

A checkpoint is a tree of host arrays [S, ...] and a small JSON record: the phase, its step, and the
counters. The phase is stored, never guessed from a step count.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from enoto_jax.handover import differences
from enoto_jax.types import InputError

VERSION = 1


class Checkpoints:
    """The checkpoints of one run's folder.

    Args:
      folder: `<run>/checkpoints`; "latest" and "handover" are made in it.
      keep: how many of the newest are kept; the hand-over is kept for ever.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        absl_logging.set_verbosity(absl_logging.ERROR)  # Orbax reports every save at INFO
        folder = Path(folder).absolute()
        self._latest = _manager(folder / "latest", keep)
        self._handover = _manager(folder / "handover", 1)

    def save(self, number: int, state: Any, record: dict[str, Any]) -> None:
        """Start writing; returns once the arrays are taken over.

        Args:
          number: grows over the run's whole life.
          state: host arrays, of which nobody else changes the memory.
          record: JSON; phase and step among it.
        """
        self._latest.save(number, args=_save_args(state, record))

    def save_handover(self, state: Any, record: dict[str, Any]) -> None:
        """Keep the end of the offline phase for every row that shares it; once, and wait for it."""
        if self._handover.latest_step() is not None:
            return
        self._handover.save(0, args=_save_args(state, record))
        self._handover.wait_until_finished()

    def record(self, handover: bool = False) -> dict[str, Any] | None:
        """The newest checkpoint's record, or None when there is none."""
        manager = self._handover if handover else self._latest
        step = manager.latest_step()
        if step is None:
            return None
        found = manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))
        if found["record"].get("version") != VERSION:
            raise InputError(
                f"{manager.directory}: checkpoint of version {found['record'].get('version')}, "
                f"this program reads {VERSION}; use the version that wrote it, or another --out"
            )
        return found["record"]

    def restore(self, template: Any, handover: bool = False) -> Any:
        """The newest checkpoint's arrays, on the host.

        Args:
          template: a tree of arrays or shapes as saved.
          handover: the kept end of the offline phase instead.

        Raises:
          InputError: the files are damaged, or hold other arrays than the template.
        """
        manager = self._handover if handover else self._latest
        host = _host_template(template)
        saved = manager.item_metadata(manager.latest_step())["state"]
        if saved is not None and (difference := differences(host, saved)):
            raise InputError(f"{manager.directory}: cannot restore: {difference}")
        try:
            args = ocp.args.Composite(state=ocp.args.StandardRestore(host))
            state = manager.restore(manager.latest_step(), args=args)["state"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{manager.directory}: cannot restore: {reason}") from error
        # A manager that has saved nothing itself knows no metadata: look at what came back.
        if difference := differences(host, state):
            raise InputError(f"{manager.directory}: cannot restore: {difference}")
        return state

    def wait(self) -> None:
        """Until everything is on disk."""
        self._latest.wait_until_finished()

    def close(self) -> None:
        self._latest.close()
        self._handover.close()


def _manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    folder.mkdir(parents=True, exist_ok=True)
    return ocp.CheckpointManager(
        folder, options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    )


def _save_args(state: Any, record: dict[str, Any]) -> ocp.args.Composite:
    return ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        record=ocp.args.JsonSave({"version": VERSION, **record}),
    )


def _host_template(tree: Any) -> Any:
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)
