"""What the figures share: cells, their runs, and which of the runs exist.

A cell is a row of the table with some units replaced, on one task. Its run is in
`OUT/<task>/<row>[-<value>...]`. The run of an offline phase is in `OUT/<task>/off_<row>`, and is
trained once for all cells of all figures that start from it. The same command resumes what has
begun. Seeds that were trained one by one, in folders that end in `-s<seed>`, are drawn too.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from enoto_jax.cli import train
from enoto_jax.data.formats import minari
from enoto_jax.data.places import split
from enoto_jax.recipes.table import recipe
from enoto_jax.runs.files import read_csv
from enoto_jax.types import InputError

FLAGS = flags.FLAGS

LOCOMOTION = tuple(
    f"{env}-{kind}-v2"
    for env in ("halfcheetah", "hopper", "walker2d")
    for kind in ("medium", "medium-replay", "medium-expert")
)
ANTMAZE = tuple(
    f"antmaze-{maze}-v2"
    for maze in (
        "umaze",
        "umaze-diverse",
        "medium-play",
        "medium-diverse",
        "large-play",
        "large-diverse",
    )
)


# The methods' names in the paper and in files of published scores.
LABELS = {
    "enoto_cql": "ENOTO-CQL",
    "enoto_lapo": "ENOTO-LAPO",
    "scratch": "ENOTO-scratch",
    "sac": "SAC-scratch",
    "cal_ql": "Cal-QL",
    "wsrl_cql": "WSRL (after CQL)",
    **{row: row.upper() for row in ("br", "pex", "awac", "iql", "lapo", "cql", "edac", "rlpd")},
    "wsrl": "WSRL",
}


class Cell(NamedTuple):
    """A line of a figure on one task.

    Attributes:
      row: The method's row of the table.
      label: The line's label in the legend.
      offline: The row whose offline phase it starts from; None for its own.
      both: Flags of `enoto train` that change both phases: name -> value.
      online: Flags of `enoto train` that change only the online phase.
    """

    row: str
    label: str
    offline: str | None = None
    both: Mapping[str, object] = {}
    online: Mapping[str, object] = {}

    @property
    def name(self) -> str:
        """The name of its run's folder."""
        return _joined(self.row, self.both, self.online)

    @property
    def start(self) -> str | None:
        """The name of its offline phase's folder; None if it learns from scratch."""
        if recipe(self.row).offline is None:
            return None
        return "off_" + _joined(self.offline or self.row, self.both)


Folders = Mapping[str, Mapping[str, Sequence[Path]]]  # task -> label -> its runs


class Figure(NamedTuple):
    """The figure that one script makes.

    Attributes:
      name: The picture's name, without a suffix.
      tasks: The paper's tasks.
      cells: The figure's lines.
      draw: (task -> label -> its runs, path) -> paths of the pictures; only labels with a run.
      offline_only: Cells that need only their offline phase.
    """

    name: str
    tasks: Sequence[str]
    cells: Sequence[Cell]
    draw: Callable[[Folders, Path], Sequence[Path]]
    offline_only: Sequence[Cell] = ()


def define(rows: Sequence[str] = ()) -> None:
    """Define enoto train's flags, which every run is given, and the figures' own.

    Args:
      rows: The default of --rows, for a figure with a line per row; others have no such flag.
    """
    train.define()
    if rows:
        flags.DEFINE_list("rows", list(rows), "Methods to draw, one line each.")
    flags.DEFINE_bool("draw_only", False, "Draw from the runs that are there; train nothing.")
    flags.DEFINE_string("published", None, "CSV file of published scores to lay over the curves.")


def rows() -> list[Cell]:
    """Return a cell for each of --rows, without changes to the row."""
    return [Cell(row, LABELS.get(row, row)) for row in FLAGS.rows]


