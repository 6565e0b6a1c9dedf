"""Handle SIGTERM and SIGINT, which ask a run to stop."""

from __future__ import annotations

import signal
from typing import Any

from enoto_jax.runs import hosts
from enoto_jax.runs.progress import say


class Signals:
    """Records whether the run was asked to stop; the run then saves and exits.

    Args:
      told: What is printed at the first signal.

    Attributes:
      stop: Whether this process was asked to stop.
    """

    def __init__(self, told: str = "stopping after this step") -> None:
        self.stop, self._told = False, told
        self._handlers: dict[int, Any] = {}

    def catch(self) -> None:
        """Catch signals from now on: the first asks to stop, a second ends the process at once."""
        numbers = (signal.SIGTERM, signal.SIGINT)

        def handle(number, frame):
            del number, frame
            self.stop = True
            say(f"{self._told}; a second signal stops at once")
            for each in numbers:  # the default action works even while XLA compiles
                signal.signal(each, signal.SIG_DFL)

        self._handlers = {number: signal.signal(number, handle) for number in numbers}

    def release(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def any_host(self) -> bool:
        """Return whether this or another host has received a signal."""
        return hosts.any_of(self.stop)
