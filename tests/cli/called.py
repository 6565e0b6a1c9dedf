"""The command under test, and the result of calling it."""

from typing import NamedTuple

MODULE = "experiments.train"


class Called(NamedTuple):
    code: int
    out: str
    err: str
