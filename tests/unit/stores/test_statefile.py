"""A state file that is read-only, newer, another program's, copied, moved, replaced, cut short or made anew."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from controller import errors
from controller.stores.sqlite import SqliteStore
from tests.api import samples
from tests.contract.stores import RULES, Clock, run
from tests.unit.stores.statefiles import made, move, names, open_store, unusable


@contextmanager
def _other_user() -> Generator[None]:
    """As a user without rights, also where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_new_file_is_the_owners_alone_with_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "state.db"

    async def make() -> None:
        store = open_store(path)
        await store.create(samples.cloud())
        for each in path.parent.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert store.path == path
        await store.close()

    run(make())
    assert [each.name for each in path.parent.iterdir()] == ["state.db"]


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    made(tmp_path / "state.db")
    (tmp_path / "state.db").chmod(0o644)
    run(open_store(tmp_path / "state.db").close())
    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    first = made(tmp_path / "state.db")

    async def reopen() -> None:
        store = open_store(tmp_path / "state.db")
        assert store.controller_id == first
        assert await names(store) == ["acme-north"]
        assert store.frozen_reason == ""
        assert await store.holds()
        await store.close()
        assert not await store.holds()
        with pytest.raises(errors.Unavailable):
            await store.list("Cloud")
        with pytest.raises(errors.Unavailable):
            await store.create(samples.group())
        await store.close()

    run(reopen())


def test_two_files_have_two_controller_ids(tmp_path: Path) -> None:
    assert made(tmp_path / "a.db") != made(tmp_path / "b.db")


def test_without_the_lock_no_file_is_made(tmp_path: Path) -> None:
    unusable(tmp_path / "state.db", "occopus up", lock=False)
    assert list(tmp_path.iterdir()) == []


# --- copied, moved --------------------------------------------------------------------------------------------------
def _copied(path: Path) -> Path:
    return Path(shutil.copy(path, path.with_name("copy.db")))


def _put_back(path: Path) -> Path:
    """An older copy takes the file's place: its own inode, under the name."""
    return _copied(path).replace(path)


@pytest.mark.parametrize("how", [_copied, move, _put_back], ids=["copied", "moved", "put-back"])
def test_a_file_from_elsewhere_is_frozen_until_its_user_says_that_it_was_moved(tmp_path: Path, how: Callable[[Path], Path]) -> None:
    identity = made(tmp_path / "state.db")
    path = how(tmp_path / "state.db")

    async def reopen() -> None:
        for _ in range(2):
            frozen = open_store(path)
            assert not await frozen.holds()
            assert "--moved" in frozen.frozen_reason
            assert str(tmp_path / "state.db") in frozen.frozen_reason
            assert await names(frozen) == ["acme-north"]
            assert frozen.controller_id == identity
            await frozen.close()
        for moved in (True, False):
            store = open_store(path, moved=moved)
            assert await store.holds()
            assert store.frozen_reason == ""
            assert store.controller_id == identity
            await store.close()

    run(reopen())


def test_only_who_has_the_lock_can_say_that_a_file_was_moved(tmp_path: Path) -> None:
    made(tmp_path / "state.db")
    path = move(tmp_path / "state.db")
    reader = open_store(path, lock=False, moved=True)
    assert reader.frozen_reason
    run(reader.close())
    frozen = open_store(path)
    assert frozen.frozen_reason
    run(frozen.close())


def test_a_file_is_at_home_by_whatever_name_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "state.db")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "link" / "state.db", Path("state.db")):
        store = open_store(path)
        assert store.frozen_reason == ""
        run(store.close())


# --- what cannot be used ----------------------------------------------------------------------------------------------
def test_a_directory_is_no_file(tmp_path: Path) -> None:
    unusable(tmp_path, "directory")


@pytest.mark.parametrize("lock", [True, False], ids=["locking", "reading"])
def test_a_newer_format_names_both_formats(tmp_path: Path, lock: bool) -> None:
    made(tmp_path / "state.db")
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("PRAGMA user_version=99")
    before = (tmp_path / "state.db").read_bytes()
    unusable(tmp_path / "state.db", "newer", "99", lock=lock)
    assert (tmp_path / "state.db").read_bytes() == before


def test_another_programs_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    path.chmod(0o644)
    before = path.read_bytes()
    unusable(path, "another program")
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["state.db"]


@pytest.mark.parametrize("lock", [True, False], ids=["locking", "reading"])
@pytest.mark.parametrize(
    "content", [b"", b"kind: Cloud\n", b"SQLite format 3\x00", b"\x00" * 8192], ids=["empty", "text", "header", "zeros"]
)
def test_what_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes, lock: bool) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(content)
    unusable(path, lock=lock)
    assert path.read_bytes() == content


def test_a_file_that_was_cut_short_is_refused_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    made(path)
    whole = path.read_bytes()
    for size in (*range(0, len(whole), 4096), 16, 100, 4095, 4097, len(whole) - 1):
        path.write_bytes(whole[:size])
        unusable(path)
    path.write_bytes(whole)
    run(open_store(path).close())


def test_a_file_with_overwritten_pages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    made(path)
    whole = bytearray(path.read_bytes())
    whole[4096 : len(whole)] = b"\xaa" * (len(whole) - 4096)
    path.write_bytes(whole)
    unusable(path, "damaged")


def test_a_log_without_its_file_is_not_taken_for_the_log_of_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "state.db-wal").write_bytes(b"a log")
    unusable(tmp_path / "state.db", "state.db-wal")
    assert [each.name for each in tmp_path.iterdir()] == ["state.db-wal"]


@pytest.fixture
def others_directory() -> Generator[Path]:
    """A directory that any user can reach (pytest's own cannot be, under root)."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_file_that_may_only_be_read(others_directory: Path) -> None:
    path = others_directory / "state.db"
    made(path)
    path.chmod(0o444)
    with _other_user():
        unusable(path, "permissions")


def test_a_directory_that_may_only_be_read(others_directory: Path) -> None:
    path = others_directory / "state.db"
    made(path)
    path.chmod(0o666)
    others_directory.chmod(0o555)
    with _other_user():
        unusable(path, "permissions")
        unusable(others_directory / "new.db", "permissions")
        unusable(others_directory / "sub" / "new.db", "permissions")
    others_directory.chmod(0o755)


def test_a_file_that_may_not_be_read_at_all(others_directory: Path) -> None:
    path = others_directory / "state.db"
    made(path)
    with _other_user():
        if os.geteuid() != path.stat().st_uid:
            unusable(path, "permissions", lock=False)
    others_directory.chmod(0o000)
    with _other_user():
        unusable(path, "permissions")
    others_directory.chmod(0o755)


def test_a_full_disk_is_no_answer_and_undoes_the_write(tmp_path: Path) -> None:
    async def fill() -> None:
        store = SqliteStore.open(tmp_path / "state.db", RULES, lock=True, inline=True, now=Clock())
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]  # pyright: ignore[reportPrivateUsage]
        store._connection.execute(f"PRAGMA max_page_count={pages}")  # pyright: ignore[reportPrivateUsage] - a full disk, to SQLite
        large = samples.config_map()
        large["data"] = {"a": "x" * 100_000}
        with pytest.raises(errors.Unavailable):
            await store.create(large)
        assert await store.list("ConfigMap") == []
        store._connection.execute("PRAGMA max_page_count=100000")  # pyright: ignore[reportPrivateUsage]
        assert await store.create(large)
        await store.close()

    run(fill())
