"""Lock a run's folder, so that only one process at a time uses it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from enoto_jax.types import InputError

# Errors of network file systems that do not support locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run's folder. The operating system releases the lock however the process ends.

    On a file system without locks nothing is locked, and a line on stderr reports it.

    Raises:
      InputError: Another process has locked the folder.
      OSError: The folder cannot be written to.
    """
    inside = folder / "checkpoints"
    inside.mkdir(exist_ok=True)
    # filelock's fall-back, a file that merely exists, would outlive a killed process.
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
