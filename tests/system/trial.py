"""One trial: a system that has come up, one field changed and changed back, and what must hold meanwhile and at the end.

`tests/system/test_every_field.py` says which changes are tried, and which of them may show nowhere; this knows none of them, only
what holds for any.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from controller import errors
from controller.api import meta
from controller.api.group import InstanceGroup
from controller.api.reasons import Reason
from controller.ports import Identity, Key, Obj
from controller.reconcilers.instancegroup import observed as group_observed
from controller.stores import merge
from tests.simulated.harness import CONTROLLER
from tests.system import everything, mutations
from tests.system.everything import NUMBERS, Setting
from tests.system.mutations import Mutation, writable
from tests.system.rig import MUTATING, SERVICE, Rig
from tests.system.standing import Standing, difference, effects, standing

#: It has come to rest when for so long nothing was written and no call was made that changes anything: longer than a machine takes to
#: come up here (7 s) and than a Cloud in trouble is left alone (10 s); longer waits are those that a condition names.
QUIET_SECONDS = 15
#: What does not come to rest by then (a service whose machines fail again and again) has to say so.
REST_SECONDS = 240
#: A machine comes up in 7 s here, a cloud that was frozen is asked again after 10 s, one that refused a machine after 60 s; a
#: replacement waits up to 5 min.
BACK_SECONDS = 900
#: Reasons that say why something stays as it is; the others are what a machine or a service has for a while.
_TELLING = frozenset(map(str, Reason)) - {"Reconciling", "Scaling", "WaitingForLaunch", "Launching", "Booting", "Starting", "Terminating"}

SETTING = Setting(
    "simulated",
    {"account": "a1", "region": "r1", "credentials": {"secretRef": {"name": "account"}}},
    {"image": "debian", "size": "small"},
    db_probes=[{"name": "ping", "icmp": {}}],
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a change: whether the API refused it, and whether it is to be seen in anything but itself."""

    refused: bool = False
    seen: bool = False


