"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to; what is written there gets the name `path` once the block ends.

    After an error, nothing is left and an older file stays as it was. After a kill or a power cut,
    `path` is the old file or the new one, never a part of it.

    Args:
      path: Of the file; its folder is made.

    Raises:
      OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part{path.suffix}")  # writers go by the suffix
    try:
        yield part
        with open(part, "r+b") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name on an empty file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
