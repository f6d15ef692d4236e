"""Counts every call over a port, and lets the k-th one be the one at which the process dies, or whose answer is lost.

A process that has died does nothing more: whatever of it still runs hangs at its next call. What a crash before the reply
and one after it leave behind is the same (all memory is gone), so both are CRASH_AFTER.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Protocol

from controller import errors
from controller.ports import Account, Change, CloudDriver, Event, Key, Launched, LaunchRequest, Machine, MachineId, Obj, Store, T
from tests.crash import sites
from tests.crash.sites import Trace


class Mode(Enum):
    """What happens at the chosen call."""

    CRASH_BEFORE = "the process dies before the call is done"
    CRASH_AFTER = "the process dies after it was done"
    FAIL_BEFORE = "the call fails and nothing was done; the process lives"
    LOST_REPLY = "it was done and the reply is lost; the process lives"


#: Calls that change something; only of these it matters whether they were done.
MUTATING = frozenset({"store.create", "store.patch", "store.delete", "cloud.prepare", "cloud.create", "cloud.delete", "cloud.close"})


class Died(BaseException):
    """Raised inside a thread of a process that is no more."""


@dataclass(slots=True)
class Injector:
    """One run's plan: at which call of which mode. `at` None only counts."""

    mode: Mode = Mode.CRASH_BEFORE
    at: int | None = None
    #: Reads too: between two changes it matters little at which of them a process dies.
    reads: bool = False
    #: Calls of this name alone.
    only: str = ""
    #: Told where in the code each call came from.
    trace: Trace | None = None
    calls: list[str] = field(default_factory=list[str])
    #: When each came, on the loop's clock.
    times: list[float] = field(default_factory=list[float])
    #: Until then no call is hit, and of none is told: a scenario is prepared.
    armed: bool = False
    dead: bool = False
    died: asyncio.Event = field(default_factory=asyncio.Event)

    def revive(self) -> None:
        """The next process is not hit."""
        self.dead = False
        self.died.clear()

    def arm(self) -> None:
        """Count, and hit, from now on."""
        self.armed = True

    def hit(self, call: str) -> bool:
        """Count the call; whether it is the one."""
        if call not in MUTATING and (not self.reads or self.mode in (Mode.CRASH_AFTER, Mode.LOST_REPLY)):
            return False
        if not self.armed or self.only not in ("", call):
            return False
        self.calls.append(call)
        self.times.append(asyncio.get_running_loop().time())
        return self.at is not None and len(self.calls) - 1 == self.at

    def _note(self, call: str) -> None:
        if self.armed and self.trace is not None:
            self.trace.add(call, sites.here())

    def die(self) -> None:
        self.dead = True
        self.died.set()

    async def call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        """One call of a store."""
        self._note(name)
        if self.dead:
            await _for_ever()
        hit = self.hit(name)
        if hit and self.mode is Mode.FAIL_BEFORE:
            raise errors.Unavailable("the store does not answer")
        if hit and self.mode is Mode.CRASH_BEFORE:
            self.die()
            await _for_ever()
        result = await do()
        if hit and self.mode is Mode.CRASH_AFTER:
            self.die()
            await _for_ever()
        if hit:
            raise errors.Unavailable("the reply was lost")
        return result

    def blocking(self, name: str, do: Callable[[], T]) -> T:
        """One call of a driver."""
        self._note(name)
        if self.dead:
            raise Died
        hit = self.hit(name)
        if hit and self.mode is Mode.FAIL_BEFORE:
            raise errors.Transient("the cloud does not answer")
        if hit and self.mode is Mode.CRASH_BEFORE:
            self.die()
            raise Died
        result = do()
        if hit and self.mode is Mode.CRASH_AFTER:
            self.die()
            raise Died
        if hit:
            raise errors.Transient("the reply was lost")
        return result


async def _for_ever() -> Any:
    await asyncio.Event().wait()


async def threads(call: Callable[[], T], lane: str, /) -> T:
    """Runs driver calls; a thread of a dead process never comes back."""
    await asyncio.sleep(0)
    try:
        return call()
    except Died:
        return await _for_ever()


class Gate(Protocol):
    """What calls pass through: it does them, or something else."""

    async def call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        """One call of a store, `store.patch` for one."""
        ...

    def blocking(self, name: str, do: Callable[[], T]) -> T:
        """One call of a driver, `cloud.create` for one."""
        ...


class FaultyStore:
    """A store whose calls pass through a gate; what is watched stops with an injector's process."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self._store, self._gate = store, gate

    async def get(self, key: Key) -> Obj:
        return await self._gate.call("store.get", lambda: self._store.get(key))

    async def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Obj]:
        return await self._gate.call("store.list", lambda: self._store.list(kind, namespace, labels))

    async def create(self, obj: Obj) -> Obj:
        return await self._gate.call("store.create", lambda: self._store.create(obj))

    async def patch(self, key: Key, patch: Obj, *, version: str, subresource: Literal["", "status"] = "") -> Obj:
        return await self._gate.call("store.patch", lambda: self._store.patch(key, patch, version=version, subresource=subresource))

    async def delete(self, key: Key, *, uid: str, version: str | None = None) -> Obj | None:
        return await self._gate.call("store.delete", lambda: self._store.delete(key, uid=uid, version=version))

    async def watch(self) -> AsyncIterator[Change]:
        async for change in self._store.watch():
            if isinstance(self._gate, Injector) and self._gate.dead:
                await _for_ever()
            yield change

    async def record(self, event: Event) -> None:
        await self._gate.call("store.record", lambda: self._store.record(event))

    async def holds(self) -> bool:
        return await self._gate.call("store.holds", self._store.holds)


class FaultyDriver:
    """A driver whose calls pass through a gate."""

    def __init__(self, driver: CloudDriver, gate: Gate) -> None:
        self._driver, self._gate = driver, gate
        self.settle_seconds = driver.settle_seconds
        self.limits = driver.limits
        self.user_data_limit_bytes = driver.user_data_limit_bytes

    def most_per_call(self, spec: Mapping[str, Any]) -> int:
        return self._driver.most_per_call(spec)

    def identity(self) -> Account:
        return self._gate.blocking("cloud.identity", self._driver.identity)

    def list(self, *, running: bool = True) -> Sequence[Machine]:
        return self._gate.blocking("cloud.list", lambda: self._driver.list(running=running))

    def resolve(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return self._gate.blocking("cloud.resolve", lambda: self._driver.resolve(spec))

    def describe(self, ids: Sequence[MachineId]) -> dict[MachineId, Machine]:
        return self._gate.blocking("cloud.describe", lambda: self._driver.describe(ids))

    def prepare(self, requests: Sequence[LaunchRequest]) -> Sequence[str | errors.CloudError]:
        return self._gate.blocking("cloud.prepare", lambda: self._driver.prepare(requests))

    def create(self, requests: Sequence[LaunchRequest]) -> Sequence[Launched | errors.CloudError]:
        return self._gate.blocking("cloud.create", lambda: self._driver.create(requests))

    def delete(self, ids: Sequence[MachineId]) -> Sequence[errors.CloudError | None]:
        return self._gate.blocking("cloud.delete", lambda: self._driver.delete(ids))

    def close(self, batch_id: str, fence: str) -> None:
        self._gate.blocking("cloud.close", lambda: self._driver.close(batch_id, fence))

    def console(self, id: MachineId) -> str:
        return self._gate.blocking("cloud.console", lambda: self._driver.console(id))
