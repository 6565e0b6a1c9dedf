"""One process at a time in a run's folder."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from enoto_jax.types import InputError

# What network file systems answer that know no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder. The system itself frees it when the process ends, however it does.

    On a file system without locks nothing is held, and stderr says so.

    Raises:
      InputError: Another process holds it.
      OSError: The folder cannot be written to.
    """
    inside = folder / "checkpoints"
    inside.mkdir(exist_ok=True)
    # A marker that merely exists, filelock's fall-back, would outlive a kill.
    lock = FileLock(inside / ".lock", blocking=False, fallback_to_soft=False)
    holder = inside / ".holder"
    try:
        lock.acquire()
    except Timeout:
        told = f"process {holder.read_text().strip()}" if holder.exists() else "another process"
        raise InputError(
            f"--out: {told} is using {folder}; wait for it, or give another folder"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(f"{folder} cannot be locked: {error.strerror}", file=sys.stderr)
    try:
        if lock.is_locked:
            holder.write_text(str(os.getpid()))
        yield
    finally:
        if lock.is_locked:
            holder.unlink(missing_ok=True)
            lock.release()
