"""Write and read a run's CSV and JSON files.

The CSV files are the record of a run; everything else can be lost. They therefore survive a kill
(at most a partial last line is lost), and a resumed run first cuts them back to its checkpoint.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax.atomic import written_whole
from enoto_jax.types import InputError

EVALUATION_COLUMNS = (
    "phase",  # "offline" or "online"
    "step",  # updates (offline) or environment steps (online) since the phase began
    "env_steps",  # environment steps of this seed so far
    "seed",
    "return_mean",
    "return_std",
    "score",  # empty if the task has no reference returns
    "success",  # share of successful episodes, empty if the environment does not report it
    "episodes",
    "wall_s",
)
# Columns that files of older versions lack; they are read and continued as empty columns.
ADDED_COLUMNS = frozenset({"success"})
# One row per quantity and seed, so that phases with different quantities share one file.
METRIC_COLUMNS = ("step", "seed", "name", "value")


def _replace(path: Path, text: str) -> None:
    with written_whole(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def plain(tree: Any) -> Any:
    """Convert NumPy and JAX values for JSON. NaN and infinity, which JSON lacks, become None."""
    if isinstance(tree, Mapping):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [plain(value) for value in tree]
    if isinstance(tree, os.PathLike):
        return os.fspath(tree)
    if hasattr(tree, "tolist"):
        return plain(tree.tolist())
    return None if isinstance(tree, float) and not np.isfinite(tree) else tree


def write_json(path: str | os.PathLike, tree: Any) -> None:
    """Write a tree of plain, NumPy or JAX values; an old file is replaced only by a complete one.

    Keys keep their order. NaN and infinity become null.

    Raises:
      TypeError: JSON cannot hold a leaf.
    """
    _replace(Path(path), json.dumps(plain(tree), indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Read an object from a JSON file.

    Raises:
      InputError: The file cannot be read, or does not hold a JSON object.
    """
    try:
        found = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is not a JSON object; is it from a run?")
    return found


# Entries of a run's config.json that are read back: name -> type, and whether it may be null.
_CONFIG = {
    "method": (str, False),
    "task": (str, False),
    "task_given": (str, True),
    "env": (str, False),
    "seeds": (list, False),
    "eval_episodes": (int, False),
    "final_episodes": (int, False),
    "eval_max_steps": (int, True),
    "plugins": (list, False),
    "restore": (str, True),
    "recipe": (dict, False),
}


def read_config(path: str | os.PathLike) -> dict[str, Any]:
    """Read a run's config.json.

    Raises:
      InputError: The file cannot be read, or an entry has the wrong type.
    """
    found = read_json(path)
    for name, value in found.items():
        kind, optional = _CONFIG.get(name, (object, True))
        good = isinstance(value, kind) or (optional and value is None)
        if name == "seeds" and good:
            good = bool(value) and all(type(seed) is int for seed in value)
        if not good or (kind is int and isinstance(value, bool)):
            raise InputError(f"{path}: {name} is {str(value)[:50]!r}; is this a run's config.json?")
    return found


def _cell(value: Any) -> str:
    """A scalar as text that reads back as exactly the same number; NaN and None are empty."""
    scalar = np.asarray(value)[()]  # NumPy scalars print the fewest digits that their type needs
    return "" if scalar is None or scalar != scalar else str(scalar)


def _lines(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read the complete rows of a CSV file, cells as text. A partial last line is left out.

    Raises:
      InputError: The file cannot be read, or a row has more or fewer cells than the header.
    """
    try:
        found = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); is this a run?") from None
    # Only a line with an end is complete. (Cut as bytes, as a kill can split a character.)
    whole = found[: found.rfind(b"\n") + 1].decode("utf-8", errors="replace")
    try:
        header, *rows = list(csv.reader(io.StringIO(whole, newline=""))) or [[]]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read: {error}; is this a run?") from error
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(
                f"{path}, line {number}: {len(row)} cells, but the header has {len(header)}; "
                "remove or fix the line"
            )
    return [dict(zip(header, row, strict=True)) for row in rows]


class CsvLog:
    """A CSV file that rows are appended to. An existing file, even after a kill, is continued.

    Args:
      path: The file; it and its folder are created if missing.
      columns: The header.

    Raises:
      InputError: The file exists and has other columns.
    """

    def __init__(self, path: str | os.PathLike, columns: Sequence[str]) -> None:
        self.path, self.columns = Path(path), tuple(columns)
        header = _lines([self.columns])
        found = self.path.read_bytes() if self.path.exists() else b""
        if b"\n" not in found:  # new, or killed inside the header
            _replace(self.path, header)
        elif self._is_older(found):
            _replace(self.path, _lines([self.columns, *self._completed(read_csv(path))]))
        elif not found.startswith(header.encode()):
            raise InputError(
                f"{self.path}: its columns are not {','.join(self.columns)}; "
                "give another --out, or move the file away"
            )
        elif not found.endswith(b"\n"):
            os.truncate(self.path, found.rfind(b"\n") + 1)

    def _is_older(self, found: bytes) -> bool:
        """Whether a file has all columns except those added later."""
        older = [column for column in self.columns if column not in ADDED_COLUMNS]
        return older != list(self.columns) and found.startswith(_lines([older]).encode())

    def _completed(self, rows: Iterable[Mapping[str, str]]) -> Iterator[list[str]]:
        return ([row.get(column, "") for column in self.columns] for row in rows)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append a batch of rows. After this returns, a kill or a power cut loses none of them.

        Args:
          rows: Column -> scalar. Missing columns and NaN are written as empty cells.

        Raises:
          KeyError: A row has a column that the file does not have.
        """
        cells = []
        for row in rows:
            if unknown := row.keys() - set(self.columns):
                raise KeyError(f"{self.path.name} has no column {', '.join(sorted(unknown))}")
            cells.append([_cell(row.get(column)) for column in self.columns])
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(_lines(cells))
            file.flush()
            os.fsync(file.fileno())

    def cut_back(self, keep: Callable[[dict[str, str]], bool]) -> int:
        """Remove rows, such as those that a resumed run wrote after its checkpoint.

        Args:
          keep: Called with a row (cells as text); returns True to keep it.

        Returns:
          How many rows were removed.

        Raises:
          InputError: A row was not written by this program.
        """
        rows = read_csv(self.path)
        try:
            kept = [row for row in rows if keep(row)]
        except (KeyError, ValueError) as error:
            raise InputError(f"{self.path}: {error}; fix or remove the row") from error
        if len(kept) < len(rows):
            _replace(self.path, _lines([self.columns, *(row.values() for row in kept)]))
        return len(rows) - len(kept)


def metric_rows(
    step: int, metrics: Mapping[str, Any], seeds: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `metrics.csv` for one step.

    Args:
      step: The step of the phase that the names begin with.
      metrics: `<phase>/<unit>/<quantity>` -> [S], one value per seed.
      seeds: The seeds, [S].
    """
    for name, values in metrics.items():
        for seed, value in zip(seeds, np.asarray(values), strict=True):
            yield {"step": step, "seed": seed, "name": name, "value": value}


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of a config by dotted path; a unit's name is at the path of the unit."""
    if not isinstance(tree, dict):
        return {path: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        inner = path if key == "unit" else f"{path}.{key}".lstrip(".")
        found |= flat(value, inner)
    return found
