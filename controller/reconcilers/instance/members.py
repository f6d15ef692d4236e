"""The batch of an Instance: what its later members hear of the first, and until when that one stays (design section 5, rule 2).

Alike machines are made by one call, which is the first member's: its recorded launch commits the batch. The later members hear of
it here. Reads; decides nothing that a plan could.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.api import meta
from controller.api.instance import Instance
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.engine.engine import Engine
from controller.ports import Identity, Obj
from controller.reconcilers.instance.observed import BURNT, Attempt, First, Sent

#: How soon a first member that is needed looks again whether it may go.
NEEDED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Membership:
    """The Instance with its batch's launch, the attempt at that, and where the first member stands."""

    instance: Instance
    attempt: Attempt
    first: First = First.OWN
    first_said: tuple[Reason, str] | None = None
    sent: bool = False


def gather(engine: Engine, instance: Instance) -> Membership:
    """What the batch means for this Instance."""
    batch = instance.spec.batch
    if batch.index == 0:
        return Membership(instance, engine.launcher.attempt(instance.metadata.uid), sent=_sent_before(engine, instance))
    key = engine.clouds.instance(Identity(batch.id, 0))
    first = engine.objects.model(key, Instance) if key is not None else None
    if first is None:
        # Until it was gone it may have sent; what a process before this one saw of it is not known.
        gone = engine.memory.firsts_gone.get(batch.id, engine.began)
        return Membership(instance, Attempt(at=gone), First.GONE, sent=_sent_before(engine, instance))
    launch = first.status.launch
    if launch is None:
        return Membership(
            instance,
            Attempt(),
            First.NEVER if first.metadata.deleting or not _of_a_group(first) else First.UNSENT,
            _said(first),
            _sent_before(engine, instance),
        )
    status = instance.status if instance.status.launch is not None else instance.status.model_copy(update={"launch": launch})
    attempt = _attempt(first, engine.launcher.attempt(first.metadata.uid), batch.index)
    stands = First.LEAVING if first.metadata.deleting else First.SENT
    if stands is First.LEAVING and attempt.at is None:
        # An earlier process may have sent the call again until it ended.
        attempt = replace(attempt, at=engine.began)
    return Membership(instance.model_copy(update={"status": status}), attempt, stands)


def _of_a_group(instance: Instance) -> bool:
    """Without one it is never launched: a launch on its way meets a conflict, as the reference went by a write."""
    return any(each.kind == "InstanceGroup" for each in instance.metadata.owner_references)


def _sent_before(engine: Engine, instance: Instance) -> bool:
    """Whether the batch of an Instance without a recorded launch was launched all the same (rule 4)."""
    batch = instance.spec.batch
    if instance.status.launch is not None or batch.size == 1:
        return False
    if batch.id in engine.clouds.batches():
        return True
    keys = (engine.clouds.instance(Identity(batch.id, index)) for index in range(batch.size) if index != batch.index)
    others = (engine.objects.model(key, Instance) for key in keys if key is not None)
    return any(each is not None and (each.status.launch is not None or each.status.machine is not None) for each in others)


def _attempt(first: Instance, attempt: Attempt, index: int) -> Attempt:
    """The attempt as this member's; after a restart by what the first member's condition says of it."""
    if attempt.sent is Sent.NO and not attempt.batch:
        said = condition(first.status.conditions, "Launched")
        if said is not None and said.reason == Reason.LAUNCH_LOST.value:
            return Attempt(Sent.MISMATCH)
        if said is not None and said.reason in BURNT:
            return Attempt(Sent.REFUSED, Reason(said.reason), said.message)
    if not attempt.batch and attempt.sent not in (Sent.IN_FLIGHT, Sent.REFUSED) and first.status.machine is not None:
        # It has its machine, so it never sends again: what became of this one shows by tag or not at all.
        said = condition(first.status.conditions, "Launched")
        return Attempt(Sent.MISMATCH, at=said.last_transition_time if said is not None else None)
    return replace(attempt, machine=attempt.batch[index] if attempt.batch else None)


def _said(first: Instance) -> tuple[Reason, str] | None:
    """Why the first member waits for its launch, in the words of its condition."""
    said = condition(first.status.conditions, "Launched")
    return None if said is None or said.status != "False" else (Reason(said.reason), said.message)


async def needed(engine: Engine, instance: Instance) -> bool:
    """Whether a first member that could go is still asked by members, in a live list, that do not know what became of the launch."""
    batch = instance.spec.batch
    if batch.size == 1 or batch.index != 0:
        return False
    labels = {meta.GROUP_LABEL: group} if (group := instance.metadata.labels.get(meta.GROUP_LABEL)) else None
    found = await engine.objects.store.list("Instance", instance.metadata.namespace, labels)
    return any(each["spec"]["batch"]["id"] == batch.id and each["spec"]["batch"]["index"] != 0 and _needs(each, instance) for each in found)


def _needs(obj: Obj, first: Instance) -> bool:
    """What was never launched is asked by those alone that its group ends with it."""
    owners = {each.uid for each in first.metadata.owner_references}
    shared = any(each["uid"] in owners for each in obj["metadata"].get("ownerReferences", ()))
    return _ignorant(obj) and (first.status.launch is not None or shared)


def _ignorant(obj: Obj) -> bool:
    said = next((each["reason"] for each in obj.get("status", {}).get("conditions", ()) if each["type"] == "Launched"), "")
    return "machine" not in obj.get("status", {}) and said not in BURNT


__all__ = ["NEEDED_SECONDS", "Membership", "gather", "needed"]
