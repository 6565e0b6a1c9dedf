"""What the targets share: the type of a target, and how commands are called."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from enoto_jax.cli import command
from enoto_jax.types import InputError, Spec
from experiments.robustness import mutations

SECRET = 0.40625  # every number outside a case's input; exact in all floating-point types
SPEC = Spec(2, 1)


class Leaked(Exception):
    """Numbers were read from a file that the user did not name."""


class Target(NamedTuple):
    """One kind of input."""

    make: Callable[[Path], None]  # writes valid input into a folder
    mutations: Mapping[str, tuple[str, mutations.Mutation]]  # name -> (pattern of files, mutation)
    use: Callable[[Path], None]  # reads it as a user would


def everywhere(table: Mapping[str, mutations.Mutation], pattern: str) -> dict:
    return {name: (pattern, change) for name, change in table.items()}


def call(program: Any, *arguments: str) -> None:
    """Run a command in this process, and raise what its exit code and its lines mean.

    Raises:
      InputError: It refused its input.
      AssertionError: It ended with any other exit code than 0.
    """
    command.define_only(program)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = command.execute(program.main, ["program", *arguments])
    lines = err.getvalue().splitlines()
    if code == command.BAD_INPUT:
        raise InputError("\n".join(lines))
    if code != command.DONE:
        raise AssertionError(f"exit code {code}: {lines}")
