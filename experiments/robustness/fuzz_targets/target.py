"""What the targets share: what one is, and how commands are called."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from enoto_jax.cli import command
from enoto_jax.types import InputError, Spec
from experiments.robustness import mutations

SECRET = 0.40625  # every number outside; exact in all types of numbers with a fraction
SPEC = Spec(2, 1)


class Leaked(Exception):
    """Numbers of a file that the user did not name."""


class Target(NamedTuple):
    """One kind of input."""

    make: Callable[[Path], None]  # writes good input into a folder
    mutations: Mapping[str, tuple[str, mutations.Mutation]]  # name -> which files, what is done
    use: Callable[[Path], None]  # as a user would


def everywhere(table: Mapping[str, mutations.Mutation], pattern: str) -> dict:
    return {name: (pattern, change) for name, change in table.items()}


def call(program: Any, *arguments: str) -> None:
    """What the command line does, in this process; its exit code and its lines are the outcome."""
    command.define_only(program)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = command.execute(program.main, ["program", *arguments])
    lines = err.getvalue().splitlines()
    if code == command.BAD_INPUT:
        raise InputError("\n".join(lines))
    if code != command.DONE:
        raise AssertionError(f"exit code {code}: {lines}")
