"""Hints for common mistakes: misspelt names, and names from other programs."""

from __future__ import annotations

from collections.abc import Container, Sequence

from enoto_jax.data.download import catalogue
from enoto_jax.recipes import registry, units
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.table import RECIPES, recipe
from enoto_jax.types import InputError

# Names of hyper-parameters in other programs -> how the last word of the path ends here.
_ELSEWHERE = {
    "learning_rate": "_rate",
    "lr": "_rate",
    "gamma": "discount",
    "polyak": "tau",
    "layers": "hidden",
    "hidden_dim": "hidden",
    "ensemble_size": "n",
    "buffer_size": "capacity",
}


def paths_of(row: Recipe, name: str, near: bool = False) -> list[str]:
    """Return the paths of hyper-parameters that end in a name.

    Args:
      row: The method to search.
      name: The last words of a path, such as `ucb` or `exploration.ucb`.
      near: Whether the name may be the end of a word, as `_rate` is of `actor_rate`.
    """
    known = [path for path, _, _ in units.leaves(row)]
    return [p for p in known if f".{p}".endswith(name if near else f".{name}")]


def shortened(paths: Sequence[str]) -> list[str]:
    """Return the paths, without the phase if both phases have them."""
    both = {p.partition(".")[2] for p in paths if p.startswith("offline.")}
    both &= {p.partition(".")[2] for p in paths if p.startswith("online.")}
    short = [p.partition(".")[2] if p.partition(".")[2] in both else p for p in paths]
    return list(dict.fromkeys(short))


def unknown_flag(name: str, arguments: Sequence[str]) -> str | None:
    """Return what to add to "there is no such flag" if a hyper-parameter was meant; else None.

    Args:
      name: The flag's name.
      arguments: All arguments; the method is among them.
    """
    given = [x.partition("=")[2] for x in arguments if x.startswith("--method=")]
    row = recipe(given[-1] if given and given[-1] in RECIPES else "enoto_cql")
    ending = _ELSEWHERE.get(name)
    paths = paths_of(row, ending, near=ending.startswith("_")) if ending else paths_of(row, name)
    if not paths:
        return None
    first, *others = shortened(paths)
    also = f"; also {', '.join(others)}" if others else ""
    return f", but there is a hyper-parameter: --set={first}=VALUE{also}"


def check_path(flag: str, row: Recipe, path: str, method: str) -> None:
    """Refuse a flag if the method does not have its hyper-parameter.

    Raises:
      InputError: The method has none; the message says why.
    """
    known = {p for p, _, _ in units.leaves(row)}
    if {path, f"offline.{path}", f"online.{path}"} & known:
        return
    if path.startswith("offline.") and row.offline is None:
        raise InputError(f"{flag}: {method} has no offline phase, so there is no {path}")
    why = "it has no critics" if path.endswith((".n", ".target")) else "it does not use it"
    raise InputError(f"{flag}: {method} has no {path}: {why}")


def environment_as_task(task: str | None) -> str | None:
    """Return what to say if --task names an environment instead of a data set; else None."""
    import gymnasium

    if task not in gymnasium.registry:
        return None
    family = task.partition("-")[0].partition("_")[0].lower()
    there = [name for name in catalogue() if name.partition("-")[0] == family]
    there = sorted(there, key=lambda name: ("medium" not in name, name.endswith("v0"), name))
    data = f"its data sets: {', '.join(there[:3])}" if there else "`enoto tasks` lists data sets"
    return (
        f"--task: {task} is an environment, but --task takes a data set; {data}; "
        f"without data: --method=sac --env={task}"
    )


def explain(row: Recipe, path: str, flags: Container[str] = ()) -> tuple[str, list[str]]:
    """Describe a hyper-parameter or a unit, or list the hyper-parameters that a name may mean.

    Args:
      row: The method that has it.
      path: The whole path, or its last words; or a unit's name.
      flags: Names of the command's flags, for the message.

    Returns:
      The text, and a list with the path that it describes; empty for a unit, or if several are
      listed.

    Raises:
      InputError: There is no such hyper-parameter; the message lists the nearest.
    """
    known = {p: value for p, value, _ in units.leaves(row)}
    found = [path] if path in known else paths_of(row, path)
    if len(found) > 1:
        lines = [f"{path} matches {len(found)} hyper-parameters; give the whole path:"]
        return "\n".join([*lines, *(f"  {each} = {known[each]}" for each in found)]), []
    if not found and path in registry.UNITS:
        return registry.describe_unit(path), []
    if not found and path in flags:
        raise InputError(f"--explain: {path} is a flag, not a hyper-parameter; see --help")
    chosen = found[0] if found else path
    return registry.describe_path(row, chosen), [chosen]
