"""What is known of one group, and what its new Instances would be made of. Reads; decides nothing that a plan could.

Answers of drivers and of the renderer are kept for a while, by what was asked, so that a pass over an unchanged group asks
nobody.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from controller import errors
from controller.api import meta
from controller.api.cloud import Cloud
from controller.api.group import InstanceGroup
from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.api.template import Health, Implementation, InstanceTemplate
from controller.context import references
from controller.engine import clouds, request
from controller.engine.clouds import cloud_key
from controller.engine.engine import Engine, Refused
from controller.ports import Account, Identity, Key, RenderRequest
from controller.reconcilers import graph
from controller.reconcilers.graph import Problem
from controller.reconcilers.infrastructure.plan import group_name, recorded_edges
from controller.reconcilers.instancegroup import inputs, revision
from controller.reconcilers.instancegroup.plan import Dependency, Hold, Observed, Unclaimed, failed, ready

#: For how long an implementation is passed over after the cloud had no room or quota for it (reference, section 4).
AVOID_SECONDS = 180.0
#: For how long after a lack of room for one machine more are tried by one again: longer than the longest back-off, so that it is
#: asked by one each time.
NONE_SECONDS = 600.0
#: The most machines of one batch (design section 6).
MOST = 100
#: For how long a cloud's answer to `resolve` is used again.
RESOLVED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Makings:
    """What a new Instance is made of."""

    revision_name: str
    revision_data: dict[str, Any]
    implementation: Implementation
    inputs: dict[str, Any]
    health: Health
    most: int
    room: int


async def gather(engine: Engine, group: InstanceGroup) -> tuple[Observed, Makings | None]:
    """The observation, and the makings of new Instances where nothing forbids them."""
    found = (engine.objects.model(each, Instance) for each in engine.objects.children(group.metadata.uid, "Instance"))
    instances = tuple(each for each in found if each is not None)
    dependencies = _dependencies(engine, group)
    makings, hold, name, told = await _makings(engine, group, instances)
    hold = _strange(engine, group) or hold
    observed = Observed(
        group=group,
        instances=instances,
        now=engine.ports.now(),
        hold=hold,
        dependencies=tuple(_dependency(service, other) for service, other in dependencies.items()),
        revision=name,
        stale=inputs.stale(instances, name, told) if told is not None else frozenset(),
        unclaimed=_unclaimed(engine, group),
        duplicates=tuple(sorted(_duplicates(engine, instances))),
        blockers=_blockers(engine, group),
        orphaned=await _orphaned(engine, group),
        in_doubt=_in_doubt(engine, instances),
        most=makings.most if makings is not None else 1,
        room=makings.room if makings is not None else 0,
        launched=engine.clouds.batches(),
        narrow=makings.implementation.name if makings is not None and _refused(engine, group, makings.implementation) is not None else "",
        full=frozenset(name for (uid, name), each in engine.memory.refused.items() if uid == group.metadata.uid and each.size == 1),
        another=_another(engine, group),
    )
    return observed, makings


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


async def template_text(engine: Engine, template: InstanceTemplate) -> str | Problem:
    """The text of the template's cloud-init, from itself or from its ConfigMap; empty where it has none."""
    cloud_init = template.spec.context.cloud_init if template.spec.context is not None else None
    if cloud_init is None:
        return ""
    reference = cloud_init.config_map_ref
    if reference is None:
        return cloud_init.template or ""
    text = await _config(engine, template.metadata.namespace, reference.name, reference.key)
    if text is None:
        return Problem(
            Reason.CONFIG_MAP_NOT_FOUND,
            f"InstanceTemplate {template.metadata.name}: no ConfigMap {reference.name} with a key {reference.key}",
        )
    return text


# --- what new Instances are made of ---------------------------------------------------------------------------------
_Made = tuple[Makings | None, Hold | None, str, dict[str, Any] | None]


