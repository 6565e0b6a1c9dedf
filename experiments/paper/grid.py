"""What the figures share: cells, the runs that they are, and which of them are there.

A cell is a row of the table with some units replaced, on one task. Its run lies in
`OUT/<task>/<row>[-<value>...]`, and that of an offline phase in `OUT/<task>/off_<row>`: it is
trained once for all cells of all figures that start from it. The same command again goes on.
Seeds that were trained one by one, in folders that end in `-s<seed>`, are drawn too.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from enoto_jax.cli import train
from enoto_jax.data import minari
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


# As the paper calls them, and files of published scores.
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
      row: Of the table.
      label: In the legend.
      offline: The row whose offline phase it starts from, where that is another's.
      both: Experiments.train's flags that change both phases: name -> value.
      online: Those that change the online phase alone.
    """

    row: str
    label: str
    offline: str | None = None
    both: Mapping[str, object] = {}
    online: Mapping[str, object] = {}

    @property
    def name(self) -> str:
        """The folder of its run."""
        return _joined(self.row, self.both, self.online)

    @property
    def start(self) -> str | None:
        """The folder of its offline phase; None: it learns from scratch."""
        if recipe(self.row).offline is None:
            return None
        return "off_" + _joined(self.offline or self.row, self.both)


Folders = Mapping[str, Mapping[str, Sequence[Path]]]  # task -> label -> its runs


class Figure(NamedTuple):
    """What one script makes.

    Attributes:
      name: Of the picture.
      tasks: The paper's.
      cells: A line each.
      draw: (task -> label -> its runs, the picture) -> pictures; labels without a run left out.
      offline_only: Cells of which the offline phase is all that is needed.
    """

    name: str
    tasks: Sequence[str]
    cells: Sequence[Cell]
    draw: Callable[[Folders, Path], Sequence[Path]]
    offline_only: Sequence[Cell] = ()


def define(rows: Sequence[str] = ()) -> None:
    """experiments.train's flags, which every run is given, and the figures' own.

    Args:
      rows: That a figure with a line for every row shows by default.
    """
    train.define()
    if rows:
        flags.DEFINE_list("rows", list(rows), "Rows of the table, a line each.")
    flags.DEFINE_bool("draw_only", False, "Draw from the runs that are there; train nothing.")
    flags.DEFINE_string("published", None, "CSV file of published scores to lay over the curves.")


def rows() -> list[Cell]:
    """A cell for each of --rows, as it stands in the table."""
    return [Cell(row, LABELS.get(row, row)) for row in FLAGS.rows]


def make(figure: Figure) -> None:
    """Train what is not there yet, and draw.

    Raises:
      InputError: A flag that the figure sets itself, or nothing to draw.
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
        raise InputError(f"--out: {out} holds no run of this figure; leave out --draw_only")
    for path in figure.draw(there, out / f"{figure.name}.png"):
        print(path)


def runs(figure: Figure, task: str, place: Path) -> Iterator[list[str]]:
    """The arguments of experiments.train for every run of a task; offline phases come first."""
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
        restores = cell.start and not FLAGS.dry_run  # then there is nothing to restore from yet
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
    """How the runs on a task are filed: the name of its data, without asking whether they exist."""
    names = []
    for part in split(task):
        path = Path(part)
        is_file = path.suffix.lower() in (".hdf5", ".h5", ".npz")
        names.append(path.stem if is_file else part.removeprefix(minari.PREFIX))
    return "+".join(names).replace("/", "-")


def seeds_of(run: Path) -> list[Path]:
    """A cell's runs that have begun: all seeds in one folder, or one by one."""
    one_by_one = run.parent.glob(f"{run.name}-s[0-9]*")
    return [own for own in (run, *sorted(one_by_one)) if _begun(own)]


def _begun(run: Path) -> bool:
    """Whether there is a first online evaluation to draw."""
    path = run / "evaluations.csv"
    return path.exists() and any(row["phase"] == "online" for row in read_csv(path))


def _joined(row: str, *changes: Mapping[str, object]) -> str:
    return "-".join([row, *(str(value) for own in changes for value in own.values())])


def _flags(changes: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in changes.items()]


def _given() -> list[str]:
    """What the user gave for experiments.train, but the flags that differ from run to run."""
    found = []
    for flag in FLAGS.get_flags_for_module(train.__name__):
        if flag.present and flag.name not in ("task", "out"):
            found += flag.serialize().splitlines()
    return found


def _train(arguments: Sequence[str]) -> None:
    """What experiments.train does with these arguments."""
    print("enoto train", *arguments, file=sys.stderr)
    given = flags.FlagValues()
    for flag in FLAGS.get_flags_for_module(train.__name__):
        given[flag.name] = copy.deepcopy(flag)
        given[flag.name].unparse()
    given([train.__name__, *arguments])
    train.act(given, arguments)
