"""Read numbers from Arrow and Parquet files with pyarrow."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax.types import InputError, plural


def needed(where: object) -> Any:
    """Import pyarrow and its readers of both kinds of files, and return the package.

    Raises:
      InputError: Pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            f"{where}: reading it needs pyarrow; pip install 'enoto_jax[robots]'"
        ) from error
    return pyarrow


def schema(path: Path) -> Any:
    """Return a file's column names and types; the suffix decides how it is read."""
    pyarrow = needed(path)
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.schema_arrow
    with pyarrow.memory_map(str(path)) as mapped, pyarrow.ipc.open_file(mapped) as file:
        return file.schema


def count(path: Path) -> int:
    """Return how many rows a file claims to have."""
    pyarrow = needed(path)
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.metadata.num_rows
    with pyarrow.memory_map(str(path)) as mapped, pyarrow.ipc.open_file(mapped) as file:
        return sum(file.get_batch(i).num_rows for i in range(file.num_record_batches))


def read(path: Path, keys: Sequence[str], width: int | None = None) -> np.ndarray:
    """Read one column of a file in its own type: `[N]` if the width is 0, else `[N, width]`.

    Args:
      path: The file.
      keys: The column's name, followed by the names of nested fields.
      width: Width of the vectors; 1 also reads one number per row. Default: the type's width.

    Raises:
      InputError: The column is missing, does not hold such numbers, or has more or fewer rows than
        the file claims.
    """
    pyarrow = needed(path)
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            found = _column(path, file.read(columns=[keys[0]]), keys, width)
    else:
        with pyarrow.memory_map(str(path)) as mapped, pyarrow.ipc.open_file(mapped) as file:
            found = _column(path, file.read_all(), keys, width)
    if len(found) != (rows := count(path)):
        text = f"{'/'.join(keys)} has {plural(len(found), 'row')}, but the file claims {rows}"
        raise InputError(f"{path}: {text}; it is damaged: copy or download it again")
    return found


def _column(path: Path, table: Any, keys: Sequence[str], width: int | None) -> np.ndarray:
    if keys[0] not in table.column_names:
        raise InputError(
            f"{path}: no column {keys[0]}; all files of a data set must have the same columns"
        )
    table = table.select([keys[0]])
    # Do not trust the lengths that the buffers of a damaged file claim.
    table.validate(full=True)
    column, name = table.column(0), "/".join(keys)
    if len(keys) > 1:
        column = needed(path).compute.struct_field(column, list(keys[1:]))
    kind, own = type_of(column.type)
    width = own if width is None else width
    if kind is None or width is None:
        raise InputError(f"{path}: {name} has type {column.type}; expected real numbers")
    parts = [_numbers(f"{path}: {name}", chunk, width) for chunk in column.chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.empty((0, width) if width else (0,), kind)


def _numbers(where: str, chunk: Any, width: int) -> np.ndarray:
    flat = chunk
    if _is_list(chunk.type):
        lengths = needed(where).compute.list_value_length(chunk)
        lengths = lengths.fill_null(-1).to_numpy(zero_copy_only=False)
        if (bad := (lengths != max(width, 1)) & (lengths != -1)).any():
            raise InputError(
                f"{where} has {plural(lengths[bad][0], 'number')} in row {bad.argmax()} of a "
                f"block, not {max(width, 1)}"
            )
        flat = chunk.flatten()
    elif width > 1:
        raise InputError(f"{where} has one number per row; expected {width}")
    if missing := chunk.null_count or flat.null_count:
        raise InputError(
            f"{where} has {plural(missing, 'missing value')} (null); fill or remove such rows"
        )
    values = flat.to_numpy(zero_copy_only=False)
    # Copy, because the mapped file is closed after this returns.
    return np.array(values.reshape((len(chunk), width) if width else (len(chunk),)))


def _is_list(kind: Any) -> bool:
    types = needed("").types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


@functools.cache
def type_of(kind: Any) -> tuple[np.dtype | None, int | None]:
    """Return the NumPy type of a column's numbers, or None, and the width of its vectors.

    The width is 0 for one number per row, and None if the type does not fix it.
    """
    types = needed("").types
    width: int | None = 0
    if _is_list(kind):
        width = kind.list_size if types.is_fixed_size_list(kind) else None
        kind = kind.value_type
    real = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return (np.dtype(kind.to_pandas_dtype()) if real else None), width
