"""Numbers out of Arrow and Parquet files, which pyarrow reads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from enoto_jax.types import InputError, plural


def needed(where: object) -> Any:
    """The pyarrow package, with what reads either kind of file.

    Raises:
      InputError: It is not installed.
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
    """A file's names and types; its kind is told by its suffix."""
    pyarrow = needed(path)
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.schema_arrow
    with pyarrow.memory_map(str(path)) as mapped, pyarrow.ipc.open_file(mapped) as file:
        return file.schema


def count(path: Path) -> int:
    """How many rows a file claims to have."""
    pyarrow = needed(path)
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            return file.metadata.num_rows
    with pyarrow.memory_map(str(path)) as mapped, pyarrow.ipc.open_file(mapped) as file:
        return sum(file.get_batch(i).num_rows for i in range(file.num_record_batches))


def read(path: Path, keys: Sequence[str], width: int | None = None) -> np.ndarray:
    """One column of a file, `[N]` where the width is 0, else `[N, width]`, in its own type.

    Args:
      path: The file.
      keys: Name of the column, and of the fields within, where columns lie in columns.
      width: Of its vectors, a number per row being a vector of width 1; default: its type's.

    Raises:
      InputError: There is no such column, or it holds something else, or other rows than the file
        claims to have.
    """
    pyarrow = needed(path)
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            found = _column(path, file.read(columns=[keys[0]]), keys, width)
    else:
        with pyarrow.memory_map(str(path)) as mapped, pyarrow.ipc.open_file(mapped) as file:
            found = _column(path, file.read_all(), keys, width)
    if len(found) != (rows := count(path)):
        text = f"{'/'.join(keys)} has {plural(len(found), 'row')} and the file claims {rows}"
        raise InputError(f"{path}: {text}; it is damaged: copy or download it again")
    return found


def _column(path: Path, table: Any, keys: Sequence[str], width: int | None) -> np.ndarray:
    if keys[0] not in table.column_names:
        raise InputError(f"{path}: no column {keys[0]}; all files of a data set need the same ones")
    table = table.select([keys[0]])
    # What a damaged file's buffers say of their own lengths must not be believed.
    table.validate(full=True)
    column, name = table.column(0), "/".join(keys)
    if len(keys) > 1:
        column = needed(path).compute.struct_field(column, list(keys[1:]))
    kind, own = type_of(column.type)
    width = own if width is None else width
    if kind is None or width is None:
        raise InputError(f"{path}: {name} has type {column.type}, real numbers are needed")
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
        raise InputError(f"{where} is one number per row, {width} are needed")
    if missing := chunk.null_count or flat.null_count:
        raise InputError(
            f"{where} lacks {plural(missing, 'value')} (null); fill or remove such rows"
        )
    values = flat.to_numpy(zero_copy_only=False)
    # A copy: a mapped file is closed when this returns.
    return np.array(values.reshape((len(chunk), width) if width else (len(chunk),)))


def _is_list(kind: Any) -> bool:
    types = needed("").types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


@functools.cache
def type_of(kind: Any) -> tuple[np.dtype | None, int | None]:
    """NumPy's type of a column's numbers, None for other things; and the width of its vectors.

    The width is 0 for a number per row, and None where the type does not tell it.
    """
    types = needed("").types
    width: int | None = 0
    if _is_list(kind):
        width = kind.list_size if types.is_fixed_size_list(kind) else None
        kind = kind.value_type
    real = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return (np.dtype(kind.to_pandas_dtype()) if real else None), width
