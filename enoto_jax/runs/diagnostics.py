"""Detect NaN and infinity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from enoto_jax.types import RunError


def check_finite(tree: Any, where: str, folder: Path) -> None:
    """Refuse to continue with NaN or infinity.

    Args:
      tree: network -> arrays [S, ...] on the host.
      where: Phase and step, for the message.
      folder: The run's folder.

    Raises:
      RunError: An array is not finite; the message names one of each network.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    broken = {
        str(path[0]): jax.tree_util.keystr(path, simple=True, separator="/")
        for path, x in leaves
        if not np.isfinite(x).all()
    }  # one per network
    if broken:
        raise RunError(
            f"{where}: {', '.join(broken.values())} is NaN or infinite; the last good state is "
            f"in {folder / 'checkpoints'}; lower the learning rates"
        )
