"""State files that cannot be used: every command ends with code 3 and a sentence that says the way out."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from controller import desktop, documents
from tests.e2e.descriptions import CLOUD, infrastructure, service, template
from tests.e2e.desk import UP_SECONDS, Desk

ONE = CLOUD + template() + infrastructure("one", service("only"))
TIMEOUT = ("--timeout", str(UP_SECONDS))

#: A launch that is held back tells why when it is looked at again, 5 s later.
HELD_SECONDS = "9"


@pytest.fixture
def places() -> Iterator[Path]:
    """A directory that any user may enter: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def sql(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def newer(path: Path) -> None:
    sql(path, "PRAGMA user_version=99")


def foreign(path: Path) -> None:
    path.unlink()
    sql(path, "CREATE TABLE theirs (a)")


def text(path: Path) -> None:
    path.write_text("no database")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.fixture
def template_state(tmp_path: Path) -> Path:
    """A good state file without machines."""

    async def make() -> None:
        async with desktop.run(desktop.Settings(tmp_path / "state.db")) as opened:
            await opened.apply(documents.load((str(tmp_path / "cloud.yaml"),)))

    (tmp_path / "cloud.yaml").write_text(CLOUD)
    asyncio.run(make())
    return tmp_path / "state.db"


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        pytest.param(cut, "put a copy of it back", id="cut-short"),
        pytest.param(newer, "newer version", id="newer"),
        pytest.param(foreign, "another program", id="another-programs"),
        pytest.param(text, "put a copy of it back", id="no-database"),
        pytest.param(directory, "is a directory", id="a-directory"),
    ],
)
def test_a_spoilt_file_ends_every_command_with_the_way_out(spoil: Callable[[Path], None], word: str, template_state: Path) -> None:
    desk = Desk(template_state.parent)
    spoil(desk.state)
    for arguments in (("up", "-f", desk.write("infra.yaml", ONE), *TIMEOUT), ("status",)):
        said = desk.refused(3, *arguments)
        assert said.startswith("error: ")
        assert str(desk.state) in said
        assert word in said
        assert len(said.splitlines()) == 1
    assert desk.machines() == []


def test_no_file_is_made_by_looking(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for arguments in (("status",), ("get", "cloud"), ("scale", "a", "b", "1"), ("console", "a")):
        assert "`occopus up` makes one" in desk.refused(3, *arguments)
    assert not desk.state.exists()


def test_a_file_that_may_only_be_read(places: Path, template_state: Path) -> None:
    shutil.copy(template_state, places / "state.db")
    (places / "state.db").chmod(0o444)
    desk = Desk(places)
    file = Path(desk.write("cloud.yaml", CLOUD))
    file.chmod(0o644)
    module = ("-m", "tests.e2e.as_nobody")
    for arguments in (("up", "-f", str(file)), ("run",), ("status",)):
        done = desk.run(*arguments, module=module)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "permissions" in done.stderr
    file.chmod(0o000)
    done = desk.run("up", "-f", str(file), module=module)
    assert done.returncode == 2
    assert f"cannot read {file}: Permission denied" in done.stderr


@pytest.mark.long
def test_a_copy_is_frozen_until_it_is_said_to_be_moved(desk: Desk) -> None:
    desk.occopus("up", "-f", desk.write("cloud.yaml", CLOUD + template()))
    other = Desk(desk.directory / "other")
    other.directory.mkdir()
    shutil.copy(desk.state, other.state)
    try:
        one = ("up", "-f", other.write("infra.yaml", ONE))
        said = other.refused(1, *one, "--timeout", HELD_SECONDS)
        assert "warning: " in said
        assert "--moved" in said
        assert "Frozen" in said
        assert other.machines() == []
        assert "warning: " in other.refused(0, "delete", "--all", *TIMEOUT)
        assert "warning: " not in other.refused(0, "--moved", *one, *TIMEOUT)
        assert [each["state"] for each in other.machines() if each["pid"]] == ["running"]
        assert "warning: " not in other.refused(0, *one, *TIMEOUT)  # said once
    finally:
        other.end()
