"""Makes the Instances of a group: those that it lacks, those of machines that have none, and takes over what nobody owns.

Called by the group's pass, for what its plan names. Names are given here, from a live list. Decides nothing.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from controller import errors
from controller.api import meta
from controller.api.group import InstanceGroup
from controller.api.instance import Batch, InstanceSpec
from controller.api.reasons import Reason
from controller.api.template import Health, Implementation, InstanceTemplate
from controller.engine import clouds
from controller.engine.engine import Engine
from controller.engine.objects import dump, key_of, owner_reference, typed
from controller.ports import Identity, Key, Machine, Obj
from controller.reconcilers.instancegroup.makings import Makings
from controller.reconcilers.instancegroup.observed import Unclaimed
from controller.reconcilers.instancegroup.plan import Create
from controller.reconcilers.instancegroup.refusals import AVOID_SECONDS


async def adopt(engine: Engine, group: InstanceGroup) -> None:
    """Take over Instances of this identity that nobody owns; none that goes, for which its machine would be ended, nor a copy of one."""
    owner = {"metadata": {"ownerReferences": [owner_reference("InstanceGroup", group.metadata)]}}
    for each in engine.objects.strays(_key(group)):
        spec = each["spec"]
        same = (spec["infrastructure"]["id"], spec["service"]) == (group.spec.infrastructure.id, group.spec.service)
        unowned = not each["metadata"].get("ownerReferences") and not each["metadata"].get("deletionTimestamp")
        if same and unowned and not group.metadata.deleting and not engine.clouds.rivals(_identity(each), key_of(each)):
            await engine.objects.write(key_of(each), owner)


async def create(engine: Engine, group: InstanceGroup, makings: Makings, action: Create) -> None:
    """New Instances, in batches; their revision is there."""
    there = await everything(engine, group)
    await _must_be_known(engine, there)
    # An index is free only when the old object is gone.
    taken = {each["spec"]["index"] for each in there}
    indexes = [index for index in range(len(taken) + action.count) if index not in taken][: action.count]
    batches = [Batch(id=id, index=index, size=size) for size in action.sizes for id in (str(uuid.uuid4()),) for index in range(size)]
    planned: list[Obj] = []
    for number, (index, batch) in enumerate(zip(indexes, batches, strict=True)):
        spec = InstanceSpec(
            infrastructure=group.spec.infrastructure,
            service=group.spec.service,
            index=index,
            batch=batch,
            revision=makings.revision_name,
            implementation=makings.implementation,
            inputs=makings.inputs,
            health=makings.health,
        )
        replaces = action.replaces[number] if number < len(action.replaces) else ""
        planned.append(_instance(group, spec, replaces))
    # The first member of a batch launches it: it is made last, once all others are there.
    later = await _made(engine, [each for each in planned if each["spec"]["batch"]["index"] != 0])
    whole = [each for each in planned if each["spec"]["batch"]["index"] == 0 and each["spec"]["batch"]["id"] not in later.lacking]
    first = await _made(engine, whole)
    names = sorted((*later.names, *first.names))
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        await engine.say(_key(group), "Normal", Reason.CREATED, f"Instances {shown} on {makings.implementation.name}")
    lacking = later.lacking | first.lacking
    if lacking:
        # Whatever keeps one from being made must not keep all: the next are made in halves, singly at last.
        place, most = (group.metadata.uid, makings.implementation.name), max(each.size for each in batches if each.id in lacking)
        engine.memory.halved[place] = (max(1, most // 2), engine.ports.now().timestamp() + AVOID_SECONDS)
    for error in (*later.errors, *first.errors):
        raise error


@dataclass(frozen=True, slots=True)
class _Made:
    """Which Instances were made, and of which batches some were not."""

    names: tuple[str, ...]
    lacking: frozenset[str]
    errors: tuple[BaseException, ...]


async def _made(engine: Engine, planned: Sequence[Obj]) -> _Made:
    results = await asyncio.gather(*(engine.objects.create(each) for each in planned), return_exceptions=True)
    found = list(zip(planned, results, strict=True))
    return _Made(
        tuple(obj["metadata"]["name"] for obj, result in found if not isinstance(result, BaseException)),
        frozenset(obj["spec"]["batch"]["id"] for obj, result in found if isinstance(result, BaseException)),
        tuple(result for result in results if isinstance(result, BaseException)),
    )


async def _must_be_known(engine: Engine, there: Sequence[Obj]) -> None:
    """What a live list shows and the cache does not have yet was not counted when the plan was made. Raises Conflict."""
    for each in there:
        key = Key("Instance", each["metadata"].get("namespace", "default"), each["metadata"]["name"])
        if engine.objects.get(key) is None and await engine.objects.refresh(key) is not None and engine.objects.get(key) is not None:
            raise errors.Conflict(f"{key} was made since")


async def everything(engine: Engine, group: InstanceGroup) -> list[Obj]:
    """The group's Instances from a live list, and those that are known to lack the label by which that goes."""
    live = await engine.objects.store.list("Instance", group.metadata.namespace, {meta.GROUP_LABEL: group.metadata.name})
    known = (engine.objects.get(each) for each in engine.objects.children(group.metadata.uid, "Instance"))
    return [*live, *(each for each in known if each is not None)]


