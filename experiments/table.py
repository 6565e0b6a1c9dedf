"""Print the page on methods or the table of docs/domains.md, or write the pages on units.

python -m experiments.table > docs/methods/index.md
python -m experiments.table --domains
python -m experiments.table --pages=docs/units
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from absl import flags

from enoto_jax.cli import command
from enoto_jax.recipes import domains, units
from enoto_jax.recipes.recipe import Recipe
from enoto_jax.recipes.registry import KINDS, UNITS, named
from enoto_jax.recipes.table import RECIPES
from enoto_jax.types import InputError, Unit

FLAGS = flags.FLAGS
TITLES = {
    "algorithm": "Algorithms: networks, and a loss for each",
    "target": "Target rules: from N target critics to one Bellman target",
    "exploration": "Exploration: how an agent acts online and weights transitions",
    "backup": "Backups: the value of the next state",
    "init": "Initialisers: how networks start",
    "replay": "Replay: where online batches come from",
    "term": "Critic terms: additional losses on the critics",
    "handover": "Hand-overs: from the offline state to the online one",
    "transform": "Transforms: what a method does to the data",
}


ABOUT = """\
# Methods

A method is an offline phase, a hand-over, and an online phase.
`enoto methods` lists them, and `--method` takes a name from the list. Columns:

- **offline (N)**, **online (N)**: the algorithm of the phase, and its number of critics
  (of each agent, in `br`). `-`: no offline phase.
- **hand-over**: what the online phase takes over from the offline phase.
- **target**: how N target critics become one Bellman target online.
- **exploration**: how the agent acts online, and how it weights transitions.
- **replay**: where online batches come from.

Each name links to a page with the equations, the constants, and a comparison of the paper, the
authors' code and this package."""
REPLACE = """\
`--num_critics`, `--target`, `--exploration`, `--replay` and `--set` replace a part of any
method:"""
NOTATION = r"""The constants are those of locomotion. For AntMaze, Adroit, Kitchen and single data
sets see [Domains and data sets](../domains.md).

`--set` takes a path and a value, such as `--set=algorithm.tau=0.01`. This path applies to both
phases; `offline.algorithm.tau` and `online.algorithm.tau` apply to one.

## Notation

| symbol | meaning |
| --- | --- |
| $s, a, r, s'$ | observation, action, reward and next observation of a transition |
| $d$ | 1 if the transition terminated the task, else 0; a time limit is not a termination |
| $\gamma$ | discount factor |
| $Q_i$, $\bar Q_i$ | critic $i$ of $N$ and its target network |
| $\pi$, $T$ | policy and temperature |
| $\tilde a$, $a'$ | an action sampled from $\pi(\cdot \mid s)$, and one from $\pi(\cdot \mid s')$ |
| $A$ | number of action entries |
| $\mathbb{E}_B$ | mean over the batch |

Written by `python -m experiments.table > docs/methods/index.md`."""
HOW = """\
Set options with `--set=PATH=VALUE`; `enoto train --explain=NAME` explains a unit or an option.
Written by `python -m experiments.table --pages=docs/units`."""
PAGES = Path(__file__).resolve().parents[1] / "docs" / "methods"


def _algorithm(unit: Unit) -> str:
    return f"{unit.name} ({getattr(unit, 'n', 0)})"


def row(name: str, recipe: Recipe) -> str:
    """Return a method's line of the table, in Markdown."""
    online = recipe.online.algorithm
    cells = (
        f"[`{name}`]({_page_of(name)})",
        _algorithm(recipe.offline.algorithm) if recipe.offline else "-",
        recipe.handover.name,
        _algorithm(recipe.online.algorithm),
        online.target.name if hasattr(online, "target") else "-",
        str(online.exploration).removesuffix("policy()") or "policy",
        recipe.online.replay.name,
        recipe.about,
    )
    return f"| {' | '.join(cells)} |"


def _page_of(name: str) -> str:
    """The file in docs/methods whose title names the method."""
    for path in sorted(PAGES.glob("*.md")):
        if f"`{name}`" in path.read_text().partition("\n")[0]:
            return path.name
    raise InputError(f"docs/methods: no page has {name} in its title; write one")


