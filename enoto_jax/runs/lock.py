"""One process at a time in a run's folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from enoto_jax.types import InputError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder. The system itself frees it when the process ends, however it does.

    Raises:
      InputError: another process holds it.
    """
    inside = folder / "checkpoints"
    inside.mkdir(exist_ok=True)
    lock, holder = FileLock(inside / ".lock", blocking=False), inside / ".holder"
    try:
        lock.acquire()
    except Timeout:
        told = holder.read_text().strip() if holder.exists() else "another one"
        raise InputError(
            f"--out: process {told} is at work in {folder}; wait for it, or give another folder"
        ) from None
    except (NotImplementedError, OSError) as error:  # some network file systems know no locks
        print(f"{folder} cannot be locked: {error}", file=sys.stderr)
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
