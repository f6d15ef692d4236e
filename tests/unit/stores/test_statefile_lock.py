"""The lock of a state file: who holds it, who takes it later, and who holds nothing any more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from controller import errors
from controller.ports import Changed, Key
from tests.api import samples
from tests.contract.stores import Watching, run
from tests.unit.stores.statefiles import made, move, open_store, unusable

_HOLDER = """
import sys
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore
store = SqliteStore.open(sys.argv[1], Rules([]), lock=True)
print("held", flush=True)
sys.stdin.read()
"""


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_file_that_another_process_holds_names_that_process(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        unusable(path, f"process {holder.pid}", "--state")
        reader = open_store(path, lock=False)
        assert run(reader.holds()) is False
        run(reader.close())
        holder.kill()
        holder.wait()
    run(open_store(path).close())  # the lock went with its process


def test_a_file_that_this_process_holds_is_held(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = open_store(path)
    unusable(path, f"process {os.getpid()}")
    (tmp_path / "link.db").symlink_to(path)
    unusable(tmp_path / "link.db", f"process {os.getpid()}")
    assert run(first.holds())
    run(first.close())
    run(open_store(path).close())


def test_who_opened_a_file_without_the_lock_takes_it_once_its_holder_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        store = open_store(path, lock=False)
        assert not store.take_lock()
        before = _descriptors()
        assert not store.take_lock()
        assert _descriptors() == before, "who looks for hours must not run out of them"
        holder.kill()
        holder.wait()
    assert store.take_lock()
    assert run(store.holds())
    unusable(path, f"process {os.getpid()}")
    run(store.close())
    run(open_store(path).close())


def test_of_one_process_too_one_store_alone_takes_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = open_store(path)
    second, third = open_store(path, lock=False), open_store(path, lock=False)
    assert not second.take_lock()
    run(first.close())
    assert second.take_lock()
    assert not third.take_lock()
    assert not run(third.holds())
    run(second.close())
    assert third.take_lock()
    run(third.close())


@pytest.mark.parametrize("moved", [False, True], ids=["as-it-is", "moved"])
def test_who_takes_the_lock_later_can_say_that_a_file_was_moved(tmp_path: Path, moved: bool) -> None:
    made(tmp_path / "state.db")
    path = move(tmp_path / "state.db")
    store = open_store(path, lock=False)
    assert store.take_lock(moved=moved)
    assert run(store.holds()) is moved
    assert bool(store.frozen_reason) is not moved
    run(store.close())


def test_the_lock_of_a_file_that_was_replaced_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    made(path)
    store = open_store(path, lock=False)
    path.rename(tmp_path / "elsewhere.db")
    shutil.copy(tmp_path / "elsewhere.db", path)
    with pytest.raises(errors.StoreUnusable):
        store.take_lock()
    run(store.close())


def test_others_read_and_write_beside_the_holder_who_sees_it(tmp_path: Path) -> None:
    async def both() -> None:
        holder = open_store(tmp_path / "state.db")
        made = await holder.create(samples.group())
        changes = Watching(holder)
        await changes.next()
        other = open_store(tmp_path / "state.db", lock=False)
        assert await other.holds() is False
        key = Key("InstanceGroup", "default", "shop-web")
        assert await other.get(key) == made
        wanted = await other.patch(key, {"spec": {"paused": True}}, version=made["metadata"]["resourceVersion"])
        assert await changes.next() == Changed(wanted)
        assert await holder.get(key) == wanted
        await other.close()
        assert await holder.holds()
        await changes.close()
        await holder.close()

    run(both())


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_who_holds_a_file_that_is_no_more_at_its_place_holds_nothing(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "state.db"
    store = open_store(path)
    path.rename(tmp_path / "elsewhere.db")
    if replaced:
        shutil.copy(tmp_path / "elsewhere.db", path)
    assert not run(store.holds())
    (tmp_path / "elsewhere.db").rename(path)
    assert run(store.holds())
    run(store.close())
