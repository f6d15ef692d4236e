"""One line of progress: updated in place on a terminal, a plain line every 15 s elsewhere, e.g. in a CI log.

binaries.py and toolchain.py call it. It knows neither Go nor Kubernetes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

_PLAIN_SECONDS = 15.0
_TERMINAL_SECONDS = 0.2


class Display:
    """Writes to one stream, usually stderr."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._terminal = stream.isatty()
        self._shown_at = clock()
        self._open_line = False

    def line(self, text: str) -> None:
        """A line that stays."""
        self._erase()
        self._stream.write(text + "\n")
        self._stream.flush()
        self._shown_at = self._clock()

    def progress(self, text: str) -> None:
        """What is under way, shown if it is time to: the next call replaces it on a terminal."""
        now = self._clock()
        if now - self._shown_at < (_TERMINAL_SECONDS if self._terminal else _PLAIN_SECONDS):
            return
        if not self._terminal:
            self.line(text)
            return
        self._erase()
        self._stream.write(text)
        self._stream.flush()
        self._open_line, self._shown_at = True, now

    def close(self) -> None:
        """Leave no half line behind."""
        self._erase()
        self._stream.flush()

    def _erase(self) -> None:
        if self._open_line:
            # Carriage return, then "erase in line" (ECMA-48): the old text may be longer than the new.
            self._stream.write("\r\x1b[K")
            self._open_line = False


def minutes(seconds: float) -> str:
    """Elapsed time as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
