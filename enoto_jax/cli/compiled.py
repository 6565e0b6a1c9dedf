"""Compiled programs kept between starts, in JAX's persistent cache."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path

import jax

from enoto_jax.types import InputError

NONE = "none"


def keep(given: str | None) -> None:
    """Keep compiled programs in a folder, unless JAX already has one.

    Args:
      given: The folder, or "none" to keep nothing; None uses a folder in the user's cache. If that
        cannot be written, stderr reports it and nothing is kept.

    Raises:
      InputError: The folder that was given cannot be written.
    """
    if given == NONE:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if given is None and jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = default() if given is None else Path(given).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        if given is not None:
            raise InputError(
                f"--compilation_cache: {folder} cannot be written: {error.strerror}; give another "
                "folder, or none"
            ) from error
        print(f"compiled programs are not kept: {folder}: {error.strerror}", file=sys.stderr)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def default() -> Path:
    """Return a folder in the user's cache for this kind of processor: programs fit no other."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "enoto_jax" / "compiled" / _processor()


def _processor() -> str:
    """Return a short name for this processor's features."""
    said = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        said += "".join(x for x in lines[:40] if x.startswith(("flags", "model name", "Features")))
    except OSError:
        pass
    return f"{platform.machine()}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
