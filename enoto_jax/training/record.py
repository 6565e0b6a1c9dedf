"""What a run writes and how it stops: rows, scores, timing, checkpoints, signals."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from enoto_jax import core
from enoto_jax.data.source import Source
from enoto_jax.report import curves, metrics, stats
from enoto_jax.runs import files, hosts
from enoto_jax.runs.checkpoint import Checkpoints, unpack
from enoto_jax.runs.dashboards import Sink
from enoto_jax.training.evaluate import Evaluator
from enoto_jax.training.probe import Look
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import Transform
from enoto_jax.types import InputError, RunError

SAVE_EVERY_S = 60.0
SAVE_SHARE = 0.02  # saving less often keeps the time that it takes below about this part


Watch = Callable[[str, int, Any, np.ndarray], None]


class Stopped(Exception):
    """A signal asked the run to stop; a checkpoint is saved."""


class Record:
    """The open files of one run's folder.

    Args:
      folder: where everything is written.
      source: gives names and scores.
      seeds: the seeds that rows are of.
      evaluator: or None, without a simulator.
      sinks: dashboards beside the CSV files.
      offline_steps: length of the offline phase; checkpoints are numbered over both phases.
      transform: of the training data; saved with every checkpoint.
      probe: a phase's algorithm -> what is to be known of its states beside their scores.
      watch: called after every evaluation, see run.train.
      keep: how many of the newest checkpoints are kept.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        seeds: SeedMap,
        evaluator: Evaluator | None,
        sinks: Sequence[Sink],
        offline_steps: int,
        transform: Transform,
        probe: Callable[[core.Algorithm], Look],
        watch: Watch | None = None,
        keep: int = 2,
    ):
        self.folder, self.source, self.seeds, self.evaluator = folder, source, seeds, evaluator
        self.checkpoints = self._evaluations = self._metrics = hosts.Nothing()
        if hosts.first():
            self.checkpoints = Checkpoints(folder / "checkpoints", keep)
            evaluations, metrics = folder / "evaluations.csv", folder / "metrics.csv"
            self._evaluations = files.CsvLog(evaluations, files.EVALUATION_COLUMNS)
            self._metrics = files.CsvLog(metrics, files.METRIC_COLUMNS)
        self._sinks, self._offline_steps = sinks, offline_steps
        self.transform, self.probe, self._watch = transform, probe, watch
        self.timing = dict.fromkeys(("compile_s", "update_s", "env_s", "eval_s", "save_s"), 0.0)
        self.timing |= {"updates": 0, "env_steps": 0}
        self._wall_before, self._started = 0.0, time.monotonic()
        self._saved_at, self._next_save_s = time.monotonic(), SAVE_EVERY_S
        self._saved_s, self._best = 0.0, -np.inf
        self.stop, self._handlers = False, {}
        self._agreed = hosts.NowAndThen()

    def resume(self, template: Callable) -> tuple[str, int, Any, dict[str, Any] | None] | None:
        """Cut the files back to the newest checkpoint.

        Args:
          template: a checkpoint's record -> shapes of its arrays.

        Returns:
          Its phase, step, host arrays [S, ...] and position; None without a checkpoint. Where there
          is a position, the step's own rows are still to be written.
        """
        state = None

        def here():
            nonlocal state
            found, state = self.checkpoints.newest(template) or ({}, None)
            return found, self._cut_back(found)

        found, self._best = hosts.from_first(here)
        if self._best is None:
            self._best = -np.inf
        if not found:
            return None
        self._wall_before, timing = found.get("wall_s"), found.get("timing")
        numbers = [self._wall_before, *(timing.values() if isinstance(timing, dict) else [None])]
        if any(type(x) not in (int, float) for x in numbers) or "save_s" not in timing:
            raise InputError(f"{self.folder}: the checkpoint's record has no times; it is damaged")
        self.timing |= timing
        self._saved_s = self.timing["save_s"]
        state = hosts.scatter(template(found) if state is None else state)
        position = hosts.own_position(unpack(found.get("position")))
        return found["phase"], found["step"], state, position

    def _cut_back(self, found: Mapping[str, Any]) -> float | None:
        """Remove what the files say of later than a checkpoint; the best mean that is left."""
        phase, step = found.get("phase", "offline"), found.get("step", -1)
        last = step if found.get("position") is None else step - 1

        def kept(of: str, at: int) -> bool:
            return at <= last if of == phase else of == "offline"

        self._evaluations.cut_back(lambda row: kept(row["phase"], int(row["step"])))
        self._metrics.cut_back(lambda row: kept(row["name"].split("/")[0], int(row["step"])))
        self.checkpoints.forget_best(self._number(phase, last))
        best = self.checkpoints.record(best=True)
        return best["mean"] if best else None

    def _number(self, phase: str, step: int) -> int:
        """Checkpoints are numbered over both phases."""
        return step if phase == "offline" else self._offline_steps + 1 + step

    @contextmanager
    def timed(self, what: str):
        """Count a block's seconds as compile, update, env, eval or save; yields a reader."""
        begun = time.monotonic()
        seconds = 0.0
        yield lambda: seconds
        seconds = time.monotonic() - begun
        self.timing[f"{what}_s"] += seconds

    def compiled(self, function: Callable, *arguments: Any) -> Callable:
        """Compile ahead of time: compiling is never counted as running, and happens once."""
        with self.timed("compile"):
            return function.lower(*arguments).compile()

    def metrics(
        self, phase: str, step: int, sums: Mapping[str, Mapping[str, Any]], count: int
    ) -> None:
        """Write `<phase>/<network>/<quantity>` of every seed.

        Args:
          phase: offline or online.
          step: of that phase.
          sums: network -> quantity -> [S], summed over updates.
          count: how many updates.

        Raises:
          RunError: one of them is no longer a number; the last good checkpoint stays.
        """
        self.check(phase, step, sums)
        sums = hosts.gather(sums)
        flat = {f"{phase}/{u}/{q}": v / count for u, m in sums.items() for q, v in m.items()}
        self._metrics.append(files.metric_rows(step, flat, self.seeds.all))
        for sink in self._sinks:
            sink.log(step, {name: float(v.mean()) for name, v in flat.items()})

    def check(self, phase: str, step: int, tree: Mapping[str, Any]) -> None:
        """Refuse to go on with what is no longer a number: network -> arrays [S, ...].

        Raises:
          RunError: it names the networks.
        """
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
        broken = {
            str(path[0]): jax.tree_util.keystr(path, simple=True, separator="/")
            for path, x in leaves
            if not np.isfinite(x).all()
        }  # one of each network
        if broken:
            raise RunError(
                f"{phase} step {step}: {', '.join(broken.values())} is no longer a number; the "
                f"last good state is in {self.folder / 'checkpoints'}; lower the learning rates"
            )

    def evaluate(
        self,
        mode: Callable,
        look: Look,
        state: Any,
        phase: str,
        step: int,
        save: Callable[[], None],
    ) -> str:
        """Evaluate every seed, write the rows, and return the score in words.

        Args:
          mode: deterministic actions, compiled for all seeds.
          look: what the phase's probe is.
          state: the seeds' train states, on the devices.
          phase: offline or online.
          step: of that phase.
          save: saves this step, and stops; called when a signal cuts the evaluation short.
        """
        if seen := look(state):
            self.metrics(phase, step, {"data": seen}, 1)
        if self.evaluator is None:
            return ""
        with self.timed("eval"):
            # The same start states just before and just after the hand-over, others elsewhere.
            switch = (phase, step) in (("offline", self._offline_steps), ("online", 0))
            number = 0 if switch else 2 * step + (phase == "online")
            returns = self.evaluator(mode, state, number, lambda: self.stop)
        if hosts.any_of(returns is None):
            save()
        returns = hosts.gather(returns)
        if self._watch is not None:
            self._watch(phase, step, hosts.gather(self.seeds.get(state)), returns)
        means = returns.mean(axis=1)
        scores = self.source.score(means) if self.source.scored else [None] * len(means)
        self._evaluations.append(
            {
                "phase": phase,
                "step": step,
                "env_steps": 0 if phase == "offline" else step,
                "seed": seed,
                "return_mean": own.mean(),
                "return_std": own.std(),
                "score": score,
                "episodes": len(own),
                "wall_s": round(self.wall(), 2),
            }
            for seed, own, score in zip(self.seeds.all, returns, scores)
        )
        name = "score" if self.source.scored else "return"
        value = float(np.mean(scores if self.source.scored else means))
        for sink in self._sinks:
            sink.log(step, {f"{phase}/evaluation/{name}": value})
        if value > self._best:
            self._best = value
            about = {"phase": phase, "step": step, "transform": self.transform.to_json()}
            about |= {"mean": value, "metric": name}
            number = self._number(phase, step)
            with self.timed("save"):
                state = hosts.gather(self.seeds.get(state))
                self.checkpoints.save(number, state, about, "best")
        return f"{name} {value:.1f}"

    def wall(self) -> float:
        """Seconds that the run has taken, over all its starts."""
        return self._wall_before + time.monotonic() - self._started

    def due(self, ends: bool) -> bool:
        """Whether to save now: at the end, on a signal, or a minute after the last save.

        Several hosts agree on it, but not in every call: to ask each other takes milliseconds.
        """
        late = time.monotonic() > self._saved_at + self._next_save_s
        return ends or self._agreed.any_of(self.stop or late)

    def save(self, phase: str, step: int, state: Any, position: dict[str, Any]) -> None:
        """Save a step before its rows are written.

        Args:
          phase: offline or online.
          step: of that phase.
          state: host arrays [S, ...]; a TrainState, or what has one as `train`.
          position: what else the loop goes on from; arrays and JSON.

        Raises:
          RunError: parameters are no longer numbers, or the disk is full.
          Stopped: after the save, when a signal has come.
        """
        self.check(phase, step, getattr(state, "train", state).params)
        with self.timed("save"):
            position = hosts.gather_position(position)
            about = {"phase": phase, "step": step, "position": position, **self._about()}
            self.checkpoints.save(self._number(phase, step), hosts.gather(state), about)
        took, self._saved_s = self.timing["save_s"] - self._saved_s, self.timing["save_s"]
        self._saved_at, self._next_save_s = time.monotonic(), max(SAVE_EVERY_S, took / SAVE_SHARE)
        if self.stops():
            self.leave(phase, step)

    def stops(self) -> bool:
        """Whether a signal has come, here or on another host."""
        return hosts.any_of(self.stop)

    def save_handover(self, step: int, state: Any) -> None:
        """Keep the end of the offline phase, host arrays [S, ...], for every row that shares it."""
        with self.timed("save"):
            about = {"phase": "offline", "step": step, **self._about()}
            self.checkpoints.save_handover(hosts.gather(state), about)

    def _about(self) -> dict[str, Any]:
        transform = self.transform.to_json()
        return {"wall_s": self.wall(), "timing": self.timing, "transform": transform}

    def leave(self, phase: str, step: int) -> None:
        """Wait until everything saved is on disk, and stop.

        Raises:
          Stopped: always.
        """
        self.checkpoints.wait()
        raise Stopped(f"{phase} step {step}")

    def catch_signals(self) -> None:
        """SIGTERM and SIGINT finish the step and save; a second one ends the process at once."""
        numbers = (signal.SIGTERM, signal.SIGINT)

        def handle(number, frame):
            del number, frame
            self.stop = True
            print("stopping after this step; a second signal stops at once", file=sys.stderr)
            for each in numbers:  # the system's own answer comes even while XLA compiles
                signal.signal(each, signal.SIG_DFL)

        self._handlers = {number: signal.signal(number, handle) for number in numbers}

    def finish(self) -> dict[str, Any]:
        """Statistics, timing and the picture, once training has ended; the summary."""
        summary = hosts.from_first(self._summarise)
        self.close()
        seconds = self.timing["update_s"] or float("nan")
        environment = self.timing["env_s"] or float("nan")
        timing = {
            **self.timing,
            "wall_s": self.wall(),
            "updates_per_s": self.timing["updates"] / seconds,
            "env_steps_per_s": self.timing["env_steps"] / environment,
        }
        if hosts.first():
            files.write_json(self.folder / "timing.json", timing)
            files.write_json(self.folder / "summary.json", summary)
        return summary

    def _summarise(self) -> dict[str, Any]:
        metrics.picture(self.folder)
        if self.evaluator is None:
            return {}
        curves.curve(self.folder, self.folder / "curve.png")
        self._show()
        return stats.summary(stats.read_evaluations(self.folder))

    def _show(self) -> None:
        """The curve and a film of the policy, on dashboards; none without a renderer."""
        if not self._sinks:
            return
        from enoto_jax.report import film  # it needs libraries that nothing else does

        pictures = {"curve": self.folder / "curve.png"}
        self.checkpoints.wait()
        try:
            film = self.folder / "film.gif"
            pictures["film"] = film.before_and_after(self.folder, film, fps=10, height=240)
        except InputError as error:
            print(f"no film on the dashboards: {error}", file=sys.stderr)
        for sink in self._sinks:
            for name, path in pictures.items():
                sink.show(name, path)

    def close(self) -> None:
        """Close what is open, wait for the checkpoints, and answer signals as before.

        Raises:
          RunError: one of them could not be written.
        """
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for sink in self._sinks:
            sink.close()
        if self.evaluator is not None:
            self.evaluator.close()
        self.checkpoints.close()
