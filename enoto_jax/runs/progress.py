"""Show a run's progress and the time left: one line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from time import monotonic
from typing import TextIO

from enoto_jax.runs.timing import Timing
from enoto_jax.types import plural

UNITS = {"offline": "update", "online": "step"}
_REDRAW_S, _EVERY_S = 0.1, 10.0  # least time between two lines: terminal, file
_LEAST_BAR = 10
# Enough to estimate the time of a phase: seconds and steps, or many seconds alone.
_MEASURED_S, _MEASURED_STEPS, _MEASURED_LONG_S = 2.0, 100, 10.0

_shown: Progress | None = None  # whose line is on the terminal


def at(phase: str, step: int) -> str:
    """Return a step of a run in words: "offline update 42,000", "online step 300"."""
    return f"{phase} {UNITS[phase]} {step:,}"


def duration(seconds: float) -> str:
    """Format seconds for people: "45 s", "2 min 5 s", "12 min", "3 h 20 min", "2 days 5 h"."""
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 600:
        return f"{seconds // 60} min {seconds % 60} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def say(text: str) -> None:
    """Print a line to stderr, above the progress line if there is one."""
    if _shown is not None:
        _shown.note(text)
    else:
        print(text, file=sys.stderr, flush=True)


def release() -> None:
    """Leave the progress line as it is; what is printed next begins a new line."""
    if _shown is not None:
        _shown.close()


@dataclass(frozen=True)
class Clock:
    """What is needed to estimate a run's time.

    Attributes:
      timing: The run's timing, which continues to count.
      eval_every: Steps of the phase between two evaluations.
      steady: The first step that costs as much as later ones; online, after the warm-up.
      last: Whether this is the last phase.
    """

    timing: Timing
    eval_every: int
    steady: int = 0
    last: bool = True


class Progress:
    """The progress of one phase.

    A terminal shows one line, which is redrawn. A log file gets a plain line every 10 seconds and
    after every evaluation. The rate and the time left do not include compilation.

    Args:
      phase: "offline" or "online".
      total: Steps of the phase.
      initial: Steps that earlier starts of the run have already done.
      clock: The run's clock.
      stream: Where to write; stderr by default.
    """

    def __init__(
        self,
        phase: str,
        total: int,
        initial: int,
        clock: Clock,
        stream: TextIO | None = None,
    ) -> None:
        global _shown
        self._stream = sys.stderr if stream is None else stream
        self._phase, self._total, self._n, self._score = phase, total, initial, ""
        self._clock = clock
        self._shown_at = monotonic()
        self._shown: tuple[int, str] | None = None
        self._from = (initial, self._seconds())
        self._eval_s: float | None = None
        self._announced: set = set()
        self._eval_before = self._timing("eval_s")
        self._terminal, self._closed = self._stream.isatty(), False
        if self._terminal:
            _shown = self
            self._draw()

    def advance(self, n: int = 1) -> None:
        """Count `n` more steps."""
        self._n += n
        if self._n - n < self._clock.steady:
            self._from = (self._n, self._seconds())
        self._announce()
        if monotonic() - self._shown_at >= (_REDRAW_S if self._terminal else _EVERY_S):
            self._show()

    def score(self, text: str) -> None:
        """Show the newest evaluation, for example "score 44.6"."""
        self._score = text
        now = self._timing("eval_s")
        if now > self._eval_before:  # the first one compiles, so the newest is the best guess
            self._eval_s, self._eval_before = now - self._eval_before, now
        self._announce()
        self._show()

    def note(self, text: str) -> None:
        """Print a line of its own, above the progress line."""
        if self._terminal and not self._closed:
            self._stream.write(f"\r\x1b[K{text}\n")
            self._draw()
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen. A second call does nothing."""
        global _shown
        if self._closed:
            return
        if self._terminal:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()
        elif self._shown != (self._n, self._score):
            self._show()
        self._closed = True
        if _shown is self:
            _shown = None

    def _timing(self, name: str) -> float:
        return self._clock.timing.totals[name]

    def _seconds(self) -> float:
        """Seconds of stepping and saving, without compilation and evaluations."""
        return sum(self._timing(name) for name in ("update_s", "env_s", "save_s"))

    def _pace(self) -> tuple[int, float]:
        """Steps measured, and the seconds that they took."""
        return self._n - self._from[0], self._seconds() - self._from[1]

    def _evaluations_left(self) -> int:
        if self._n == self._total:
            return 0
        every = self._clock.eval_every
        return self._total // every - self._n // every + (self._total % every > 0)

    def _left(self) -> float | None:
        """Seconds to the end of the phase, including evaluations once one has been measured."""
        steps, seconds = self._pace()
        if self._n >= self._total:
            return 0.0
        if steps <= 0:
            return None
        ahead = (self._total - self._n) * seconds / steps
        return ahead + self._evaluations_left() * (self._eval_s or 0.0)

    def _announce(self) -> None:
        """Print once how long it will take, and again once evaluations have been measured."""
        steps, seconds = self._pace()
        enough = seconds >= _MEASURED_S and steps >= _MEASURED_STEPS
        if not (enough or (seconds >= _MEASURED_LONG_S and steps)):
            return
        kind, count = self._eval_s is not None, self._evaluations_left()
        if kind in self._announced or True in self._announced or not count:
            return
        self._announced.add(kind)
        left = self._left()
        text = f"{self._phase}: about {duration(left)} left"
        text += f"{' with' if kind else ', and'} {plural(count, 'evaluation')}"
        if not self._clock.last:
            text += "; then the online phase"
        elif kind:
            text += f"; the whole run takes about {duration(self._clock.timing.wall() + left)}"
        self.note(text)

    def _show(self) -> None:
        if self._terminal:
            self._draw()
        else:
            print(self._line(), file=self._stream, flush=True)
        self._shown_at, self._shown = monotonic(), (self._n, self._score)

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{self._line(width)}\x1b[K")
        self._stream.flush()

    def _line(self, width: int | None = None) -> str:
        """The state in one line; if too narrow, without the bar, then without minor parts."""
        percent = 100.0 * self._n / self._total if self._total else 100.0
        steps, seconds = self._pace()
        left, unit = self._left(), UNITS[self._phase] + "s"
        rate = f"{_significant(steps / seconds)}/s" if steps > 0 and seconds > 0 else "?/s"
        parts = {
            "count": f"{self._n:,}/{self._total:,} {unit}",
            "rate": rate,
            "left": f"{'?' if left is None else _hms(left)} left",
            "elapsed": f"{_hms(self._clock.timing.wall())} elapsed",
            "score": self._score,
        }
        kept = [name for name in parts if parts[name]]
        head = f"{self._phase} {percent:3.0f}%"
        for least in ("", "elapsed", "rate", "count", "left"):
            kept = [name for name in kept if name != least]
            line = ", ".join([head, *(parts[name] for name in kept)])
            if width is None or len(line) <= width:
                break
        room = 0 if width is None else width - len(line) - 3
        if room < _LEAST_BAR:
            return line if width is None else line[:width]
        done = int(room * percent / 100.0)
        return f"{head} |{'#' * done}{'-' * (room - done)}|{line[len(head) :]}"


def _hms(seconds: float) -> str:
    """1:02:03, or 02:03 below an hour; days and hours from two days on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def _significant(rate: float) -> str:
    """Three significant digits, whole numbers from 100 on."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
