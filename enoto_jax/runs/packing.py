"""Arrays as JSON holds them, for the small ones in a checkpoint's record."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from enoto_jax.types import InputError


def pack(tree: Any) -> Any:
    """A tree whose arrays JSON can hold, to the last bit."""
    if isinstance(tree, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(tree).tobytes()).decode()
        return {"dtype": tree.dtype.str, "shape": list(tree.shape), "base64": data}
    if isinstance(tree, Mapping):
        return {key: pack(value) for key, value in tree.items()}
    return [pack(value) for value in tree] if isinstance(tree, (list, tuple)) else tree


def unpack(tree: Any) -> Any:
    """The other way; tuples have become lists.

    Raises:
      InputError: An array that `pack` did not write.
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
