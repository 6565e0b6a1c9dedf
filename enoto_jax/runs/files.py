"""What a run writes while it trains: CSV rows and JSON files.

The CSV files are the record; everything else can be lost. So they survive a kill (at most the last,
partial line is lost), and a resumed run first cuts them back to its checkpoint.
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
    "score",  # empty where the task has no reference returns
    "success",  # share of episodes that told it, empty where the environment tells none
    "episodes",
    "wall_s",
)
# Columns that files of older versions lack; they are read, and gone on with, as empty ones.
ADDED_COLUMNS = frozenset({"success"})
# One row per quantity and seed, so that phases with different quantities share one file.
METRIC_COLUMNS = ("step", "seed", "name", "value")


def _replace(path: Path, text: str) -> None:
    with written_whole(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def plain(tree: Any) -> Any:
    """NumPy and JAX values as what JSON knows. NaN and infinity, which it does not, are null."""
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
    """Write a tree of plain, NumPy or JAX values; an older file stays until the new one is whole.

    Keys keep their order. NaN and infinity become null.

    Raises:
      TypeError: A leaf that JSON cannot hold.
    """
    _replace(Path(path), json.dumps(plain(tree), indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """An object of a JSON file.

    Raises:
      InputError: There is no such file, or it holds something else.
    """
    try:
        found = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is not a JSON object; is it from a run?")
    return found


# What a run's config.json says that is read again: name -> kind, and whether it may be null.
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
    """A run's config.json.

    Raises:
      InputError: It cannot be read, or an entry in it is of another kind.
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
    """A scalar as text that reads back to the very same number; NaN and None are empty."""
    scalar = np.asarray(value)[()]  # a NumPy scalar prints the fewest digits of its own precision
    return "" if scalar is None or scalar != scalar else str(scalar)


def _lines(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_csv(path: str | os.PathLike) -> list[dict[str, str]]:
    """The whole rows of a CSV file, cells as text. A partial last line is left out.

    Raises:
      InputError: There is no such file, or a row has more or fewer cells than the header.
    """
    try:
        found = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); is this a run?") from None
    # Only a line that ends was written whole. (Cut as bytes: a kill can split a character.)
    whole = found[: found.rfind(b"\n") + 1].decode("utf-8", errors="replace")
    try:
        header, *rows = list(csv.reader(io.StringIO(whole, newline=""))) or [[]]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read: {error}; is this a run?") from error
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(
                f"{path}, line {number}: {len(row)} cells where the header has {len(header)}; "
                "remove or fix the line"
            )
    return [dict(zip(header, row, strict=True)) for row in rows]


class CsvLog:
    """A CSV file that rows are appended to. Opening one that a kill left behind goes on with it.

    Args:
      path: The file; it and its folder are made when missing.
      columns: The header.

    Raises:
      InputError: The file is there and has other columns.
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
                f"{self.path}: has other columns than {','.join(self.columns)}; "
                "give another --out, or move the file away"
            )
        elif not found.endswith(b"\n"):
            os.truncate(self.path, found.rfind(b"\n") + 1)

    def _is_older(self, found: bytes) -> bool:
        """Whether a file has all columns but those that came later."""
        older = [column for column in self.columns if column not in ADDED_COLUMNS]
        return older != list(self.columns) and found.startswith(_lines([older]).encode())

    def _completed(self, rows: Iterable[Mapping[str, str]]) -> Iterator[list[str]]:
        return ([row.get(column, "") for column in self.columns] for row in rows)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a batch of rows. Once this returns, a kill or a power cut loses none of them.

        Args:
          rows: A scalar a column. A column left out is empty, as is NaN.

        Raises:
          KeyError: A row names a column that the file does not have.
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
        """Remove rows: on resume, those that the run wrote after its checkpoint.

        Args:
          keep: Told a row (cells as text), says whether it stays.

        Returns:
          How many rows went.

        Raises:
          InputError: A row is none that this program wrote.
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
    """The rows of `metrics.csv` for one step.

    Args:
      step: Of the phase that the names begin with.
      metrics: `<phase>/<unit>/<quantity>` -> [S], one value per seed.
      seeds: Their numbers, [S].
    """
    for name, values in metrics.items():
        for seed, value in zip(seeds, np.asarray(values), strict=True):
            yield {"step": step, "seed": seed, "name": name, "value": value}
