"""Finds machines of ours that no Instance claims, and makes sure of it before anybody acts (design section 5, rule 7).

A machine is *sure* to be unclaimed when it is older than a minute and was missed twice against a live list of Instances,
the cloud being listed before the objects. Groups claim sure machines; one that has no group, and is of no service that an
Infrastructure describes, is reported, and ended only under the policy Terminate: an empty store must never end a fleet.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from controller import errors
from controller.api.reasons import Reason
from controller.engine import clouds, metrics
from controller.engine.clouds import Clouds
from controller.engine.objects import Objects
from controller.ports import Account, Event, Identity, Key, Machine, MachineId, Now, Obj

log = logging.getLogger(__name__)

#: Younger machines may belong to a launch whose Instance is not listed yet.
GRACE = timedelta(minutes=1)
#: Seconds between two looks: often in the first minutes of a process, when a restore shows; then seldom.
EARLY_SECONDS, LATE_SECONDS, EARLY_FOR_SECONDS = 10.0, 60.0, 180.0

#: So many at most are ended after one look: what is true of the objects changes meanwhile.
_ENDED_AT_ONCE = 50

Policy = Literal["Report", "Terminate"]
_Machines = dict[tuple[Account, MachineId], Machine]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the sweep works with."""

    objects: Objects
    clouds: Clouds
    now: Now
    policy: Policy
    wake_groups: Callable[[], None]


class Sweep:
    """Runs until cancelled."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._missed: Counter[tuple[Account, MachineId]] = Counter()
        self._reported: set[tuple[Account, MachineId]] = set()

    def sure(self, account: Account, machine: MachineId) -> bool:
        return self._missed[account, machine] >= 2

    async def run(self) -> None:
        """Look, wait, and look again."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            await asyncio.sleep(EARLY_SECONDS if loop.time() - started < EARLY_FOR_SECONDS else LATE_SECONDS)
            try:
                await self.look()
            except errors.StoreError as error:
                # In doubt nothing is unclaimed: the counts begin anew.
                self._missed.clear()
                log.warning("The sweep could not list the objects: %s", error)

    async def look(self) -> None:
        """One comparison of the clouds' lists with the live objects."""
        self._reported = {place for place in self._reported if self._is_listed(*place)}
        suspects = {(account, machine.id): machine for account, machine in self._parts.clouds.suspects() if self._old(account, machine)}
        if not suspects:
            self._missed.clear()
            return
        instances = await self._parts.objects.store.list("Instance")
        groups = await self._parts.objects.store.list("InstanceGroup")
        homes = _homes(groups, await self._parts.objects.store.list("Infrastructure"))
        missed = self._missed_in(instances, suspects)
        before = +self._missed
        self._missed = Counter({place: self._missed[place] + 1 for place in missed})
        if self._missed != before:
            self._parts.wake_groups()
        homeless = [place for place, machine in missed.items() if self._missed[place] >= 2 and _identifying(machine.tags) not in homes]
        for place in sorted(homeless, key=str):
            await self._report(*place, missed[place])
        if self._parts.policy == "Terminate":
            for place in sorted(homeless, key=str)[:_ENDED_AT_ONCE]:
                await self._end(*place)

    def _missed_in(self, instances: list[Obj], suspects: _Machines) -> _Machines:
        """Those which no Instance claims: neither one that may be of the machine's account, by its identity, nor any by its id."""
        by_identity: dict[Identity, list[Obj]] = {}
        for each in instances:
            by_identity.setdefault(Identity(each["spec"]["batch"]["id"], each["spec"]["batch"]["index"]), []).append(each)
        recorded = {each.get("status", {}).get("machine", {}).get("id") for each in instances}
        may_be = self._parts.clouds.accounts.may_be
        return {
            (account, id): machine
            for (account, id), machine in suspects.items()
            if id not in recorded and not any(may_be(each, account) for each in by_identity.get(machine.identity, ()))
        }

    def _old(self, account: Account, machine: Machine) -> bool:
        inventory = self._parts.clouds.inventories().get(account)
        return inventory is not None and inventory.trouble is None and inventory.age(machine, self._parts.now()) > GRACE

    def _is_listed(self, account: Account, id: MachineId) -> bool:
        inventory = self._parts.clouds.inventories().get(account)
        return inventory is not None and id in inventory.machines

    async def _report(self, account: Account, id: MachineId, machine: Machine) -> None:
        if (account, id) in self._reported:
            return
        self._reported.add((account, id))
        for key, binding in self._parts.clouds.bindings():
            cloud = self._parts.objects.get(key)
            if binding.inventory.account == account and cloud is not None:
                await self._parts.objects.event(_event(key, cloud, machine, self._parts.policy))

    async def _end(self, account: Account, id: MachineId) -> None:
        """End one that is homeless still: while others were ended its group may have been put back."""
        homes = _homes(self._parts.objects.list("InstanceGroup"), self._parts.objects.list("Infrastructure"))
        inventory = self._parts.clouds.inventories().get(account)
        now = next((machine for where, machine in self._parts.clouds.suspects() if (where, machine.id) == (account, id)), None)
        if inventory is None or now is None or _identifying(now.tags) in homes:
            return
        if not await self._parts.objects.store.holds():
            return
        driver = inventory.driver
        try:
            refused = next(filter(None, await inventory.calls("delete", lambda: driver.delete((id,)))), None)
        except errors.CloudError as error:
            refused = error
        if refused is not None:
            log.warning("The sweep could not end machine %s: %s", id, refused)
            return
        metrics.unclaimed_ended.inc()


def _homes(groups: Iterable[Obj], infrastructures: Iterable[Obj]) -> set[tuple[str, ...]]:
    """Namespace, infrastructure identity and service of each group, and of each that an Infrastructure may be about to make."""
    made = {(_namespace(each), each["spec"]["infrastructure"]["id"], each["spec"]["service"]) for each in groups}
    stay = [each for each in infrastructures if not each["metadata"].get("deletionTimestamp")]
    return made | {
        (_namespace(each), each["spec"].get("id") or each["metadata"]["uid"], service["name"])
        for each in stay
        for service in each["spec"]["services"]
    }


def _namespace(obj: Obj) -> str:
    return obj["metadata"].get("namespace", "default")


def _identifying(tags: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(tags.get(each, "") for each in (clouds.NAMESPACE_TAG, clouds.INFRASTRUCTURE_ID_TAG, clouds.SERVICE_TAG))


def _event(key: Key, cloud: Obj, machine: Machine, policy: Policy) -> Event:
    place = f"{machine.tags.get(clouds.INFRASTRUCTURE_TAG, '?')}/{machine.tags.get(clouds.SERVICE_TAG, '?')}"
    what = "is ended" if policy == "Terminate" else "is left alone"
    message = f"machine {machine.id} of {place} has neither an Instance nor a group and {what}"
    return Event(key, cloud["metadata"]["uid"], "Warning", Reason.UNCLAIMED.value, message)
