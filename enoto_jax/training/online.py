"""The online loop: one dispatch per environment step of all seeds.

A dispatch inserts the latest transitions, does the updates, and returns the next actions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax import core
from enoto_jax.envs.choice import EnvChoice
from enoto_jax.envs.pool import PoolEnvs
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.recipes import examples
from enoto_jax.recipes.recipe import Phase
from enoto_jax.replay import Replay
from enoto_jax.runs.progress import Clock, Progress, at
from enoto_jax.runs.saving import Place
from enoto_jax.runs.streams import stream
from enoto_jax.training.carried import Online, cut_off, portable
from enoto_jax.training.open_loop import empty, following
from enoto_jax.training.overlap import Overlapped
from enoto_jax.training.probe import steps_after
from enoto_jax.training.record import Record
from enoto_jax.training.seeds import SeedMap
from enoto_jax.training.unstack import restack, unstack
from enoto_jax.types import Array, Key, RunError, Spec, Transition


def begin(
    algorithm: core.Algorithm, replay: Replay, spec: Spec, batch_size: int, rows: int = 0
) -> Callable:
    """Return (train state, seed) -> Online with an empty ring, for a data set of `rows` rows."""
    update = jax.jit(partial(core.update, algorithm))  # traced once, however often `start` runs

    def start(train: core.TrainState, seed: Array) -> Online:
        batch = examples.batch(spec, algorithm, replay, batch_size)
        _, metrics = jax.eval_shape(update, train, batch, jax.random.key(0))
        return Online(
            train=train,
            storage=examples.stored(spec, algorithm, replay, rows),
            memory=_memory(algorithm, spec, stream(seed, "act")),
            totals=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics),
            count=jnp.int32(0),
        )

    return start


def _memory(algorithm: core.Algorithm, spec: Spec, key: Key) -> Any:
    """The exploration rule's memory and, with chunks, the waiting actions."""
    own = algorithm.exploration.reset(key, algorithm.critics)
    chunk = algorithm.open_loop
    return own if chunk is None else (own, empty(chunk, spec.action_size))


def choose(
    phase: Phase,
    algorithm: core.Algorithm,
    train: core.TrainState,
    memory: Any,
    seed: Array,
    observation: Array,
    starts: Array,
    t: Array,
) -> tuple[Any, Array]:
    """Return the exploration rule's memory and action [A] of step t, for an observation [D].

    `starts` is True if an episode begins at t. A chunk that is being executed takes precedence: the
    rule's action is used once that chunk is finished or its episode has ended.
    """
    rule, waiting = algorithm.exploration, None
    if algorithm.open_loop is not None:
        memory, waiting = memory
    act_key, reset_key, random_key = jax.random.split(jax.random.fold_in(stream(seed, "act"), t), 3)
    memory = jax.tree.map(
        lambda new, old: jnp.where(starts, new, old),
        rule.reset(reset_key, algorithm.critics),
        memory,
    )
    action = rule.act(act_key, algorithm, train, memory, observation)
    if phase.random_steps:
        uniform = jax.random.uniform(random_key, action.shape, minval=-1.0, maxval=1.0)
        action = jnp.where(t < phase.random_steps, uniform, action)
    if waiting is not None:
        waiting, action = following(waiting, action, starts, t)
        memory = (memory, waiting)
    return memory, action


