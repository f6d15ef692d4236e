"""What was acknowledged survives: the log cut anywhere behind the last acknowledged commit, the process killed, an older copy."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from controller.ports import Obj
from controller.stores.sqlite import SqliteStore
from tests.api import samples
from tests.contract.stores import RULES, Clock, free, key, owned, patched, run

#: sqlite.org/fileformat.html, 4.1: a header, then frames of a header and a page.
_LOG_HEADER_BYTES = 32
_FRAME_BYTES = 24 + 4096
State = list[Obj]

_WRITER = """
import asyncio, sys
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore

async def write():
    store = SqliteStore.open(sys.argv[1], Rules([]), lock=True)
    async def one(number):
        await store.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"n-{number}"}, "data": {"a": "x" * 500}})
        print(number, flush=True)
    number = 0
    while True:
        await asyncio.gather(*map(one, range(number, number + 7)))
        number += 7

asyncio.run(write())
"""


def _open(path: Path, *, moved: bool = False) -> SqliteStore:
    return SqliteStore.open(path, RULES, lock=True, moved=moved, now=Clock())


async def _state(store: SqliteStore) -> State:
    return [obj for kind in samples.GOOD for obj in await store.list(kind)]


async def _history(store: SqliteStore, log: Path) -> list[tuple[int, State]]:
    """Makes every kind of write; returns the log's size and the state at each acknowledgement."""
    await store.create(samples.cloud())
    seen = [(log.stat().st_size, await _state(store))]

    async def acknowledged() -> None:
        seen.append((log.stat().st_size, await _state(store)))

    top = await store.create(free(samples.infrastructure()))
    await acknowledged()
    top = await patched(store, top, {"spec": {"paused": True}})
    await acknowledged()
    large = samples.config_map()
    large["data"] = {"text": "x" * 20_000}
    await store.create(large)
    await acknowledged()
    await asyncio.gather(*(store.create(owned(free(samples.instance(), f"n-{number}"), top)) for number in range(12)))
    await acknowledged()
    held = await store.create(owned(samples.group(), top))
    await acknowledged()
    await store.delete(key(top), uid=top["metadata"]["uid"])  # and with it all that it owns
    await acknowledged()
    await patched(store, await store.get(key(held)), {"metadata": {"finalizers": None}})
    await acknowledged()
    return seen


def _reopened(source: Path, log: bytes, target: Path) -> State:
    """The state in a copy of the file with this log, as after a power cut."""
    target.mkdir()
    shutil.copy(source, target / "state.db")
    (target / "state.db-wal").write_bytes(log)

    async def read() -> State:
        store = _open(target / "state.db", moved=True)
        try:
            assert await store.create(samples.secret())  # it can be written, too
            await store.delete(key(samples.secret()), uid=(await store.get(key(samples.secret())))["metadata"]["uid"])
            return [obj for obj in await _state(store) if obj["kind"] != "Secret"]
        finally:
            await store.close()

    return run(read())


@pytest.mark.parametrize("tail", ["cut", "zeros", "garbage"])
def test_a_log_that_ends_behind_an_acknowledged_commit_loses_nothing_of_it(tmp_path: Path, tail: str) -> None:
    path, log = tmp_path / "state.db", tmp_path / "state.db-wal"

    async def write() -> tuple[list[tuple[int, State]], bytes]:
        store = _open(path)
        seen = await _history(store, log)
        content = log.read_bytes()
        shutil.copy(path, tmp_path / "killed.db")
        await store.close()
        return seen, content

    seen, content = run(write())
    assert len(content) == seen[-1][0]
    sizes = [size for size, _ in seen]
    boundaries = range(_LOG_HEADER_BYTES, len(content) + 1, _FRAME_BYTES)
    # Every frame's end; and, behind each acknowledgement, places inside of frames.
    cuts = sorted({*boundaries, *(size + more for size in sizes for more in (1, 24, 2000, _FRAME_BYTES - 1) if size + more < len(content))})
    for cut in (each for each in cuts if each >= sizes[0]):
        kept = content[:cut]
        rest = len(content) - cut
        if tail == "zeros":
            kept += bytes(rest)
        elif tail == "garbage":
            kept += (b"\xa5\x5a\x33" * rest)[:rest]
        found = _reopened(tmp_path / "killed.db", kept, tmp_path / f"cut-{cut}")
        last = max(index for index, size in enumerate(sizes) if size <= cut)
        if last == 3:  # the writes made at once may have been committed in several groups
            names = [obj["metadata"]["name"] for obj in found if obj["kind"] == "Instance"]
            assert [obj for obj in found if obj["kind"] != "Instance"] == seen[3][1]
            assert set(names) <= {f"n-{number}" for number in range(12)}
        else:
            assert found == seen[last][1], cut


def test_an_older_copy_in_its_place_is_the_older_state(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def write(obj: Obj) -> State:
        store = _open(path)
        await store.create(obj)
        state = await _state(store)
        await store.close()
        return state

    older = run(write(samples.cloud()))
    shutil.copy(path, tmp_path / "older.db")
    run(write(samples.group()))
    (tmp_path / "older.db").replace(path)

    async def read() -> None:
        store = _open(path)
        assert await _state(store) == older
        assert not await store.holds()
        await store.close()

    run(read())


def test_a_killed_process_has_lost_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(60)]
        writer.kill()
        told += writer.stdout.readlines()

    async def read() -> set[str]:
        store = _open(path)
        assert await store.holds()
        names = {obj["metadata"]["name"] for obj in await store.list("ConfigMap")}
        await store.close()
        return names

    assert {f"n-{line.strip()}" for line in told if line.endswith("\n")} <= run(read())