def _instance(group: InstanceGroup, spec: InstanceSpec, replaces: str) -> Obj:
    metadata: Obj = {
        "name": f"{group.metadata.name}-{spec.index}",
        "namespace": group.metadata.namespace,
        "finalizers": [meta.FINALIZER],
        "labels": {
            meta.INFRASTRUCTURE_LABEL: spec.infrastructure.name,
            meta.SERVICE_LABEL: spec.service,
            meta.GROUP_LABEL: group.metadata.name,
        },
        "ownerReferences": [owner_reference("InstanceGroup", group.metadata)],
    }
    if replaces:
        metadata["annotations"] = {meta.REPLACES: replaces}
    return typed("Instance", metadata, dump(spec))


async def claim(engine: Engine, group: InstanceGroup, unclaimed: Sequence[Unclaimed]) -> None:
    """Make the Instances of machines that have none, from their tags; they are never rendered again."""
    there = await everything(engine, group)
    for each in unclaimed:
        made = await _claimed(engine, group, each, there)
        there += [made] if made is not None else []


async def _claimed(engine: Engine, group: InstanceGroup, unclaimed: Unclaimed, there: Sequence[Obj]) -> Obj | None:
    machine = unclaimed.machine
    if any(_identity(each) == machine.identity or each.get("status", {}).get("machine", {}).get("id") == machine.id for each in there):
        # The answer to its making was lost.
        raise errors.Conflict(f"machine {machine.id} has an Instance since")
    taken = {each["spec"]["index"] for each in there}
    index = next(each for each in range(len(taken) + 1) if each not in taken)
    found = _implementation_of(engine, group, unclaimed)
    if found is None:
        return None
    spec = InstanceSpec(
        infrastructure=group.spec.infrastructure,
        service=group.spec.service,
        index=index,
        batch=_batch_of(machine),
        implementation=found[0],
        health=found[1],
    )
    made = _instance(group, spec, "")
    await engine.objects.create(made)
    await engine.say(_key(group), "Normal", Reason.CLAIMED, f"machine {machine.id} is Instance {group.metadata.name}-{index}")
    return made


def _identity(instance: Obj) -> Identity:
    batch = instance["spec"]["batch"]
    return Identity(batch["id"], batch["index"])


def _batch_of(machine: Machine) -> Batch:
    """By its tags; where somebody has changed the size it is at least what its own place needs."""
    said, least = machine.tags.get(clouds.BATCH_SIZE_TAG, ""), machine.identity.index + 1
    size = int(said) if said.isascii() and said.isdecimal() and len(said) <= 3 else least
    return Batch(id=machine.identity.batch_id, index=machine.identity.index, size=min(max(size, least), 100))


def _implementation_of(engine: Engine, group: InstanceGroup, unclaimed: Unclaimed) -> tuple[Implementation, Health] | None:
    """The implementation that the machine's tags name, else the first on its account."""
    key = Key("InstanceTemplate", group.metadata.namespace, group.spec.template_ref.name)
    template = engine.objects.model(key, InstanceTemplate)
    if template is None:
        return None
    named = unclaimed.machine.tags.get(clouds.IMPLEMENTATION_TAG)
    on_cloud = [each for each in template.spec.implementations if each.cloud_ref.name in unclaimed.clouds]
    chosen = next((each for each in on_cloud if each.name == named), next(iter(on_cloud), None))
    return None if chosen is None else (chosen, template.spec.health or Health())


def _key(group: InstanceGroup) -> Key:
    return Key("InstanceGroup", group.metadata.namespace, group.metadata.name)


__all__ = ["adopt", "claim", "create", "everything"]
