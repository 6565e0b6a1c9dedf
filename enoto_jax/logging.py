"""What a run writes while it trains: CSV rows, JSON files, a progress bar, and optional dashboards.

The CSV files are the record; everything else can be lost. So they survive a kill (at most the last,
partial line is lost), and a resumed run first cuts them back to its checkpoint.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TextIO

import numpy as np
from tqdm import tqdm

from enoto_jax.types import InputError

EVALUATION_COLUMNS = (
    "phase",  # "offline" or "online"
    "step",  # updates (offline) or environment steps (online) since the phase began
    "env_steps",  # environment steps of this seed so far
    "seed",
    "return_mean",
    "return_std",
    "score",  # empty where the task has no reference returns
    "episodes",
    "wall_s",
)
# One row a quantity and seed, so that phases with different quantities share one file.
METRIC_COLUMNS = ("step", "seed", "name", "value")


def _replace(path: Path, text: str) -> None:
    """Writes the file whole or not at all: a reader never meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # else a power cut could leave the new name on an empty file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _plain(tree: Any) -> Any:
    """NumPy and JAX values as what JSON knows. NaN and infinity, which it does not, are null."""
    if isinstance(tree, Mapping):
        return {str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_plain(value) for value in tree]
    if isinstance(tree, os.PathLike):
        return os.fspath(tree)
    if hasattr(tree, "tolist"):
        return _plain(tree.tolist())
    return None if isinstance(tree, float) and not np.isfinite(tree) else tree


def write_json(path: str | os.PathLike, tree: Any) -> None:
    """Writes a tree of plain, NumPy or JAX values; an older file stays until the new one is whole.

    Keys keep their order. NaN and infinity become null.

    Raises:
        TypeError: A leaf that JSON cannot hold.
    """
    _replace(Path(path), json.dumps(_plain(tree), indent=2, allow_nan=False) + "\n")


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
    header, *rows = list(csv.reader(io.StringIO(whole, newline=""))) or [[]]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(
                f"{path}, line {number}: {len(row)} cells where the header has {len(header)}; "
                "remove or mend the line"
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
        elif not found.startswith(header.encode()):
            raise InputError(
                f"{self.path}: has other columns than {','.join(self.columns)}; "
                "give another --out, or move the file away"
            )
        elif not found.endswith(b"\n"):
            os.truncate(self.path, found.rfind(b"\n") + 1)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes a batch of rows. Once this returns, a kill of the program loses none of them.

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

    def cut_back(self, keep: Callable[[dict[str, str]], bool]) -> int:
        """Removes rows: on resume, those that the run wrote after its checkpoint.

        Args:
            keep: Told a row (cells as text), says whether it stays.

        Returns:
            How many rows went.
        """
        rows = read_csv(self.path)
        kept = [row for row in rows if keep(row)]
        if len(kept) < len(rows):
            _replace(self.path, _lines([self.columns, *(row.values() for row in kept)]))
        return len(rows) - len(kept)


def metric_rows(
    step: int, metrics: Mapping[str, Any], seeds: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """The rows of `metrics.csv` for one step.

    Args:
        step: Of the phase that the names begin with.
        metrics: `<phase>/<unit>/<quantity>` -> [S], one value a seed.
        seeds: Their numbers, [S].
    """
    for name, values in metrics.items():
        for seed, value in zip(seeds, np.asarray(values), strict=True):
            yield {"step": step, "seed": seed, "name": name, "value": value}


class Progress:
    """How far a phase is: a bar on a terminal; elsewhere (a log file) a plain line now and then.

    Args:
        total: Steps of the phase.
        description: Its name.
        initial: Steps that an earlier start of the run has done already.
        stream: Where to write; stderr when None.
        every_s: Least seconds between two plain lines; an evaluation prints one at once.
    """

    _TEXT = "{percentage:3.0f}% {n_fmt}/{total_fmt}, {rate_noinv_fmt}, {remaining} left{postfix}"

    def __init__(
        self,
        total: int,
        description: str,
        initial: int = 0,
        stream: TextIO | None = None,
        every_s: float = 10.0,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._scale = {"total": total, "initial": initial, "unit": " steps"}
        self._description, self._n, self._score = description, initial, ""
        self._every_s, self._start, self._shown = every_s, monotonic(), monotonic()
        self._closed, self._bar = False, None
        if self._stream.isatty():
            bar = "{desc} |{bar}| " + self._TEXT
            look = {"desc": description, "bar_format": bar, "dynamic_ncols": True}
            self._bar = tqdm(file=self._stream, **look, **self._scale)

    def _print(self) -> None:
        self._shown = monotonic()
        line = tqdm.format_meter(
            self._n,
            elapsed=self._shown - self._start,
            prefix=self._description,
            postfix=self._score,
            bar_format="{desc} " + self._TEXT,
            **self._scale,
        )
        print(line, file=self._stream, flush=True)

    def advance(self, n: int = 1) -> None:
        """Counts `n` more steps."""
        self._n += n
        if self._bar is not None:
            self._bar.update(n)
        elif monotonic() - self._shown >= self._every_s:
            self._print()

    def score(self, text: str) -> None:
        """Shows the newest evaluation, for example "score 44.6"."""
        self._score = text
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            self._print()

    def note(self, text: str) -> None:
        """Prints a line of its own, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves the last state on the screen. A second call does nothing."""
        if self._bar is not None:
            self._bar.close()
        elif not self._closed:
            self._print()
        self._closed = True


class Sink(Protocol):
    """A dashboard beside the CSV files."""

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Takes scalars named `<phase>/<unit>/<quantity>`; `step` counts within that phase."""

    def close(self) -> None:
        """Sends what is left."""


def _optional(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"--log={extra} cannot import {module} ({error}): pip install {module}, "
            f"or this package with its extra [{extra}]"
        ) from None


class _TensorBoard:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        library = _optional("tensorboardX", "tensorboard")
        self._writer = library.SummaryWriter(logdir=str(folder / "tensorboard"))
        self._writer.add_text("config", f"```\n{json.dumps(_plain(config), indent=2)}\n```")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        library = _optional("wandb", "wandb")
        known = folder / "wandb_id.json"  # a resumed run goes on in the same W&B run
        try:
            self._run = library.init(
                project="enoto_jax",
                name=folder.name,
                dir=str(folder),
                config=_plain(config),
                id=json.loads(known.read_text()) if known.exists() else None,
                resume="allow",
            )
        except library.Error as error:  # mostly: nobody is logged in
            reason = " ".join(str(error).split())
            raise InputError(f"--log=wandb: {reason}; or set WANDB_MODE=offline") from None
        write_json(known, self._run.id)
        # W&B's own step may not go back, but a phase counts from 0: so ours is the x axis.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log({name: float(value) for name, value in values.items()} | {"step": step})

    def close(self) -> None:
        self._run.finish()


_SINKS = {"tensorboard": _TensorBoard, "wandb": _Wandb}


def sinks(
    names: Iterable[str], folder: str | os.PathLike, config: Mapping[str, Any]
) -> tuple[Sink, ...]:
    """Opens dashboards. Their packages are imported here and nowhere else.

    Args:
        names: Any of "tensorboard" and "wandb"; "csv" is always written and opens nothing here.
        folder: The run's folder.
        config: Shown beside the curves.

    Raises:
        InputError: An unknown name, or a package that is not installed.
    """
    wanted = [name for name in dict.fromkeys(names) if name != "csv"]
    for name in wanted:
        if name not in _SINKS:
            raise InputError(f"--log={name}: unknown; choose from csv, {', '.join(_SINKS)}")
    return tuple(_SINKS[name](Path(folder), config) for name in wanted)
