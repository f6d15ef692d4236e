"""Group commit: many operations in one transaction, each wholly or not at all; and what the file is kept from growing by."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from controller import errors
from controller.ports import Event, Key, Snapshot
from controller.stores import statefile, tables, writer
from controller.stores.sqlite import SqliteStore
from tests.api import samples
from tests.contract.stores import RULES, Clock, Watching, free, key, patched, run


def _open(directory: Path, *, inline: bool = True) -> SqliteStore:
    return SqliteStore.open(directory / "state.db", RULES, lock=True, inline=inline, now=Clock())


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    file = statefile.open_file(tmp_path / "state.db", lock=True, moved=False)
    with closing(file.connect()) as opened:
        yield opened
    file.close()


def _create(name: str) -> writer.Operation[Any]:
    return writer.Operation(lambda tables: tables.create(free(samples.cloud(), name)))


def _broken(tables: tables.Tables) -> None:
    tables.create(free(samples.cloud(), "half"))
    raise ZeroDivisionError


def test_one_commit_serves_all_and_what_fails_leaves_nothing(connection: sqlite3.Connection) -> None:
    told: list[str] = []
    connection.set_trace_callback(told.append)
    rows = tables.Tables(connection, RULES, Clock())
    broken: writer.Operation[None] = writer.Operation(_broken)
    operations: list[writer.Operation[Any]] = [_create("a"), broken, _create("a"), _create("b")]
    writer.commit(connection, rows, operations)
    assert told.count("COMMIT") == 1
    assert operations[0].result()["metadata"]["name"] == "a"
    with pytest.raises(ZeroDivisionError):
        broken.result()
    with pytest.raises(errors.AlreadyExists):
        operations[2].result()
    assert [each["metadata"]["name"] for each in rows.list("Cloud", None, None)] == ["a", "b"]
    changes = rows.changes(0)
    assert changes is not None
    assert [each.object["metadata"]["name"] for each in changes[0] if not isinstance(each, Snapshot)] == ["a", "b"]


def test_where_the_transaction_cannot_begin_every_operation_says_so(connection: sqlite3.Connection, tmp_path: Path) -> None:
    connection.execute("PRAGMA busy_timeout=0")
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        operations = [_create("a"), _create("b")]
        writer.commit(connection, tables.Tables(connection, RULES, Clock()), operations)
        for operation in operations:
            with pytest.raises(sqlite3.OperationalError):
                operation.result()
        other.execute("ROLLBACK")
    again = _create("a")
    writer.commit(connection, tables.Tables(connection, RULES, Clock()), [again])
    assert again.result()


def test_operations_that_wait_share_a_commit(tmp_path: Path) -> None:
    told: list[str] = []
    file = statefile.open_file(tmp_path / "state.db", lock=True, moved=False)

    def connect() -> sqlite3.Connection:
        connection = file.connect()
        connection.set_trace_callback(told.append)
        return connection

    async def write() -> None:
        thread = writer.WriterThread(connect, RULES, Clock())
        await asyncio.gather(*(thread.run(_create(f"n-{number}")) for number in range(100)))
        await thread.close()

    run(write())
    file.close()
    assert 1 <= told.count("COMMIT") < 50


def test_commits_are_synced(connection: sqlite3.Connection) -> None:
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_closing_finishes_what_was_begun(tmp_path: Path) -> None:
    async def write() -> None:
        store = _open(tmp_path, inline=False)
        writes = [asyncio.create_task(store.create(free(samples.cloud(), f"n-{number}"))) for number in range(50)]
        await asyncio.sleep(0)
        await store.close()
        assert len(await asyncio.gather(*writes)) == 50
        again = _open(tmp_path)
        assert len(await again.list("Cloud")) == 50
        await again.close()

    run(write())


def test_a_watch_that_slept_too_long_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHANGES_KEPT", 20)
    monkeypatch.setattr(tables, "_CLEAR_EVERY", 5)

    async def sleep() -> None:
        store = _open(tmp_path)
        gone = await store.create(free(samples.group()))
        watching = Watching(store)
        await watching.next()
        await store.delete(key(gone), uid=gone["metadata"]["uid"])
        made = await store.create(samples.cloud())
        for number in range(60):
            made = await patched(store, made, {"spec": {"maxInstances": 100 + number}})
        assert await watching.next() == Snapshot((made,))
        await watching.close()
        kept = store._connection.execute("SELECT count(*) FROM changes").fetchone()[0]  # pyright: ignore[reportPrivateUsage]
        assert kept <= 25
        await store.close()

    run(sleep())


def test_the_latest_events_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "EVENTS_KEPT", 5)

    async def tell() -> None:
        clock = Clock()
        store = SqliteStore.open(tmp_path / "state.db", RULES, lock=True, inline=True, now=clock)
        for number in (0, 1, 2, 3, 4, 0, 5, 6):
            await store.record(Event(Key("Cloud", "default", "a"), "u", "Normal", "Ready", f"message {number}"))
            clock.move(1)
        told = [(each["message"], each["count"]) for each in await store.list("Event")]
        assert told == [("message 3", 1), ("message 4", 1), ("message 0", 2), ("message 5", 1), ("message 6", 1)]
        await store.close()

    run(tell())


def test_a_file_has_one_namespace(tmp_path: Path) -> None:
    async def make() -> None:
        store = _open(tmp_path)
        with pytest.raises(errors.Rejected) as refusal:
            await store.create({**samples.cloud(), "metadata": {"name": "a", "namespace": "other"}})
        assert [cause.field for cause in refusal.value.causes] == ["metadata.namespace"]
        made = await store.create({**samples.cloud(), "metadata": {"name": "a"}})
        assert made["metadata"]["namespace"] == "default"
        await store.close()

    run(make())


def test_a_secret_that_went_is_not_in_the_file(tmp_path: Path) -> None:
    async def forget() -> None:
        store = _open(tmp_path)
        given = free(samples.secret())
        given["stringData"] = {"key": "hunter2" * 10}
        made = await store.create(given)
        await store.delete(key(made), uid=made["metadata"]["uid"])
        await store.close()

    run(forget())
    content = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    assert b"aHVudGVyMmh1bnRlcjJodW50ZXIy" not in content


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "threaded"])
def test_a_watch_of_a_store_that_is_closed_ends_with_an_error(tmp_path: Path, inline: bool) -> None:
    async def close() -> None:
        store = _open(tmp_path, inline=inline)
        watching = Watching(store)
        await watching.next()
        waiting = asyncio.create_task(watching.next())
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(errors.Unavailable):
            await waiting

    run(close())
