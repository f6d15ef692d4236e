"""Starts guardians, and finds and ends the processes of local machines, by `/proc`.

The local cloud calls it. A process belongs to a machine if its environment has the machine's mark (`records.mark`), or if
an ancestor of it belongs: the environment alone misses servers which write their title over it (nginx, PostgreSQL), the ancestry alone
misses what was orphaned after its guardian died. It knows nothing of states.

A process that clears its environment *and* outlives its guardian cannot be told from any other of this computer; it is
out of reach.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import controller
from controller.clouds.local import records

_PROC = Path("/proc")
_ZOMBIE = b"Z"
#: What a guardian gets of our environment; the rest may hold credentials. It hands on still less.
_KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "LD_LIBRARY_PATH")
#: The shell that starts a guardian ends within milliseconds.
_SPAWN_SECONDS = 10.0


def start_guardian(place: Path, record: records.Record) -> None:
    """Start a guardian that is nobody's child: the shell between ends at once. It inherits neither descriptors nor secrets.

    Raises OSError, subprocess.SubprocessError.
    """
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= {
        records.MARK_VARIABLE: records.mark(place),
        records.MACHINE_VARIABLE: record["id"],
        records.ADDRESS_VARIABLE: record["addresses"][0],
    }
    command = ["/bin/sh", "-c", '"$@" &', "sh", sys.executable, "-m", "controller.clouds.local.guardian", str(place)]
    packages = Path(controller.__file__ or "").parent.parent
    with (place / records.CONSOLE).open("ab") as console:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            cwd=packages,
            env=environment,
            start_new_session=True,
            check=True,
            timeout=_SPAWN_SECONDS,
        )


@dataclass(frozen=True, slots=True)
class Process:
    """A process at one moment; pid and start (clock ticks since boot) together name it for ever."""

    pid: int
    parent: int
    start: int
    mark: str


def _process(pid: int) -> Process | None:
    """The process of that number, if it lives and we may look into it."""
    directory = _PROC / str(pid)
    try:
        # The name, in parentheses, may hold anything; after the last one come state (3), parent (4), …, start (22): proc(5).
        fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
        environment = (directory / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if fields[0] == _ZOMBIE:
        return None
    prefix = f"{records.MARK_VARIABLE}=".encode()
    mark = next((each[len(prefix) :] for each in environment.split(b"\0") if each.startswith(prefix)), b"")
    return Process(pid, int(fields[1]), int(fields[19]), mark.decode(errors="replace"))


def of_machines(marks: Collection[str]) -> dict[str, list[Process]]:
    """Every live process of each machine, by its mark; never this process itself. One pass over `/proc`."""
    every = {process.pid: process for process in map(_process, _pids()) if process is not None}
    found: dict[str, list[Process]] = {mark: [] for mark in marks}
    for process in every.values():
        if process.pid == os.getpid():
            continue
        for owner in {each.mark for each in _line(process, every)} & found.keys():
            found[owner].append(process)
    return found


def _pids() -> Iterable[int]:
    return [int(each.name) for each in _PROC.iterdir() if each.name.isdecimal()]


def _line(process: Process, every: dict[int, Process]) -> Iterator[Process]:
    """The process and its ancestors. Bounded: parents are read at different moments, so they might form a ring."""
    seen: set[int] = set()
    current: Process | None = process
    while current is not None and current.pid not in seen:
        seen.add(current.pid)
        yield current
        current = every.get(current.parent)


def end(marks: Collection[str], guardians: Collection[int], *, grace_seconds: float, limit_seconds: float) -> set[str]:
    """End every process of these machines: SIGTERM, and SIGKILL after the grace. Returns the marks of which none is left.

    `guardians` are pids from the records; one counts only if it is among the machine's processes. A guardian is stopped
    first and killed last: so it starts no further command, and orphans stay its children and thus findable.
    """
    started = time.monotonic()
    found = of_machines(marks)
    if grace_seconds > 0:
        _signal_all(found, guardians, started + grace_seconds)
    ended: set[str] = set()
    while pending := set(marks) - ended:
        found = of_machines(pending)
        # A process in the middle of an exec shows no environment for an instant: only the second empty look counts.
        again = of_machines([mark for mark in pending if not found[mark]])
        ended |= {mark for mark, processes in again.items() if not processes}
        if time.monotonic() - started > limit_seconds:
            return ended
        _kill_all({mark: each for mark, each in found.items() if each}, guardians)
    return ended


def _signal_all(found: dict[str, list[Process]], guardians: Collection[int], deadline: float) -> None:
    """Ask all to end, and wait until they have, or until the deadline (monotonic)."""
    with ExitStack() as stack:
        waiting: list[int] = []
        for process in _flat(found):
            descriptor = _open(process, stack)
            if descriptor is None:
                continue
            if process.pid in guardians:
                _send(descriptor, signal.SIGSTOP)
            else:
                _send(descriptor, signal.SIGTERM)
                waiting.append(descriptor)
        _wait(waiting, lambda: deadline - time.monotonic())


def _kill_all(found: dict[str, list[Process]], guardians: Collection[int]) -> None:
    """Kill all but the guardians, or, where nothing else is left, the guardian; wait a moment for them to be gone."""
    deadline = time.monotonic() + 0.25
    with ExitStack() as stack:
        waiting: list[int] = []
        for processes in found.values():
            others = [process for process in processes if process.pid not in guardians]
            for process in others or processes:
                descriptor = _open(process, stack)
                if descriptor is not None:
                    _send(descriptor, signal.SIGKILL)
                    waiting.append(descriptor)
        _wait(waiting, lambda: deadline - time.monotonic())


def _flat(found: dict[str, list[Process]]) -> list[Process]:
    return [process for processes in found.values() for process in processes]


def _open(process: Process, stack: ExitStack) -> int | None:
    """A descriptor of exactly this process; its number may have gone to another since we looked."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    stack.callback(os.close, descriptor)
    current = _process(process.pid)
    return descriptor if current is not None and current.start == process.start else None


def _send(descriptor: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return


def _wait(descriptors: Collection[int], left_seconds: Callable[[], float]) -> None:
    """Until every one of these processes has ended, or no time is left. A pidfd is readable once its process has."""
    poll = select.poll()
    waiting = set(descriptors)
    for descriptor in waiting:
        poll.register(descriptor, select.POLLIN)
    while waiting and (left := left_seconds()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            poll.unregister(descriptor)
            waiting.discard(descriptor)
