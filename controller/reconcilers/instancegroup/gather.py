"""What is known of one group, and of what stands around it. Reads; decides nothing that a plan could."""

from __future__ import annotations

from typing import Any

from controller.api import meta
from controller.api.cloud import Cloud
from controller.api.group import InstanceGroup
from controller.api.infrastructure import Infrastructure
from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.api.template import InstanceTemplate
from controller.engine import clouds
from controller.engine.clouds import cloud_key
from controller.engine.engine import Engine
from controller.ports import Account, Key
from controller.reconcilers import graph
from controller.reconcilers.infrastructure.plan import recorded_edges
from controller.reconcilers.instancegroup import inputs, makings, refusals
from controller.reconcilers.instancegroup.observed import Dependency, Hold, Observed, Unclaimed, failed


async def gather(engine: Engine, group: InstanceGroup) -> tuple[Observed, makings.Makings | None]:
    """The observation, and the makings of new Instances where nothing forbids them."""
    found = (engine.objects.model(each, Instance) for each in engine.objects.children(group.metadata.uid, "Instance"))
    instances = tuple(each for each in found if each is not None)
    dependencies = makings.dependencies(engine, group)
    made, hold, name, told = await makings.makings(engine, group, instances)
    hold = _ownerless(engine, group) or _strange(engine, group) or hold
    observed = Observed(
        group=group,
        instances=instances,
        now=engine.ports.now(),
        hold=hold,
        dependencies=tuple(_dependency(service, other) for service, other in dependencies.items()),
        revision=name,
        stale=inputs.stale(instances, name, told),
        overtaken=inputs.overtaken(instances, name, told),
        stranded=_stranded(engine, instances),
        unclaimed=_unclaimed(engine, group),
        duplicates=tuple(sorted(_duplicates(engine, instances))),
        blockers=blockers(engine, group) if group.metadata.deleting else (),
        orphaned=await _orphaned(engine, group),
        orphaning=group.metadata.uid in engine.memory.orphaning,
        in_doubt=_in_doubt(engine, instances),
        most=made.most if made is not None else 1,
        room=made.room if made is not None else 0,
        launched=engine.clouds.batches(),
        narrow=made.implementation.name if made is not None and refusals.refused(engine, group, made.implementation) is not None else "",
        full=refusals.full(engine, group),
        unjudged=frozenset(each.metadata.name for each in instances if failed(each) is not None and not _is_judged(engine, each)),
        another=made is not None and made.implementation.name not in refusals.avoided(engine, group),
    )
    return observed, made


def _ownerless(engine: Engine, group: InstanceGroup) -> Hold | None:
    """Without its Infrastructure nothing is launched for the group: then nothing that may run is taken from it either."""
    key = Key("Infrastructure", group.metadata.namespace, group.spec.infrastructure.name)
    found = engine.objects.model(key, Infrastructure)
    if found is not None and group.metadata.owned_by(found.metadata.uid):
        return None
    left = "its machines are left alone, and none is made"
    if found is None:
        return Hold(Reason.OWNER_MISSING, f"there is no Infrastructure {key.name}: {left}")
    way_out = f"with spec.id {group.spec.infrastructure.id} and a service {group.spec.service} it is taken over"
    return Hold(Reason.OWNER_MISSING, f"it does not belong to the Infrastructure {key.name} that is there: {left}; {way_out}")


def _strange(engine: Engine, group: InstanceGroup) -> Hold | None:
    """While an Instance that is not the group's may hold a machine of its name, none is made beside it."""
    found = engine.objects.strays(Key("InstanceGroup", group.metadata.namespace, group.metadata.name))
    if not found:
        return None
    foreign = [each for each in found if each["metadata"].get("ownerReferences") or each["metadata"].get("deletionTimestamp")]
    if not foreign:
        known = found[0]["spec"]["infrastructure"]["id"]
        said = f"{len(found)} Instances of this name have no owner; an Infrastructure created with spec.id: {known} takes them over"
        return Hold(Reason.UNCLAIMED, said)
    name, owners = foreign[0]["metadata"]["name"], foreign[0]["metadata"].get("ownerReferences", ())
    other = next((f"{each['kind']} {each['name']}" for each in owners if each["kind"] != "InstanceGroup"), "")
    if other:
        return Hold(Reason.UNCLAIMED, f"Instance {name} has this group's label and belongs to {other}; take the label away, or the owner")
    return Hold(Reason.UNCLAIMED, f"{len(foreign)} Instances of an earlier group of this name are let go first")


def _stranded(engine: Engine, instances: tuple[Instance, ...]) -> frozenset[str]:
    """Those on a Cloud that is being deleted: nothing new is launched there, and it stays as long as they do."""
    clouds = {key: engine.objects.model(key, Cloud) for key in {cloud_key(each) for each in instances}}
    leaving = {key for key, each in clouds.items() if each is not None and each.metadata.deleting}
    return frozenset(each.metadata.name for each in instances if cloud_key(each) in leaving)


