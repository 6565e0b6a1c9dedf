"""List the methods: the name that --method takes, and what it is.

enoto methods
enoto train --method=iql --dry_run
enoto train --method=iql --explain=expectile
"""

from __future__ import annotations

import shutil
import textwrap

from enoto_jax.recipes.table import RECIPES


def define() -> None:
    """Define no flags."""


def main() -> None:
    """Print every method."""
    width, column = max(40, shutil.get_terminal_size().columns), max(map(len, RECIPES)) + 2
    for name, recipe in RECIPES.items():
        rows = textwrap.wrap(recipe.about, width - column)
        print(f"{name:{column}}{rows[0]}", *(" " * column + row for row in rows[1:]), sep="\n")
