"""The state file on disk: makes it, opens it, takes its lock, and tells whether it is still the file it was.

`controller.stores.sqlite` calls it; what the tables hold is `controller.stores.tables`' matter. Whatever cannot be used as
it is ends in StoreUnusable with one sentence that names the way out.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from controller import errors
from controller.stores import tables

#: SQLite's `application_id`: tells our files from other programs' databases.
_APPLICATION_ID = 0x0CC09050
#: SQLite's `user_version`. Raised when an older program could no longer read what is written.
_FORMAT = 1
#: How long a statement waits for another process's short transaction.
_BUSY_SECONDS = 5.0

_Inode = tuple[int, int]


@dataclass(slots=True)
class _Open:
    """What this process has open of one file: how many stores, whether one of them holds the lock, the descriptor for locking."""

    stores: int = 0
    locked: bool = False
    descriptor: int | None = None


# POSIX drops every fcntl lock of a process on a file when the process closes any descriptor of it, and SQLite's own locks are
# such (sqlite.org/howtocorrupt.html, 2.2). So our one descriptor of a file is closed with the last store of it, not before.
_open_files: dict[_Inode, _Open] = {}
_open_files_guard = threading.Lock()


class StateFile:
    """An open state file: its path, its lock if it was asked for, and what its meta table says."""

    def __init__(self, path: Path, inode: _Inode, *, locked: bool) -> None:
        self.path = path
        self.controller_id = ""
        self.frozen_reason = ""
        self._inode = inode
        self._locked = locked

    def connect(self, *, durable: bool = True) -> sqlite3.Connection:
        """A connection in autocommit mode, ready for use by one thread at a time."""
        connection = _opened(self.path)
        connection.execute("PRAGMA journal_mode=WAL")
        # FULL: the log is synced at each commit, so that what was acknowledged survives a power cut (sqlite.org/pragma.html).
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        # A Secret that was deleted is not to be found in free pages.
        connection.execute("PRAGMA secure_delete=ON")
        return connection

    def holds(self) -> bool:
        """Whether the lock is ours and the path still names the file that is open."""
        if not self._locked or self.frozen_reason:
            return False
        try:
            return _inode(self.path.stat()) == self._inode
        except OSError:
            return False

    def take_lock(self, *, moved: bool) -> bool:
        """Take the lock of a file that was opened without it, as if opened with it; False while another holds it. Raises StoreUnusable."""
        with _explained(self.path):
            if _inode(self.path.stat()) != self._inode:
                raise errors.StoreUnusable(f"{self.path} is another file by now: the same command opens that one")
            with _open_files_guard:
                self._locked = _lock(self.path, _open_files[self._inode])
            if self._locked:
                _examine(self, lock=True, moved=moved)
        return self._locked

    def close(self) -> None:
        """Give the lock back. Twice does nothing."""
        if self._inode not in _open_files:
            return
        with _open_files_guard:
            opened = _open_files[self._inode]
            if self._locked and opened.descriptor is not None:
                fcntl.flock(opened.descriptor, fcntl.LOCK_UN)
                opened.locked = self._locked = False
            opened.stores -= 1
            if opened.stores <= 0:
                if opened.descriptor is not None:
                    os.close(opened.descriptor)
                del _open_files[self._inode]


def open_file(path: Path, *, lock: bool, moved: bool) -> StateFile:
    """Open the state file, making it where there is none and the lock is asked for.

    `moved` says that a file found at another place than it was made at is meant to be used here. Raises StoreUnusable.
    """
    path = path.absolute()
    with _explained(path):
        if not path.exists():
            _make(path, lock=lock)
        if path.is_dir():
            raise errors.StoreUnusable(f"{path} is a directory: name a file")
        opened = _register(path, lock=lock)
        try:
            _examine(opened, lock=lock, moved=moved)
        except BaseException:
            opened.close()
            raise
    return opened


# --- lock -----------------------------------------------------------------------------------------------------------
def _register(path: Path, *, lock: bool) -> StateFile:
    with _open_files_guard:
        inode = _inode(path.stat())
        opened = _open_files.get(inode, _Open())
        if lock and not _lock(path, opened):
            raise _held(path, os.getpid() if opened.locked else _holder(path))
        opened.stores += 1
        _open_files[inode] = opened
    return StateFile(path, inode, locked=lock)


def _lock(path: Path, opened: _Open) -> bool:
    """Whether the lock is ours now. Where it is not, the descriptor stays for the next try, if there are stores that will close it."""
    if opened.locked:
        return False
    if opened.descriptor is None:
        opened.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(opened.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not opened.stores:
            os.close(opened.descriptor)
        return False
    opened.locked = True
    return True


def _held(path: Path, pid: int | None) -> errors.StoreLocked:
    who = f"process {pid}" if pid else "another process"
    return errors.StoreLocked(f"{path} is in use by {who}: end that one first, or name another file with --state")


def _holder(path: Path) -> int | None:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(path)) as connection:
        return int(tables.meta(connection, "holder") or 0) or None
    return None


def _log(path: Path) -> Path:
    """SQLite's write-ahead log of the file."""
    return path.with_name(path.name + "-wal")