def make(figure: Figure) -> None:
    """Train the missing runs, and draw.

    Raises:
      InputError: A flag is given that the figure sets itself, or there is nothing to draw.
    """
    for own in ("method", "config", "restore"):
        if FLAGS[own].value is not None:
            raise InputError(f"--{own}: each cell of a figure has its own; leave it out")
    out = Path(FLAGS.out or "runs/paper")
    tasks = list(figure.tasks) if FLAGS.task is None else FLAGS.task.split(",")
    folders: dict[str, dict[str, list[Path]]] = {}
    for task in tasks:
        place = out / folder_name(task)
        if not FLAGS.draw_only:
            for arguments in runs(figure, task, place):
                _train(arguments)
        folders[place.name] = {cell.label: seeds_of(place / cell.name) for cell in figure.cells}
    if FLAGS.dry_run:
        return
    there = {
        task: {label: runs for label, runs in own.items() if runs} for task, own in folders.items()
    }
    for task, own in there.items():
        if missing := [cell.name for cell in figure.cells if cell.label not in own]:
            print(f"{out / task}: not there: {', '.join(missing)}", file=sys.stderr)
    there = {task: own for task, own in there.items() if own}
    if not there:
        raise InputError(f"--out: {out} contains no run of this figure; leave out --draw_only")
    for path in figure.draw(there, out / f"{figure.name}.png"):
        print(path)


def runs(figure: Figure, task: str, place: Path) -> Iterator[list[str]]:
    """Yield enoto train's arguments for every run of a task, offline phases first."""
    given = [f"--task={task}", *_given()]
    cells = [*figure.offline_only, *figure.cells]
    starts = {cell.start: cell for cell in reversed(cells) if cell.start}
    for start, cell in reversed(starts.items()):
        yield [
            *given,
            f"--method={cell.offline or cell.row}",
            *_flags(cell.both),
            "--online_steps=0",
            f"--out={place / start}",
        ]
    for cell in figure.cells:
        restores = cell.start and not FLAGS.dry_run  # in a dry run there is nothing to restore from
        begun = [f"--restore={place / cell.start}"] if restores else []
        yield [
            *given,
            f"--method={cell.row}",
            *_flags(cell.both),
            *_flags(cell.online),
            *begun,
            f"--out={place / cell.name}",
        ]


def folder_name(task: str) -> str:
    """Return the folder name for a task's runs: the name of its data, which need not exist."""
    names = []
    for part in split(task):
        path = Path(part)
        is_file = path.suffix.lower() in (".hdf5", ".h5", ".npz")
        names.append(path.stem if is_file else part.removeprefix(minari.PREFIX))
    return "+".join(names).replace("/", "-")


def seeds_of(run: Path) -> list[Path]:
    """Return a cell's runs that have begun: all seeds in one folder, or one folder per seed.

    Raises:
      InputError: A seed is in two of them.
    """
    one_by_one = run.parent.glob(f"{run.name}-s[0-9]*")
    begun = [own for own in (run, *sorted(one_by_one)) if _begun(own)]
    known: set[str] = set()
    for own in begun:
        seeds = {row["seed"] for row in read_csv(own / "evaluations.csv")}
        if twice := known & seeds:
            raise InputError(f"{own}: seed {min(twice)} of {run.name} is in another folder already")
        known |= seeds
    return begun


def _begun(run: Path) -> bool:
    """Whether the run has an online evaluation to draw."""
    path = run / "evaluations.csv"
    return path.exists() and any(row["phase"] == "online" for row in read_csv(path))


def _joined(row: str, *changes: Mapping[str, object]) -> str:
    return "-".join([row, *(str(value) for own in changes for value in own.values())])


def _flags(changes: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in changes.items()]


def _given() -> list[str]:
    """The user's flags for `enoto train`, except those that differ from run to run."""
    found = []
    for flag in FLAGS.get_flags_for_module(train.__name__):
        if flag.present and flag.name not in ("task", "out"):
            found += flag.serialize().splitlines()
    return found


def _train(arguments: Sequence[str]) -> None:
    """Do what `enoto train` does with these arguments."""
    print("enoto train", *arguments, file=sys.stderr)
    given = flags.FlagValues()
    for flag in FLAGS.get_flags_for_module(train.__name__):
        given[flag.name] = copy.deepcopy(flag)
        given[flag.name].unparse()
    given([train.__name__, *arguments])
    train.act(given, arguments)
