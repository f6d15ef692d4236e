"""One pass over an InstanceGroup: gather, plan, write the status, act. Decides nothing.

The status goes first here: it holds the brake on replacements, whose loss would let a crash loop replace without back-off.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from controller import errors
from controller.api import meta
from controller.api.group import InstanceGroup
from controller.api.instance import Batch, Instance, InstanceSpec
from controller.api.reasons import Reason
from controller.api.template import Health, Implementation, InstanceTemplate
from controller.engine import clouds, metrics
from controller.engine.engine import Engine
from controller.engine.objects import dump, key_of, owner_reference, typed
from controller.ports import Identity, Key, Machine, Obj
from controller.reconcilers.instancegroup import status
from controller.reconcilers.instancegroup.gather import AVOID_SECONDS, Makings, gather
from controller.reconcilers.instancegroup.plan import (
    Action,
    AddFinalizer,
    Claim,
    Create,
    Delete,
    Observed,
    Plan,
    RefuseScaleIn,
    Release,
    ScaleIn,
    Unclaimed,
    plan,
)


async def reconcile(engine: Engine, key: Key) -> float | None:
    group = engine.objects.model(key, InstanceGroup)
    if group is None:
        return None
    await _adopt(engine, group)
    observed, makings = await gather(engine, group)
    todo = plan(observed)
    wanted = status.report(observed, todo)
    if await engine.objects.write_status(key, wanted):
        await _tell(engine, key, group, todo)
    for action in todo.actions:
        if isinstance(action, Release):
            return await _release(engine, key, orphaned=action.orphaned)
        if isinstance(action, ScaleIn):
            _must_be_as_planned(engine, key, group)
        await _act(engine, key, makings, action)
    if makings is not None and any(_needs(each, makings) for each in observed.instances):
        await _revision(engine, group, makings)
    await _prune(engine, group, observed.revision)
    return _again(engine, todo, observed)


#: After how many seconds a cloud that did not answer, or knew a name not, is asked again: nothing would wake the group.
_ASK_AGAIN_SECONDS = {Reason.WAITING_FOR_CLOUD: 10.0, Reason.CLOUD_INVALID: 60.0}


def _again(engine: Engine, todo: Plan, observed: Observed) -> float | None:
    """After how many seconds the group is looked at again, if nothing wakes it before."""
    due = [] if todo.again is None else [max(0.05, (todo.again - engine.ports.now()).total_seconds())]
    asked = _ASK_AGAIN_SECONDS.get(observed.hold.reason) if observed.hold is not None else None
    return min((*due, *(() if asked is None else (asked,))), default=None)


async def _act(engine: Engine, key: Key, makings: Makings | None, action: Action) -> None:
    group = engine.objects.model(key, InstanceGroup)
    if group is None:
        return
    match action:
        case AddFinalizer():
            await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=True)
        case Create():
            if makings is not None:
                await _create(engine, group, makings, action)
        case Claim(unclaimed):
            await _claim(engine, group, unclaimed)
        case Delete(name, reason, message):
            if reason not in (Reason.SCALING, Reason.DELETED, Reason.BATCH_BROKEN):
                metrics.replacements.labels(reason.value).inc()
            await engine.say(key, "Normal", reason, f"Instance {name} is deleted: {message}")
            await _delete(engine, Key("Instance", key.namespace, name), unlaunched=reason is Reason.BATCH_BROKEN)
        case ScaleIn():
            await _scale_in(engine, key, action)
        case RefuseScaleIn(name):
            await engine.say(key, "Warning", Reason.SCALE_IN_REFUSED, f"Instance {name}: services[].replicas fixes the count")
        case Release():
            raise ValueError("released by reconcile")


async def _delete(engine: Engine, key: Key, *, unlaunched: bool) -> None:
    """Delete an Instance; with `unlaunched` only if its batch is not launched meanwhile. Raises Conflict."""
    instance = engine.objects.model(key, Instance)
    if instance is None:
        return
    batch = instance.spec.batch
    first = engine.clouds.instance(Identity(batch.id, 0))
    if unlaunched and first is not None and "launch" in (engine.objects.get(first) or {}).get("status", {}):
        raise errors.Conflict(f"{first} was launched meanwhile")
    await engine.objects.delete(key, as_seen=unlaunched and batch.index == 0)


def _must_be_as_planned(engine: Engine, key: Key, planned: InstanceGroup) -> None:
    """The count is lowered from the one that was seen, not from one that a user has set since. Raises Conflict."""
    now = engine.objects.model(key, InstanceGroup)
    if now is not None and now.metadata.generation != planned.metadata.generation:
        raise errors.Conflict(f"{key} was changed since")


async def _scale_in(engine: Engine, key: Key, action: ScaleIn) -> None:
    """One patch lowers the count and notes for whom, so that a crash between the two cannot lower it twice."""
    patch: Obj = {"metadata": {"annotations": {meta.SCALED_IN: ",".join(action.noted) or None}}}
    if action.lowered:
        patch["spec"] = {"replicas": action.replicas}
    await engine.objects.write(key, patch)
    for name in action.lowered:
        await engine.say(key, "Normal", Reason.SCALED_IN, f"replicas is {action.replicas} for Instance {name}")


async def _adopt(engine: Engine, group: InstanceGroup) -> None:
    """Take over Instances of this identity that nobody owns; none that goes, for which its machine would be ended."""
    owner = {"metadata": {"ownerReferences": [owner_reference("InstanceGroup", group.metadata)]}}
    for each in engine.objects.strays(_key(group)):
        spec = each["spec"]
        same = (spec["infrastructure"]["id"], spec["service"]) == (group.spec.infrastructure.id, group.spec.service)
        unowned = not each["metadata"].get("ownerReferences") and not each["metadata"].get("deletionTimestamp")
        if same and unowned and not group.metadata.deleting:
            await engine.objects.write(key_of(each), owner)


# --- making Instances -----------------------------------------------------------------------------------------------
async def _create(engine: Engine, group: InstanceGroup, makings: Makings, action: Create) -> None:
    await _revision(engine, group, makings)
    taken = await _taken(engine, group)
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


async def _taken(engine: Engine, group: InstanceGroup) -> set[int]:
    """Indexes that are not free: an index is free only when the old object is gone."""
    return {each["spec"]["index"] for each in await _all(engine, group)}


async def _all(engine: Engine, group: InstanceGroup) -> list[Obj]:
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


async def _claim(engine: Engine, group: InstanceGroup, unclaimed: Unclaimed) -> None:
    """Make the Instance of a machine that has none, from its tags; it is never rendered again."""
    machine, there = unclaimed.machine, await _all(engine, group)
    if any(_identity(each) == machine.identity for each in there):
        # The answer to its making was lost.
        raise errors.Conflict(f"machine {machine.id} has an Instance since")
    taken = {each["spec"]["index"] for each in there}
    index = next(each for each in range(len(taken) + 1) if each not in taken)
    found = _implementation_of(engine, group, unclaimed)
    if found is None:
        return
    spec = InstanceSpec(
        infrastructure=group.spec.infrastructure,
        service=group.spec.service,
        index=index,
        batch=_batch_of(machine),
        implementation=found[0],
        health=found[1],
    )
    await engine.objects.create(_instance(group, spec, ""))
    await engine.say(_key(group), "Normal", Reason.CLAIMED, f"machine {machine.id} is Instance {group.metadata.name}-{index}")


def _identity(instance: Obj) -> Identity:
    batch = instance["spec"]["batch"]
    return Identity(batch["id"], batch["index"])


def _batch_of(machine: Machine) -> Batch:
    """By its tags; where somebody has changed the size it is at least what its own place needs."""
    said, least = machine.tags.get(clouds.BATCH_SIZE_TAG, ""), machine.identity.index + 1
    size = int(said) if said.isascii() and said.isdecimal() and len(said) <= 3 else least
    return Batch(id=machine.identity.batch_id, index=machine.identity.index, size=min(max(size, least), 100))


def _implementation_of(engine: Engine, group: InstanceGroup, unclaimed: Unclaimed) -> tuple[Implementation, Health] | None:
    """The implementation that the machine's tags name, else the first on its Cloud."""
    key = Key("InstanceTemplate", group.metadata.namespace, group.spec.template_ref.name)
    template = engine.objects.model(key, InstanceTemplate)
    if template is None:
        return None
    named = unclaimed.machine.tags.get(clouds.IMPLEMENTATION_TAG)
    on_cloud = [each for each in template.spec.implementations if each.cloud_ref.name == unclaimed.cloud]
    chosen = next((each for each in on_cloud if each.name == named), next(iter(on_cloud), None))
    return None if chosen is None else (chosen, template.spec.health or Health())


