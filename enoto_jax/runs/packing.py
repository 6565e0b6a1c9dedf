"""Convert arrays to JSON and back, for small arrays in a checkpoint's record."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from enoto_jax.types import InputError


def pack(tree: Any) -> Any:
    """Convert a tree's arrays to JSON values, bit for bit."""
    if isinstance(tree, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(tree).tobytes()).decode()
        return {"dtype": tree.dtype.str, "shape": list(tree.shape), "base64": data}
    if isinstance(tree, Mapping):
        return {key: pack(value) for key, value in tree.items()}
    return [pack(value) for value in tree] if isinstance(tree, (list, tuple)) else tree


def unpack(tree: Any) -> Any:
    """Restore the arrays of a packed tree; tuples have become lists.

    Raises:
      InputError: An array was not written by `pack`.
    """
    if isinstance(tree, Mapping):
        if set(tree) == {"dtype", "shape", "base64"}:
            try:
                data = base64.b64decode(tree["base64"])
                return np.frombuffer(data, tree["dtype"]).reshape(tree["shape"]).copy()
            except (TypeError, ValueError) as error:
                raise InputError(f"an array of a checkpoint's record: {error}") from error
        return {key: unpack(value) for key, value in tree.items()}
    return [unpack(value) for value in tree] if isinstance(tree, list) else tree
