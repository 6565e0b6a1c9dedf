"""An online step as two programs, so that environments step while the device updates."""

from __future__ import annotations

from typing import Any, NamedTuple

from enoto_jax.training.carried import Online
from enoto_jax.types import Array


class Overlapped(NamedTuple):
    """A step as two programs: the action is ready while the update is still being computed.

    The action comes from the parameters before this call's update. A device runs a program as soon
    as its inputs are ready, so only the next action, readers of the results and the end of the
    phase wait for the update. It can be lowered and compiled like a program.

    Attributes:
      choose: The program (train state, memory, seed, observation, starts, t) -> memory, action.
      learn: `compile_step` without `acts`.
    """

    choose: Any
    learn: Any

    def __call__(self, *arguments: Any) -> tuple[Online, Array]:
        (online, _), (memory, action) = self._each(lambda f, *own: f(*own), *arguments)
        return online.replace(memory=memory), action

    def lower(self, *arguments) -> Overlapped:
        learn, choose = self._each(lambda f, *own: f.lower(*own), *arguments)
        return Overlapped(choose, learn)

    def compile(self) -> Overlapped:
        return Overlapped(self.choose.compile(), self.learn.compile())

    def _each(self, do, online, seed, transition, observation, starts, t, learn, data):
        # In this order, because the update reuses the memory of the parameters that the action
        # reads.
        chosen = do(self.choose, online.train, online.memory, seed, observation, starts, t)
        rest = (seed, transition, observation, starts, t, learn, data)
        return do(self.learn, online, *rest), chosen
