"""Files that are written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what is written there is renamed to `path` when the block ends.

    After an error, nothing is left behind and an older file is unchanged. After a kill or a power
    cut, `path` is either the old file or the new one, never a part of it.

    Args:
      path: The file's path; its folder is created.

    Raises:
      OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part{path.suffix}")  # writers choose a format by the suffix
    try:
        yield part
        with open(part, "r+b") as file:
            os.fsync(file.fileno())  # or a power cut could leave the new name on an empty file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
