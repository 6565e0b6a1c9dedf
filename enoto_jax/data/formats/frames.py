"""The frames of a LeRobot data set: columns that span several files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax.data import files
from enoto_jax.data.formats import columns
from enoto_jax.types import InputError

_FILE = re.compile(r"chunk-(\d{1,9})/file-(\d{1,9})\.parquet", re.ASCII)
_NEEDED = ("codebase_version", "features", "total_frames", "total_episodes")


@dataclass(frozen=True)
class Frames:
    """A data set's columns, over all of its files."""

    folder: Path
    info: Mapping[str, Any]
    parts: Sequence[Path]
    types: Mapping[str, tuple[np.dtype | None, int | None]]  # of the first file's columns
    rows: int

    @classmethod
    def of(cls, folder: Path) -> Frames:
        """Read the metadata of a folder.

        Raises:
          InputError: Pyarrow is missing, or the folder is incomplete or of another version.
        """
        columns.needed(folder)
        info = files.read_json(folder / "meta" / "info.json", "give the folder that contains it")
        if lacking := [key for key in _NEEDED if key not in info]:
            text = f"no {', '.join(lacking)}; copy or download it again"
            raise InputError(f"{folder / 'meta' / 'info.json'}: {text}")
        if not isinstance(info["features"], dict):
            raise InputError(f"{folder / 'meta' / 'info.json'}: features is not a table of columns")
        if not str(version := info["codebase_version"]).startswith("v3."):
            raise InputError(
                f"{folder}: has LeRobot's format {version!r:.20}, but only v3.0 can be read; "
                "convert it with LeRobot's own script"
            )
        found = {}
        for path in folder.glob("data/chunk-*/file-*.parquet"):
            if match := _FILE.fullmatch(path.relative_to(folder / "data").as_posix()):
                found[int(match[1]), int(match[2])] = path
        if not found:
            raise InputError(f"{folder}: no data/chunk-*/file-*.parquet; copy or download it again")
        parts = [found[key] for key in sorted(found)]
        types = {field.name: columns.type_of(field.type) for field in columns.schema(parts[0])}
        files.check_names([*types, *info["features"]], folder)
        return cls(folder, info, parts, types, sum(map(columns.count, parts)))

    def width(self, name: str) -> int:
        """Return the size of a column's vectors, or 0 if info.json does not give it."""
        feature = self.info["features"].get(name)
        shape = feature.get("shape") if isinstance(feature, dict) else None
        good = isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], int)
        return max(shape[0], 0) if good else 0

    def is_vector(self, name: str) -> bool:
        """Return whether a column's type fits its width; numbers count as vectors of width 1."""
        (kind, stored), width = self.types[name], self.width(name)
        fits = stored in (None, width) or (width == 1 and stored == 0)
        return kind is not None and width > 0 and fits

    def read(self, name: str, width: int | None = 0) -> np.ndarray:
        """Read a column, `[N]` or `[N, width]`."""
        return np.concatenate([columns.read(path, [name], width) for path in self.parts])

    def vectors(self, *names: str) -> files.Worked:
        """Return columns side by side as one array that is read when it is indexed."""
        widths = [self.width(name) for name in names]
        kind = np.result_type(*(self.types[name][0] for name in names))

        def make() -> np.ndarray:
            found = [self.read(name, width) for name, width in zip(names, widths, strict=True)]
            return np.concatenate(found, axis=1)

        return files.Worked(make, (self.rows, sum(widths)), kind)
