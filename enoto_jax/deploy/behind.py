"""Learning in the background: `act` and `observe` keep within a budget of seconds."""

from __future__ import annotations

from collections import deque
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from enoto_jax.deploy.background import Background
from enoto_jax.deploy.learner import Learner, Start
from enoto_jax.runs.checkpoint import Checkpoints
from enoto_jax.training import online
from enoto_jax.types import RunError, Transition


class Behind(Learner):
    """Learns in a thread; `act` uses the newest parameters that are finished.

    It learns what `Learner` learns, but from actions of parameters a few steps old, and without the
    updates for which there was no time.

    Args:
      start: The state from which it begins.
      budget_s: Seconds that `act`, `observe` and `save` aim to stay within.
    """

    def __init__(self, start: Start, budget_s: float):
        super().__init__(start, acts=False)
        algorithm = start.built.online
        choose = partial(online.choose, self._phase, algorithm)
        self._choose = self._seeds.compile(choose, shared=(5,))

        def finished(train):
            parts = (train.params, train.targets, train.frozen)
            whole = [jnp.isfinite(x).all() for x in jax.tree.leaves(parts)]
            return jax.tree.map(jnp.copy, parts), jnp.stack(whole).all()

        self._finished = self._seeds.compile(finished)
        shown = np.zeros_like(self._newest.observation)
        self._step(self._newest, shown, True, self.steps, 0)
        self._memory = jax.tree.map(jnp.copy, self.state.memory)
        self._publish()
        # Compile now. Methods that choose several actions at once act only by exploring.
        for explore in (True,) if algorithm.open_loop else (True, False):
            self._compute(shown, np.bool_(True), self.steps, explore)
        middle = np.zeros(start.spec.action_size, np.float32)
        self._held = start.transform.action(middle)
        self._background = Background(budget_s)
        self._unsaved: deque[RunError] = deque(maxlen=1)  # why a save failed, until it is raised

    @property
    def late(self) -> int:
        """Number of actions that were not ready within the budget."""
        return self._background.late

    def act(self, seen: np.ndarray, explore: bool) -> np.ndarray:
        """Return the action [A] for an observation [D], or the last one again if time runs out.

        Raises:
          RunError: The action is NaN or infinite.
        """
        work = partial(self._compute, seen, np.bool_(self._starts), self.steps, explore)
        self._held = self._background.within(work, self._held)
        self._starts = self._starts and not (explore and self._background.taken)
        self.waiting = False
        return self._held

    def observe(self, newest: Transition) -> None:
        """Queue a step to be learned from.

        Raises:
          RunError: Learning has failed before. `act` continues with the last parameters.
        """
        self._background.put(partial(self._learn, newest, self.steps + 1))
        super().observe(newest)

    def save(self, checkpoints: Checkpoints) -> None:
        """Save in the background, once everything observed has been learned from.

        Raises:
          RunError: An earlier save could not be written; this one is queued all the same.
        """
        self._background.put(partial(self._save, checkpoints, self.steps))
        if self._unsaved:
            raise self._unsaved.pop()

    def finish(self) -> None:
        """Do nothing: the learning thread does not wait for the next `act`."""

    def settle(self) -> None:
        """Wait until everything observed has been learned from.

        Raises:
          RunError: Learning has failed.
        """
        self._background.settle()

    def close(self) -> None:
        """Finish what is being learned and saved, and end the threads.

        Raises:
          RunError: An earlier save could not be written.
        """
        self._background.close()
        if self._unsaved:
            raise self._unsaved.pop()

    def _save(self, checkpoints: Checkpoints, step: int, behind: bool) -> None:
        """Write a checkpoint; if it or the one before fails, learning continues."""
        for part in (checkpoints.wait, partial(self._write, checkpoints, step)):
            try:
                part()
            except RunError as error:
                self._unsaved.append(error)

    def _learn(self, newest: Transition, step: int, behind: bool) -> None:
        """Store a transition, update unless others wait behind it, and publish the parameters."""
        starts = bool(newest.terminated | newest.truncated)
        due = online.rounds(self._phase, step)
        learned = 0 if behind else due
        self._step(newest, newest.next_observation, starts, step, learned)
        self.updates, self.skipped = self.updates + learned, self.skipped + due - learned
        if learned:
            self._publish()
        else:
            jax.block_until_ready(self.state.count)

    def _publish(self) -> None:
        """Publish a copy of the learned parameters: the next update reuses the learner's memory."""
        parts, whole = self._finished(self.state.train)
        if not self._seeds.get(whole).all():
            raise RunError("a parameter is NaN or infinite; actions use the last good parameters")
        params, targets, frozen = parts
        self._acts = self.state.train.replace(
            params=params, targets=targets, frozen=frozen, opt_states={}, step=()
        )

    def _compute(self, seen: np.ndarray, starts: np.bool_, step: int, explore: bool) -> np.ndarray:
        """Return the action of the published parameters."""
        if not explore:
            return self._first(self._mode(self._acts, seen[None]))
        when = (np.asarray([starts]), np.int32(step))
        numbers = self._seeds.seeds
        self._memory, action = self._choose(self._acts, self._memory, numbers, seen[None], *when)
        return self._first(action)
