"""Learning behind the caller's back: `act` and `observe` keep within a budget of seconds."""

from __future__ import annotations

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
    """Learns in a thread; `act` chooses with the newest parameters that are finished.

    What is learned is what `Learner` learns, but from actions of parameters a few steps old, and
    without the updates that there was no time for.

    Args:
      start: Where it begins.
      budget_s: Seconds that `act`, `observe` and `save` aim to take.
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
        shown = self._newest.observation
        self._step(self._newest, shown, True, self.steps, 0)
        self._memory = jax.tree.map(jnp.copy, self.state.memory)
        self._publish()
        # Compiled now. Several actions at once are chosen by exploring alone.
        for explore in (True,) if algorithm.open_loop else (True, False):
            self._compute(shown, np.bool_(True), self.steps, explore)
        middle = np.zeros(start.spec.action_size, np.float32)
        self._held = start.transform.action(middle)
        self._background = Background(budget_s)

    @property
    def late(self) -> int:
        """How many actions were not there within the budget."""
        return self._background.late

    def act(self, seen: np.ndarray, explore: bool) -> np.ndarray:
        """The action [A] for an observation [D], or the last one again where the budget is over."""
        work = partial(self._compute, seen, np.bool_(self._starts), self.steps, explore)
        self._held = self._background.within(work, self._held)
        self._starts, self.waiting = self._starts and not explore, False
        return self._held

    def observe(self, newest: Transition) -> None:
        """Put a step among those that are learned from.

        Raises:
          RunError: Learning has failed before. `act` goes on as it was.
        """
        self._background.put(partial(self._learn, newest, self.steps + 1))
        super().observe(newest)

    def save(self, checkpoints: Checkpoints) -> None:
        """Save in the background, once what was observed is learned from."""
        step = self.steps
        self._background.put(lambda behind: self._write(checkpoints, step))

    def settle(self) -> None:
        """Wait until everything observed is learned from.

        Raises:
          RunError: Learning has failed.
        """
        self._background.settle()

    def close(self) -> None:
        """Finish what is learned and saved, and end the threads."""
        self._background.close()

    def _learn(self, newest: Transition, step: int, behind: bool) -> None:
        """Store a transition, update unless others wait behind it, and publish the result."""
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
        """Let what is learned act, in memory of its own: the next update reuses the learner's."""
        parts, whole = self._finished(self.state.train)
        if not self._seeds.get(whole).all():
            raise RunError("a parameter is NaN or infinite; the last good ones continue to act")
        params, targets, frozen = parts
        self._acts = self.state.train.replace(
            params=params, targets=targets, frozen=frozen, opt_states={}, step=()
        )

    def _compute(self, seen: np.ndarray, starts: np.bool_, step: int, explore: bool) -> np.ndarray:
        """The action by what is published."""
        if not explore:
            return self._first(self._mode(self._acts, seen[None]))
        when = (np.asarray([starts]), np.int32(step))
        numbers = self._seeds.seeds
        self._memory, action = self._choose(self._acts, self._memory, numbers, seen[None], *when)
        return self._first(action)
