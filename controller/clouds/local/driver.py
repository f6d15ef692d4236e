"""The `local` cloud: a machine is a directory and a guardian process on this computer. For trying out and for tests.

The engine calls the driver through `controller.ports`. It decides what a local machine's state is, from its record and
from whether its guardian lives, and it refuses to know what the machine does: that is the guardian's.

The fence of a machine is its directory's name, `<batch id>-<index>`, which the file system gives away once. Nothing is
remembered in memory that a restart would need.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from controller import errors
from controller.api.meta import Model
from controller.clouds.local import directories, processes, records
from controller.ports import (
    CALL_SECONDS,
    CONTROLLER_TAG,
    Account,
    CloudConfig,
    CloudPlugin,
    Identity,
    Launched,
    LaunchRequest,
    Limit,
    Machine,
    MachineId,
    MachineState,
)

#: A machine that was deleted may use this long to end by itself before it is killed …
_GRACE_SECONDS = 1.0
#: … and a call that ends machines returns after this long at the latest; `list` goes on where one did not finish.
_END_SECONDS = 2.5
_TAKE_OVER = timedelta(seconds=5)
#: A guardian takes about 0.1 s from its start to its lock, some seconds where a hundred start at once on one core.
_START_AGAIN_SECONDS = 10.0
_START_LIMIT = timedelta(seconds=60)
#: For how long an ended machine is remembered, so that its token stays spent; EC2 shows a terminated one about an hour.
_REMEMBERED = timedelta(hours=1)
_CONSOLE_BYTES = 64 * 1024
_STATES = {state.value: state for state in MachineState}
_ENDED = (MachineState.SHUTTING_DOWN.value, MachineState.TERMINATED.value)


class LocalCloud(Model):
    """Machines on this computer: real processes, each on a loopback address of its own."""

    directory: str | None = Field(
        default=None,
        description="Where the machines live, as an absolute path; without, beside the controller's state.",
        min_length=1,
        max_length=1024,
        pattern=r"^/",
    )


class LocalMachine(Model):
    """A machine on this computer."""

    boot_seconds: int = Field(
        default=0, description="How long the machine stays pending before its user data is run; for trying out.", ge=0, le=3600
    )


class LocalDriver:
    """Satisfies `controller.ports.CloudDriver`."""

    #: A rename is visible at once and a create gives up after CALL_SECONDS by itself; what is left is a list that was
    #: being read while the machine was made.
    settle_seconds: float = 2.0
    #: As much as Nova takes.
    user_data_limit_bytes: int = 64 * 1024
    limits: Mapping[str, tuple[Limit, ...]] = {}

    def __init__(self, home: directories.Home, controller_id: str, now: Callable[[], datetime]) -> None:
        self._home = home
        self._controller_id = controller_id
        self._now = now
        self._lock = threading.Lock()
        #: When this driver last started a guardian for a machine; only saves starting several at once.
        self._started: dict[str, float] = {}

    # --- reading ----------------------------------------------------------------------------------------------------
    def most_per_call(self, spec: Mapping[str, Any]) -> int:
        return 1

    def identity(self) -> Account:
        with self._disk():
            return Account("local", directories.account(self._home), "", "")

    def resolve(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return _checked(spec).model_dump(by_alias=True, exclude_unset=True)

    def list(self, *, running: bool = True) -> Sequence[Machine]:
        with self._disk():
            self._observe(directories.machines(self._home))
            every = self._records(directories.machines(self._home))
            self._purge(every)
            shown = [_machine(record) for record in every if not record["closed"]]
            return [each for each in shown if running or each.state is not MachineState.RUNNING]

    def describe(self, ids: Sequence[MachineId]) -> dict[MachineId, Machine]:
        with self._disk():
            self._observe(ids)
            shown = [replace(_machine(record), ours=self._is_ours(record)) for record in self._every(ids) if not record["closed"]]
            return {each.id: each for each in shown}

    def console(self, id: MachineId) -> str:
        with self._disk():
            if not any(not record["closed"] for record in self._records([id])):
                raise errors.MachineNotFound(f"there is no machine {id}")
            with (self._home.place(id) / records.CONSOLE).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _CONSOLE_BYTES))
                return file.read(_CONSOLE_BYTES).decode(errors="replace")

    # --- making -----------------------------------------------------------------------------------------------------
    def prepare(self, requests: Sequence[LaunchRequest]) -> Sequence[str | errors.CloudError]:
        return [""] * len(requests)

    def create(self, requests: Sequence[LaunchRequest]) -> Sequence[Launched | errors.CloudError]:
        outcomes: list[Launched | errors.CloudError] = []
        for request in requests:
            try:
                with self._disk():
                    outcomes.append(self._create(request))
            except errors.CloudError as error:
                outcomes.append(error)
        return outcomes

    def _create(self, request: LaunchRequest) -> Launched:
        boot_seconds = self._check(request).boot_seconds
        digest = _digest(request)
        deadline = time.monotonic() + CALL_SECONDS
        ids = [f"{request.batch_id}-{index}" for index in range(len(request.names))]
        for record in filter(None, map(self._read, ids)):
            _refuse_spent(record, digest)
        for index, id in enumerate(ids):
            if self._read(id) is not None:
                continue
            if time.monotonic() > deadline:
                raise errors.Transient(f"making {id} took longer than {CALL_SECONDS:.0f} s")
            record = self._new_record(request, index, digest)
            record["bootSeconds"] = boot_seconds
            record["addresses"] = [directories.reserve_address(self._home, id)]
            directories.make(self._home, record, request.user_data)
        return tuple(self._launched(id, digest) for id in ids)

    def _launched(self, id: str, digest: str) -> Machine:
        """Of a machine that is there now, whoever made it: started if it has not been."""
        record = records.read(self._home.place(id))
        _refuse_spent(record, digest)
        if not record["pid"]:
            self._start(record)
        return _machine(record)

    def _check(self, request: LaunchRequest) -> LocalMachine:
        if not directories.is_batch_id(request.batch_id):
            raise errors.Invalid("batch", "must be letters, digits and dashes")
        if not 1 <= len(request.names) <= 100:
            raise errors.Invalid("names", "must be between 1 and 100")
        if request.tags.get(CONTROLLER_TAG) != self._controller_id:
            raise errors.Invalid("tags", f"{CONTROLLER_TAG} must be this controller's id")
        if len(request.user_data) > self.user_data_limit_bytes:
            raise errors.Invalid("userData", f"is {len(request.user_data)} bytes, more than {self.user_data_limit_bytes}")
        return _checked(request.spec)

    def _new_record(self, request: LaunchRequest, index: int, digest: str) -> records.Record:
        return {
            "id": f"{request.batch_id}-{index}",
            "name": request.names[index],
            "tags": dict(request.tags),
            "pid": 0,
            "addresses": [],
            "state": MachineState.PENDING.value,
            "message": "",
            "created": self._now().isoformat(),
            "ending": "",
            "ended": "",
            "batch": request.batch_id,
            "index": index,
            "size": len(request.names),
            "digest": digest,
            "bootSeconds": 0,
            "closed": False,
        }

    def _start(self, record: records.Record) -> None:
        """Start the machine's guardian, unless this driver did so a moment ago. A second one finds the lock taken and ends."""
        with self._lock:
            last = self._started.get(record["id"])
            if last is not None and time.monotonic() - last < _START_AGAIN_SECONDS:
                return
            self._started[record["id"]] = time.monotonic()
        try:
            processes.start_guardian(self._home.place(record["id"]), record)
        except subprocess.SubprocessError as error:
            raise errors.Transient(f"the guardian of {record['id']} could not be started") from error

    # --- ending -----------------------------------------------------------------------------------------------------
    def delete(self, ids: Sequence[MachineId]) -> Sequence[errors.CloudError | None]:
        with self._disk():
            ending = [record for record in self._records(ids) if not record["ended"] and not record["closed"]]
            self._end(ending, "", _GRACE_SECONDS)
        return [None] * len(ids)

    def close(self, batch_id: str, fence: str) -> None:
        if not directories.is_batch_id(batch_id):
            return  # No create accepts it.
        with self._disk():
            self._close(batch_id, 0)
            # Members are made in order, so the first knows how many there would be. Another controller's is its own
            # tombstone: our create would differ from it in its tags.
            for first in self._records([f"{batch_id}-0"]):
                for index in range(1, first["size"]):
                    self._close(batch_id, index)

    def _close(self, batch_id: str, index: int) -> None:
        """Take the place of a machine that was not made, so that nobody makes it."""
        request = LaunchRequest(batch_id, ("",) * (index + 1), {CONTROLLER_TAG: self._controller_id}, {}, b"")
        record = self._new_record(request, index, "")
        record.update(state=MachineState.TERMINATED.value, ended=record["created"], closed=True)
        if self._read(record["id"]) is None:
            directories.make(self._home, record, b"")

    def _end(self, ending: Sequence[records.Record], message: str, grace_seconds: float) -> None:
        """End these machines, and say so in the records of those of which nothing is left."""
        if not ending:
            return
        for record in ending:
            self._change(record["id"], MachineState.SHUTTING_DOWN, message)
        guardians = {record["pid"] for record in self._records([each["id"] for each in ending])}
        marks = {records.mark(self._home.place(record["id"])): record["id"] for record in ending}
        for mark in processes.end(marks, guardians, grace_seconds=grace_seconds, limit_seconds=_END_SECONDS):
            self._change(marks[mark], MachineState.TERMINATED, message)

    def _change(self, id: str, state: MachineState, message: str) -> None:
        """Move a machine towards its end; never back."""
        place = self._home.place(id)
        with records.locked(place):
            record = records.read(place)
            if record["ended"]:
                return
            now = self._now().isoformat()
            record["state"] = state.value
            record["message"] = record["message"] or message
            record["ending"] = record["ending"] or now
            record["ended"] = now if state is MachineState.TERMINATED else ""
            records.write(place, record)

    # --- observing --------------------------------------------------------------------------------------------------
    def _observe(self, ids: Sequence[str]) -> None:
        """Make the records say what is: start what was not started, end what is left of a machine that was lost."""
        lost: list[records.Record] = []
        unstarted: list[records.Record] = []
        left: list[records.Record] = []
        for record in self._records(ids):
            if record["state"] == MachineState.SHUTTING_DOWN.value:
                left += [record] if self._age(record["ending"]) > _TAKE_OVER else []
            elif record["state"] == MachineState.TERMINATED.value or self._lives(record):
                continue
            elif record["pid"]:
                lost.append(record)
            elif self._age(record["created"]) > _START_LIMIT:
                unstarted.append(record)
            else:
                self._start(record)
        self._end(lost, "its guardian was killed", 0)
        self._end(unstarted, "its guardian did not start", 0)
        self._end(left, "", 0)

    def _lives(self, record: records.Record) -> bool:
        """Whether the guardian lives; one that started between our reading the record and now lives too."""
        place = self._home.place(record["id"])
        with records.locked(place):
            return records.guardian_lives(place) or records.read(place)["pid"] != record["pid"]

    def _age(self, time: str) -> timedelta:
        return self._now() - datetime.fromisoformat(time)

    def _purge(self, every: Sequence[records.Record]) -> None:
        """Forget batches all of whose machines ended long ago. Never a part: its token would make the others again."""
        batches: dict[str, list[records.Record]] = {}
        for record in every:
            batches.setdefault(record["batch"], []).append(record)
        for batch in batches.values():
            if all(record["ended"] and self._age(record["ended"]) > _REMEMBERED for record in batch):
                for record in batch:
                    directories.remove(self._home, record)
                    self._started.pop(record["id"], None)

    # --- records ----------------------------------------------------------------------------------------------------
    def _read(self, id: str) -> records.Record | None:
        try:
            return records.read(self._home.place(id))
        except FileNotFoundError:
            return None

    def _records(self, ids: Sequence[str]) -> Sequence[records.Record]:
        """Those of `ids` that exist and are this controller's, each once."""
        return [record for record in self._every(ids) if self._is_ours(record)]

    def _every(self, ids: Sequence[str]) -> Sequence[records.Record]:
        known = (self._read(id) for id in dict.fromkeys(ids) if directories.is_machine_id(id))
        return [record for record in known if record is not None]

    def _is_ours(self, record: records.Record) -> bool:
        return record["tags"].get(CONTROLLER_TAG) == self._controller_id

    @contextlib.contextmanager
    def _disk(self) -> Generator[None]:
        """What the disk refuses may have been done in part, and is found again when it is asked for again."""
        try:
            yield
        except OSError as error:
            raise errors.Transient(f"{error.filename or self._home.path}: {error.strerror}") from error


