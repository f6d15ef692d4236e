"""The directories of local machines: makes, names and clears them, and hands out loopback addresses.

The local cloud calls it. Every change here is one atomic step of the file system (a rename, a link), so a crash between
two of them leaves nothing half made, and threads or processes side by side need no lock. It knows nothing of guardians.

    <home>/account                  the random id of this cloud
    <home>/addresses/<address>      a link whose target is the machine id that has the address
    <home>/machines/<machine id>/   a machine; `.new-*` is one being made, `.old-*` one being removed
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
import uuid
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from controller.clouds.local import records

#: 127.64.0.0/10: away from 127.0.0.1 and its neighbours, which others use.
_FIRST_ADDRESS = int(IPv4Address("127.64.0.0"))
_ADDRESSES = 2**22
#: What was begun and is older than this was left behind by a crash.
_LEFT_BEHIND_SECONDS = 3600.0
_BATCH_ID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]{0,62}")
_MACHINE_ID = re.compile(_BATCH_ID.pattern + r"-[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of one local cloud."""

    path: Path

    @property
    def machines(self) -> Path:
        return self.path / "machines"

    @property
    def addresses(self) -> Path:
        return self.path / "addresses"

    def place(self, machine: str) -> Path:
        """The directory of a machine. Only for ids that `is_machine_id` accepts: others might lead elsewhere."""
        return self.machines / machine


def prepare(path: Path) -> Home:
    """Make the directory of a cloud, readable by its owner alone: user data and consoles may hold secrets."""
    home = Home(path)
    for directory in (home.path, home.machines, home.addresses):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _drop_stale_addresses(home)
    return home


def account(home: Home) -> str:
    """The random id of this cloud, made once."""
    file = home.path / "account"
    if not file.exists():
        temporary = home.path / f".account-{uuid.uuid4()}"
        temporary.write_text(str(uuid.uuid4()))
        try:
            os.link(temporary, file)
        except FileExistsError:
            pass  # Another was first, and its id is the id.
        finally:
            temporary.unlink()
    return file.read_text()


def is_batch_id(text: str) -> bool:
    return _BATCH_ID.fullmatch(text) is not None


def is_machine_id(text: str) -> bool:
    return _MACHINE_ID.fullmatch(text) is not None


def machines(home: Home) -> list[str]:
    """The ids of all machines there are, in order; clears what a crash left half made."""
    found: list[str] = []
    for entry in os.scandir(home.machines):
        if is_machine_id(entry.name):
            found.append(entry.name)
        elif entry.name.startswith((".new-", ".old-")) and _age_seconds(Path(entry.path)) > _LEFT_BEHIND_SECONDS:
            _remove_tree(Path(entry.path))
    return sorted(found)


def make(home: Home, record: records.Record, user_data: bytes) -> bool:
    """Make a machine's directory, all at once and durably; False where the machine exists already."""
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=home.machines))
    try:
        records.furnish(temporary, record, user_data)
        temporary.rename(home.place(record["id"]))
    except OSError as error:
        _remove_tree(temporary)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    records.sync_directory(home.machines)
    return True


def remove(home: Home, record: records.Record) -> None:
    """Forget a machine, if it is still there. Its name goes first, so that no half of a machine is ever seen."""
    doomed = Path(tempfile.mkdtemp(prefix=".old-", dir=home.machines))
    with contextlib.suppress(FileNotFoundError):
        home.place(record["id"]).rename(doomed / "machine")
    _remove_tree(doomed)
    for address in record["addresses"]:
        (home.addresses / address).unlink(missing_ok=True)


def reserve_address(home: Home, machine: str) -> str:
    """A loopback address for this machine alone, the same at each call: by a hash, the next free one where it is taken."""
    start = int.from_bytes(hashlib.sha256(f"{home.path}/{machine}".encode()).digest()[:4], "big") % _ADDRESSES
    for step in range(_ADDRESSES):
        address = IPv4Address(_FIRST_ADDRESS + (start + step) % _ADDRESSES)
        if address.packed[3] not in (0, 255) and _take(home.addresses / str(address), machine):
            return str(address)
    raise OSError(errno.EADDRNOTAVAIL, "every loopback address is taken")


def _take(link: Path, machine: str) -> bool:
    """Whether the address is this machine's; takes it if nobody has it."""
    try:
        link.symlink_to(machine)
    except FileExistsError:
        return str(link.readlink()) == machine
    return True


def _drop_stale_addresses(home: Home) -> None:
    """Free the addresses of machines that were never made."""
    for entry in os.scandir(home.addresses):
        link = Path(entry.path)
        if _age_seconds(link) > _LEFT_BEHIND_SECONDS and not home.place(str(link.readlink())).exists():
            link.unlink(missing_ok=True)


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove_tree(path: Path) -> None:
    """Remove a directory, one whose own mode forbids it too: a machine may have made such below its root."""
    for parent, names, _ in os.walk(path):
        for name in names:
            inner = Path(parent, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
