"""What a group's implementations had no room for lately, as this process remembers: less is asked for, and the others come first.

Called while the group is gathered. Another process learns it anew.
"""

from __future__ import annotations

from controller.api.group import InstanceGroup
from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.api.template import Implementation
from controller.engine.engine import Engine, Refused
from controller.ports import Identity
from controller.reconcilers.instancegroup.observed import failed

#: For how long an implementation is passed over after the cloud had no room or quota for it, or ended its machine before that served
#: (reference, section 4).
AVOID_SECONDS = 180.0
#: For how long after a lack of room for one machine more are tried by one again: longer than the longest back-off, so that it is
#: asked by one each time.
NONE_SECONDS = 600.0


def remember(engine: Engine, group: InstanceGroup, instances: tuple[Instance, ...]) -> None:
    """A cloud that has no room for a batch is asked for half of it; that has none for one, for some time not at all."""
    memory, now = engine.memory, engine.ports.now().timestamp()
    memory.avoided = {place: until for place, until in memory.avoided.items() if until > now}
    memory.halved = {place: kept for place, kept in memory.halved.items() if kept[1] > now}
    memory.refused = {place: kept for place, kept in memory.refused.items() if kept.until > now}
    for each in instances:
        place = (group.metadata.uid, each.spec.implementation.name)
        kept = memory.refused.get(place)
        if kept is not None and _fits(each, kept):
            # There is room again where there was none.
            del memory.refused[place]
            memory.avoided.pop(place, None)
        why = failed(each) if not each.metadata.deleting else None
        if why is Reason.MACHINE_ENDED and each.status.ready_time is None:
            # A cloud may find only after the launch that it has no room, or may not use a key. How many are asked for changes nothing then.
            memory.avoided.setdefault(place, now + AVOID_SECONDS)
        if why not in (Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.CLOUD_INVALID):
            continue
        size = each.spec.batch.size if why is not Reason.CLOUD_INVALID and _fewer_may_fit(engine, each) else 1
        if size == 1:
            memory.avoided.setdefault(place, now + AVOID_SECONDS)
        least = min(size, kept.size) if kept is not None else size
        memory.refused[place] = Refused(least, now, now + (NONE_SECONDS if least == 1 else AVOID_SECONDS))


def refused(engine: Engine, group: InstanceGroup, implementation: Implementation) -> Refused | None:
    """How few that implementation had no room for lately, if so."""
    return engine.memory.refused.get((group.metadata.uid, implementation.name))


def _fits(instance: Instance, refused: Refused) -> bool:
    """Whether as many as were refused were made since."""
    launch, machine = instance.status.launch, instance.status.machine
    return machine is not None and launch is not None and instance.spec.batch.size >= refused.size and launch.time.timestamp() >= refused.at


def _fewer_may_fit(engine: Engine, instance: Instance) -> bool:
    """Whether the refusal of the Instance's batch says nothing of a smaller one; what an earlier process was told is forgotten."""
    key = engine.clouds.instance(Identity(instance.spec.batch.id, 0))
    first = engine.objects.model(key, Instance) if key is not None else None
    return first is None or engine.launcher.attempt(first.metadata.uid).fewer


def avoided(engine: Engine, group: InstanceGroup) -> frozenset[str]:
    """Implementations that had no room for one lately: the others come first."""
    return frozenset(name for uid, name in engine.memory.avoided if uid == group.metadata.uid)


def full(engine: Engine, group: InstanceGroup) -> frozenset[str]:
    """Implementations that are asked for one machine each time."""
    return frozenset(name for (uid, name), each in engine.memory.refused.items() if uid == group.metadata.uid and each.size == 1)


__all__ = ["AVOID_SECONDS", "avoided", "full", "refused", "remember"]
