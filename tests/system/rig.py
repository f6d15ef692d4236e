"""A `System` with the words that whole-system tests use, and what must hold at the end of each of them.

`play` runs a test in virtual time and asks the ledger afterwards: never two machines of one identity, nothing left behind
that no Instance claims. Tests that make foreign or unclaimed machines on purpose say which.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from controller import errors
from controller.ports import CloudConfig, Identity, Key, MachineId, Obj, T
from tests.simulated import loop
from tests.simulated.harness import CONTROLLER, System, condition, put
from tests.simulated.world import Settings, SimulatedMachine
from tests.system import clouds
from tests.system.documents import Document

SERVICE = "occopus.io/service"
#: Calls that change a cloud.
MUTATING = ("prepare", "create", "delete", "close")


def steady(boot: float = 30.0, health: float = 10.0, **settings: Any) -> Settings:
    """A cloud whose machines take as long each time."""
    return Settings(boot_seconds=lambda rng: boot, health_seconds=lambda rng: health, **settings)


class Rig(System):
    """See the module."""

    def __init__(self, path: Path, clock: loop.Clock, settings: Settings | None = None) -> None:
        super().__init__(path, clock, settings)
        self.plugin = clouds.guarded(self.plugin, self._before_call)
        self.rules = clouds.rules()
        self.threads = self._call
        #: What the account asks of Clouds that name a Secret.
        self.password = "right"
        #: What is done before a call, by (account, action).
        self.before: dict[tuple[str, str], Callable[[], None]] = {}
        self._waited = False
        #: Machines that are meant to be there with no Instance when the test ends.
        self.left: set[str] = set()
        #: Identities of which a test made a second machine on purpose.
        self.forgiven: set[Identity] = set()

    # --- what a user does
    async def make(self, *documents: Document) -> None:
        """Apply the documents."""
        for each in documents:
            await put(self.store, each)

    async def up(self, *documents: Document) -> None:
        """Apply the documents and wait until the Infrastructure `shop` is Ready."""
        await self.make(*documents)
        await self.wait(self.ready)

    async def patch(self, kind: str, name: str, patch: Obj, *, status: bool = False) -> None:
        """Patch the newest version, whoever else writes."""
        key = Key(kind, "default", name)
        while True:
            seen = await self.store.get(key)
            try:
                await self.store.patch(key, patch, version=seen["metadata"]["resourceVersion"], subresource="status" if status else "")
            except errors.Conflict:
                continue
            return

    async def delete(self, kind: str, *names: str) -> None:
        for name in names:
            key = Key(kind, "default", name)
            seen = await self.store.get(key)
            await self.store.delete(key, uid=seen["metadata"]["uid"])

    def hold(self, action: str, seconds: float, account: str = "a1") -> None:
        """Let every call of this action from now on take so long before it is done."""

        def wait() -> None:
            if not self._waited:
                raise clouds.Held(seconds)

        self.before[account, action] = wait

    def stray(self, action: str, seconds: float, *, lost: bool, account: str = "a1") -> None:
        """Let the next call of this action be delivered once more so much later, or then alone and unanswered."""

        def once() -> None:
            if not self._waited:
                del self.before[account, action]
                raise clouds.Strayed(seconds, lost=lost)

        self.before[account, action] = once

    def _before_call(self, config: CloudConfig, action: str) -> None:
        if "credentials" in config.spec and config.secret.get("password") != self.password:
            raise errors.Denied("the password is wrong")
        self.before.get((config.spec["account"], action), lambda: None)()

    async def _call(self, call: Callable[[], T], lane: str, /) -> T:
        """Satisfies `Threads`: in this thread, and at once if nothing holds the call."""
        await asyncio.sleep(0)
        try:
            return call()
        except clouds.Held as held:
            await asyncio.sleep(min(held.seconds, 1e9))
        except clouds.Strayed as strayed:
            asyncio.get_running_loop().call_later(strayed.seconds, self._deliver, call)
            if strayed.lost:
                raise errors.Transient("no answer") from None
        self._waited = True
        try:
            return call()
        finally:
            self._waited = False

    def _deliver(self, call: Callable[[], Any]) -> None:
        """Whoever asked has gone."""
        self._waited = True
        try:
            with contextlib.suppress(errors.CloudError):
                call()
        finally:
            self._waited = False

    # --- what a user sees
    def ready(self, name: str = "shop") -> bool:
        """Whether all of the Infrastructure is Ready by its newest description, and nothing of it is going."""
        groups = [each for each in self.engine.objects.list("InstanceGroup") if each["spec"]["infrastructure"]["name"] == name]
        instances = [each for each in self.instances() if each["spec"]["infrastructure"]["name"] == name]
        return (
            super().ready(name)
            and all(each["status"]["observedGeneration"] == each["metadata"]["generation"] for each in groups)
            and all(condition(each, "Ready") == "True" for each in (*groups, *instances))
            and not any(each["metadata"].get("deletionTimestamp") for each in (*groups, *instances))
        )

    def find(self, kind: str, name: str) -> Obj | None:
        return self.engine.objects.get(Key(kind, "default", name))

    def obj(self, kind: str, name: str) -> Obj:
        found = self.find(kind, name)
        assert found is not None, f"there is no {kind} {name}:\n{self.picture()}"
        return found

    def said(self, kind: str, name: str, type: str = "Ready") -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        found = self.find(kind, name)
        conditions: list[dict[str, str]] = (found or {}).get("status", {}).get("conditions", [])
        return next(((each["status"], each["reason"], each["message"]) for each in conditions if each["type"] == type), ("", "", ""))

    def why(self, kind: str, name: str, type: str = "Ready") -> str:
        """The reason of a condition."""
        return self.said(kind, name, type)[1]

    async def until(self, kind: str, name: str, reason: str, type: str = "Ready", seconds: float = 3600) -> None:
        """Wait until a condition has this reason."""
        await self.wait(lambda: self.why(kind, name, type) == reason, seconds)

    async def events(self, reason: str = "", name: str = "") -> list[Obj]:
        """Events of a reason about an object, those of all where none is named."""
        found = await self.store.list("Event")
        return [each for each in found if reason in ("", each["reason"]) and name in ("", each["involvedObject"]["name"])]

    async def hear(self, reason: str, name: str, seconds: float = 3600) -> str:
        """Wait until an event of this reason is there, and return its newest message: for what passes within a second."""
        until = self.clock() + seconds
        while not (found := await self.events(reason, name)):
            assert self.clock() < until, f"no event {reason} of {name} within {seconds} s:\n{self.picture()}"
            await self.let_pass(0.5)
        return found[-1]["message"]

    async def told(self, reason: str, name: str = "") -> int:
        """How often events of a reason were said."""
        return sum(each["count"] for each in await self.events(reason, name))

    # --- what is true
    def live(self, service: str = "app") -> list[SimulatedMachine]:
        """The service's live machines."""
        return [each for each in self.world.live() if each.tags.get(SERVICE) == service]

    def made(self, service: str = "") -> list[SimulatedMachine]:
        """Every machine that was ever made for the service (any)."""
        return [each for each in self.world.machines.values() if service in ("", each.tags.get(SERVICE))]

    def machine(self, instance: str) -> SimulatedMachine:
        """The machine that the Instance has recorded."""
        return self.world.machines[MachineId(self.obj("Instance", instance)["status"]["machine"]["id"])]

    def calls(self, *actions: str) -> int:
        """How many lines the ledger has of these actions."""
        return sum(1 for each in self.world.ledger if each.action in actions)

    def spans(self, service: str) -> tuple[float, float]:
        """When the first machine of the service began to end, and when the last had ended."""
        machines = self.made(service)
        assert machines
        return min(each.ending for each in machines), max(each.ended for each in machines)

    async def unchanged(self, seconds: float) -> None:
        """Let time pass in which nothing may be made or ended."""
        calls, live = self.calls("create", "delete"), {each.id for each in self.world.live()}
        names = {each["metadata"]["name"] for each in self.instances()}
        await self.let_pass(seconds)
        assert self.calls("create", "delete") == calls, self.picture()
        assert {each.id for each in self.world.live()} == live
        assert {each["metadata"]["name"] for each in self.instances()} == names

    async def let_pass(self, seconds: float) -> None:
        """Let time pass; the engine lives."""
        await asyncio.sleep(seconds)
        assert not self.died

    async def restart(self, change: Callable[[], None] = lambda: None) -> None:
        """The process dies, something happens, another begins."""
        await self.crash()
        change()
        self.start()
        await self.let_pass(0.5)


Main = Callable[[Rig], Awaitable[None]]


def play(path: Path, main: Main, settings: Settings | None = None) -> Rig:
    """Run a test on a new system to its end, and judge what it left."""
    clock = loop.Clock()
    rig = Rig(path / "state.db", clock, settings or steady())

    async def whole() -> None:
        rig.start()
        await main(rig)
        await judge(rig)
        await rig.crash()

    loop.run(whole(), clock=clock)
    return rig


async def judge(rig: Rig) -> None:
    """No duplicate at any instant, no leak at the end."""
    instances = await rig.store.list("Instance")
    known = {Identity(each["spec"]["batch"]["id"], each["spec"]["batch"]["index"]) for each in instances}
    assert set(rig.world.duplicates()) <= rig.forgiven
    assert set(rig.world.leaks(known, CONTROLLER)) <= rig.left, "machines that no Instance claims"


def ids(machines: Iterable[SimulatedMachine]) -> set[str]:
    return {each.id for each in machines}


__all__ = ["MUTATING", "SERVICE", "Rig", "ids", "judge", "play", "steady"]