def _checked(spec: Mapping[str, Any]) -> LocalMachine:
    try:
        return LocalMachine.model_validate(spec)
    except ValidationError as error:
        first = error.errors()[0]
        raise errors.Invalid(".".join(map(str, first["loc"])), first["msg"]) from error


def _digest(request: LaunchRequest) -> str:
    """Of all that a launch says, so that a token used for another is noticed."""
    whole = [request.names, sorted(request.tags.items()), request.spec, request.user_data.hex()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _refuse_spent(record: records.Record, digest: str) -> None:
    if record["closed"] or record["state"] in _ENDED:
        raise errors.TokenSpent(f"the machine {record['id']} of this token has ended")
    if record["digest"] != digest:
        raise errors.TokenSpent(f"the machine {record['id']} of this token was made with other parameters")


def _machine(record: records.Record) -> Machine:
    return Machine(
        id=MachineId(record["id"]),
        identity=Identity(record["batch"], record["index"]),
        name=record["name"],
        state=_STATES.get(record["state"], MachineState.UNKNOWN),
        state_text=record["state"],
        private_addresses=tuple(record["addresses"]),
        tags=record["tags"],
        created=datetime.fromisoformat(record["created"]),
        message=record["message"],
    )


def open(config: CloudConfig) -> LocalDriver:
    """Open the cloud of a directory. Raises Denied where it is switched off or cannot be used, Invalid."""
    if not config.allow_local:
        raise errors.Denied("local clouds are switched off in this controller")
    if not sys.platform.startswith("linux"):
        raise errors.Denied("local clouds need Linux")
    try:
        directory = LocalCloud.model_validate(config.spec).directory or config.state_directory
    except ValidationError as error:
        raise errors.Invalid("directory", error.errors()[0]["msg"]) from error
    try:
        home = directories.prepare(Path(directory).resolve())
    except OSError as error:
        raise errors.Denied(f"{directory} cannot be used: {error.strerror}") from error
    return LocalDriver(home, config.controller_id, lambda: datetime.now(UTC))


PLUGIN = CloudPlugin("local", LocalCloud, LocalMachine, open, loopback=True)

__all__ = ["PLUGIN", "LocalCloud", "LocalDriver", "LocalMachine", "open"]
