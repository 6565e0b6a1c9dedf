"""The command under test, and what a call of it returns."""

from typing import NamedTuple

MODULE = "experiments.train"


class Called(NamedTuple):
    code: int
    out: str
    err: str
