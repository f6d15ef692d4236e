"""Processes that outlive who started them: spawned, recorded in a pid file, known again, ended.

plane.py calls it. A pid alone names nobody, since the kernel gives it out again: a process is known by pid, start time and
boot. It does not know what the processes are for.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# starttime is field 22 of /proc/<pid>/stat, see proc(5); what follows the command's closing parenthesis begins with field 3.
_START_TIME = 22 - 3


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for all time: `start_ticks` are clock ticks since the boot that `boot_id` names."""

    pid: int
    start_ticks: int
    boot_id: str


def identify(pid: int) -> Identity | None:
    """Who has this pid now, be it a zombie that nobody has reaped yet; None if nobody has."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return Identity(pid, int(fields[_START_TIME]), _BOOT_ID.read_text().strip())


def running(identity: Identity) -> bool:
    """Whether it still runs. A zombie does not run; if it is a child of ours it is reaped."""
    return not wait(identity, 0)


def record(path: Path, identity: Identity) -> None:
    """Write the pid file, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(f"{identity.pid} {identity.start_ticks} {identity.boot_id}\n")
    partial.rename(path)


def recorded(path: Path) -> Identity | None:
    """The process of this pid file if it still runs; None without a file, or where the pid is another process's by now."""
    try:
        words = path.read_text().split()
    except FileNotFoundError:
        return None
    if len(words) != 3 or not (words[0].isdecimal() and words[1].isdecimal()):
        return None
    identity = Identity(int(words[0]), int(words[1]), words[2])
    return identity if running(identity) else None


def spawn(arguments: Sequence[str], log: Path) -> Identity:
    """Start a program in a session of its own, its output appended to `log` (0600).

    Its environment is empty but for PATH: etcd would take any `ETCD_…` variable of the user's as an option.

    Raises OSError if the program cannot be executed.
    """
    pid = os.posix_spawn(
        arguments[0],
        list(arguments),
        {"PATH": os.defpath},
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    identity = identify(pid)
    # A child that has ended already is a zombie until it is waited for, unless this process ignores SIGCHLD.
    if identity is None:
        raise ChildProcessError(f"{arguments[0]} ended at once")
    return identity


def wait(identity: Identity, timeout_seconds: float) -> bool:
    """Wait until the process has ended; False if it still runs after the timeout."""
    descriptor = _open(identity)
    if descriptor is None:
        return True
    try:
        return _ended(descriptor, identity.pid, timeout_seconds)
    finally:
        os.close(descriptor)


def send(identity: Identity, number: signal.Signals) -> None:
    """Send a signal; nothing happens if the process has ended."""
    descriptor = _open(identity)
    if descriptor is None:
        return
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def end(identity: Identity, number: signal.Signals, grace_seconds: float) -> None:
    """Send the signal, and SIGKILL if the process still runs after the grace; returns once it has ended."""
    send(identity, number)
    if not wait(identity, grace_seconds):
        send(identity, signal.SIGKILL)
        wait(identity, grace_seconds)


def _open(identity: Identity) -> int | None:
    """A descriptor of exactly this process, so that no signal reaches one that took its pid."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if identify(identity.pid) == identity:
        return descriptor
    os.close(descriptor)
    return None


def _ended(descriptor: int, pid: int, timeout_seconds: float) -> bool:
    # Not by the state in /proc: that is the first thread's, which may be a zombie while others still hold files and ports.
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(timeout_seconds * 1000):
        return False
    _reap(pid)
    return True


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # Another's child: its parent reaps it.
