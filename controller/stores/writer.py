"""How write operations reach the file: each under a savepoint, many in one transaction, acknowledged after its commit.

A sync of the log costs milliseconds whatever it holds, so all operations that wait share one. `WriterThread` serves
`controller.stores.sqlite`, `Inline` its virtual-time mode. What an operation does they do not know.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from controller.ports import Now
from controller.stores.rules import Rules
from controller.stores.tables import Tables

T = TypeVar("T")
#: The most operations of one commit; bounds how long the first of them waits for the last.
_GROUP_LIMIT = 256


class Operation(Generic[T]):
    """One write, and what came of it."""

    __slots__ = ("_result", "call", "error")

    def __init__(self, call: Callable[[Tables], T]) -> None:
        self.call = call
        self.error: BaseException | None = None
        self._result: list[T] = []

    def attempt(self, connection: sqlite3.Connection, tables: Tables) -> None:
        """Do it inside the transaction that is open: wholly or not at all."""
        connection.execute("SAVEPOINT operation")
        try:
            self._result = [self.call(tables)]
        except Exception as error:  # noqa: BLE001 - handed to the caller, who awaits it
            self.error = error
            if connection.in_transaction:  # a full disk has rolled all of it back already
                connection.execute("ROLLBACK TO operation")
        if connection.in_transaction:
            connection.execute("RELEASE operation")

    def result(self) -> T:
        if self.error is not None:
            raise self.error
        return self._result[0]


class Writer(Protocol):
    """Runs operations one after the other."""

    async def run(self, operation: Operation[T]) -> T:
        """What the operation returns, once that is on disk. Raises what it raises, and sqlite3.Error where a commit fails."""
        ...

    async def close(self) -> None:
        """Finish what waits. Nothing runs after."""
        ...


def commit(connection: sqlite3.Connection, tables: Tables, operations: Sequence[Operation[Any]]) -> None:
    """Do all in one transaction. Where that fails as a whole, each operation has the error."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for operation in operations:
            operation.attempt(connection, tables)
            if not connection.in_transaction:
                raise sqlite3.OperationalError("the transaction was rolled back") from operation.error
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        for operation in operations:
            operation.error = error
    finally:
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # what is to be told is the first error
                connection.execute("ROLLBACK")


class Inline:
    """Runs an operation in the coroutine that asks, one a commit."""

    def __init__(self, connection: sqlite3.Connection, tables: Tables) -> None:
        self._connection = connection
        self._tables = tables

    async def run(self, operation: Operation[T]) -> T:
        commit(self._connection, self._tables, (operation,))
        return operation.result()

    async def close(self) -> None:
        """Nothing waits."""


_Waiting = tuple[Operation[Any], "asyncio.Future[None]"]


class WriterThread:
    """A thread with a connection of its own. It starts with the first operation: who only reads has none."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], rules: Rules, now: Now) -> None:
        self._connect = connect
        self._rules = rules
        self._now = now
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, operation: Operation[T]) -> T:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, args=(self._connect(),), name="store-writer", daemon=True)
            self._thread.start()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put((operation, done))
        await done
        return operation.result()

    async def close(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    def _serve(self, connection: sqlite3.Connection) -> None:
        tables = Tables(connection, self._rules, self._now)
        open_ended = True
        while open_ended:
            waiting, open_ended = self._next()
            if waiting:
                commit(connection, tables, [operation for operation, _ in waiting])
            for _, done in waiting:
                with suppress(RuntimeError):  # its loop was closed: nobody waits there
                    done.get_loop().call_soon_threadsafe(_acknowledge, done)
        connection.close()

    def _next(self) -> tuple[list[_Waiting], bool]:
        """All that wait, at least one; False where the end has been asked for."""
        waiting: list[_Waiting] = []
        entry = self._queue.get()
        while entry is not None:
            waiting.append(entry)
            if len(waiting) == _GROUP_LIMIT or self._queue.empty():
                return waiting, True
            entry = self._queue.get()
        return waiting, False


def _acknowledge(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


__all__ = ["Inline", "Operation", "Writer", "WriterThread", "commit"]
