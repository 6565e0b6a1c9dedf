"""`enoto COMMAND`: the package's one command."""

from __future__ import annotations

import sys
from importlib import import_module

from enoto_jax.cli import command
from enoto_jax.recipes.units import nearest
from enoto_jax.types import InputError

# command -> module, and the flag that positional arguments stand for
COMMANDS = {
    "train": ("train", None),
    "report": ("report", "runs"),
    "compare": ("compare", None),
    "check-data": ("check_data", "task"),
    "collect": ("collect", None),
    "render": ("render", "run"),
    "export": ("export", "run"),
    "doctor": ("doctor", None),
    "sweep": ("sweep", None),
}


def module(name: str) -> str:
    """The module of a command.

    Raises:
      InputError: there is no such command; the nearest names are listed.
    """
    if name not in COMMANDS:
        raise InputError(f"no command {name!r}{nearest(name, COMMANDS)}")
    return f"enoto_jax.cli.{COMMANDS[name][0]}"


def main() -> None:
    """Run `enoto COMMAND --flag=value ...` and leave with the contract's exit code."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(__doc__, *(f"  enoto {each}" for each in COMMANDS), sep="\n")
        sys.exit(command.DONE)
    try:
        program = import_module(module(name))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(command.BAD_INPUT)
    sys.argv = [f"enoto {name}", *arguments]
    if name == "train":
        program.run()
    program.define()
    sys.exit(command.execute(program.main, sys.argv, positional=COMMANDS[name][1]))


if __name__ == "__main__":
    main()
