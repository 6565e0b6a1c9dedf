"""List the data sets that --task takes: known ids, and data sets on this machine.

enoto tasks
enoto check-data hopper-medium-v2
enoto train --task=minari:mujoco/hopper/medium-v0
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable

from enoto_jax.data.download import cache_dir, catalogue
from enoto_jax.data.formats import minari
from enoto_jax.data.places import locate


def define() -> None:
    """Define no flags."""


def main() -> None:
    """Print the data sets, one paragraph per kind."""
    d4rl, others = cached()
    families: dict[str, list[str]] = {}
    for name in catalogue():
        families.setdefault(name.partition("-")[0], []).append(name)
    print(f"Without --task: {locate('').name}, which ships with the package.\n")
    print("D4RL ids, fetched when first used:")
    _print(", ".join(names) for names in families.values())
    print(f"\nIn {cache_dir()}: {'nothing' if not d4rl + others else ''}".rstrip())
    _print([*d4rl, *others])
    found = in_minari()
    print(f"\nIn Minari's {minari.root()}: {'nothing' if not found else ''}".rstrip())
    _print(found)
    print("\nOther Minari ids, as minari:ID, are fetched when first used (they need its package).")
    print("Files: the path of an .hdf5, .h5 or .npz file in D4RL's layout; several joined by +.")


def cached() -> tuple[list[str], list[str]]:
    """Return the D4RL ids in D4RL's folder, and the paths of other data files there."""
    folder, names = cache_dir(), {file.name: task for task, file in catalogue().items()}
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    d4rl = [names[path.name] for path in there if path.name in names]
    ours = (".hdf5", ".h5", ".npz")
    others = [str(x) for x in there if x.name not in names and x.suffix.lower() in ours]
    return d4rl, others


def in_minari() -> list[str]:
    """Return the data sets in Minari's folder, as --task takes them."""
    root = minari.root()
    names = ("main_data.hdf5", "metadata.json")  # only the latter: arrow or parquet files
    found = {path.parents[1] for name in names for path in root.glob(f"**/data/{name}")}
    return sorted(minari.PREFIX + folder.relative_to(root).as_posix() for folder in found)


def _print(lines: Iterable[str]) -> None:
    width = max(40, shutil.get_terminal_size().columns)
    for line in lines:
        # Break only at spaces, so that a name can be copied.
        wrapped = textwrap.wrap(
            line, width - 2, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        print(*(f"  {row}" for row in wrapped), sep="\n")
