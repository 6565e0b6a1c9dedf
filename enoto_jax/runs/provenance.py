"""Record where results come from: versions of the package and its libraries, and the device."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import enoto_jax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "gymnasium", "mujoco", "numpy")
_GIT_S = 5.0  # timeout, for slow disks


def found() -> dict[str, Any]:
    """Return the entries of config.json on the program and the machine."""
    return {
        "package_version": enoto_jax.__version__,
        "git_commit": commit(Path(enoto_jax.__file__).parents[1]),
        "versions": versions(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {name: metadata.version(name) for name in _PACKAGES} | {
        "python": platform.python_version()
    }


def commit(checkout: Path) -> str | None:
    """Return the commit of a checkout, with "-dirty" if tracked files differ from it.

    None if the folder is not a checkout (the package is installed), or git is missing or too slow.
    """
    if not (checkout / ".git").exists():
        return None
    head = _git(checkout, "rev-parse", "HEAD")
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return head and head + ("-dirty" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