def methods() -> str:
    """Return docs/methods/index.md."""
    lines = (
        f"- {kind}: {', '.join(f'`{unit}`' for unit in named(kind))} ([page](../units/{kind}.md))"
        for kind in ("target", "exploration", "replay")
    )
    return "\n\n".join([ABOUT, table(), REPLACE, "\n".join(lines), NOTATION]) + "\n"


def table() -> str:
    """Return the table of methods, in Markdown."""
    head = (
        "| method | offline (N) | hand-over | online (N) | target | exploration | replay | what |"
    )
    lines = [head, "|" + " --- |" * (head.count("|") - 1)]
    return "\n".join(lines + [row(name, recipe) for name, recipe in RECIPES.items()])


def domains_table() -> str:
    """Return the table of what domains and data sets change; equal changes share a row."""
    lines = ["| domain or data sets | methods | changes |", "| --- | --- | --- |"]
    named_domains = {name: changes for name, (_, changes) in domains.DOMAINS.items()}
    for where, methods in [*named_domains.items(), *domains.TASKS]:
        about = where if where in named_domains else f"`{_escaped(where)}`"
        rows: dict[str, tuple[list[str], list[str]]] = {}  # changes -> methods, further changes
        for name, changes in methods.items():
            shared = methods.get(f"enoto_{name}", changes)
            if not shared.items() <= changes.items():
                shared = changes
            names, more = rows.setdefault(_changes(shared), ([], []))
            names.append(f"`{name}`")
            rest = {path: value for path, value in changes.items() if path not in shared}
            if rest:
                more.append(f"`{name}` also {_changes(rest)}")
        for text, (names, more) in rows.items():
            lines.append(f"| {about} | {', '.join(names)} | {'; '.join([text, *more])} |")
    return "\n".join(lines)


def _changes(changes: Mapping[str, object]) -> str:
    return ", ".join(f"`{path}={_plain(value)}`" for path, value in changes.items())


def _plain(value: object) -> str:
    """A value in the form that --set takes."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def page(kind: str) -> str:
    """Return the page on all units of a kind: meaning, options, and the methods that use them."""
    sections = [f"# {TITLES[kind]}", HOW]
    for make in named(kind).values():
        sections += [f"## `{make.__name__}`", _prose(make), *_options(make)]
        methods = [f"`{name}`" for name, recipe in RECIPES.items() if make in _makes(recipe)]
        sections.append(f"Methods that have it by default: {', '.join(methods) or 'none'}.")
    return "\n\n".join(sections) + "\n"


def _options(make: type[Unit]) -> Iterator[str]:
    """The table of a unit's options; for a derived unit, those that differ from its base's."""
    base = next(
        (parent for parent in make.__mro__[1:] if UNITS.get(parent.__name__) is parent), None
    )
    known = units.options(base) if base else {}
    found = {n: option for n, option in units.options(make).items() if known.get(n) != option}
    if found:
        lines = [
            f"| `{name}` | `{option.default!r}` | {_cell(option.about)} |"
            for name, option in found.items()
        ]
        yield "\n".join(["| option | default | what it is |", "| --- | --- | --- |", *lines])
    if base:
        other = "All other options" if found else "All options"
        yield f"{other} are those of [`{base.__name__}`](#{base.__name__})."


def _makes(recipe: Recipe) -> Iterator[type]:
    for _, value, _ in units.leaves(recipe):
        several = value if isinstance(value, tuple) else (value,)
        yield from (type(one) for one in several if isinstance(one, Unit))


def _prose(make: type) -> str:
    """The docstring up to its first section."""
    return _cell(re.split(r"\n\n(?:Args|Returns|Raises):", inspect.getdoc(make) or "")[0])


def _cell(text: str) -> str:
    """The text with Markdown's special characters escaped."""
    return re.sub(r"([|*<])", r"\\\1", text)


def define() -> None:
    """Define the command's flags."""
    flags.DEFINE_string("pages", None, "Write a page per kind of unit into this folder.")
    flags.DEFINE_bool("domains", False, "Print what domains change instead.")


def main() -> None:
    """Print a table, or write the pages."""
    if FLAGS.pages is None:
        print(domains_table() if FLAGS.domains else methods().rstrip("\n"))
        return
    folder = Path(FLAGS.pages)
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (folder / f"{kind}.md").write_text(page(kind))
        print(folder / f"{kind}.md")


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
