"""The snapshots of a group's template, as ControllerRevisions: made before an Instance names one, deleted when none does.

Called by the group's pass. What a snapshot holds is `revision.py`'s matter.
"""

from __future__ import annotations

from controller import errors
from controller.api import meta
from controller.api.group import InstanceGroup
from controller.api.instance import Instance
from controller.engine.engine import Engine
from controller.engine.objects import owner_reference
from controller.ports import Key, Obj
from controller.reconcilers.instancegroup.creation import everything
from controller.reconcilers.instancegroup.makings import Makings


def needs(instance: Instance, makings: Makings) -> bool:
    """Whether the Instance is yet to be rendered from the newest revision, which somebody may have removed."""
    return instance.spec.revision == makings.revision_name and instance.status.launch is None and not instance.metadata.deleting


async def ensure(engine: Engine, group: InstanceGroup, makings: Makings) -> None:
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


async def prune(engine: Engine, group: InstanceGroup, newest: str) -> None:
    """Delete revisions that no Instance in a live list names, the newest one kept. Nothing is listed while the known ones name them all."""
    if group.metadata.deleting or not newest:
        return
    known = (engine.objects.get(each) for each in engine.objects.children(group.metadata.uid, "Instance"))
    used = {each["spec"].get("revision") for each in known if each is not None}
    old = {each["metadata"]["name"] for each in _revisions(engine, group)} - used - {newest}
    if not old:
        return
    named = {each["spec"].get("revision") for each in await everything(engine, group)}
    for name in sorted(old - named):
        await engine.objects.delete(Key("ControllerRevision", group.metadata.namespace, name))


__all__ = ["ensure", "needs", "prune"]
