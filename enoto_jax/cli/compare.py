"""Draw the online curves of several runs on one axis, one colour a method.

enoto compare --runs=runs/cql,runs/enoto --out=compare.png
enoto compare --runs=runs/cql,runs/enoto --offline --out=both_phases.png
enoto compare --runs=runs/hopper,runs/walker2d --title="two tasks" --out=compare.pdf
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from enoto_jax.cli import command
from enoto_jax.report import curves
from enoto_jax.runs.files import read_config
from enoto_jax.types import InputError

FLAGS = flags.FLAGS


def define() -> None:
    """The command's flags."""
    flags.DEFINE_list("runs", None, "Folders of runs; those of one method are drawn together.")
    flags.DEFINE_string("out", None, "The picture.")
    flags.DEFINE_bool("offline", False, "Draw the offline phases too.")
    flags.DEFINE_string("title", None, "The task by default.")
    flags.mark_flags_as_required(["runs", "out"])


def main() -> None:
    """Group the runs by method and draw them."""
    groups, tasks = {}, set()
    for folder in map(Path, FLAGS.runs):
        config = read_config(folder / "config.json")
        if not {"method", "task"} <= set(config):
            raise InputError(f"--runs: {folder} is not a run's folder: no method and task")
        groups.setdefault(config["method"], []).append(folder)
        tasks.add(config["task"])
    if len(tasks) > 1 and FLAGS.title is None:
        raise InputError(f"--runs: of different tasks ({', '.join(sorted(tasks))}); give --title")
    curves.compare(groups, FLAGS.out, FLAGS.title or tasks.pop(), FLAGS.offline)
    print(FLAGS.out)


if __name__ == "__main__":
    define()
    sys.exit(command.execute(main, sys.argv))