def compile_step(
    phase: Phase, algorithm: core.Algorithm, replay: Replay, seeds: SeedMap, acts: bool = True
) -> Callable[..., tuple[Online, Array | None]]:
    """Compile (Online, seed, transition, observation, starts, t, learn, data) -> Online, action.

    Call t inserts transition number t - 1, so that t are stored afterwards; call 0 has none yet and
    writes a row that call 1 overwrites. `learn` is how many times UTD this call updates. The action
    [A] is the next one; without `acts` there is none, and the exploration's memory is unchanged.
    """
    rule = algorithm.exploration
    # A single update would not pay for unstacking and restacking.
    unstacked = seeds.on_cpu and phase.utd > 1

    def step(
        online: Online,
        seed: Array,
        transition: Transition,
        observation: Array,
        starts: Array,
        t: Array,
        learn: Array,
        data: Transition | None,
    ) -> tuple[Online, Array]:
        learn_key, mask_key = jax.random.split(jax.random.fold_in(stream(seed, "online"), t))
        if rule.masks:
            mask = {"mask": rule.draw_mask(mask_key, algorithm.critics)}
            transition = transition._replace(extras=mask)
        storage = replay.insert(online.storage, transition, t, algorithm.monte_carlo)

        def update(carried, numbered):
            # The ring is only read here, so it is not carried: that would copy it.
            train, own, totals = carried
            number, key = numbered
            stored = storage._replace(own=own)
            sample_key, update_key = jax.random.split(key)
            batch = replay.sample(stored, data, sample_key, phase.batch_size, t)
            if replay.prioritised:
                own = replay.feedback(stored, batch, algorithm.priority(train, batch))
            train, metrics = core.update(algorithm, train.replace(step=number), batch, update_key)
            return (train, own, jax.tree.map(jnp.add, totals, metrics)), None

        def round_of_updates(i, carried):
            train, own, totals = carried
            if unstacked:
                train = unstack(algorithm, train)
            numbered = (
                (done(phase, t) + i) * phase.utd + jnp.arange(phase.utd, dtype=jnp.int32),
                jax.random.split(jax.random.fold_in(learn_key, i), phase.utd),
            )
            (train, own, totals), _ = jax.lax.scan(update, (train, own, totals), numbered)
            return restack(train), own, totals

        # All seeds do equally many updates, so the loop stays a single one under vmap.
        rounds = learn.astype(jnp.int32)
        train, own, totals = jax.lax.fori_loop(
            0, rounds, round_of_updates, (online.train, storage.own, online.totals)
        )
        # In the loop, `step` is the number that all seeds share; what is kept is how many were
        # done.
        train = train.replace(step=online.train.step + phase.utd * rounds)
        storage = storage._replace(own=own)
        memory, action = online.memory, None
        if acts:
            memory, action = choose(phase, algorithm, train, memory, seed, observation, starts, t)
        count = online.count + phase.utd * rounds
        return Online(train, storage, memory, totals, count), action

    return seeds.compile(step, shared=(5, 6, 7), donate=(0,))


def compile_overlapped(
    phase: Phase, algorithm: core.Algorithm, replay: Replay, seeds: SeedMap
) -> Overlapped:
    """Compile what `compile_step` does as two programs, for a phase with `overlap`."""
    acting = seeds.compile(partial(choose, phase, algorithm), shared=(5,))
    return Overlapped(acting, compile_step(phase, algorithm, replay, seeds, acts=False))


def rounds(phase: Phase, step: int) -> int:
    """Return how many times UTD the call after environment step `step` updates."""
    if step <= phase.warmup:
        return 0
    return 1 + phase.catch_up * phase.warmup if step == phase.warmup + 1 else 1


def done(phase: Phase, step: Array) -> Array:
    """Return how many times UTD the calls before that one update, as `rounds` says.

    The updates that an `Agent` skips for lack of time count too.
    """
    burst = jnp.where(step > phase.warmup + 1, phase.catch_up * phase.warmup, 0)
    return step - phase.warmup - 1 + burst


