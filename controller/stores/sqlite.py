"""The SQLite home of the store port: one file, one controller, what was acknowledged survives a power cut.

The embedded default. The engine opens it with the lock, other commands without, and both may read and write. It decides how
operations reach the file (a writer thread that commits in groups, or, for virtual time, in line) and how changes reach
watchers; what an operation does is `controller.stores.tables`' matter.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from controller import errors
from controller.ports import Change, Event, Key, Now, Obj
from controller.stores import statefile
from controller.stores.rules import Rules
from controller.stores.tables import Tables
from controller.stores.writer import Inline, Operation, Writer, WriterThread

T = TypeVar("T")
#: How often other processes' writes are looked for. They are to be seen within a second (design section 4).
_POLL_SECONDS = 0.2


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SqliteStore:
    """The store port over a state file. Belongs to one event loop at a time."""

    def __init__(self, file: statefile.StateFile, rules: Rules, *, inline: bool, now: Now) -> None:
        self._file = file
        self._inline = inline
        self._connection = file.connect(durable=not inline)
        self._tables = Tables(self._connection, rules, now)
        self._writer: Writer = Inline(self._connection, self._tables) if inline else WriterThread(file.connect, rules, now)
        self._wakes: set[asyncio.Event] = set()
        self._closed = False

    @classmethod
    def open(
        cls, path: Path | str, rules: Rules, *, lock: bool, moved: bool = False, inline: bool = False, now: Now = _utc_now
    ) -> SqliteStore:
        """Open the file, or make it where the lock is asked for. Raises StoreUnusable.

        `inline` runs every operation in the calling coroutine, without threads, polling and syncing: for tests with
        virtual time, where no other process writes and no power fails.
        """
        file = statefile.open_file(Path(path), lock=lock, moved=moved)
        try:
            return cls(file, rules, inline=inline, now=now)
        except sqlite3.Error as error:
            file.close()
            raise statefile.translated(file.path, error) from None

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def controller_id(self) -> str:
        """What our machines carry: made with the file and never changed, so a copy has it too."""
        return self._file.controller_id

    @property
    def frozen_reason(self) -> str:
        """Why nothing may be launched from this file; empty where that is not so."""
        return self._file.frozen_reason

    async def get(self, key: Key) -> Obj:
        return self._read(lambda: self._tables.get(key))

    async def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Obj]:
        return self._read(lambda: self._tables.list(kind, namespace, labels))

    async def create(self, obj: Obj) -> Obj:
        return await self._write(lambda tables: tables.create(obj))

    async def patch(self, key: Key, patch: Obj, *, version: str, subresource: Literal["", "status"] = "") -> Obj:
        return await self._write(lambda tables: tables.patch(key, patch, version, subresource))

    async def delete(self, key: Key, *, uid: str, version: str | None = None) -> None:
        await self._write(lambda tables: tables.delete(key, uid, version))

    async def record(self, event: Event) -> None:
        await self._write(lambda tables: tables.record(event))

    async def holds(self) -> bool:
        return not self._closed and self._file.holds()

    def take_lock(self, *, moved: bool = False) -> bool:
        """Hold the file that was opened without the lock; False while another process does. Raises StoreUnusable."""
        self._check_open()
        return self._file.take_lock(moved=moved)

    async def watch(self) -> AsyncIterator[Change]:
        """See the port. Own writes are told at once, other processes' within a second.

        Raises Unavailable when the store is closed. Of an object that changed more than once between two looks the newest
        change stands for those before it.
        """
        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            snapshot, since = self._read(self._tables.snapshot)
            yield snapshot
            while True:
                wake.clear()
                version = self._data_version()
                found = self._read(lambda: self._tables.changes(since))  # noqa: B023 - called at once
                if found is None:
                    snapshot, since = self._read(self._tables.snapshot)
                    yield snapshot
                    continue
                changes, since = found
                for change in changes:
                    yield change
                if not changes:
                    await self._woken(wake, version)
        finally:
            self._wakes.discard(wake)

    async def close(self) -> None:
        """Finish what was begun, and give the lock back. Twice does nothing."""
        if self._closed:
            return
        self._closed = True
        self._wake()
        await self._writer.close()
        self._connection.close()
        self._file.close()

    async def _woken(self, wake: asyncio.Event, version: int) -> None:
        """Wait for a write of ours, or for the file to leave that data version."""
        if self._inline:
            await wake.wait()
        while not wake.is_set() and self._data_version() == version:
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await wake.wait()

    def _data_version(self) -> int:
        """Changes with every commit of another connection (sqlite.org/pragma.html#pragma_data_version)."""
        return self._read(lambda: self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _wake(self) -> None:
        for wake in self._wakes:
            wake.set()

    def _read(self, query: Callable[[], T]) -> T:
        self._check_open()
        try:
            return query()
        except sqlite3.Error as error:
            raise statefile.translated(self._file.path, error) from None

    async def _write(self, call: Callable[[Tables], T]) -> T:
        self._check_open()
        try:
            result = await self._writer.run(Operation(call))
        except sqlite3.Error as error:
            raise statefile.translated(self._file.path, error) from None
        self._wake()
        return result

    def _check_open(self) -> None:
        if self._closed:
            raise errors.Unavailable(f"{self._file.path} was closed")


__all__ = ["SqliteStore"]