def _dependency(service: str, other: InstanceGroup | None) -> Dependency:
    if other is None:
        return Dependency(service, False, "its group does not exist yet")
    if other.metadata.deleting:
        return Dependency(service, False, "its group is being deleted")
    said = meta.condition(other.status.conditions, "Available")
    if said is None or said.observed_generation != other.metadata.generation:
        return Dependency(service, False, "not looked at yet")
    return Dependency(service, said.status == "True", said.message)


def _unclaimed(engine: Engine, group: InstanceGroup) -> tuple[Unclaimed, ...]:
    found: list[Unclaimed] = []
    for account, machine in engine.clouds.suspects():
        tags = machine.tags
        if tags.get(clouds.NAMESPACE_TAG) != group.metadata.namespace or tags.get(clouds.SERVICE_TAG) != group.spec.service:
            continue
        identity = tags.get(clouds.INFRASTRUCTURE_ID_TAG, "")
        own = identity == group.spec.infrastructure.id
        if own or (tags.get(clouds.INFRASTRUCTURE_TAG) == group.spec.infrastructure.name and not _alive(engine, identity)):
            sure = engine.sweep.sure(account, machine.id)
            found.append(Unclaimed(machine, _clouds_of(engine, group, account), sure, "" if own else identity))
    return tuple(found)


def _alive(engine: Engine, identity: str) -> bool:
    """Whether an Infrastructure of that identity exists, whose business the machine then is."""
    return any(identity in (each["spec"].get("id"), each["metadata"]["uid"]) for each in engine.objects.list("Infrastructure"))


def _clouds_of(engine: Engine, group: InstanceGroup, account: Account) -> tuple[str, ...]:
    """The Clouds of the account that the group's template names."""
    key = Key("InstanceTemplate", group.metadata.namespace, group.spec.template_ref.name)
    template = engine.objects.model(key, InstanceTemplate)
    named = {each.cloud_ref.name for each in template.spec.implementations} if template is not None else set[str]()
    bound = {
        key.name
        for key, each in engine.clouds.bindings()
        if key.namespace == group.metadata.namespace and each.inventory.account == account
    }
    return tuple(sorted(named & bound))


def _duplicates(engine: Engine, instances: tuple[Instance, ...]) -> set[Any]:
    shared = {identity for inventory in engine.clouds.inventories().values() for identity in inventory.duplicates()}
    return shared & {clouds.identity_of(each) for each in instances} if shared else set()


def blockers(engine: Engine, group: InstanceGroup) -> tuple[str, ...]:
    """The services whose machines have to go before those of the group."""
    owner = next((each for each in group.metadata.owner_references if each.kind == "Infrastructure"), None)
    if owner is None:
        return ()
    found = (engine.objects.model(each, InstanceGroup) for each in engine.objects.children(owner.uid, "InstanceGroup"))
    groups = tuple(each for each in found if each is not None)
    bare = frozenset(each.spec.service for each in groups if not engine.objects.has(each.metadata.uid, "Instance"))
    return graph.blockers(group.spec.service, recorded_edges(groups, bare))


async def _orphaned(engine: Engine, group: InstanceGroup) -> bool:
    """Whether a deleting group's Infrastructure is gone, by a live read: then the deletion is nobody's wish (rule 5)."""
    owner = next((each for each in group.metadata.owner_references if each.kind == "Infrastructure"), None)
    if owner is None or not group.metadata.deleting:
        return False
    found = await engine.objects.refresh(Key("Infrastructure", group.metadata.namespace, owner.name))
    return found is None or found["metadata"]["uid"] != owner.uid


def _is_judged(engine: Engine, instance: Instance) -> bool:
    """Whether a pass of this process has looked at it by lists that are good since."""
    binding, judged = engine.clouds.binding(cloud_key(instance)), engine.memory.judged.get(instance.metadata.uid)
    return binding is not None and judged is not None and judged == binding.inventory.recovered


def _in_doubt(engine: Engine, instances: tuple[Instance, ...]) -> str:
    """Why nothing of the group may be destroyed or replaced now, if so."""
    for key in sorted({cloud_key(each) for each in instances}):
        binding = engine.clouds.binding(key)
        if binding is None or binding.inventory.listed is None:
            return _unasked(engine, key)
        if binding.inventory.trouble is not None:
            return f"Cloud {key.name} gives no usable list: {binding.inventory.trouble}"
    return ""


def _unasked(engine: Engine, key: Key) -> str:
    cloud = engine.objects.model(key, Cloud)
    if cloud is None:
        return f"there is no Cloud {key.name}"
    said = meta.condition(cloud.status.conditions, "Ready")
    if said is None or said.status == "True" or engine.clouds.is_unasked(key):
        return f"Cloud {key.name} was not asked yet"
    return f"Cloud {key.name} cannot be used: {said.reason}: {said.message}"
