"""What a run writes and how it stops: metrics, checkpoints, timing and signals, tied together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from enoto_jax import core
from enoto_jax.data.source import Source
from enoto_jax.runs import hosts
from enoto_jax.runs.dashboards import Sink
from enoto_jax.runs.diagnostics import check_finite
from enoto_jax.runs.metrics import Rows
from enoto_jax.runs.progress import at, release
from enoto_jax.runs.saving import Saved, Saving
from enoto_jax.runs.signals import Signals
from enoto_jax.runs.timing import Timing
from enoto_jax.training.evaluate import Evaluator, acting
from enoto_jax.training.probe import Look, compile_probe
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import Transform
from enoto_jax.types import Stopped, Transition

Watch = Callable[[str, int, Any, np.ndarray], None]
HANDOVER = 0  # number of the evaluations on both sides of the hand-over


class Looks(NamedTuple):
    """How states are evaluated and probed during training.

    Attributes:
      evaluator: The evaluator; None without a simulator.
      sample: Transitions [M, ...] of the data set for the probe; None without data.
      watch: Called after every evaluation, see run.train.
      final_episodes: Episodes of the evaluations on both sides of the hand-over and of the last
        one; None: as many as in the others.
      online_steps: Length of the online phase, whose end is the last evaluation.
    """

    evaluator: Evaluator | None = None
    sample: Transition | None = None
    watch: Watch | None = None
    final_episodes: int | None = None
    online_steps: int | None = None

    def episodes(self, phase: str, step: int, number: int) -> int | None:
        """Return an evaluation's number of episodes per seed; None: the evaluator's own number."""
        ends = (phase, step) == ("online", self.online_steps)
        return self.final_episodes if ends or number == HANDOVER else None


class Programs(NamedTuple):
    """What an evaluation computes, for all seeds.

    Attributes:
      mode: An evaluation's number -> its actions; see `acting`.
      look: The probe.
    """

    mode: Callable[[int], Callable]
    look: Look


class Record:
    """What one run writes.

    Args:
      folder: The run's folder.
      source: The data source, for names and scores.
      seeds: The run's seeds.
      transform: The transform of the training data.
      offline_steps: Length of the offline phase.
      looks: How states are evaluated and probed.
      sinks: Dashboards, in addition to the CSV files.
      keep: How many of the newest checkpoints are kept.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        seeds: SeedMap,
        transform: Transform,
        offline_steps: int,
        looks: Looks = Looks(),
        sinks: Sequence[Sink] = (),
        keep: int = 2,
    ):
        self.folder, self.seeds, self.transform = folder, seeds, transform
        self.timing, self.signals = Timing(), Signals()
        self.rows = Rows(folder, seeds.all.tolist(), sinks)
        self.saving = Saving(folder, offline_steps, transform, self.timing, keep)
        self._source, self.looks, self._offline_steps = source, looks, offline_steps

    def resume(self, template: Callable) -> Saved | None:
        """Resume from the newest checkpoint; see Saving.resume."""
        saved = self.saving.resume(template, self.rows.cut_back)
        if self.looks.evaluator is not None:
            self.looks.evaluator.tells = hosts.from_first(self.rows.tell_success)
        return saved

    def programs(self, algorithm: core.Algorithm) -> Programs:
        """Compile what a phase's evaluations compute."""
        look = compile_probe(algorithm, self.seeds, self.transform, self.looks.sample)
        return Programs(acting(algorithm, self.seeds), look)

    def check(self, phase: str, step: int, tree: Mapping[str, Any]) -> None:
        """Check network -> arrays [S, ...] for NaN and infinity; see check_finite."""
        check_finite(tree, at(phase, step), self.folder)

    def write(self, phase: str, step: int, means: Mapping[str, Mapping[str, Any]]) -> None:
        """Write network -> quantity -> means [S] over updates.

        Raises:
          RunError: One of them is NaN or infinite; the last good checkpoint is kept.
        """
        self.check(phase, step, means)
        self.rows.quantities(phase, step, hosts.gather(means))

    def look(self, programs: Programs, state: Any, phase: str, step: int) -> None:
        """Write what the probe measures of the seeds' train states on the devices."""
        if seen := programs.look(state):
            self.write(phase, step, {"data": seen})

    def evaluate(
        self, programs: Programs, state: Any, phase: str, step: int, save: Callable[[], None]
    ) -> str:
        """Evaluate every seed, write the rows, and return the score in words.

        Args:
          programs: The phase's programs.
          state: The seeds' train states, on the devices.
          phase: Offline or online.
          step: The step within that phase.
          save: Saves this step and stops the run; called when a signal cuts the evaluation short.
        """
        self.look(programs, state, phase, step)
        evaluator, watch = self.looks.evaluator, self.looks.watch
        if evaluator is None:
            return ""
        with self.timing.timed("eval"):
            number = evaluation_number(phase, step, self._offline_steps)
            episodes = self.looks.episodes(phase, step, number)
            mode, stop = programs.mode(number), lambda: self.signals.stop
            found = evaluator(mode, state, number, stop, episodes)
        if hosts.any_of(found is None):
            save()
        told = np.nan if found.success is None else found.success
        success = np.full(found.returns.shape, told, np.float64)
        returns, success = hosts.gather((found.returns, success))
        if watch is not None:
            watch(phase, step, hosts.gather(self.seeds.get(state)), returns)
        scores = self._source.score(returns.mean(axis=1)) if self._source.scored else None
        name, value = self.rows.evaluation(
            phase, step, returns, success, scores, self.timing.wall()
        )
        self.saving.save_best(phase, step, lambda: self.seeds.get(state), name, value)
        rate = f", success {100 * success.mean():.0f}%" if np.isfinite(success).all() else ""
        return f"{name} {value:.1f}{rate}"

    def due(self, ends: bool) -> bool:
        """Return whether to save now: at the end, on a signal, or a minute after the last save."""
        return ends or self.saving.due(self.signals.stop)

    def save(self, phase: str, step: int, state: Any, position: dict[str, Any]) -> None:
        """Save a step before its rows are written.

        Args:
          phase: Offline or online.
          step: The step within that phase.
          state: Host arrays [S, ...]: a TrainState, or an object that has one as `train`.
          position: Whatever else the loop needs to resume; arrays and JSON.

        Raises:
          RunError: Parameters are NaN or infinite, or the disk is full.
          Stopped: A signal has come; raised after the save.
        """
        self.check(phase, step, getattr(state, "train", state).params)
        self.saving.save(phase, step, state, position)
        self.leave_if_asked(phase, step)

    def leave_if_asked(self, phase: str, step: int) -> None:
        """Leave if a signal has come, here or on another host; the step must be saved already.

        Raises:
          Stopped: A signal has come.
        """
        if self.signals.any_host():
            self.leave(phase, step)

    def leave(self, phase: str, step: int) -> None:
        """Wait until everything saved is on disk, and stop.

        Raises:
          Stopped: Always.
        """
        self.saving.checkpoints.wait()
        raise Stopped(at(phase, step))

    def close(self) -> None:
        """Close open files, wait for the checkpoints, and restore the signal handlers.

        Raises:
          RunError: A checkpoint could not be written.
        """
        release()
        self.signals.release()
        self.rows.close()
        if self.looks.evaluator is not None:
            self.looks.evaluator.close()
        self.saving.checkpoints.close()


def evaluation_number(phase: str, step: int, offline_steps: int) -> int:
    """Number an evaluation; its start states depend on the number.

    The evaluations just before and just after the hand-over share a number, so that they differ
    only in the policy. Every other evaluation has a number of its own.
    """
    switch = (phase, step) in (("offline", offline_steps), ("online", 0))
    return HANDOVER if switch else 2 * step + (phase == "online")
