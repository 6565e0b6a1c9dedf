"""One process at a time in a run's folder."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import contextmanager
from pathlib import Path

from enoto_jax.types import InputError


@contextmanager
def locked(folder: Path):
    """Hold a run's folder. The system itself frees it when the process ends, however it does.

    Raises:
      InputError: another process holds it.
    """
    (folder / "checkpoints").mkdir(exist_ok=True)
    with open(folder / "checkpoints" / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f"--out: process {file.read().strip()} is at work in {folder}; wait for it, or "
                "give another folder"
            ) from None
        except OSError as error:  # some network file systems know no locks
            print(f"{folder} cannot be locked: {error.strerror}", file=sys.stderr)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
