"""An agent's online phase on the device: store a transition, update, choose the next action.

All values here are the learner's (transformed) and have no axis of seeds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from enoto_jax.data.source import Source
from enoto_jax.recipes import examples
from enoto_jax.recipes.building import build
from enoto_jax.recipes.recipe import Built, Phase, Recipe
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.runs.diagnostics import check_finite
from enoto_jax.runs.progress import at
from enoto_jax.runs.starts import data_hash_of
from enoto_jax.training import carried, online, resume
from enoto_jax.training.seeds import SeedMap
from enoto_jax.transforms import Transform
from enoto_jax.types import InputError, RunError, Spec, Transition


class Start(NamedTuple):
    """The state from which a learner begins.

    Attributes:
      phase: The recipe's online phase.
      built: The recipe's algorithm and replay, for `spec`.
      spec: Sizes of observations and actions.
      seeds: One seed, on one device.
      state: The online loop's state.
      steps: How many transitions it has learned from.
      data: The data set on the device if the replay needs it, or None.
      data_hash: Hash of the data that this agent, or the run before it, learned from.
      transform: The transform from the world's values to the learner's.
    """

    phase: Phase
    built: Built
    spec: Spec
    seeds: SeedMap
    state: Any
    steps: int
    data: Any
    data_hash: str | None
    transform: Transform

    def resumed(self, checkpoints: Checkpoints) -> Start:
        """Resume from the newest intact checkpoint; without any checkpoint, return this start.

        Raises:
          InputError: There are checkpoints, but none is intact.
        """
        whole = jax.tree.map(np.zeros_like, self.seeds.get(self.state))

        def template(record):
            return carried.saved_template(whole, record["step"])

        if (found := checkpoints.newest(template)) is None:
            return self
        record, saved = found
        state = self.seeds.put(carried.unpack(saved, whole))
        return self._replace(state=state, steps=record["step"])


def begin(recipe: Recipe, source: Source, restore: str | os.PathLike | None, seed: int) -> Start:
    """Return the online phase right after the hand-over.

    Args:
      recipe: The recipe whose online phase begins.
      source: The sizes and, if the replay or the hand-over needs it, the data set.
      restore: The folder of the run with the offline phase; None for recipes without one.
      seed: The seed of the random numbers, and the seed that is taken from the restored run.

    Raises:
      InputError: Units, data, or the restored run do not fit, or there is nothing to restore.
    """
    built = build(recipe, source.spec)
    seeds = SeedMap([seed], jax.local_devices()[:1])
    before, transform = None, None
    if recipe.offline is not None:
        if restore is None:
            raise InputError(
                "restore: this method has an offline phase; give the folder of its run"
            )
        found = resume.restored(Path(restore), [seed])
        before, transform = found.state(built.offline, seeds), found.transform
    elif restore is not None:
        raise InputError(
            "restore: this method starts from scratch and restores nothing; leave it out"
        )
    needed = built.replay.needs_data or built.handover.needs_data
    dataset = source.load() if needed else None
    transform = transform or recipe.transform(source.spec, dataset)
    data, rows = None, 0
    if dataset is not None:
        data = transform.transitions(dataset.transitions)
        rows = len(dataset) if built.replay.needs_data else 0
        extras = resume.extras(built.online, data, seeds, stored=True)
        data = seeds.share(data)._replace(extras=extras)
    phase = recipe.online
    first = online.begin(built.online, built.replay, source.spec, phase.batch_size, rows)
    state = resume.hand_over(built, first, seeds, before, data)
    kept = data if built.replay.needs_data else None
    data_hash = None if dataset is None else dataset.content_hash
    if dataset is None and restore is not None:  # what the restored run learned from
        data_hash = data_hash_of(Path(restore))
    return Start(phase, built, source.spec, seeds, state, 0, kept, data_hash, transform)


class Learner:
    """Learns within `act`, which takes as long as the updates do.

    Args:
      start: The state from which it begins.
      acts: Whether the step's program also chooses the next action.

    Attributes:
      state: The online loop's state, on the device.
      steps: Transitions observed, including those before a resume.
      waiting: Whether the last transition still waits for the next `act`.
      updates: Number of learning steps, of UTD updates each, since the learner was created.
      skipped: Number of learning steps that were skipped for lack of time.
    """

    def __init__(self, start: Start, acts: bool = True):
        self._phase, self._seeds, self._data = start.phase, start.seeds, start.data
        self._transform = start.transform
        algorithm, replay = start.built.online, start.built.replay
        self.state, self.steps = start.state, start.steps
        self.updates = self.skipped = 0
        nothing = examples.transition(start.spec, algorithm)._replace(extras={})
        self._newest = jax.tree.map(np.asarray, nothing)
        if self.steps:  # the newest transition, marked as cut off
            last = carried.cut_off(self.state, self.steps, replay, self._seeds)
            self._newest = jax.tree.map(lambda x: x[0], last)
        self._starts, self.waiting = True, False
        # Compile now, so that no step waits for it.
        step: Any = online.compile_step(self._phase, algorithm, replay, self._seeds, acts)
        shown = self._newest.observation
        arguments = self._arguments(self._newest, shown, True, self.steps, 0)
        self._advance = step.lower(*arguments).compile()
        self._mode = self._seeds.compile(algorithm.mode)

    @property
    def late(self) -> int:
        """Number of late actions: 0, because the caller waits for every action."""
        return 0

    def act(self, seen: np.ndarray, explore: bool) -> np.ndarray:
        """Return the action [A] for an observation [D].

        Called twice after one transition, it stores and learns that transition only once.

        Raises:
          RunError: The action is NaN or infinite.
        """
        if explore or self.waiting:
            due = online.rounds(self._phase, self.steps) if self.waiting else 0
            action = self._step(self._newest, seen, self._starts, self.steps, due)
            self.updates += due
        if not explore:
            action = self._mode(self.state.train, seen[None])
        self._starts, self.waiting = self._starts and not explore, False
        return self._first(action)

    def observe(self, newest: Transition) -> None:
        """Take in the step that followed the last `act`."""
        self._newest = newest
        # Remembered until an action that explores is chosen.
        self._starts = self._starts or bool(newest.terminated | newest.truncated)
        self.waiting, self.steps = True, self.steps + 1

    def save(self, checkpoints: Checkpoints) -> None:
        """Save what has been learned up to the last `act`.

        Raises:
          InputError: The newest transition has not been learned from yet.
          RunError: A parameter is NaN or infinite, it cannot be written, or an earlier save could
            not be.
        """
        if self.waiting:
            raise InputError("save: call it right after an act() that followed an observe()")
        self._write(checkpoints, self.steps)
        checkpoints.wait()

    def finish(self) -> None:
        """Learn from the newest transition, if no `act` has done so."""
        if self.waiting:
            self.act(self._newest.next_observation, explore=False)

    def settle(self) -> None:
        """Return at once: everything was learned within `act`."""

    def close(self) -> None:
        """Do nothing: there is no thread to end."""

    def _write(self, checkpoints: Checkpoints, step: int) -> None:
        about = {"phase": "online", "step": step, "transform": self._transform.to_json()}
        host = carried.portable(self.state, step, self._seeds)
        check_finite(host.train.params, at("online", step), checkpoints.folder.parent)
        checkpoints.save(step, host, about)

    def _step(
        self, newest: Transition, seen: np.ndarray, starts: bool, step: int, rounds: int
    ) -> Any:
        """Store the newest transition, update `rounds` times UTD, and choose, in one dispatch."""
        arguments = self._arguments(newest, seen, starts, step, rounds)
        self.state, action = self._advance(*arguments)
        return action

    def _arguments(
        self, newest: Transition, seen: np.ndarray, starts: bool, step: int, rounds: int
    ) -> tuple:
        first = jax.tree.map(lambda x: np.asarray(x)[None], (newest, seen))
        when = (np.asarray([starts]), np.int32(step), np.int32(rounds))
        return (self.state, self._seeds.seeds, *first, *when, self._data)

    def _first(self, action: Any) -> np.ndarray:
        found = self._seeds.get(action)[0]
        if not np.isfinite(found).all():
            raise RunError(
                "act: the action is NaN or infinite, as after one far too large observation or "
                "reward; make a new agent, which resumes from the last save in out"
            )
        return found
