"""The online loop: one dispatch per environment step of all seeds.

A dispatch inserts the transitions that have just happened, does the updates, and returns the next
actions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax import core
from enoto_jax.envs.pool import PoolEnvs
from enoto_jax.envs.vector import SeedEnvs
from enoto_jax.nets import ensembles
from enoto_jax.recipes.recipe import Phase, example_batch, example_transition
from enoto_jax.replay import Replay, Stored, ring
from enoto_jax.runs.progress import Clock, Progress, at
from enoto_jax.training.record import Record
from enoto_jax.training.seeds import SeedMap, stream
from enoto_jax.types import Array, RunError, Spec, Transition


@flax.struct.dataclass
class Online:
    """What a seed carries from step to step.

    Attributes:
      train: the train state.
      storage: its replay.
      memory: the exploration rule's, of the running episode.
      totals: sums of the metrics over the updates since they were last read.
      count: how many updates those are.
    """

    train: core.TrainState
    storage: Stored
    memory: Any
    totals: Any
    count: Array


def begin(
    algorithm: core.Algorithm, replay: Replay, spec: Spec, batch_size: int, rows: int = 0
) -> Callable:
    """(train state, seed) -> Online with an empty ring, beside a data set of so many rows."""
    update = jax.jit(partial(core.update, algorithm))  # traced once, however often it starts

    def start(train: core.TrainState, seed: Array) -> Online:
        example = example_transition(spec, algorithm)
        batch = example_batch(spec, algorithm, replay, batch_size)
        _, metrics = jax.eval_shape(update, train, batch, jax.random.key(0))
        return Online(
            train=train,
            storage=Stored(ring.empty(example, replay.capacity), replay.start(rows)),
            memory=algorithm.exploration.reset(stream(seed, "act"), algorithm.critics),
            totals=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics),
            count=jnp.int32(0),
        )

    return start


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
    """The exploration rule's memory and action [A] of environment step t, for an observation [D].

    `starts` says whether an episode begins there.
    """
    rule = algorithm.exploration
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
    return memory, action


def compile_step(
    phase: Phase, algorithm: core.Algorithm, replay: Replay, seeds: SeedMap, acts: bool = True
) -> Callable[..., tuple[Online, Array | None]]:
    """(Online, seed, transition, observation, starts, t, learn, data) -> Online, next action [A].

    Call t brings transition number t - 1, so that t are stored after it; call 0 has none yet and
    writes a row that call 1 overwrites. `learn` says whether this call updates: how many times UTD.
    Without `acts` there is no next action, and the exploration's memory stays as it is.
    """
    rule = algorithm.exploration
    # One update would not pay for the way there and back.
    in_parts = seeds.on_cpu and phase.utd > 1

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
        if rule.mask is not None:
            mask = {"mask": rule.mask(mask_key, algorithm.critics)}
            transition = transition._replace(extras=mask)
        storage = replay.insert(online.storage, transition, t, algorithm.monte_carlo)

        def update(carried, numbered):
            # The ring is only read here, so it is not carried: that would copy it.
            train, own, totals = carried
            number, key = numbered
            stored = storage._replace(own=own)
            sample_key, update_key = jax.random.split(key)
            batch = replay.sample(stored, data, sample_key, phase.batch_size, t)
            if replay.feedback is not None:
                own = replay.feedback(stored, batch, algorithm.priority(train, batch))
            train, metrics = core.update(algorithm, train, batch, update_key, number=number)
            return (train, own, jax.tree.map(jnp.add, totals, metrics)), None

        def round_of_updates(i, carried):
            train, own, totals = carried
            if in_parts:
                train = core.apart(algorithm, train)
            numbered = (
                (t + i) * phase.utd + jnp.arange(phase.utd, dtype=jnp.int32),
                jax.random.split(jax.random.fold_in(learn_key, i), phase.utd),
            )
            (train, own, totals), _ = jax.lax.scan(update, (train, own, totals), numbered)
            return ensembles.stacked(train), own, totals

        # All seeds learn equally often, so the loop stays one under vmap.
        rounds = learn.astype(jnp.int32)
        train, own, totals = jax.lax.fori_loop(
            0, rounds, round_of_updates, (online.train, storage.own, online.totals)
        )
        storage = storage._replace(own=own)
        memory, action = online.memory, None
        if acts:
            memory, action = choose(phase, algorithm, train, memory, seed, observation, starts, t)
        count = online.count + phase.utd * rounds
        return Online(train, storage, memory, totals, count), action

    return seeds.compile(step, shared=(5, 6, 7), donate=(0,))


class Overlapped(NamedTuple):
    """A step as two programs: the action is there while the update is still being computed.

    It is that of the parameters before this call's update. Devices run a program when what it reads
    is there, so nobody waits for the update but the next action, whoever reads its results, and
    the end of the phase. May be lowered and compiled like a program.

    Attributes:
      choose: (train state, memory, seed, observation, starts, t) -> memory, action.
      learn: `compile_step` without `acts`.
    """

    choose: Any
    learn: Any

    def __call__(self, *arguments):
        (online, _), (memory, action) = self._each(lambda f, *own: f(*own), *arguments)
        return online.replace(memory=memory), action

    def lower(self, *arguments) -> Overlapped:
        learn, choose = self._each(lambda f, *own: f.lower(*own), *arguments)
        return Overlapped(choose, learn)

    def compile(self) -> Overlapped:
        return Overlapped(self.choose.compile(), self.learn.compile())

    def _each(self, do, online, seed, transition, observation, starts, t, learn, data):
        # In this order: the update reuses the memory of the parameters that the action reads.
        chosen = do(self.choose, online.train, online.memory, seed, observation, starts, t)
        rest = (seed, transition, observation, starts, t, learn, data)
        return do(self.learn, online, *rest), chosen


def compile_overlapped(
    phase: Phase, algorithm: core.Algorithm, replay: Replay, seeds: SeedMap
) -> Overlapped:
    """As `compile_step`, for a phase with `overlap`."""
    acting = seeds.compile(partial(choose, phase, algorithm), shared=(5,))
    return Overlapped(acting, compile_step(phase, algorithm, replay, seeds, acts=False))


def rounds(phase: Phase, step: int) -> int:
    """How many times UTD the call after environment step number `step` updates."""
    if step <= phase.warmup:
        return 0
    return 1 + phase.catch_up * phase.warmup if step == phase.warmup + 1 else 1


def train(
    phase: Phase,
    algorithm: core.Algorithm,
    replay: Replay,
    online: Online,
    data: Transition | None,
    step: int,
    env_id: str,
    record: Record,
    position: dict[str, Any] | None = None,
) -> Online:
    """Step, learn, evaluate and save from environment step `step` to the end of the phase.

    Args:
      phase: its budget.
      algorithm: what is trained, and how it explores.
      replay: where batches come from.
      online: on the devices; its memory is reused.
      data: the data set on the devices where the replay needs it.
      step: environment steps done before; above 0 the run is resumed.
      env_id: Gymnasium id of the training environments.
      record: files, evaluation and checkpoints.
      position: as saved at `step`, which may not be reported yet: the next action [S, A] and the
        environments, None where they could not be saved. Without it, or them, new episodes begin.

    Returns:
      What the seeds carry at the phase's end, on the devices.
    """
    seeds = record.seeds
    put, get = seeds.put, seeds.get
    numbers = put(seeds.seeds)
    mode, look = seeds.compile(algorithm.mode), record.probe(algorithm)
    kind = PoolEnvs if phase.envs_backend == "envpool" else SeedEnvs
    envs = kind(env_id, seeds.seeds, record.transform)
    now, learn = envs.begin(step), 0

    def arguments():
        # Host arrays as they are: the program takes them faster than `put` would.
        return (online, numbers, *now, np.int32(step), np.int32(learn), data)

    def save():
        with record.timed("save"):
            host = portable(online, step, seeds)
        record.check("online", step, host.totals)
        here = {"action": action, "environments": envs.capture()}
        record.save("online", step, host, here)

    clock = Clock(record.timing, record.wall, phase.eval_every, steady=phase.warmup + 1)
    progress = Progress("online", phase.steps, step, clock)
    if step:
        progress.note(f"resumed at {at('online', step)}")
    if step < phase.steps:
        compiling = compile_overlapped if phase.overlap else compile_step
        advance = record.compiled(compiling(phase, algorithm, replay, seeds), *arguments())
        seconds = record.timing["compile_s"]
        progress.note(f"compiled in {seconds:.1f} s, both phases together")
    reported, action = step == 0 or position is None, None
    if step == 0:
        leave = partial(record.leave, "online", 0)  # the hand-over is saved, and all there is
        progress.score(record.evaluate(mode, look, online.train, "online", 0, leave))
    if position and position["environments"]:
        envs.restore(position["environments"])
        action = position["action"]
    elif step < phase.steps:
        if step > 0:
            progress.note(f"{env_id} cannot be saved: new episodes begin at online step {step:,}")
            now = now._replace(transition=cut_off(online, step, replay, seeds))
        # No updates: there is nothing to learn from yet, or it is done.
        with record.timed("update"):
            online, action = advance(*arguments())
            action = get(action)
    while True:
        ends = step == phase.steps
        if not reported:
            if record.due(ends):
                save()
            if ends or step % phase.eval_every == 0:
                totals, count = get(online.totals), int(get(online.count)[0])
                if count:
                    record.metrics("online", step, totals, count)
                progress.score(record.evaluate(mode, look, online.train, "online", step, save))
                record.timing["updates"] += count * len(seeds.all)
                zeros = jax.tree.map(np.zeros_like, (totals, get(online.count)))
                online = online.replace(totals=put(zeros[0]), count=put(zeros[1]))
        elif record.stops():
            record.leave("online", step)
        if ends:
            break
        if not np.isfinite(action).all():
            raise RunError(f"online step {step}: an action of actor is no longer a number")
        with record.timed("env"):
            now = envs.step(action)
        record.timing["env_steps"] += len(seeds.all)
        step += 1
        learn, reported = rounds(phase, step), False
        with record.timed("update"):
            online, action = advance(*arguments())
            action = get(action)
        progress.advance()
    progress.close()
    envs.close()
    return online


def cut_off(online: Online, step: int, replay: Replay, seeds: SeedMap) -> Transition:
    """The newest stored transition [S, ...], cut off: what precedes the first of a new episode.

    Brought again with its own count it is written to the same row, and its episode has ended.
    """
    newest = (step - 1) % replay.capacity
    last = jax.tree.map(lambda x: x[:, newest], seeds.get(online.storage.ring))
    return last._replace(extras={}, truncated=~last.terminated)


def saved_template(whole: Online, step: int) -> Online:
    """The shapes that `portable` saves at a step, of a template with the whole ring."""
    ring = jax.tree.map(lambda x: x[:, :step], whole.storage.ring)
    return whole.replace(storage=whole.storage._replace(ring=ring))


def portable(online: Online, step: int, seeds: SeedMap) -> Online:
    """Host arrays to save; the ring only as far as it is filled."""
    filled = jax.tree.map(lambda x: np.asarray(x)[:, :step].copy(), online.storage.ring)
    host = seeds.get(online.replace(storage=online.storage._replace(ring=())))
    return host.replace(storage=host.storage._replace(ring=filled))


def unpack(saved: Online, template: Online) -> Online:
    """The other way: host arrays with the ring at its full capacity."""

    def fill(whole, part):
        whole[:, : part.shape[1]] = part
        return whole

    whole = jax.tree.map(fill, template.storage.ring, saved.storage.ring)
    return saved.replace(storage=saved.storage._replace(ring=whole))
