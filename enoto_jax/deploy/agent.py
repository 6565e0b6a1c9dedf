"""The online phase pushed by its caller: for a robot, or any world that is not a Gymnasium one.

    agent = Agent(recipe, source, restore="runs/offline", out="runs/robot")
    action = agent.act(observation)
    ...
    agent.observe(Transition(observation, action, reward, terminated, truncated, next_observation))

Every `act` is the same one dispatch as a step of the online loop: store what was observed, update,
choose the next action. Driven by the loop's environments it computes what the loop computes.

With a budget, `observe` hands the same to a thread that learns, and `act` chooses with the newest
parameters that are finished: neither waits for an update. What is learned is the loop's, but from
actions of parameters a few steps old, and without the updates that there was no time for.

Everything handed in is copied: a caller may use its arrays again at once. `act` gives and `observe`
takes actions in one unit: [-1, 1], or the world's own between `action_low` and `action_high`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax.data.source import Source
from enoto_jax.deploy.background import Background
from enoto_jax.deploy.folder import hold
from enoto_jax.deploy.world import world_of
from enoto_jax.envs.gym import Env
from enoto_jax.recipes import units
from enoto_jax.recipes.recipe import Built, Recipe, build, example_transition
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.folder import config_of
from enoto_jax.training import carried, online, resume
from enoto_jax.training.seeds import SeedMap
from enoto_jax.types import Array, InputError, RunError, Transition


class Agent:
    """One seed of a recipe's online phase.

    Args:
      recipe: its online phase is run; steps, evaluations and overlap (see budget_s) do not matter.
      source: sizes and, where the replay needs it, the data set; `from_arrays` makes one.
      restore: the folder of a run whose offline phase it starts from; None for rows without one.
      out: a folder to save in, which it holds until `close`; an agent made again with the same one
        goes on from its last save.
      seed: of its random numbers, and of the restored run.
      budget_s: seconds that `act`, `observe` and `save` aim to take, which a busy CPU exceeds
        (docs/deploy.md); None: as long as an update does.
      action_low: the world's lowest action, a number or [A]; without bounds, or an environment,
        actions lie in [-1, 1] on both sides.
      action_high: its highest.
      env: instead of the bounds, an environment that has them: an id, or what else
        `envs.env_choice` takes. It is made once and not stepped.

    Attributes:
      steps: transitions observed, over all starts.
      updates: times UTD that it has updated since it was made.
      skipped: those that there was no time for, with a budget.

    Raises:
      InputError: units, data, bounds, or the restored run do not fit; no saved state is whole; or
        the folder holds another agent, or is held by one.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        restore: str | os.PathLike | None = None,
        out: str | os.PathLike | None = None,
        *,
        seed: int = 0,
        budget_s: float | None = None,
        action_low: Array | float | None = None,
        action_high: Array | float | None = None,
        env: Env | None = None,
    ):
        _check_arguments(recipe, source, seed)
        if budget_s is not None and not budget_s > 0.0:
            raise InputError(f"budget_s is {budget_s}; give seconds, above 0, or None")
        built, self._phase = build(recipe, source.spec), recipe.online
        seeds = SeedMap([seed], jax.local_devices()[:1])
        self._seeds, self._replay, self._spec = seeds, built.replay, source.spec
        self._chunks = built.online.open_loop is not None
        self._world = world_of(source.spec, action_low, action_high, env)
        if recipe.offline is not None and restore is None:
            raise InputError("restore: this row has an offline phase; give the folder of its run")
        before, self.transform = None, None
        if recipe.offline is not None:
            before, self.transform = resume.offline_state(Path(restore), built.offline, seeds)
        needed = built.replay.needs_data or built.handover.needs_data
        dataset = source.load() if needed else None
        self.transform = self.transform or recipe.transform(source.spec, dataset)
        data, rows = None, 0
        if dataset is not None:
            data = self.transform.transitions(dataset.transitions)
            rows = len(dataset) if built.replay.needs_data else 0
            extras = resume.extras(built.online, data, seeds, stored=True)
            data = seeds.share(data)._replace(extras=extras)
        self._data = data if built.replay.needs_data else None
        begin = online.begin(built.online, built.replay, source.spec, self._phase.batch_size, rows)
        self._online = resume.hand_over(built, begin, seeds, before, data)
        self.steps, self._closed = 0, False
        self._checkpoints: Checkpoints | None = None
        config = {
            "recipe": units.to_json(recipe),
            "seeds": [int(seed)],
            "data_hash": _trained_on(restore) if dataset is None else dataset.content_hash,
            "action_bounds": [x.tolist() for x in (self._world.low, self._world.high)],
        }
        with ExitStack() if out is None else hold(Path(out), config) as held:
            if out is not None:
                self._open(Path(out))
            self._compile(built, budget_s)
            self._lock = held.pop_all()  # from now on it is for `close` to let go

    def _compile(self, built: Built, budget_s: float | None) -> None:
        """Compile now, so that no step waits for it, and begin to learn in the background."""
        seeds = self._seeds
        self._first = self.steps
        nothing = example_transition(self._spec, built.online)._replace(extras={})
        self._newest = jax.tree.map(np.asarray, nothing)
        if self.steps:
            last = carried.cut_off(self._online, self.steps, built.replay, seeds)
            self._newest = jax.tree.map(lambda x: x[0], last)
        self._starts, self._waiting = True, False
        self.updates = self.skipped = 0
        acts = budget_s is None  # with a budget, that is another program's
        step: Any = online.compile_step(self._phase, built.online, built.replay, seeds, acts)
        self._advance = step.lower(*self._arguments(self._newest.observation)).compile()
        self._mode = seeds.compile(built.online.mode)
        self._background: Background | None = None
        if budget_s is not None:
            self._start(built.online, budget_s)

    def _start(self, algorithm, budget_s: float) -> None:
        """Begin to learn in the background."""
        choose = partial(online.choose, self._phase, algorithm)
        self._choose = self._seeds.compile(choose, shared=(5,))

        def finished(train):
            parts = (train.params, train.targets, train.frozen)
            whole = [jnp.isfinite(x).all() for x in jax.tree.leaves(parts)]
            return jax.tree.map(jnp.copy, parts), jnp.stack(whole).all()

        self._finished = self._seeds.compile(finished)
        nothing = self._newest.observation
        start = self._packed(self._newest, nothing, True, self.steps, 0)
        self._online, _ = self._advance(*start)  # the newest transition, where it was cut off
        self._memory = jax.tree.map(jnp.copy, self._online.memory)
        self._publish()
        for explore in (True,) if self._chunks else (True, False):  # compiled now
            self._compute(nothing, np.bool_(True), self.steps, explore)
        self._held = self._world.action(np.zeros(self._spec.action_size, np.float32))
        self._background = Background(budget_s)

    def act(self, observation: Array, explore: bool = True) -> np.ndarray:
        """The action [A] for an observation [D]; learns from what was observed before.

        The action is in the world's units: [-1, 1], or between the bounds that the agent was given.

        Args:
          observation: the world's, not transformed.
          explore: by the exploration rule; otherwise deterministic, and nothing is learned; not
            for methods with chunks.

        With a budget that is over before the action is there, the last action again; `late` counts.

        Raises:
          InputError: an observation of another size, or not finite; a policy of chunks is not to
            explore.
        """
        if not explore and self._chunks:
            raise InputError(
                "act: this method chooses several actions at once, by its exploration rule alone; "
                "call act(observation), or load_policy(folder).actions(observation)"
            )
        row = self._world.observation(observation)
        seen = np.asarray(self.transform.observation(row), np.float32)
        if self._background is not None:
            work = partial(self._compute, seen, np.bool_(self._starts), self.steps, explore)
            self._held = self._background.within(work, self._held)
            self._starts, self._waiting = self._starts and not explore, False
            return self._held.copy()
        if not explore:
            action = self._mode(self._online.train, seen[None])
        else:
            learned = self._due()
            self._online, action = self._advance(*self._arguments(seen))
            self.updates += learned
            self._starts = self._waiting = False
        return self._in_world(action)

    def observe(self, transition: Transition) -> None:
        """Hand in the step that followed the last `act`; its action may be another than advised.

        Args:
          transition: the world's numbers: observation [D], action [A] in the units of `act`, a
            reward, two flags, and the next observation [D] (the true successor, also at an
            episode's end). All of it is copied.

        Raises:
          InputError: sizes that do not fit, numbers that are not finite, an action outside the
            bounds, or a second transition before the next `act`; nothing is stored then.
          RunError: with a budget: learning has failed before. `act` goes on as it was.
        """
        if self._waiting:
            raise InputError("observe: the last transition still waits for the next act()")
        world = self._world.transition(transition)
        kept = self.transform.transitions(world)
        newest = jax.tree.map(lambda x, like: np.asarray(x, like.dtype), kept, world)
        starts = bool(world.terminated | world.truncated)
        if self._background is not None:
            self._background.put(partial(self._learn, newest, starts, self.steps + 1))
        self._newest, self._starts = newest, starts
        self._waiting, self.steps = True, self.steps + 1

    def save(self) -> None:
        """Save everything; an agent made with the same `out` goes on from here.

        With a budget it is done in the background: `close` waits for it.

        Raises:
          InputError: the agent has no `out` or is closed, or the newest transition was not learned
            from yet.
          RunError: it cannot be written, or an earlier save could not be.
        """
        if self._checkpoints is None or self._closed:
            raise InputError(
                "save: give the agent a folder: Agent(..., out=...); a closed one has let go of it"
            )
        if not self.steps or (self._waiting and self._background is None):
            raise InputError("save: call it right after an act() that followed an observe()")
        if self._background is not None:
            return self._background.put(partial(self._write, self.steps))
        self._write(self.steps)
        self._checkpoints.wait()

    @property
    def late(self) -> int:
        """How many actions were not there within the budget."""
        return 0 if self._background is None else self._background.late

    def settle(self) -> None:
        """Wait until everything observed is learned from; with a budget, between episodes.

        Raises:
          RunError: learning has failed.
        """
        if self._background is not None:
            self._background.settle()

    def close(self) -> None:
        """Finish what is learned and saved in the background, and let go of the folder.

        A `with` block does it too.

        Raises:
          RunError: learning or a save has failed.
        """
        if self._closed:
            return
        with ExitStack() as stack:  # all of it, whatever fails
            stack.callback(self._lock.close)
            if self._checkpoints is not None:
                stack.callback(self._checkpoints.close)
            if self._background is not None:
                stack.callback(self._background.close)
            self._closed = True
            self.settle()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *raised: Any) -> None:
        self.close()

    def _write(self, step: int, behind: bool = False) -> None:
        del behind
        about = {"phase": "online", "step": step, "transform": self.transform.to_json()}
        self._checkpoints.save(step, carried.portable(self._online, step, self._seeds), about)

    def _learn(self, newest: Transition, starts: bool, step: int, behind: bool) -> None:
        """In the background: store a transition, update if there is time, publish the result."""
        due = online.rounds(self._phase, step)
        learned = 0 if behind else due
        arguments = self._packed(newest, newest.next_observation, starts, step, learned)
        self._online, _ = self._advance(*arguments)
        self.updates, self.skipped = self.updates + learned, self.skipped + due - learned
        if learned:
            self._publish()
        else:
            jax.block_until_ready(self._online.count)

    def _publish(self) -> None:
        """Let what is learned act, in memory of its own: the next update reuses the learner's."""
        parts, whole = self._finished(self._online.train)
        if not self._seeds.get(whole).all():
            raise RunError("a parameter is no longer a number; the last good ones go on acting")
        params, targets, frozen = parts
        self._acts = self._online.train.replace(
            params=params, targets=targets, frozen=frozen, opt_states={}, step=()
        )

    def _compute(self, seen: np.ndarray, starts: Any, step: int, explore: bool) -> np.ndarray:
        """With a budget: the world's action, by what is published."""
        seen = seen[None]
        if not explore:
            return self._in_world(self._mode(self._acts, seen))
        when = (np.asarray([starts]), np.int32(step))
        numbers = self._seeds.seeds
        self._memory, action = self._choose(self._acts, self._memory, numbers, seen, *when)
        return self._in_world(action)

    def _in_world(self, action: Array) -> np.ndarray:
        inner = self.transform.world_action(self._seeds.get(action)[0])
        return self._world.action(np.asarray(inner, np.float32))

    def _open(self, out: Path) -> None:
        """Go on from what the folder holds."""
        self._checkpoints = Checkpoints(out / "checkpoints")
        whole = jax.tree.map(np.zeros_like, self._seeds.get(self._online))

        def template(record):
            return carried.saved_template(whole, record["step"])

        if (found := self._checkpoints.newest(template)) is not None:
            record, saved = found
            self._online = self._seeds.put(carried.unpack(saved, whole))
            self.steps = record["step"]

    def _due(self) -> int:
        # The same transition a second time (act called twice) is neither stored nor learned again.
        learns = self._waiting and self.steps > self._first
        return online.rounds(self._phase, self.steps) if learns else 0

    def _arguments(self, observation: np.ndarray) -> tuple:
        return self._packed(self._newest, observation, self._starts, self.steps, self._due())

    def _packed(
        self, newest: Transition, observation: np.ndarray, starts: bool, step: int, rounds: int
    ) -> tuple:
        """Arguments of a step."""
        first = jax.tree.map(lambda x: np.asarray(x)[None], (newest, observation))
        when = (np.asarray([starts]), np.int32(step), np.int32(rounds))
        return (self._online, self._seeds.seeds, *first, *when, self._data)


def _check_arguments(recipe: Recipe, source: Source, seed: int) -> None:
    if not isinstance(recipe, Recipe):
        raise InputError(f"recipe: {type(recipe).__name__}; give one, such as recipe('enoto_cql')")
    if not isinstance(source, Source):
        raise InputError(f"source: {type(source).__name__}; give one, such as load_source(path)")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
        raise InputError(f"seed: {seed!r}; an agent has one, between 0 and {2**31 - 1}")


def _trained_on(restore: str | os.PathLike | None) -> str | None:
    """The content hash of the data that the restored run has learned from."""
    return None if restore is None else config_of(Path(restore)).get("data_hash")