# --- revisions ------------------------------------------------------------------------------------------------------
def _needs(instance: Instance, makings: Makings) -> bool:
    """Whether the Instance is yet to be rendered from the newest revision, which somebody may have removed."""
    return instance.spec.revision == makings.revision_name and instance.status.launch is None and not instance.metadata.deleting


async def _revision(engine: Engine, group: InstanceGroup, makings: Makings) -> None:
    """Make sure that the snapshot exists before an Instance names it."""
    key = Key("ControllerRevision", group.metadata.namespace, makings.revision_name)
    if _owned(engine.objects.get(key), group) or _owned(found := await engine.objects.refresh(key), group):
        return
    if found is not None:
        # An earlier group of this name owned it: it goes with that one, and then the name is free. What nobody owns goes now.
        ours = found["metadata"].get("labels", {}).get(meta.GROUP_LABEL) == group.metadata.name
        if ours and not found["metadata"].get("ownerReferences"):
            await engine.objects.delete(key)
        raise errors.Conflict(f"{key} belongs to a group that is gone")
    number = 1 + max((each["revision"] for each in _revisions(engine, group)), default=0)
    revision: Obj = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": {meta.GROUP_LABEL: group.metadata.name},
            "ownerReferences": [owner_reference("InstanceGroup", group.metadata)],
        },
        "data": makings.revision_data,
        "revision": number,
    }
    try:
        await engine.objects.create(revision)
    except errors.AlreadyExists:
        await engine.objects.refresh(key)