def _inode(status: os.stat_result) -> _Inode:
    return status.st_dev, status.st_ino


# --- making and examining -------------------------------------------------------------------------------------------
def _make(path: Path, *, lock: bool) -> None:
    """Make the file whole beside its place and link it there: a crash leaves no half of one."""
    if not lock:
        raise errors.StoreUnusable(f"there is no state file at {path}: `occopus up` makes one")
    log = _log(path)
    if log.exists():
        raise errors.StoreUnusable(f"{path} is gone but its log {log} is there: put the file back, or remove the log to start anew")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            tables.make(connection)
            tables.set_meta(connection, "controllerId", str(uuid.uuid4()))
            tables.set_meta(connection, "home", _home(path, draft.stat()))
            connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={_FORMAT}")
            connection.execute("COMMIT")
        with contextlib.suppress(FileExistsError):  # another process was faster: that file is as good
            os.link(draft, path)
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _examine(opened: StateFile, *, lock: bool, moved: bool) -> None:
    path = opened.path
    status = path.stat()
    if status.st_size == 0:
        raise _damaged(path, "it is empty")
    log = _log(path)
    # SQLite reads the missing end of a last page as zeros. A log may hold that page whole: then it was a crash, and mends.
    whole = log.exists() and log.stat().st_size > 0
    with contextlib.closing(_opened(path)) as connection:
        _check_format(path, connection)
        if not whole and status.st_size % connection.execute("PRAGMA page_size").fetchone()[0]:
            raise _damaged(path, "its last page is not whole")
        if lock:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise _damaged(path, str(found).splitlines()[0])
            _claim(opened, connection, moved=moved)
        opened.controller_id = tables.meta(connection, "controllerId") or ""
        home = tables.meta(connection, "home") or ""
    opened.frozen_reason = "" if home == _home(path, status) else _frozen(path, home)


def _frozen(path: Path, home: str) -> str:
    return (
        f"{path} is a copy, or was moved here from {json.loads(home)['path']}: nothing is launched until it is opened with --moved; "
        "make sure first that the original is in use no more"
    )


def _check_format(path: Path, connection: sqlite3.Connection) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION_ID:
        raise errors.StoreUnusable(f"{path} is a database of another program: name another file with --state")
    if version > _FORMAT:
        raise errors.StoreUnusable(
            f"{path} was written by a newer version of occopus (format {version}; this one knows {_FORMAT}): use that or a newer one"
        )


def _claim(opened: StateFile, connection: sqlite3.Connection, *, moved: bool) -> None:
    status = opened.path.stat()
    if status.st_uid == os.geteuid():
        opened.path.chmod(0o600)
    connection.execute("BEGIN IMMEDIATE")
    tables.set_meta(connection, "holder", str(os.getpid()))
    if moved:
        tables.set_meta(connection, "home", _home(opened.path, status))
    connection.execute("COMMIT")


def _home(path: Path, status: os.stat_result) -> str:
    """Where a file is at home. Not the device: its number can change with a reboot."""
    return json.dumps({"path": os.path.realpath(path), "inode": status.st_ino})


def _opened(path: Path) -> sqlite3.Connection:
    """A connection that has changed nothing: the file may be another program's."""
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)


# --- what went wrong ------------------------------------------------------------------------------------------------
def _damaged(path: Path, what: str) -> errors.StoreUnusable:
    return errors.StoreUnusable(
        f"{path} is damaged, cut short or no state file ({what}): put a copy of it back, or remove it to start anew;"
        " a new file has a new controller id and never touches the machines of this one: end those at their cloud"
    )


@contextlib.contextmanager
def _explained(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translated(path, error) from None
    except OSError as error:
        raise errors.StoreUnusable(f"{path} cannot be used: {error.strerror}: check its permissions and those of its directory") from None


def translated(path: Path, error: sqlite3.Error) -> errors.StoreError:
    """SQLite's error as ours. Codes: sqlite.org/rescode.html; the low byte is the primary one."""
    code = (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return errors.StoreUnusable(f"{path} cannot be written ({error}): check its permissions and those of its directory")
    return errors.Unavailable(f"{path}: {error}")


__all__ = ["StateFile", "open_file", "translated"]
