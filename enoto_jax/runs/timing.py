"""Measure where a run's time goes, over all its starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from enoto_jax.types import InputError


class Timing:
    """Seconds by kind of work, and counts.

    Attributes:
      totals: compile_s, update_s, env_s, eval_s, save_s; updates and env_steps of all seeds.
    """

    def __init__(self) -> None:
        self.totals = dict.fromkeys(("compile_s", "update_s", "env_s", "eval_s", "save_s"), 0.0)
        self.totals |= {"updates": 0, "env_steps": 0}
        self._before, self._started = 0.0, time.monotonic()

    @contextmanager
    def timed(self, what: str) -> Iterator[Callable[[], float]]:
        """Count a block's seconds as compile, update, env, eval or save.

        Yields:
          A function that returns the block's seconds once it has ended.
        """
        begun, seconds = time.monotonic(), 0.0
        yield lambda: seconds
        seconds = time.monotonic() - begun
        self.totals[f"{what}_s"] += seconds

    def compiled(self, function: Any, *arguments: Any) -> Callable:
        """Compile ahead of time, so that compiling happens once and is not counted as running."""
        with self.timed("compile"):
            return function.lower(*arguments).compile()

    def count(self, what: str, number: int) -> None:
        """Count updates or env_steps."""
        self.totals[what] += number

    def wall(self) -> float:
        """Return the seconds that the run has taken, over all its starts."""
        return self._before + time.monotonic() - self._started

    def to_json(self) -> dict[str, Any]:
        """Return the entries of a checkpoint's record."""
        return {"wall_s": self.wall(), "timing": self.totals}

    def resume(self, found: Mapping[str, Any], where: str) -> None:
        """Continue counting from a checkpoint's record.

        Raises:
          InputError: The record has no such numbers; the message begins with `where`.
        """
        wall, totals = found.get("wall_s"), found.get("timing")
        numbers = [wall, *(totals.values() if isinstance(totals, dict) else [None])]
        if any(type(x) not in (int, float) for x in numbers) or "save_s" not in totals:
            raise InputError(f"{where}: the checkpoint's record has no times; it is damaged")
        self._before = wall
        self.totals |= totals

    def summary(self) -> dict[str, Any]:
        """Return the content of timing.json."""
        updating, stepping = (self.totals[x] or float("nan") for x in ("update_s", "env_s"))
        return {
            **self.totals,
            "wall_s": self.wall(),
            "updates_per_s": self.totals["updates"] / updating,
            "env_steps_per_s": self.totals["env_steps"] / stepping,
        }