class Interaction:
    """Environments and learner of all seeds, side by side; `train` describes the arguments.

    Attributes:
      online: What the seeds carry now.
      step: Environment steps done.
      action: The next action, [S, A] on the host.
    """

    def __init__(
        self,
        phase: Phase,
        algorithm: core.Algorithm,
        replay: Replay,
        online: Online,
        data: Transition | None,
        env: EnvChoice | str,
        record: Record,
        step: int,
    ):
        self._phase, self._replay, self._data, self._env = phase, replay, data, env
        self._algorithm = algorithm
        self._record, self._seeds = record, record.seeds
        self.online, self.step, self.action = online, step, None
        self._numbers = self._seeds.put(self._seeds.seeds)
        self._programs, self._looks = record.programs(algorithm), steps_after(phase)
        kind = PoolEnvs if phase.envs_backend == "envpool" else SeedEnvs
        self._envs: Any = kind(env, self._seeds.seeds.tolist(), record.transform)
        self._now = self._envs.begin(step)
        clock = Clock(record.timing, phase.eval_every, steady=phase.warmup + 1)
        self._progress = Progress("online", phase.steps, step, clock)
        if step:
            self._progress.note(f"resumed at {at('online', step)}")
        if step < phase.steps:
            compiling = compile_overlapped if phase.overlap else compile_step
            program = compiling(phase, algorithm, replay, self._seeds)
            self._advance = record.timing.compiled(program, *self._arguments(0))
            seconds = record.timing.totals["compile_s"]
            self._progress.note(f"compiled in {seconds:.1f} s, both phases together")

    def begin(self, position: Mapping[str, Any] | None) -> None:
        """Evaluate at the hand-over, or resume where the run was saved; choose the first action."""
        if self.step == 0:
            leave = partial(self._record.leave, "online", 0)  # the hand-over is already saved
            self._evaluate(leave)
        if position and position["environments"]:
            self._envs.restore(position["environments"])
            self.action = position["action"]
        elif self.step < self._phase.steps:
            if self.step > 0:
                self._begin_new_episodes()
            self.learn(rounds=0)  # there is nothing to learn from yet, or this step has learned
        if self.step > 0 and position is not None:
            self.report()
        else:
            self._record.leave_if_asked("online", self.step)

    def act(self) -> None:
        """Take the chosen action: one step of every environment.

        Raises:
          RunError: The action is NaN or infinite, or an environment fails.
        """
        if not np.isfinite(self.action).all():
            raise RunError(f"online step {self.step}: an action of the actor is NaN or infinite")
        with self._record.timing.timed("env"):
            self._now = self._envs.step(self.action)
        self._record.timing.count("env_steps", len(self._seeds.all))
        self.step += 1
        self._progress.advance()

    def learn(self, rounds: int) -> None:
        """Insert the latest transitions, update `rounds` times UTD, and choose the next action."""
        with self._record.timing.timed("update"):
            self.online, action = self._advance(*self._arguments(rounds))
            self.action = self._seeds.get(action)

    def report(self) -> None:
        """Save and evaluate when they are due."""
        ends = self.step == self._phase.steps
        if self._record.due(ends):
            self._save()
        if ends or self.step % self._phase.eval_every == 0:
            self._write_and_evaluate()
        elif self.step in self._looks:
            self._record.look(self._programs, self.online.train, "online", self.step)

    def close(self) -> None:
        """Close the environments and the progress bar."""
        self._progress.close()
        self._envs.close()

    def _write_and_evaluate(self) -> None:
        """Write the metrics' means since they were last written, and evaluate."""
        seeds, record = self._seeds, self._record
        sums = seeds.get((self.online.totals, self.online.count))
        count, last = int(sums[1][0]), int(seeds.get(self.online.train.step)[0])
        if count:
            means = core.means(self._algorithm, sums[0], last - count, last)
            record.write("online", self.step, means)
        self._evaluate(self._save)  # a signal may save in between, which still needs the sums
        record.timing.count("updates", count * len(seeds.all))
        totals, counts = seeds.put(jax.tree.map(np.zeros_like, sums))
        self.online = self.online.replace(totals=totals, count=counts)

    def _arguments(self, rounds: int) -> tuple:
        # Host arrays go in directly: the program takes them faster than `put` would.
        now = (*self._now, np.int32(self.step), np.int32(rounds))
        return (self.online, self._numbers, *now, self._data)

    def _evaluate(self, save: Callable[[], None]) -> None:
        at = (self.online.train, "online", self.step)
        self._progress.score(self._record.evaluate(self._programs, *at, save))

    def _save(self) -> None:
        with self._record.timing.timed("save"):
            host = portable(self.online, self.step, self._seeds)
        self._record.check("online", self.step, host.totals)
        here = {"action": self.action, "environments": self._envs.capture()}
        self._record.save("online", self.step, host, here)

    def _begin_new_episodes(self) -> None:
        where = f"new episodes begin at online step {self.step:,}"
        self._progress.note(f"{self._env} cannot be saved: {where}")
        last = cut_off(self.online, self.step, self._replay, self._seeds)
        self._now = self._now._replace(transition=last)


def train(
    phase: Phase,
    algorithm: core.Algorithm,
    replay: Replay,
    online: Online,
    data: Transition | None,
    env: EnvChoice | str,
    record: Record,
    place: Place = Place(),
) -> Online:
    """Act, insert, update, evaluate and save to the end of the phase (ENOTO, algorithm 1, online).

    Args:
      phase: The phase's budget.
      algorithm: The algorithm to train, with its exploration.
      replay: The replay that batches are drawn from.
      online: What the seeds carry, on the devices; its memory is reused.
      data: The data set on the devices if the replay needs it.
      env: The training environments.
      record: Files, evaluation and checkpoints.
      place: Where to resume. Its position has the next action [S, A] and the environments, or None
        for environments that could not be saved. Without either, new episodes begin.

    Returns:
      What the seeds carry at the phase's end, on the devices.
    """
    loop = Interaction(phase, algorithm, replay, online, data, env, record, place.step)
    loop.begin(place.position)
    while loop.step < phase.steps:
        loop.act()
        loop.learn(rounds(phase, loop.step))
        loop.report()
    loop.close()
    return loop.online
