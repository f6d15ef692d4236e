"""What must never happen, judged against the truth and written without the planners' code.

Each oracle is a rule of the design (section 5, and the replacement rules of section 4), asked after each pass of a fleet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controller.api.instance import Instance
from controller.api.meta import condition, is_true
from controller.api.reasons import Reason
from controller.reconcilers.instance import observed, steps
from controller.reconcilers.instancegroup import observed as group_observed
from controller.reconcilers.instancegroup import plan as group_plan

if TYPE_CHECKING:
    from tests.properties.fleet import Fleet

#: What the cloud said where it made no machine.
REFUSED = {Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.CLOUD_INVALID}
#: Reasons after which the machine is certainly gone, or was never there.
CERTAINLY_GONE = {Reason.MACHINE_ENDED, Reason.LAUNCH_LOST, *REFUSED}
STILL_THERE = {
    Reason.STARTUP_TIMEOUT,
    Reason.MACHINE_STOPPED,
    Reason.MACHINE_MISSING,
    Reason.MACHINE_ERROR,
    Reason.PROBE_FAILED,
}
REPLACED = CERTAINLY_GONE | STILL_THERE


@dataclass(slots=True)
class Slot:
    """One machine that may still run, being replaced: open until its stand-in was Ready, or goes otherwise than by being replaced too."""

    stand_in: str = ""


@dataclass(slots=True)
class Oracles:
    """What was seen so far."""

    sent: set[str] = field(default_factory=set[str])
    burnt: set[str] = field(default_factory=set[str])
    ever_available: bool = False
    slots: list[Slot] = field(default_factory=list[Slot])
    replaced_at: list[datetime] = field(default_factory=list[datetime])
    lowered: Counter[str] = field(default_factory=Counter[str])

    # --- Instances
    def instance(self, fleet: Fleet, o: observed.Observed, todo: steps.Plan) -> None:
        batch = o.instance.spec.batch.id
        said = condition(o.instance.status.conditions, "Launched")
        if said is not None and said.reason in (Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.CLOUD_INVALID, Reason.LAUNCH_LOST):
            self.burnt.add(batch)
        for action in todo.actions:
            match action:
                case steps.Launch():
                    assert o.instance.status.launch is None, "a recorded launch is only ever repeated"
                    assert not o.sight.machines, "a machine of this identity is listed, so a launch was sent"
                    assert not o.instance.metadata.deleting
                    assert not o.owner.going
                    assert o.sight.listed is not None, "no create before the first full list"
                    self._may_send(o, batch)
                case steps.Resend():
                    assert o.instance.status.launch is not None
                    assert not o.instance.metadata.deleting
                    self._may_send(o, batch)
                case steps.Terminate():
                    assert o.instance.metadata.deleting, "only a deletion ends a machine"
                    assert not fleet.faults.trouble, "nothing is ended while the list is in doubt"
                case steps.Release(reason):
                    assert reason is Reason.DELETED
                    self._released(fleet, o)
                case _:
                    pass

    def _may_send(self, o: observed.Observed, batch: str) -> None:
        assert batch not in self.burnt, "what is burnt is never sent"
        assert o.attempt.sent is not observed.Sent.IN_FLIGHT, "a call is on its way"
        assert not o.cloud.message, "nothing is sent while the cloud is in doubt"
        self.sent.add(batch)

    def _released(self, fleet: Fleet, o: observed.Observed) -> None:
        """Nothing lives, and nothing that is on its way can come to life."""
        identity = next(life.identity for life in fleet.lives.values() if life.instance.metadata.uid == o.instance.metadata.uid)
        assert not fleet.cloud.live(fleet.now, identity), f"released while its machine lives\n{fleet.picture()}"
        token = identity.batch_id
        coming = any(call.identity == identity and call.outcome in ("ok", "lost") for call in fleet.calls)
        assert not coming or token in fleet.cloud.closed or token in fleet.cloud.tokens, "released while a call can still make its machine"

    # --- the group
    def group(self, fleet: Fleet, o: group_observed.Observed, todo: group_plan.Plan, before: Mapping[str, Instance]) -> None:
        self.ever_available |= all(each.available for each in o.dependencies)
        wanted = group_observed.wanted(o.group)
        live = [life.instance for life in fleet.lives.values() if not life.instance.metadata.deleting]
        batches = Counter(life.identity for life in fleet.lives.values())
        assert max(batches.values(), default=1) == 1, "two Instances of one identity"
        made = [each.metadata.name for each in live if each.metadata.name not in before]
        deletes = [each for each in todo.actions if isinstance(each, group_plan.Delete)]
        if made:
            assert self.ever_available, "made before what it depends on was Available"
            assert len(live) <= wanted, f"{len(live)} machines, {wanted} wanted"
            assert not o.hold
        if o.group.spec.paused and not o.group.metadata.deleting:
            assert not made
            assert not deletes
        if o.in_doubt and not o.group.metadata.deleting:
            assert not deletes, "nothing is destroyed while the list is in doubt"
        self._outdated(fleet, o, before, deletes)
        self._scaling(before, deletes)
        self._scale_in(before, todo)
        self._replacing(o, before, deletes)
        self._brake(fleet, before, deletes, made)

    def _outdated(self, fleet: Fleet, o: group_observed.Observed, before: Mapping[str, Instance], deletes: list[group_plan.Delete]) -> None:
        """A newer revision takes the place of what was never launched, and of what is denied: neither has a machine that is known."""
        older = {name for name, each in before.items() if each.spec.revision != o.revision and not each.metadata.deleting}
        unlaunched = {name for name in older if before[name].status.launch is None}
        gone = {each.name: each.reason for each in deletes}
        for name, reason in gone.items():
            if reason is Reason.REVISION_CHANGED:
                assert name in unlaunched
                assert not fleet.cloud.live(fleet.now, fleet.lives[name].identity), "it had a machine"
            if reason is Reason.DENIED:
                assert name in older - unlaunched
                said = condition(before[name].status.conditions, "Launched")
                assert said is not None
                assert (said.status, said.reason) == ("False", "Denied")

    def _scaling(self, before: Mapping[str, Instance], deletes: list[group_plan.Delete]) -> None:
        """What goes is no better than what stays: those not Ready first, then the youngest."""

        def worth(instance: Instance) -> tuple[bool, float, int]:
            made = instance.metadata.creation_timestamp
            assert made is not None
            return is_true(instance.status.conditions, "Ready"), -made.timestamp(), -instance.spec.index

        gone = {each.name for each in deletes}
        going = [before[each.name] for each in deletes if each.reason is Reason.SCALING]
        staying = [each for name, each in before.items() if name not in gone and not each.metadata.deleting]
        if going and staying:
            assert max(map(worth, going)) < min(map(worth, staying)), "a better one went"

    def _scale_in(self, before: Mapping[str, Instance], todo: group_plan.Plan) -> None:
        for action in todo.actions:
            if isinstance(action, group_plan.ScaleIn):
                self.lowered.update(before[name].metadata.uid for name in action.lowered)
        assert max(self.lowered.values(), default=1) == 1, "the count was lowered twice for one Instance"

    def _replacing(self, o: group_observed.Observed, before: Mapping[str, Instance], deletes: list[group_plan.Delete]) -> None:
        """Back-off: the first at once, then 10 s doubling to 5 min, ±10 %; forgotten after ten quiet minutes. A refusal does not wait for
        it where a newer revision is asked for."""
        ill = [each for each in deletes if each.reason in REPLACED]
        assert all(not is_true(before[each.name].status.conditions, "Ready") for each in ill), "a Ready machine was replaced"
        corrected = {each.name for each in ill if each.reason in REFUSED and before[each.name].spec.revision != o.revision}
        replaced = [each for each in ill if each.name not in corrected]
        if not replaced:
            return
        if self.replaced_at and o.now - self.replaced_at[-1] > timedelta(minutes=10):
            self.replaced_at.clear()
        if self.replaced_at:
            least = 0.9 * min(10 * 2 ** (len(self.replaced_at) - 1), 300)
            waited = (o.now - self.replaced_at[-1]).total_seconds()
            assert waited >= least, f"replaced after {waited} s, the back-off is {least} s at least"
        self.replaced_at.append(o.now)

    def _brake(self, fleet: Fleet, before: Mapping[str, Instance], deletes: list[group_plan.Delete], made: list[str]) -> None:
        live = {name: life.instance for name, life in fleet.lives.items() if not life.instance.metadata.deleting}
        wanted = group_observed.wanted(fleet.group)
        standing = {slot.stand_in: slot for slot in self.slots if slot.stand_in}
        replaced = {before[each.name].metadata.uid: each.reason for each in deletes if each.reason in REPLACED}
        if made:
            for uid in standing.keys() & replaced.keys():
                standing[uid].stand_in = ""
        self.slots = [slot for slot in self.slots if _is_open(slot, live, lacking=len(live) - len(made) < wanted)]
        opened = [Slot() for uid, reason in replaced.items() if reason in STILL_THERE and uid not in standing]
        self.slots += opened
        stand_ins = iter(made)
        for slot in self.slots:
            if not slot.stand_in:
                name = next(stand_ins, "")
                slot.stand_in = live[name].metadata.uid if name else ""
        if opened:
            most = max(1, wanted // 5)
            assert len(self.slots) <= most, f"{len(self.slots)} machines in replacement at once, {most} allowed"


def _is_open(slot: Slot, live: Mapping[str, Instance], *, lacking: bool) -> bool:
    if not slot.stand_in:
        return lacking
    stand_in = next((each for each in live.values() if each.metadata.uid == slot.stand_in), None)
    return stand_in is not None and stand_in.status.ready_time is None
