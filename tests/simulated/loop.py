"""An event loop whose time is virtual: where nothing is ready it jumps to the next timer, so no test ever waits.

Tests run the engine on it by `run`. Threads are waited for with time standing still, and so is what is done within `outside`; a
loop cannot tell of other sockets and pipes how long they would take, so tests pass in fakes of what uses them.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: The moment at which every simulated world begins.
EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
#: So many turns of the loop without time moving is a task that spins. 1,000 Instances take some 10,000 at one moment.
_TURNS_LIMIT = 1_000_000
#: Real seconds: nothing outside takes near as long, not even an API server on a busy machine.
_OUTSIDE_SECONDS = 120.0


class DeadlockError(Exception):
    """Nothing is ready and no timer is set: what is awaited can never happen."""


class LivelockError(Exception):
    """The loop turns without time moving: some task never waits for anything."""


@dataclass(slots=True)
class Clock:
    """Virtual time, seconds since EPOCH. It outlives a loop, so that a world goes on where a crashed run left it."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.seconds)


class OutsideError(Exception):
    """What was waited for outside of the process did not come."""


class _Selector(selectors.DefaultSelector):
    """Looks for what is ready; never waits, save for threads and the outside. The loop calls it once a turn."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.busy = 0
        self.describe_waiting: Callable[[], str] = str
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        waits = self.busy > 0 and timeout != 0
        ready = super().select(_OUTSIDE_SECONDS if waits else 0)
        if waits and not ready:
            raise OutsideError(f"at {self.clock.now()} nothing came within {_OUTSIDE_SECONDS:.0f} s: {self.describe_waiting()}")
        self._turns += 1
        if self._turns > _TURNS_LIMIT:
            raise LivelockError(f"{_TURNS_LIMIT} turns at {self.clock.now()}: {self.describe_waiting()}")
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise DeadlockError(f"at {self.clock.now()} nothing is ready and no timer is set: {self.describe_waiting()}")
        self.clock.seconds += timeout
        self._turns = 0
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._virtual = _Selector(clock)
        super().__init__(self._virtual)
        self._virtual.describe_waiting = self._describe_waiting

    def time(self) -> float:
        return self.clock.seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._virtual.busy += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # The last thing a run does. It waits for a thread of its own, which no executor knows.
        with self.outside():
            await super().shutdown_default_executor()

    @contextmanager
    def outside(self) -> Generator[None]:
        """See the function."""
        self._virtual.busy += 1
        try:
            yield
        finally:
            self._virtual.busy -= 1

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._virtual.busy -= 1

    def _describe_waiting(self) -> str:
        frames = [(task.get_name(), task.get_stack(limit=1)) for task in asyncio.all_tasks(self)]
        lines = [f"{name} at {stack[0].f_code.co_filename}:{stack[0].f_lineno}" for name, stack in frames if stack]
        return "; ".join(sorted(lines)) or "no task"


def run(main: Coroutine[Any, Any, T], *, start: datetime = EPOCH, clock: Clock | None = None) -> T:
    """Run to the end in virtual time, from `start`, or from where `clock` stands. Raises DeadlockError, LivelockError."""
    time = clock or Clock((start - EPOCH).total_seconds())
    loops: list[VirtualLoop] = []

    def make() -> VirtualLoop:
        loops.append(VirtualLoop(time))
        loops[0].set_exception_handler(_collect(failures))
        return loops[0]

    failures: list[Mapping[str, Any]] = []
    with asyncio.Runner(loop_factory=make) as runner:
        result = runner.run(main)
    if failures:
        raise AssertionError(f"a task failed and nobody asked: {failures[0]}") from failures[0].get("exception")
    return result


def _collect(failures: list[Mapping[str, Any]]) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    return lambda _, context: failures.append(context)


def _running() -> Clock:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "now() is asked for inside of run()"
    return loop.clock


@contextmanager
def outside() -> Generator[None]:
    """Time stands still in the running loop: what is waited for within takes no virtual time."""
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop), "outside() is entered inside of run()"
    with running.outside():
        yield


def stand_still(seconds: float) -> None:
    """The process of the running loop does nothing for so long, as one that is stopped: what is due then is due at once."""
    _running().seconds += seconds


def now() -> datetime:
    """The virtual time of the running loop, as an aware datetime."""
    return _running().now()


def clock() -> float:
    """The virtual time of the running loop, in seconds since EPOCH."""
    return _running().seconds
