"""A run: offline phase, hand-over, online phase, with everything that it leaves in its folder.

Starting a run again on its folder resumes it: the newest checkpoint names phase and step, and the
CSV files are cut back to it, so no row is doubled or missing.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from enoto_jax import core, logging, plot, stats
from enoto_jax.checkpoint import Checkpoints
from enoto_jax.data.source import Source
from enoto_jax.envs.gym import check_spec
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.recipes import Built, Phase, Recipe, build, example_transition
from enoto_jax.train import offline as offline_loop
from enoto_jax.train import online as online_loop
from enoto_jax.train.evaluate import Evaluator
from enoto_jax.train.seeds import SeedMap, stream
from enoto_jax.types import InputError, Transition

SAVE_EVERY_S = 60.0


class Stopped(Exception):
    """A signal asked the run to stop; a checkpoint is saved."""


class Run:
    """One run's parts, from the resolved recipe to the open files.

    Args:
      recipe: the row, every override applied.
      source: the data set.
      folder: where everything is written.
      env_id: Gymnasium id, or None: train without a simulator.
      seeds: their numbers.
      eval_episodes: episodes per evaluation and seed.
      restore: another run's folder, whose hand-over the online phase starts from.
      sinks: names of dashboards beside the CSV files.
      config: what config.json says.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        folder: Path,
        *,
        env_id: str | None,
        seeds: Sequence[int],
        eval_episodes: int,
        restore: Path | None,
        sinks: Sequence[str],
        config: dict[str, Any],
    ):
        self.recipe, self.source, self.folder = recipe, source, Path(folder)
        self.env_id, self.eval_episodes, self.restore = env_id, eval_episodes, restore
        self.built: Built = build(recipe, source.spec)
        if env_id is not None:
            check_spec(env_id, source.spec, source.name)
        self.seeds = SeedMap(seeds)
        self.data_needed = recipe.offline is not None or self.built.replay.needs_data
        dataset = source.load() if self.data_needed else None
        self.data = self._resident(dataset) if dataset else None
        self.checkpoints = Checkpoints(self.folder / "checkpoints")
        self.evaluations = logging.CsvLog(
            self.folder / "evaluations.csv", logging.EVALUATION_COLUMNS
        )
        self.metrics = logging.CsvLog(self.folder / "metrics.csv", logging.METRIC_COLUMNS)
        self.sinks = logging.sinks(sinks, self.folder, config)
        self.timing: dict[str, float] = {
            f"{what}_s": 0.0 for what in ("compile", "update", "env", "eval", "save")
        }
        self.wall_before, self.started = 0.0, time.monotonic()
        self.saved_at = time.monotonic()
        self.stop = False

    def _resident(self, dataset) -> Transition:
        transitions = dataset.transitions
        if self.built.online.exploration.mask is not None:
            rows = len(transitions.reward)
            mask = np.ones((rows, self.built.online.critics), np.float32)
            transitions = transitions._replace(extras={"mask": mask})
        return self.seeds.share(transitions)

    # -- small things ----------------------------------------------------------------------------

    def wall(self) -> float:
        return self.wall_before + time.monotonic() - self.started

    def timed(self, what: str, function: Callable, *arguments: Any) -> Any:
        begun = time.monotonic()
        result = function(*arguments)
        self.timing[f"{what}_s"] += time.monotonic() - begun
        return result

    def compiled(self, function: Callable, *arguments: Any) -> Callable:
        """Compile ahead of time, so that compiling is never counted as running."""
        return self.timed("compile", lambda: function.lower(*arguments).compile())

    def log_metrics(self, phase: str, step: int, metrics: dict[str, dict[str, Any]]) -> None:
        flat = {f"{phase}/{u}/{q}": np.asarray(v) for u, m in metrics.items() for q, v in m.items()}
        self.metrics.append(logging.metric_rows(step, flat, self.seeds.seeds))
        for sink in self.sinks:
            sink.log(step, {name: float(v.mean()) for name, v in flat.items()})
        broken = [name for name, v in flat.items() if not np.isfinite(v).all()]
        if broken:
            raise InputError(
                f"{phase} step {step}: {', '.join(broken[:3])} is no longer a number; the last "
                f"good state is in {self.folder / 'checkpoints'}; lower the learning rates"
            )

    def evaluate(self, evaluator: Evaluator | None, params, phase: str, step: int) -> str:
        """Evaluate, write the rows, and return the score in words."""
        if evaluator is None:
            return ""
        number = step if phase == "offline" else (1 << 40) + step
        returns = self.timed("eval", evaluator, params, number)
        score = self.source.score(returns.mean(axis=1)) if self.source.scored else [None] * len(
            returns
        )
        self.evaluations.append(
            {
                "phase": phase, "step": step, "env_steps": 0 if phase == "offline" else step,
                "seed": seed, "return_mean": r.mean(), "return_std": r.std(), "score": s,
                "episodes": len(r), "wall_s": round(self.wall(), 2),
            }
            for seed, r, s in zip(self.seeds.seeds, returns, score)
        )  # fmt: skip
        name = "score" if self.source.scored else "return"
        value = np.mean(score) if self.source.scored else returns.mean()
        for sink in self.sinks:
            sink.log(step, {f"{phase}/evaluation/{name}": float(value)})
        return f"{name} {value:.1f}"

    def save(self, phase: str, step: int, state: Any, due: bool = False) -> None:
        if due or self.stop or time.monotonic() - self.saved_at > SAVE_EVERY_S:
            record = {"phase": phase, "step": step, "wall_s": self.wall(), "timing": self.timing}
            number = step if phase == "offline" else self.offline_steps + 1 + step
            self.timed("save", self.checkpoints.save, number, state(), record)
            self.saved_at = time.monotonic()
        if self.stop:
            self.checkpoints.wait()
            raise Stopped(f"{phase} step {step}")

    @property
    def offline_steps(self) -> int:
        return self.recipe.offline.steps if self.recipe.offline else 0

    # -- the phases ------------------------------------------------------------------------------

    def go(self) -> None:
        """Train whatever is left to train."""
        record = self.checkpoints.record()
        phase, step = (record["phase"], record["step"]) if record else ("offline", 0)
        self.cut_back(phase, step if record else -1)
        if record:
            self.wall_before, self.timing = record["wall_s"], record["timing"]
        if phase == "offline":
            before = self.offline(step, bool(record))
            self.online(0, before)
        else:
            self.online(step, None)

    def cut_back(self, phase: str, step: int) -> None:
        def kept(row_phase: str, row_step: int) -> bool:
            if row_phase == phase:
                return row_step <= step
            return row_phase == "offline"

        self.evaluations.cut_back(lambda row: kept(row["phase"], int(row["step"])))
        self.metrics.cut_back(lambda row: kept(row["name"].split("/")[0], int(row["step"])))

    def fresh(self, algorithm: core.Algorithm) -> core.TrainState:
        make = self.seeds.compile(lambda seed: core.init(algorithm, stream(seed, "init")))
        return make(self.seeds.put(self.seeds.seeds))

    def template(self, algorithm: core.Algorithm) -> core.TrainState:
        count = len(self.seeds.seeds)
        one = jax.eval_shape(lambda: core.init(algorithm, jax.random.key(0)))
        return jax.tree.map(lambda x: np.zeros((count, *x.shape), x.dtype), one)

    def offline(self, step: int, resumed: bool) -> core.TrainState | None:
        """The offline phase from `step` on; the train state at its end, on the devices."""
        phase, algorithm = self.recipe.offline, self.built.offline
        if phase is None:
            return None
        if self.restore is not None:
            return self._restored(algorithm)
        if resumed:
            state = self.seeds.put(self.checkpoints.restore(self.template(algorithm)))
        else:
            state = self.fresh(algorithm)
        length = offline_loop.chunk_length(phase.steps, phase.eval_every)
        seeds, start = self.seeds.put(self.seeds.seeds), self.seeds.share(np.int32(step))
        chunk = offline_loop.compile_chunk(algorithm, phase.batch_size, length, self.seeds)
        chunk = self.compiled(chunk, state, seeds, start, self.data)
        progress = logging.Progress(phase.steps, "offline", initial=step)
        evaluator = self.evaluator(algorithm)
        collected: list[Any] = []
        while step < phase.steps:
            begun = time.monotonic()
            state, metrics = chunk(state, seeds, self.seeds.share(np.int32(step)), self.data)
            collected.append(self.seeds.get(metrics))
            self.timing["update_s"] += time.monotonic() - begun
            step += length
            progress.advance(length)
            ends = step >= phase.steps
            if step % phase.eval_every == 0 or ends:
                mean = jax.tree.map(lambda *x: np.mean(x, axis=0), *collected)
                collected.clear()
                self.log_metrics("offline", step, mean)
                progress.score(self.evaluate(evaluator, state.params, "offline", step))
                self.save("offline", step, lambda: self.seeds.get(state), due=ends)
            elif self.stop:
                self.save("offline", step, lambda: self.seeds.get(state))
        progress.close()
        self.close(evaluator)
        self.checkpoints.save_handover(
            self.seeds.get(state), {"phase": "offline", "step": step, "seeds": self.seeds.seeds.tolist()}
        )  # fmt: skip
        return state

    def _restored(self, algorithm: core.Algorithm) -> core.TrainState:
        checkpoints = Checkpoints(self.restore / "checkpoints")
        record = checkpoints.record(handover=True)
        if record is None:
            raise InputError(
                f"--restore: {self.restore} has no finished offline phase; let that run end first"
            )
        have = record["seeds"]
        wanted = [int(s) for s in self.seeds.seeds]
        if missing := [s for s in wanted if s not in have]:
            raise InputError(f"--restore: {self.restore} has seeds {have}, not {missing}")
        count = len(have)
        template = jax.tree.map(
            lambda x: np.zeros((count, *x.shape[1:]), x.dtype), self.template(algorithm)
        )
        state = checkpoints.restore(template, handover=True)
        checkpoints.close()
        rows = np.asarray([have.index(s) for s in wanted])
        return self.seeds.put(jax.tree.map(lambda x: np.asarray(x)[rows], state))

    def online(self, step: int, before: core.TrainState | None) -> None:
        """The online phase from environment step `step` on."""
        phase, algorithm, replay = self.recipe.online, self.built.online, self.built.replay
        seeds = self.seeds.put(self.seeds.seeds)
        spec = self.source.spec
        begin = online_loop.begin(algorithm, replay, spec, phase.batch_size)
        if before is not None or self.recipe.offline is None:
            give = self.seeds.compile(
                lambda state, seed: self.built.handover(stream(seed, "handover"), state, algorithm)
            )
            train = give(before, seeds)
        if step:
            online = self._resumed(begin, algorithm, step)
        else:
            online = self.seeds.compile(begin)(train, seeds)
        evaluator = self.evaluator(algorithm)
        progress = logging.Progress(phase.steps, "online", initial=step)
        if not step:
            progress.score(self.evaluate(evaluator, online.train.params, "online", 0))
        if self.env_id is None:
            progress.note("no environment: the run ends at the hand-over")
        elif step < phase.steps:
            self._steps(phase, online, seeds, step, progress, evaluator)
        progress.close()
        self.close(evaluator)

    def _steps(self, phase: Phase, online, seeds, step: int, progress, evaluator) -> None:
        algorithm, replay = self.built.online, self.built.replay
        data = self.data if replay.needs_data else None
        envs = SeedEnvs(self.env_id, self.seeds.seeds)
        observation = envs.reset(step)
        count = len(self.seeds.seeds)
        # What is not known before the first step: zeros, written to a row that call 1 overwrites.
        example = jax.tree.map(
            lambda x: np.zeros((count, *x.shape), x.dtype),
            example_transition(self.source.spec, algorithm)._replace(extras={}),
        )
        if algorithm.exploration.mask is None:
            example = example._replace(extras={})
        transition, starts = example, np.ones(count, bool)
        act = None
        put, share, get = self.seeds.put, self.seeds.share, self.seeds.get
        arguments = (online, seeds, put(transition), put(observation), put(starts))
        advance = self.compiled(
            online_loop.compile_step(
                algorithm, replay, phase.batch_size, phase.warmup, phase.utd, phase.random_steps,
                self.seeds,
            ),
            *arguments, share(np.int32(step)), data,
        )  # fmt: skip
        del act
        zero = jax.tree.map(np.zeros_like, get(online.totals))
        updates = 0
        resuming = step > 0
        while True:
            begun = time.monotonic()
            online, action = advance(
                online, seeds, put(transition), put(observation), put(starts), share(np.int32(step)), data
            )
            action = get(action)
            self.timing["update_s"] += time.monotonic() - begun
            updates += phase.utd * (step > phase.warmup)
            if step and not resuming and (step % phase.eval_every == 0 or step >= phase.steps):
                if updates:
                    mean = jax.tree.map(lambda x: x / updates, get(online.totals))
                    self.log_metrics("online", step, mean)
                online, updates = online.replace(totals=put(zero)), 0
                progress.score(self.evaluate(evaluator, online.train.params, "online", step))
                self.save("online", step, lambda: self._portable(online, step), due=step >= phase.steps)
            elif self.stop:
                self.save("online", step, lambda: self._portable(online, step))
            if step >= phase.steps:
                break
            resuming = False
            result = self.timed("env", envs.step, action)
            transition, observation, starts = result
            step += 1
            progress.advance()
        envs.close()

    def _portable(self, online: online_loop.Online, step: int) -> Any:
        """Host arrays to save: the ring only as far as it is filled."""
        size = min(step, self.built.replay.capacity)
        host = self.seeds.get(online.replace(storage=None))
        storage = jax.tree.map(lambda x: x[:, : max(size, 1)], self.seeds.get(online.storage))
        return host.replace(storage=storage)

    def _resumed(self, begin: Callable, algorithm: core.Algorithm, step: int) -> online_loop.Online:
        count, size = len(self.seeds.seeds), min(step, self.built.replay.capacity)
        one = jax.eval_shape(
            lambda: begin(core.init(algorithm, jax.random.key(0)), np.int32(0))
        )
        full = jax.tree.map(lambda x: np.zeros((count, *x.shape), x.dtype), one)
        template = full.replace(storage=jax.tree.map(lambda x: x[:, : max(size, 1)], full.storage))
        saved = self.checkpoints.restore(template)

        def fill(whole, part):
            whole[:, : part.shape[1]] = part
            return whole

        return self.seeds.put(saved.replace(storage=jax.tree.map(fill, full.storage, saved.storage)))

    def evaluator(self, algorithm: core.Algorithm) -> Evaluator | None:
        if self.env_id is None:
            return None
        return Evaluator(algorithm, self.env_id, self.eval_episodes, self.seeds)

    def close(self, evaluator: Evaluator | None) -> None:
        if evaluator is not None:
            evaluator.close()

    # -- the end ---------------------------------------------------------------------------------

    def finish(self) -> dict[str, Any]:
        """Statistics, timing, picture."""
        self.checkpoints.close()
        for sink in self.sinks:
            sink.close()
        timing = dict(self.timing)
        updates = self.offline_steps * (self.restore is None)
        online = self.recipe.online
        updates += max(online.steps - online.warmup, 0) * online.utd
        timing["updates_per_s"] = updates * len(self.seeds.seeds) / max(timing["update_s"], 1e-9)
        timing["wall_s"] = self.wall()
        logging.write_json(self.folder / "timing.json", timing)
        rows = stats.read_evaluations(self.folder / "evaluations.csv")
        summary = stats.summary(rows) if rows else {}
        if rows:
            plot.curve(self.folder, self.folder / "curve.png")
        logging.write_json(self.folder / "summary.json", summary)
        return summary


def handle_signals(run: Run) -> None:
    """SIGTERM and SIGINT: finish the step, save, stop. A second one stops at once."""

    def stop(number, frame):
        del frame
        if run.stop:
            raise KeyboardInterrupt
        run.stop = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
