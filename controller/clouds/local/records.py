"""What is on the disk of a local machine: its record, its two locks, its places. Shared by the driver and the guardian.

It decides how a record is read, changed and locked, and refuses to know what the fields mean. It imports little, because
every machine's guardian pays for it at its start.

Two flocks: `guardian.lock` is held by the guardian for its life, so a free one means that no guardian lives;
`record.lock` is held for a moment by whoever reads in order to write. The guardian's lock is taken or tried only under
the record's, so that a look at it is never mistaken for a second guardian.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import TypedDict

#: What the environment of every process of a machine says; by the mark it is found again.
MARK_VARIABLE = "OCCOPUS_MARK"
MACHINE_VARIABLE = "OCCOPUS_MACHINE"
ADDRESS_VARIABLE = "OCCOPUS_ADDRESS"
ROOT_VARIABLE = "OCCOPUS_ROOT"

RECORD = "machine.json"
CONSOLE = "console.log"
ROOT = "root"
USER_DATA = "user-data"


class Record(TypedDict):
    """`machine.json`. Times are ISO 8601 or empty; `state` is a MachineState's value.

    `pid` is the guardian's, 0 until it started; it is never taken back, so a machine starts once. `digest` is of the
    whole request, so that a token used again with other parameters is noticed. `closed` marks the tombstone of a machine
    that never was: its place is taken so that nobody makes it.
    """

    id: str
    name: str
    tags: dict[str, str]
    pid: int
    addresses: list[str]
    state: str
    message: str
    created: str
    ending: str
    ended: str
    batch: str
    index: int
    size: int
    digest: str
    bootSeconds: float
    closed: bool


def read(directory: Path) -> Record:
    """The record of the machine that has this directory. Raises FileNotFoundError, and OSError for one that is damaged."""
    try:
        return json.loads((directory / RECORD).read_bytes())
    except ValueError as error:
        raise OSError(errno.EIO, "the record is damaged", str(directory / RECORD)) from error


def write(directory: Path, record: Record) -> None:
    """Replace the record, whole or not at all, and durably. The caller holds the record's lock or the only name of the directory."""
    data = json.dumps(record, indent=2).encode()
    temporary = directory / f".{RECORD}"
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / RECORD)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Make what was renamed in this directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(directory: Path) -> Generator[None]:
    """Hold the record's lock; waits for whoever has it. Raises FileNotFoundError where there is no such machine."""
    descriptor = os.open(directory / "record.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Closing alone would keep the lock while a child that is just being forked still has a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def take_guardian_lock(directory: Path) -> int | None:
    """The descriptor that holds the guardian's lock, or None while a guardian lives. Called under the record's lock."""
    descriptor = os.open(directory / "guardian.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def guardian_lives(directory: Path) -> bool:
    """Whether a guardian holds its lock now. Called under the record's lock."""
    descriptor = take_guardian_lock(directory)
    if descriptor is None:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
    return False


def mark(directory: Path) -> str:
    """What its processes carry: the machine's id and its lock's inode. A copy of the directory has another mark, so whoever
    opens the copy ends nothing of the original; a directory that was moved keeps it.
    """
    status = (directory / "guardian.lock").stat()
    return f"{read(directory)['id']}.{status.st_dev}.{status.st_ino}"


def furnish(directory: Path, record: Record, user_data: bytes) -> None:
    """Fill the fresh directory of a machine that nobody knows yet; durable when it returns."""
    for name in ("record.lock", "guardian.lock", CONSOLE):
        (directory / name).touch(mode=0o600)
    (directory / ROOT).mkdir(mode=0o700)
    with (directory / USER_DATA).open("wb") as file:
        file.write(user_data)
        file.flush()
        os.fsync(file.fileno())
    write(directory, record)