async def _makings(engine: Engine, group: InstanceGroup, instances: tuple[Instance, ...]) -> _Made:
    """Makings, or why there are none; with the newest revision's name and what its Instances would be told now."""
    key = Key("InstanceTemplate", group.metadata.namespace, group.spec.template_ref.name)
    template, stored = engine.objects.model(key, InstanceTemplate), engine.objects.get(key)
    if template is None or stored is None:
        return None, Hold(Reason.TEMPLATE_NOT_FOUND, f"there is no InstanceTemplate {key.name}"), "", None
    text = await template_text(engine, template)
    if isinstance(text, Problem):
        return None, Hold(text.reason, text.message), "", None
    data = revision.data(stored["spec"], text or None)
    name = revision.name(group.metadata.name, data)
    told = await _told(engine, group, template, text)
    if isinstance(told, Hold):
        return None, told, name, None
    chosen = await _implementation(engine, group, template, instances)
    if isinstance(chosen, Hold):
        return None, chosen, name, told
    hold = await _trial(engine, group, text, told, chosen)
    if hold is not None:
        return None, hold, name, told
    most, room = _bounds(engine, group, chosen, text)
    return Makings(name, data, chosen, told, template.spec.health or Health(), most, room), None, name, told


def _bounds(engine: Engine, group: InstanceGroup, chosen: Implementation, text: str) -> tuple[int, int]:
    """How many machines one call may make: those are alike whose template reads nothing of `instance`; and for how many there is room."""
    key = Key("Cloud", group.metadata.namespace, chosen.cloud_ref.name)
    binding, cloud = engine.clouds.binding(key), engine.objects.model(key, Cloud)
    if binding is None or cloud is None:
        return 1, 0
    alike = not references.reads(text, group.spec.template_ref.name).instance
    halved, _ = engine.memory.halved.get((group.metadata.uid, chosen.name), (MOST, 0.0))
    refused = _refused(engine, group, chosen)
    fitting = max(1, refused.size // 2) if refused is not None else MOST
    most = min(MOST, binding.driver.most_per_call, halved, fitting) if alike else 1
    return most, engine.launcher.room(binding.inventory.account, cloud.spec.max_instances)


async def _told(engine: Engine, group: InstanceGroup, template: InstanceTemplate, text: str) -> dict[str, Any] | Hold:
    try:
        found = references.reads(text, f"InstanceTemplate {template.metadata.name}")
    except errors.TemplateError as error:
        return Hold(Reason.TEMPLATE_INVALID, str(error))
    reads = inputs.Reads(found.variables, found.services, found.dynamic)
    config: dict[tuple[str, str], str] = {}
    for each in (*template.spec.variables, *group.spec.variables):
        source = each.value_from.config_map_key_ref if each.value_from is not None else None
        if source is not None and (value := await _config(engine, group.metadata.namespace, source.name, source.key)) is not None:
            config[source.name, source.key] = value
    services = {service: _instances(engine, other) if other is not None else () for service, other in _dependencies(engine, group).items()}
    return inputs.compute(reads, inputs.Sources(template.spec.variables, group.spec.variables, config, services))


async def _config(engine: Engine, namespace: str, name: str, key: str) -> str | None:
    try:
        found = await engine.objects.store.get(Key("ConfigMap", namespace, name))
    except errors.ObjectNotFound:
        return None
    return found.get("data", {}).get(key)


async def _implementation(
    engine: Engine, group: InstanceGroup, template: InstanceTemplate, instances: tuple[Instance, ...]
) -> Implementation | Hold:
    """The first implementation whose Cloud can be used and that was not refused lately, its names resolved to ids."""
    _remember_refusals(engine, group, instances)
    avoided = {name for uid, name in engine.memory.avoided if uid == group.metadata.uid}
    order = sorted(template.spec.implementations, key=lambda each: each.name in avoided)
    hold: Hold | None = None
    for candidate in order:
        resolved = await _resolved(engine, group, candidate)
        if isinstance(resolved, Implementation):
            return resolved
        hold = hold or resolved
    return hold or Hold(Reason.CLOUD_NOT_FOUND, "the template has no implementation")


def _remember_refusals(engine: Engine, group: InstanceGroup, instances: tuple[Instance, ...]) -> None:
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
        if each.metadata.deleting or failed(each) not in (Reason.NO_CAPACITY, Reason.QUOTA_EXCEEDED, Reason.CLOUD_INVALID):
            continue
        size = each.spec.batch.size if failed(each) is not Reason.CLOUD_INVALID and _fewer_may_fit(engine, each) else 1
        if size == 1:
            memory.avoided.setdefault(place, now + AVOID_SECONDS)
        least = min(size, kept.size) if kept is not None else size
        memory.refused[place] = Refused(least, now, now + (NONE_SECONDS if least == 1 else AVOID_SECONDS))


def _refused(engine: Engine, group: InstanceGroup, implementation: Implementation) -> Refused | None:
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


def _another(engine: Engine, group: InstanceGroup) -> bool:
    """Whether an implementation of the template was not refused lately."""
    template = engine.objects.model(Key("InstanceTemplate", group.metadata.namespace, group.spec.template_ref.name), InstanceTemplate)
    names = {each.name for each in template.spec.implementations} if template is not None else set[str]()
    return bool(names - {name for uid, name in engine.memory.avoided if uid == group.metadata.uid})


async def _resolved(engine: Engine, group: InstanceGroup, candidate: Implementation) -> Implementation | Hold:
    key = Key("Cloud", group.metadata.namespace, candidate.cloud_ref.name)
    binding, cloud = engine.clouds.binding(key), engine.objects.model(key, Cloud)
    if cloud is None:
        return Hold(Reason.CLOUD_NOT_FOUND, f"there is no Cloud {key.name}")
    if cloud.metadata.deleting:
        return Hold(Reason.WAITING_FOR_CLOUD, f"Cloud {key.name} is being deleted")
    if binding is None or binding.inventory.listed is None or binding.inventory.trouble is not None:
        said = meta.condition(cloud.status.conditions, "Ready")
        why = f"{said.reason}: {said.message}" if said is not None and said.status == "False" else "its machines were not listed yet"
        return Hold(Reason.WAITING_FOR_CLOUD, f"Cloud {key.name}: {why}")
    kind, arm = candidate.arm()
    place, now = ("resolve", key, json.dumps([kind, arm], sort_keys=True)), engine.ports.now().timestamp()
    kept: tuple[float, dict[str, Any] | Hold] | None = engine.memory.cached.get(place)
    if kept is None or kept[0] < now:
        answer: dict[str, Any] | Hold
        try:
            answer = await binding.inventory.calls("resolve", lambda: binding.driver.resolve(arm))
        except errors.Invalid as error:
            answer = Hold(Reason.CLOUD_INVALID, f"implementation {candidate.name}: {error}")
        except errors.CloudError as error:
            return Hold(Reason.WAITING_FOR_CLOUD, f"Cloud {key.name}: {error}")
        kept = (now + RESOLVED_SECONDS, answer)
        engine.memory.cached[place] = kept
    if isinstance(kept[1], Hold):
        return kept[1]
    return Implementation.model_validate({"name": candidate.name, "cloudRef": {"name": candidate.cloud_ref.name}, kind: kept[1]})


async def _trial(engine: Engine, group: InstanceGroup, text: str, told: dict[str, Any], chosen: Implementation) -> Hold | None:
    """Render once before anything is made, secrets stood in for: a wrong template makes no machine."""
    if not text:
        return None
    binding = engine.clouds.binding(Key("Cloud", group.metadata.namespace, chosen.cloud_ref.name))
    if binding is None:
        return Hold(Reason.WAITING_FOR_CLOUD, f"Cloud {chosen.cloud_ref.name} is not bound")
    limit = binding.driver.user_data_limit_bytes
    asked = json.dumps([text, told, limit], sort_keys=True)
    place = ("trial", group.metadata.uid)
    kept = engine.memory.cached.get(place)
    if kept is not None and kept[0] == asked:
        return kept[1]
    names = {
        "infrastructure": group.spec.infrastructure.name,
        "service": group.spec.service,
        "name": f"{group.metadata.name}-0",
        "index": "0",
        "id": "00000000-0000-0000-0000-000000000000-0",
    }
    values = request.values(told, names, dict.fromkeys(told.get("secrets", {}), "secret"))
    hold: Hold | None = None
    try:
        await request.rendered(
            engine.ports.renderer, RenderRequest(text, f"InstanceTemplate {group.spec.template_ref.name}", values, limit)
        )
    except request.NotNow as wrong:
        hold = Hold(wrong.reason, str(wrong))
    engine.memory.cached[place] = (asked, hold)
    return hold


# --- the surroundings -----------------------------------------------------------------------------------------------
def _dependencies(engine: Engine, group: InstanceGroup) -> dict[str, InstanceGroup | None]:
    """The groups of the services depended on, by their names; None where there is none of this Infrastructure's."""
    owner = next((each for each in group.metadata.owner_references if each.kind == "Infrastructure"), None)
    found: dict[str, InstanceGroup | None] = {}
    for each in group.spec.depends_on:
        name = group_name(group.spec.infrastructure.name, each.service)
        other = engine.objects.model(Key("InstanceGroup", group.metadata.namespace, name), InstanceGroup)
        found[each.service] = other if other is not None and owner is not None and other.metadata.owned_by(owner.uid) else None
    return found


def _dependency(service: str, other: InstanceGroup | None) -> Dependency:
    if other is None:
        return Dependency(service, False, "its group does not exist yet")
    said = meta.condition(other.status.conditions, "Available")
    if said is None or said.observed_generation != other.metadata.generation:
        return Dependency(service, False, "not looked at yet")
    return Dependency(service, said.status == "True", said.message)


def _instances(engine: Engine, group: InstanceGroup) -> tuple[Instance, ...]:
    found = (engine.objects.model(each, Instance) for each in engine.objects.children(group.metadata.uid, "Instance"))
    return tuple(each for each in found if each is not None and ready(each))


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


def _blockers(engine: Engine, group: InstanceGroup) -> tuple[str, ...]:
    if not group.metadata.deleting:
        return ()
    owner = next((each for each in group.metadata.owner_references if each.kind == "Infrastructure"), None)
    if owner is None:
        return ()
    found = (engine.objects.model(each, InstanceGroup) for each in engine.objects.children(owner.uid, "InstanceGroup"))
    return graph.blockers(group.spec.service, recorded_edges(tuple(each for each in found if each is not None)))


async def _orphaned(engine: Engine, group: InstanceGroup) -> bool:
    """Whether a deleting group's Infrastructure is gone, by a live read: then the deletion is nobody's wish (rule 5)."""
    owner = next((each for each in group.metadata.owner_references if each.kind == "Infrastructure"), None)
    if owner is None or not group.metadata.deleting:
        return False
    found = await engine.objects.refresh(Key("Infrastructure", group.metadata.namespace, owner.name))
    return found is None or found["metadata"]["uid"] != owner.uid


def _in_doubt(engine: Engine, instances: tuple[Instance, ...]) -> str:
    """Why nothing of the group may be destroyed or replaced now, if so."""
    for key in sorted({cloud_key(each) for each in instances}):
        binding = engine.clouds.binding(key)
        if binding is None or binding.inventory.listed is None:
            return f"Cloud {key.name} was not asked yet"
        if binding.inventory.trouble is not None:
            return f"Cloud {key.name} gives no usable list: {binding.inventory.trouble}"
    return ""
