"""Lets an agent learn without its caller ever waiting: two threads, and a budget.

One thread learns, one job after the other; one computes actions. The caller waits for an action no
longer than its budget; a late one is replaced. Nothing here depends on what is learned.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from enoto_jax.types import RunError

RESERVE = 0.1  # fraction of the budget for waking up and everything other than waiting


class Background:
    """A queue of jobs, and actions within a budget.

    Args:
      budget_s: The most seconds that `within` may take.

    Attributes:
      late: How many actions were not ready in time.
      taken: Whether the last call of `within` began its computation.
    """

    def __init__(self, budget_s: float):
        self.late, self.taken = 0, False
        self._budget_s = (1.0 - RESERVE) * budget_s
        self._jobs: queue.Queue[Callable[[bool], None] | None] = queue.Queue()
        self._failed: BaseException | None = None
        self._closed = False
        self._acting = ThreadPoolExecutor(1, "acting")
        self._running: Future | None = None
        self._learning = threading.Thread(target=self._learn, name="learning", daemon=True)
        self._learning.start()

    def put(self, job: Callable[[bool], None]) -> None:
        """Queue a job; it is called with whether other jobs already wait behind it.

        Raises:
          RunError: An earlier job has failed, so nothing is learned any more.
        """
        if self._failed is not None:
            raise RunError(f"learning has stopped: {self._failed}") from self._failed
        self._jobs.put(job)

    def within(self, compute: Callable[[], Any], otherwise: Any) -> Any:
        """Return compute(), or `otherwise` if it takes longer than the budget.

        A late computation continues in the background. The next call first waits for it, within its
        own budget, and begins its own only if time is left.
        """
        ends = time.monotonic() + self._budget_s
        self.taken = self._running is None or self._done(ends)
        if not self.taken:
            return otherwise
        self._running = self._acting.submit(compute)
        return self._running.result() if self._done(ends) else otherwise

    def _done(self, ends: float) -> bool:
        found, _ = wait([self._running], max(ends - time.monotonic(), 0.0))
        self.late += not found
        return bool(found)

    def settle(self) -> None:
        """Wait until all jobs so far are done.

        Raises:
          RunError: One of them failed.
        """
        while self._jobs.unfinished_tasks and self._failed is None:
            time.sleep(1e-3)
        if self._failed is not None:
            raise RunError(f"learning has stopped: {self._failed}") from self._failed

    def close(self) -> None:
        """Finish the jobs and end both threads, once."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._learning.join()
        self._acting.shutdown()

    def _learn(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job(not self._jobs.empty())
            except Exception as error:  # reported to the caller, whose robot continues to act
                self._failed = error
                return
            self._jobs.task_done()
