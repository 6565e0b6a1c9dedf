"""How far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TextIO

from tqdm import tqdm


class Progress:
    """How far a phase is: a bar on a terminal; elsewhere (a log file) a plain line now and then.

    Args:
        total: Steps of the phase.
        description: Its name.
        initial: Steps that an earlier start of the run has done already.
        stream: Where to write; stderr when None.
        every_s: Least seconds between two plain lines; an evaluation prints one at once.
    """

    _TEXT = "{percentage:3.0f}% {n_fmt}/{total_fmt}, {rate_noinv_fmt}, {remaining} left{postfix}"

    def __init__(
        self,
        total: int,
        description: str,
        initial: int = 0,
        stream: TextIO | None = None,
        every_s: float = 10.0,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._scale = {"total": total, "initial": initial, "unit": " steps"}
        self._description, self._n, self._score = description, initial, ""
        self._every_s, self._start, self._shown = every_s, monotonic(), monotonic()
        self._closed, self._bar = False, None
        if self._stream.isatty():
            bar = "{desc} |{bar}| " + self._TEXT
            look = {"desc": description, "bar_format": bar, "dynamic_ncols": True}
            self._bar = tqdm(file=self._stream, **look, **self._scale)

    def _print(self) -> None:
        self._shown = monotonic()
        line = tqdm.format_meter(
            self._n,
            elapsed=self._shown - self._start,
            prefix=self._description,
            postfix=self._score,
            bar_format="{desc} " + self._TEXT,
            **self._scale,
        )
        print(line, file=self._stream, flush=True)

    def advance(self, n: int = 1) -> None:
        """Counts `n` more steps."""
        self._n += n
        if self._bar is not None:
            self._bar.update(n)
        elif monotonic() - self._shown >= self._every_s:
            self._print()

    def score(self, text: str) -> None:
        """Shows the newest evaluation, for example "score 44.6"."""
        self._score = text
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            self._print()

    def note(self, text: str) -> None:
        """Prints a line of its own, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves the last state on the screen. A second call does nothing."""
        if self._bar is not None:
            self._bar.close()
        elif not self._closed:
            self._print()
        self._closed = True