@dataclass(slots=True)
class Trial:
    """See the module. `log` holds what was logged by the system since it was started."""

    rig: Rig
    log: Sequence[logging.LogRecord]
    began: Standing = field(default_factory=Standing)
    #: What a scale-out of a service brings about when nothing else is changed; of "" none is scaled.
    plain: dict[str, Standing] = field(default_factory=dict[str, Standing])
    #: Machines that the user ended, as a condition asked.
    ended: set[str] = field(default_factory=set[str])

    async def begin(self) -> None:
        await self.rig.up(*everything.described(SETTING))
        assert await self._rest()
        self.began, self.plain[""] = await self._stands(), await self._brought_about()
        for each in ("app", "db"):
            await self._scale_out(each)
            assert await self._rest()
            self.plain[each] = await self._brought_about()
            await self._back()

    async def there_and_back(self, mutation: Mutation) -> Outcome:
        """Make the change, see what comes of it, take it back; what must hold whatever the change is."""
        machines = {each: {machine.id for machine in self.rig.live(each)} for each in NUMBERS}
        kept = self._object(mutation)
        try:
            await self._write(kept, mutation.of(kept))
        except errors.Rejected:
            assert await self._stands() == self.began, "it was refused, and something has changed"
            return Outcome(refused=True)
        seen, least = await self._settle(""), self._wanted()
        service = mutation.name if mutation.field.kind == "InstanceTemplate" else "app"
        if not str(mutation.field).endswith("spec.replicas"):
            await self._scale_out(service)
            seen |= await self._settle(service)
        await self._back(kept)
        for each, were in machines.items():
            lost = were - {machine.id for machine in self.rig.live(each)} - self.ended
            assert len(lost) <= max(0, NUMBERS[each] - least[each]), f"{lost} of {each} have ended, and nobody wanted that"
        self._judge()
        return Outcome(seen=seen)

    async def _settle(self, service: str) -> bool:
        """Wait until it comes to rest or says why not; whether the change is to be seen. `service` was scaled out."""
        rests = await self._rest()
        for each in self._cached(("InstanceGroup", "Instance")):
            status, reason, message = self.rig.said(each["kind"], each["metadata"]["name"])
            told = rests if status == "True" else not rests or bool(_TELLING.intersection([reason, *re.findall(r"\w+", message)]))
            assert told, f"{reason} of {each['metadata']['name']} is no reason to be where it is\n{self.rig.picture()}"
        self._guarded()
        return await self._brought_about() != self.plain[service]

    def _guarded(self) -> None:
        """What holds back the end of a machine's account and description is put back, whoever took it."""
        kinds = ("Cloud", "Infrastructure", "InstanceGroup", "Instance")
        bare = [each["metadata"]["name"] for each in self._cached(kinds) if meta.FINALIZER not in each["metadata"].get("finalizers", ())]
        assert not bare, f"{bare} have lost their finalizer"

    def _judge(self) -> None:
        wrong = [each.getMessage() for each in self.log if each.levelno >= logging.ERROR or each.exc_info]
        assert not wrong, f"errors are logged: {wrong}"
        instances = [each["spec"]["batch"] for each in self.rig.instances()]
        assert self.rig.world.duplicates() == []
        assert self.rig.world.leaks({Identity(each["id"], each["index"]) for each in instances}, CONTROLLER) == []

    # --- what is seen
    def _object(self, mutation: Mutation) -> Obj:
        """The object to be changed; of Instances the first, whose name may be another by now."""
        kind = mutation.field.kind
        return self.rig.instances("app")[0] if kind == "Instance" else self.rig.obj(kind, mutation.name)

    def _wanted(self) -> dict[str, int]:
        """How many machines each service is to have by now."""
        groups = [self.rig.engine.objects.model(Key("InstanceGroup", "default", f"shop-{each}"), InstanceGroup) for each in NUMBERS]
        return {
            each: group_observed.wanted(group) if group is not None and not group.metadata.deleting else 0
            for each, group in zip(NUMBERS, groups, strict=True)
        }

    def _cached(self, kinds: Sequence[str]) -> list[Obj]:
        return [each for kind in kinds for each in self.rig.engine.objects.list(kind)]

    async def _objects(self) -> list[Obj]:
        kinds = (*mutations.WRITTEN, "InstanceGroup", "Instance", "ControllerRevision")
        return [each for kind in kinds for each in await self.rig.store.list(kind)]

    async def _stands(self) -> Standing:
        return standing(await self._objects())

    async def _brought_about(self) -> Standing:
        """What there is beside descriptions, those that go from one object into the next too; the machines as they were made included."""
        machines = sorted(f"{each.tags[SERVICE]} {each.spec} {each.user_data!r}" for each in self.rig.world.live())
        made = standing([{"kind": "Machine", "metadata": {"name": "all"}, "spec": machines}])
        return effects(await self._objects(), (*mutations.WRITTEN, "InstanceGroup")) | made

    async def _rest(self) -> bool:
        """Wait until nothing moves any more; whether that came."""
        rig, ledger = self.rig, self.rig.world.ledger
        until, since, writes, read = rig.clock() + REST_SECONDS, rig.clock(), 0, len(ledger)
        while rig.clock() < until:
            await rig.let_pass(1)
            if writes != rig.engine.objects.writes or any(each.action in MUTATING for each in ledger[read:]):
                since = rig.clock()
            elif rig.clock() >= since + QUIET_SECONDS:
                return True
            writes, read = rig.engine.objects.writes, len(ledger)
        return False

    # --- what a user does
    async def _write(self, now: Obj, wanted: Obj) -> None:
        await self.rig.patch(now["kind"], now["metadata"]["name"], merge.difference(writable(now), writable(wanted)))

    async def _scale_out(self, service: str) -> None:
        """One more, where there is such a group and the API takes it now."""
        name = f"shop-{service}"
        found = self.rig.find("InstanceGroup", name)
        if found is None:
            return
        try:
            await self.rig.patch("InstanceGroup", name, {"spec": {"replicas": found["spec"]["replicas"] + 1}})
        except errors.Rejected:
            assert "fixedReplicas" in found["spec"]

    async def _back(self, *kept: Obj) -> None:
        """Put all back as it was written before, and wait until it stands as it began."""
        for obj in kept:
            if (now := self.rig.find(obj["kind"], obj["metadata"]["name"])) is not None:
                await self._write(now, obj)
        until = self.rig.clock() + BACK_SECONDS
        while not (await self._stands() == self.began and await self._rest() and await self._stands() == self.began):
            assert self.rig.clock() < until, f"it does not end as it began\n{difference(self.began, await self._stands())}"
            await self._scale_back()
            await self._follow_reports()
            await self.rig.let_pass(1)

    async def _scale_back(self) -> None:
        """The number of a group that nobody fixed is its own."""
        for each in ("app", "db"):
            found = self.rig.find("InstanceGroup", f"shop-{each}")
            if found is not None and found["spec"]["replicas"] != NUMBERS[each] and "fixedReplicas" not in found["spec"]:
                await self.rig.patch("InstanceGroup", f"shop-{each}", {"spec": {"replicas": NUMBERS[each]}})

    async def _follow_reports(self) -> None:
        """What InputChanged asks for: delete the Instances that were told what is no longer so (a machine they were told of is another)."""
        for each in self._cached(("InstanceGroup",)) if self.rig.ready() else ():
            status, reason, message = self.rig.said("InstanceGroup", each["metadata"]["name"], "InputsCurrent")
            if (status, reason) == ("False", "InputChanged"):
                named = message.removeprefix("what ").partition(" were told")[0].split(", ")
                self.ended |= {self.rig.machine(name).id for name in named}
                await self.rig.delete("Instance", *named)


__all__ = ["SETTING", "Outcome", "Trial"]
