"""Save a run's checkpoints when they are due, and resume from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enoto_jax.runs import hosts
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.packing import unpack
from enoto_jax.runs.timing import Timing
from enoto_jax.transforms import Transform

SAVE_EVERY_S = 60.0
SAVE_SHARE = 0.02  # saves are spaced to take at most about this share of the time


class Place(NamedTuple):
    """Where a phase begins or resumes.

    Attributes:
      step: The step of the phase; above 0 the phase resumes.
      position: What else the loop resumes from, if this step's rows are not yet written; None if
        they are.
    """

    step: int = 0
    position: dict[str, Any] | None = None


class Saved(NamedTuple):
    """What a run resumes from.

    Attributes:
      phase: Offline or online.
      place: The place in that phase.
      state: Host arrays [S, ...].
    """

    phase: str
    place: Place
    state: Any


class Saving:
    """The checkpoints of one run, over both phases; the first host writes them.

    Args:
      folder: The run's folder.
      offline_steps: Length of the offline phase; checkpoints are numbered over both phases.
      transform: The transform of the training data, stored in every checkpoint's record.
      timing: The run's timing, stored as well.
      keep: How many of the newest checkpoints to keep.
    """

    def __init__(
        self,
        folder: Path,
        offline_steps: int,
        transform: Transform,
        timing: Timing,
        keep: int = 2,
    ):
        self.checkpoints: Any = hosts.Nothing()
        if hosts.first():
            self.checkpoints = Checkpoints(folder / "checkpoints", keep)
        self._folder, self._offline_steps = folder, offline_steps
        self._transform, self._timing = transform, timing
        self._saved_at, self._next_s = time.monotonic(), SAVE_EVERY_S
        self._saved_s, self._best = 0.0, -np.inf
        self._agreed = hosts.NowAndThen()
        self._resumes_at = -1  # number up to which a resume keeps what was saved

    def resume(self, template: Callable, cut_back: Callable[[str, int], None]) -> Saved | None:
        """Load the newest checkpoint and cut everything else back to it; None without one.

        Args:
          template: Maps a checkpoint's record to the shapes of its arrays.
          cut_back: Called with (phase, step) to remove the rows of later steps.
        """
        state = None

        def here():
            nonlocal state
            found, state = self.checkpoints.newest(template) or ({}, None)
            phase, step = found.get("phase", "offline"), found.get("step", -1)
            last = step if found.get("position") is None else step - 1
            cut_back(phase, last)
            self._resumes_at = self._number(phase, last)
            self.checkpoints.forget_best(self._resumes_at)
            best = self.checkpoints.best()
            return found, best["mean"] if best else None

        found, best = hosts.from_first(here)
        self._best = -np.inf if best is None else best
        if not found:
            return None
        self._timing.resume(found, str(self._folder))
        self._saved_s = self._timing.totals["save_s"]
        state = hosts.scatter(template(found) if state is None else state)
        position = hosts.own_position(unpack(found.get("position")))
        return Saved(found["phase"], Place(found["step"], position), state)

    def due(self, wished: bool) -> bool:
        """Return whether to save now: on request, or at least a minute after the last save.

        Several hosts agree on the answer, but not in every call, as asking takes milliseconds.
        """
        return self._agreed.any_of(wished or time.monotonic() > self._saved_at + self._next_s)

    def save(self, phase: str, step: int, state: Any, position: Mapping[str, Any]) -> None:
        """Save a step before its rows are written; see `training.record.Record.save`."""
        with self._timing.timed("save"):
            position = hosts.gather_position(position)
            about = {"phase": phase, "step": step, "position": position, **self._about()}
            self.checkpoints.save(self._number(phase, step), hosts.gather(state), about)
        self._resumes_at = self._number(phase, step) - 1
        save_s = self._timing.totals["save_s"]
        took, self._saved_s = save_s - self._saved_s, save_s
        self._saved_at, self._next_s = time.monotonic(), max(SAVE_EVERY_S, took / SAVE_SHARE)

    def save_handover(self, step: int, state: Any) -> None:
        """Save the end of the offline phase, own or restored, as host arrays [S, ...]."""
        with self._timing.timed("save"):
            about = {"phase": "offline", "step": step, **self._about()}
            self.checkpoints.save_handover(hosts.gather(state), about)

    def save_best(
        self, phase: str, step: int, state: Callable[[], Any], metric: str, mean: float
    ) -> None:
        """Save a train state if its evaluation is the best so far.

        Args:
          phase: Offline or online.
          step: The step of that phase.
          state: Returns the host arrays [S, ...]; called only if they are needed.
          metric: "score" or "return".
          mean: The metric's mean over seeds.
        """
        if not mean > self._best:
            return
        self._best = mean
        about = {"phase": phase, "step": step, "transform": self._transform.to_json()}
        about |= {"mean": mean, "metric": metric}
        with self._timing.timed("save"):
            # Two are kept: those that a resume would remove must not push out the last one before.
            self.checkpoints.wait()  # a resume needs a finished checkpoint
            self.checkpoints.forget_best(self._resumes_at)
            self.checkpoints.save(self._number(phase, step), hosts.gather(state()), about, "best")

    def _number(self, phase: str, step: int) -> int:
        """The checkpoint's number, counted over both phases; a restored phase counts as none."""
        own = self._offline_steps
        return min(step, own) if phase == "offline" else own + 1 + step

    def _about(self) -> dict[str, Any]:
        return {**self._timing.to_json(), "transform": self._transform.to_json()}
