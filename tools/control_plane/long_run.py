"""Run one program that takes minutes: its output is read line by line, with a tick at least each second; it is never left behind.

binaries.py and toolchain.py call it. It does not know what a line means.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from tools.control_plane import advice
from tools.control_plane.errors import ControlPlaneError

_TAIL_LINES = 25
# Given each line, and None when a second passed without one; answers whether the line tells anything should the program fail.
Seen = Callable[[str | None], bool]


def run(arguments: Sequence[str], environment: Mapping[str, str], directory: Path, lock: int, seen: Seen) -> None:
    """Run it in `directory` and show each line of its stderr to `seen`.

    The program inherits the descriptor `lock`: should this process be killed, the lock is held until the program has ended too.

    Raises ControlPlaneError with the end of its output and what to do if it fails.
    """
    process = subprocess.Popen(
        arguments,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(lock,),
    )
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    try:
        assert process.stderr is not None
        for line in _lines(process.stderr):
            if seen(line) and line is not None:
                tail.append(line)
        status = process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
        if process.stderr is not None:
            process.stderr.close()
    if status:
        raise ControlPlaneError(advice.failure(arguments, "\n".join(tail), status))


def _lines(stream: IO[bytes]) -> Iterator[str | None]:
    """The lines until the end; None for each second without one."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(1.0):
                yield None
                continue
            got = os.read(stream.fileno(), 65536)
            *whole, rest = (rest + got).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
            if not got:
                if rest:
                    yield rest.decode(errors="replace")
                return
