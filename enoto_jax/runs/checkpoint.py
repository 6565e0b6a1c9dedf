"""Write checkpoints with Orbax, in the background and atomically, and read them back.

The newest few, the best and the hand-over are kept. A checkpoint is a tree of host arrays [S, ...]
and a small JSON record: the phase, its step, the counters, and checksums of the record and of each
part of the tree, because Orbax does not detect flipped bits in an array. The phase is stored, never
inferred from a step count.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from enoto_jax.handover import differences
from enoto_jax.runs.checksums import Damaged, checksums, one_checksum, verify
from enoto_jax.runs.packing import pack
from enoto_jax.types import InputError, RunError

VERSION = 3
READABLE = (1, 2, 3)  # 2 had one checksum for everything; 1 had none, and no environments


class Checkpoints:
    """The checkpoints of one run's folder: "latest", "handover" and "best".

    Args:
      folder: `<run>/checkpoints`; the three kinds are subfolders of it.
      keep: How many of the newest to keep; the hand-over and the best are always kept.

    Attributes:
      folder: `<run>/checkpoints`, as an absolute path.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        absl_logging.set_verbosity(absl_logging.FATAL)  # Orbax logs saves, and the errors it raises
        self.folder = Path(folder).absolute()
        # Two of the best: a run that resumes from before the best can use the previous one.
        kept = {"latest": keep, "handover": 1, "best": 2}
        self._managers = {kind: _manager(self.folder / kind, n) for kind, n in kept.items()}

    def save(self, number: int, state: Any, record: Mapping[str, Any], kind: str = "latest"):
        """Start writing a checkpoint in the background; return once the arrays are taken over.

        Args:
          number: The checkpoint's number, which must increase over the whole run.
          state: Host arrays, whose memory the caller must not change.
          record: JSON values and arrays, including phase and step.
          kind: "latest", "best" or "handover".

        Raises:
          RunError: This or the previous save cannot be written; older ones are intact.
        """
        manager = self._managers[kind]
        with _writing(manager.directory):
            manager.save(number, args=_save_args(state, record))

    def save_handover(self, state: Any, record: Mapping[str, Any]) -> None:
        """Write the end of the offline phase once, for all rows that share it, and wait for it."""
        manager = self._managers["handover"]
        if manager.latest_step() is None:
            self.save(0, state, record, "handover")
            with _writing(manager.directory):
                manager.wait_until_finished()

    def record(self, kind: str = "latest") -> dict[str, Any] | None:
        """Return the record of the newest checkpoint of a kind, or None.

        Raises:
          InputError: The checkpoint is damaged, or of another version.
        """
        manager = self._managers[kind]
        try:
            step = manager.latest_step()
            return None if step is None else _record(manager, step)
        except Damaged as damage:
            raise InputError(f"{manager.directory}: cannot restore: {damage}") from damage

    def restore(self, template: Any, kind: str = "latest") -> Any:
        """Read the arrays of the newest checkpoint of a kind, to the host.

        Args:
          template: A tree of arrays or shapes as saved.
          kind: "latest", "best" (of the best evaluation) or "handover" (the end of the offline
            phase).

        Raises:
          InputError: The files are damaged, or hold other arrays than the template.
        """
        manager = self._managers[kind]
        try:
            return _state(manager, manager.latest_step(), template)
        except Damaged as damage:
            raise InputError(f"{manager.directory}: cannot restore: {damage}") from damage

    def restore_part(self, template: Mapping[str, Any]) -> Mapping[str, Any]:
        """Read named parts of the newest checkpoint's arrays, without reading or comparing others.

        Raises:
          InputError: The parts cannot be read, are damaged, or have other shapes.
        """
        manager = self._managers["latest"]
        number = manager.latest_step()
        path = Path(manager.directory) / str(number) / "state"
        args = ocp.args.PyTreeRestore(item=template, partial_restore=True)
        try:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                found = checkpointer.restore(path, args=args)
            verify(_record(manager, number), found)
        except Exception as error:  # as in _state
            raise InputError(f"{path}: cannot restore: {_reason(error)}") from error
        if difference := differences(template, found):
            raise InputError(f"{path}: cannot restore: {difference}")
        return found

    def newest(self, template: Callable[[Mapping], Any]) -> tuple[dict[str, Any], Any] | None:
        """Return record and arrays of the newest intact checkpoint, or None if there are none.

        Checkpoints that a kill left unfinished are removed. A damaged one is moved aside, with a
        message on stderr, and the previous one is used; after the last of them, the hand-over.

        Args:
          template: Maps a record to a tree of shapes as saved.

        Raises:
          InputError: A checkpoint has other arrays or another version, or none is intact.
        """
        damaged = None
        for manager in (self._managers["latest"], self._managers["handover"]):
            for unfinished in Path(manager.directory).glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(unfinished)
            for step in sorted(manager.all_steps(), reverse=True):
                try:
                    record = _record(manager, step)
                    return record, _state(manager, step, template(record))
                except Damaged as damage:
                    damaged = _move_aside(manager, step, damage)
        if damaged is not None:
            raise InputError(
                f"{damaged.parent.parent}: no checkpoint is intact; start again with another --out"
            )
        return None

    def forget_best(self, after: int) -> None:
        """Remove best checkpoints from later than the checkpoint that the run resumes from."""
        manager = self._managers["best"]
        for unfinished in Path(manager.directory).glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(unfinished)
        for step in manager.all_steps():
            if step > after:
                manager.delete(step)

    def best(self) -> dict[str, Any] | None:
        """Return the record of the newest intact best checkpoint; move damaged ones aside."""
        manager = self._managers["best"]
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                return _record(manager, step)
            except Damaged as damage:
                _move_aside(manager, step, damage)
        return None

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
          RunError: Something could not be written.
        """
        for manager in self._managers.values():
            with _writing(manager.directory):
                manager.wait_until_finished()

    def close(self) -> None:
        """Wait until everything is on disk, and stop the writing threads.

        Raises:
          RunError: Something could not be written.
        """
        for manager in self._managers.values():
            with _writing(manager.directory):
                manager.close()


def _manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    folder.mkdir(parents=True, exist_ok=True)
    # Each of several hosts reads and writes alone: Orbax must not wait for the others.
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(here, {here}, f"host-{here}")
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=False, multiprocessing_options=alone
        ),
        # Given here, so that a manager can read metadata before its first save.
        item_handlers={
            "state": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
            "record": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
        },
    )


@contextmanager
def _writing(folder: os.PathLike):
    """Report any failure in one line; its cause may be an earlier save in the background."""
    try:
        yield
    except Exception as error:  # its type depends on where in Orbax and TensorStore it arose
        raise RunError(
            f"{folder}: a checkpoint cannot be written: {_reason(error)}; earlier ones are intact: "
            "free some space and repeat the command"
        ) from error


def _reason(error: Exception) -> str:
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(code[1])) if code else " ".join(str(error).split())[:300]


def _move_aside(manager: ocp.CheckpointManager, step: int, damage: Damaged) -> Path:
    damaged = Path(manager.directory) / str(step)
    print(f"{damaged} is damaged, moved aside: {damage}", file=sys.stderr)
    aside = damaged.with_name(f"damaged-{step}")
    shutil.rmtree(aside, ignore_errors=True)
    damaged.rename(aside)
    manager.reload()
    return damaged


def _save_args(state: Any, record: Mapping[str, Any]) -> ocp.args.Composite:
    record = {"version": VERSION, **pack(record)}
    record["checksums"] = checksums(record, state)
    return ocp.args.Composite(state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record))


def _record(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    try:
        args = ocp.args.Composite(record=ocp.args.JsonRestore())
        found = manager.restore(step, args=args)["record"]
        version = found["version"]
    except Exception as error:  # a file that is missing, cut, or no longer JSON
        raise Damaged(_reason(error)) from error
    if version not in READABLE:
        raise InputError(
            f"{manager.directory}: checkpoint has version {version}, but this program reads "
            f"{', '.join(map(str, READABLE))}; use the version that wrote it, or another --out"
        )
    phase, at = found.get("phase"), found.get("step")
    if phase not in ("offline", "online") or type(at) is not int or at < 0:
        raise Damaged(f"its record gives {phase} {at}, which is not a step")
    return found


def _state(manager: ocp.CheckpointManager, step: int, template: Any) -> Any:
    """The arrays [S, ...], compared first with the template and then with their checksums."""
    host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
    try:
        saved = manager.item_metadata(step)["state"].tree
    except Exception as error:
        raise Damaged(_reason(error)) from error
    if difference := differences(host, saved):
        raise InputError(
            f"{manager.directory}: cannot restore: {difference}; use the recipe that it was "
            "trained with, load_run(folder).recipe"
        )
    try:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(host))
        state = manager.restore(step, args=args)["state"]
    except Exception as error:  # of any type, including Orbax's and TensorStore's own
        raise Damaged(_reason(error)) from error
    record = _record(manager, step)
    verify(record, state)
    if "checksum" in record and record["checksum"] != one_checksum(record, state):
        raise Damaged("its checksum does not match")
    return state