def _owned(revision: Obj | None, group: InstanceGroup) -> bool:
    owners = revision["metadata"].get("ownerReferences", ()) if revision is not None else ()
    return any(each["uid"] == group.metadata.uid for each in owners)


def _revisions(engine: Engine, group: InstanceGroup) -> list[Obj]:
    found = (engine.objects.get(each) for each in engine.objects.children(group.metadata.uid, "ControllerRevision"))
    return [each for each in found if each is not None]


async def _prune(engine: Engine, group: InstanceGroup, newest: str) -> None:
    """Delete revisions that no Instance in a live list names, the newest one kept."""
    if group.metadata.deleting or not newest:
        return
    old = [each["metadata"]["name"] for each in _revisions(engine, group) if each["metadata"]["name"] != newest]
    if not old:
        return
    named = {each["spec"].get("revision") for each in await _all(engine, group)}
    for name in sorted(set(old) - named):
        await engine.objects.delete(Key("ControllerRevision", group.metadata.namespace, name))


# --- the end --------------------------------------------------------------------------------------------------------
async def _release(engine: Engine, key: Key, *, orphaned: bool) -> float | None:
    """Let go only after a live list shows no Instance; of an orphaned group they go their own way (design section 5, rule 5)."""
    if orphaned:
        await engine.say(key, "Warning", Reason.OWNER_MISSING, "its Infrastructure does not exist; its machines are left alone")
        await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=False)
        return None
    live = await engine.objects.store.list("Instance", key.namespace)
    seen = engine.objects.get(key)
    if seen is None:
        return None
    if any(owner["uid"] == seen["metadata"]["uid"] for each in live for owner in each["metadata"].get("ownerReferences", ())):
        return 1.0
    await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=False)
    return None


async def _tell(engine: Engine, key: Key, before: InstanceGroup, todo: Plan) -> None:
    """An event where what is under way has become something that a user should know."""
    said = meta.condition(before.status.conditions, "Progressing")
    if todo.progress is not None and todo.progress.reason in _TOLD and (said is None or said.reason != todo.progress.reason.value):
        await engine.say(key, "Warning", todo.progress.reason, todo.progress.message)


_TOLD = frozenset(
    {
        Reason.BACK_OFF,
        Reason.BRAKED,
        Reason.FROZEN,
        Reason.UNCLAIMED,
        Reason.DUPLICATE_MACHINE,
        Reason.TEMPLATE_INVALID,
        Reason.USER_DATA_TOO_LARGE,
        Reason.INPUTS_TOO_LARGE,
        Reason.CONFIG_MAP_NOT_FOUND,
        Reason.CLOUD_INVALID,
        Reason.NO_ADDRESS,
    }
)


def _key(group: InstanceGroup) -> Key:
    return Key("InstanceGroup", group.metadata.namespace, group.metadata.name)
