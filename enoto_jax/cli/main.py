"""`enoto COMMAND`: the package's one command."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NamedTuple

from enoto_jax import __version__


class Command(NamedTuple):
    """A command's module, the flag that its positional arguments mean, and its line of help."""

    module: str
    positional: str | None
    about: str


COMMANDS = {
    "train": Command("train", None, "train a method: offline on a data set, then online"),
    "evaluate": Command("evaluate", "run", "evaluate the saved policies of a run"),
    "report": Command("report", "runs", "write one self-contained HTML page about runs"),
    "compare": Command("compare", None, "draw the online curves of several runs together"),
    "check-data": Command("check_data", "task", "check whether a data set can be used"),
    "collect": Command("collect", None, "record data sets with D4RL's recipe"),
    "render": Command("render", "run", "film a run before and after fine-tuning"),
    "export": Command("export", "run", "export a policy as one file that needs only NumPy"),
    "doctor": Command("doctor", None, "check the installation"),
    "sweep": Command("sweep", None, "train a grid of runs, on one machine or a cluster"),
    "methods": Command("methods", None, "list the methods"),
    "tasks": Command("tasks", None, "list the known data sets, and those on this machine"),
}


def module(name: str) -> str:
    """Return the module of a command.

    Raises:
      InputError: There is no such command; the message lists the nearest names.
    """
    if name not in COMMANDS:
        from enoto_jax.recipes.units import nearest
        from enoto_jax.types import InputError

        if name.startswith("-"):
            raise InputError(
                f"{name!r} is not a command; the command comes first: enoto train {name}"
            )
        raise InputError(f"unknown command {name!r}{nearest(name, COMMANDS)}")
    return f"enoto_jax.cli.{COMMANDS[name].module}"


def overview() -> str:
    """Return the overview: one line per command."""
    return "\n".join(
        [
            "enoto: offline-to-online reinforcement learning with Q-ensembles",
            "",
            *(f"  enoto {name:11} {each.about}" for name, each in COMMANDS.items()),
            "",
            "enoto COMMAND --help shows examples and flags; enoto --version, the version.",
            "To begin: enoto train --budget=smoke",
        ]
    )


def main() -> None:
    """Run `enoto COMMAND --flag=value ...` and leave with the contract's exit code."""
    if sys.platform == "win32":
        print("error: enoto_jax runs on Linux and macOS; on Windows use WSL", file=sys.stderr)
        sys.exit(2)
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help", "--helpfull", "--helpshort"):
        if not arguments:
            print(overview())
            sys.exit(0)
        name, arguments = arguments[0], ["--help"]
    if name == "--version":
        print(f"enoto_jax {__version__}")
        sys.exit(0)
    from enoto_jax.cli import command

    try:
        program = import_module(module(name))
    except command.InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(command.BAD_INPUT)
    sys.argv = [f"enoto {name}", *arguments]
    if name == "train":
        program.run_command()
    program.define()
    sys.exit(command.execute(program.main, sys.argv, positional=COMMANDS[name].positional))


if __name__ == "__main__":
    main()
