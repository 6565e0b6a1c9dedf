"""SIGTERM and SIGINT: how a run is asked to stop."""

from __future__ import annotations

import signal
from typing import Any

from enoto_jax.runs import hosts
from enoto_jax.runs.progress import say


class Signals:
    """Whether the run is asked to stop; it then saves, and leaves.

    Attributes:
      stop: Whether this process has been asked.
    """

    def __init__(self) -> None:
        self.stop = False
        self._handlers: dict[int, Any] = {}

    def catch(self) -> None:
        """A signal asks to stop from now on; a second one ends the process at once."""
        numbers = (signal.SIGTERM, signal.SIGINT)

        def handle(number, frame):
            del number, frame
            self.stop = True
            say("stopping after this step; a second signal stops at once")
            for each in numbers:  # the system's own answer comes even while XLA compiles
                signal.signal(each, signal.SIG_DFL)

        self._handlers = {number: signal.signal(number, handle) for number in numbers}

    def release(self) -> None:
        """Answer signals as before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def any_host(self) -> bool:
        """Whether a signal has come, here or on another host."""
        return hosts.any_of(self.stop)
