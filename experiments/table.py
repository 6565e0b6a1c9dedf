"""Print the table of recipes, as the README and the docs show it.

python -m experiments.table
"""

from __future__ import annotations

from enoto_jax.recipes import Recipe
from enoto_jax.rows import RECIPES
from enoto_jax.units import Unit


def _algorithm(unit: Unit) -> str:
    return f"{unit.name} ({unit.resolved().get('n', 0)})"


def _name(unit: Unit | None, default: str) -> str:
    return unit.name if unit is not None else default


def row(name: str, recipe: Recipe) -> str:
    """One line of Markdown."""
    online = recipe.online.algorithm.resolved()
    cells = (
        f"`{name}`",
        _algorithm(recipe.offline.algorithm) if recipe.offline else "-",
        recipe.handover.name,
        _algorithm(recipe.online.algorithm),
        _name(online["target"], "min_q") if "target" in online else "-",
        str(online["exploration"]) if online["exploration"] else "policy",
        recipe.online.replay.name,
        recipe.about,
    )
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """The whole table."""
    head = "| row | offline (N) | hand-over | online (N) | target | exploration | replay | what |"
    lines = [head, "|" + " --- |" * (head.count("|") - 1)]
    return "\n".join(lines + [row(name, recipe) for name, recipe in RECIPES.items()])


if __name__ == "__main__":
    print(table())
