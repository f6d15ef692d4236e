"""Follows what the engine does until something holds, showing it live: a tree on a terminal, lines of changes elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live

from controller import view
from controller.cli import show
from controller.cli.home import Home

#: A terminal is redrawn at most so often.
_FRAMES_PER_SECOND = 8


class Limit:
    """How long a command may take in all; without a number as long as it takes."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._started = time.monotonic()

    @property
    def left(self) -> float | None:
        """Seconds."""
        return None if self._seconds is None else max(0.0, self._seconds - (time.monotonic() - self._started))

    def __str__(self) -> str:
        return "" if self._seconds is None else f" within {self._seconds:g} s"


async def until(home: Home, names: list[str] | None, holds: Callable[[], bool], *, seconds: float | None, quiet: bool) -> bool:
    """Show what changes until `holds` says so (True) or the time is over (False)."""
    with contextlib.suppress(TimeoutError), _screen(quiet) as draw:
        async with asyncio.timeout(seconds):
            async for _ in home.changes():
                draw(view.infrastructures(home.objects, datetime.now(UTC), names))
                if holds():
                    return True
                # Changes come in bursts; what is drawn between them nobody could read.
                await asyncio.sleep(1 / _FRAMES_PER_SECOND)
    return False


@contextlib.contextmanager
def _screen(quiet: bool) -> Generator[Callable[[list[view.InfrastructureRow]], None]]:
    console = show.console()
    if quiet:
        yield lambda rows: None
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=_FRAMES_PER_SECOND) as live:
            yield lambda rows: live.update(show.tree(rows))
    else:
        yield _lines(console)


def _lines(console: Console) -> Callable[[list[view.InfrastructureRow]], None]:
    before: dict[str, str] = {}
    started = datetime.now(UTC)

    def draw(rows: list[view.InfrastructureRow]) -> None:
        for line in show.steps(before, rows, datetime.now(UTC) - started):
            console.print(line, markup=False)

    return draw
