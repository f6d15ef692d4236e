"""One pass over an Infrastructure: gather, plan, act, write the status. Decides nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from controller import errors
from controller.api import meta
from controller.api.cloud import Cloud
from controller.api.group import InstanceGroup, InstanceGroupSpec
from controller.api.infrastructure import Infrastructure
from controller.api.reasons import Reason
from controller.api.template import InstanceTemplate
from controller.context import references
from controller.engine import clouds
from controller.engine.engine import Engine
from controller.engine.objects import dump, owner_reference, typed
from controller.ports import Key
from controller.reconcilers.graph import Problem, TemplateFacts
from controller.reconcilers.infrastructure import status
from controller.reconcilers.infrastructure.plan import (
    Action,
    AddFinalizer,
    AdoptGroup,
    CreateGroup,
    DeleteGroup,
    FreeGroup,
    Observed,
    Release,
    UpdateGroup,
    group_name,
    plan,
)
from controller.reconcilers.instancegroup import makings
from controller.stores import merge

#: How soon a ConfigMap that is not there is asked for again.
_ASK_AGAIN_SECONDS = 10.0


async def reconcile(engine: Engine, key: Key) -> float | None:
    infrastructure = engine.objects.model(key, Infrastructure)
    if infrastructure is None:
        return None
    observed = await _gather(engine, key, infrastructure)
    todo = plan(observed)
    if any(isinstance(each, Release) for each in todo.actions):
        return await _release(engine, key)
    for action in todo.actions:
        if isinstance(action, DeleteGroup):
            # Its service may have been put back meanwhile, and what is deleted cannot be kept any more.
            engine.objects.must_be_as_planned(key, infrastructure.metadata.generation)
        await _act(engine, key, infrastructure, action)
    fresh = engine.objects.model(key, Infrastructure)
    if fresh is not None:
        await _report(engine, key, fresh)
    if any(isinstance(each, FreeGroup) for each in todo.actions):
        return 0.0  # They are its own no more, so that none of them wakes it.
    # A ConfigMap is not watched in every home.
    return _ASK_AGAIN_SECONDS if any(each.reason is Reason.CONFIG_MAP_NOT_FOUND for each in todo.problems) else None


async def _report(engine: Engine, key: Key, fresh: Infrastructure) -> None:
    observed = await _gather(engine, key, fresh)
    todo = plan(observed)
    wanted = status.report(observed, todo, engine.ports.now())
    before = meta.condition(fresh.status.conditions, "Ready")
    if not await engine.objects.write_status(key, wanted):
        return
    after = meta.condition(wanted.conditions, "Ready")
    if after is not None and (before is None or before.status != after.status or (todo.problems and before.reason != after.reason)):
        await engine.say(key, "Warning" if todo.problems else "Normal", Reason(after.reason), after.message)


async def _gather(engine: Engine, key: Key, infrastructure: Infrastructure) -> Observed:
    spec = infrastructure.spec
    groups = [engine.objects.model(each, InstanceGroup) for each in engine.objects.children(infrastructure.metadata.uid, "InstanceGroup")]
    own = tuple(each for each in groups if each is not None)
    names = {each.template_ref.name for each in spec.services}
    others = [
        other
        for name in (group_name(key.name, each.name) for each in spec.services)
        if (other := engine.objects.model(Key("InstanceGroup", key.namespace, name), InstanceGroup)) is not None
        and not any(owner.uid == infrastructure.metadata.uid for owner in other.metadata.owner_references)
    ]
    facts = {name: found for name in names if (found := await _facts(engine, key.namespace, name)) is not None}
    return Observed(
        infrastructure=infrastructure,
        groups=own,
        orphans=tuple(each for each in others if _orphaned(each, key.name)),
        taken=frozenset(each.metadata.name for each in others if not _orphaned(each, key.name)),
        id_taken=_id_taken(engine, infrastructure),
        templates=facts,
        clouds=_clouds(engine, key.namespace),
        machines=_unclaimed(engine, infrastructure),
        unseen=_unseen(engine, key.namespace),
        orphaning=infrastructure.metadata.uid in engine.memory.orphaning,
    )


def _orphaned(group: InstanceGroup, infrastructure: str) -> bool:
    """Whether nobody owns the group of an Infrastructure of this name."""
    return not group.metadata.owner_references and not group.metadata.deleting and group.spec.infrastructure.name == infrastructure


def _clouds(engine: Engine, namespace: str) -> dict[str, str]:
    here = (each for each in engine.objects.models("Cloud", Cloud) if each.metadata.namespace == namespace)
    return {each.metadata.name: each.spec.arm()[0] for each in here}


def _unseen(engine: Engine, namespace: str) -> dict[str, str]:
    here = (each.metadata.name for each in engine.objects.models("Cloud", Cloud) if each.metadata.namespace == namespace)
    return {name: unseen.message for name in here if (unseen := makings.unseen(engine, Key("Cloud", namespace, name))) is not None}


async def _facts(engine: Engine, namespace: str, name: str) -> TemplateFacts | None:
    """What planning needs to know of a template; parsed once for each version of it and of its ConfigMap."""
    template = engine.objects.model(Key("InstanceTemplate", namespace, name), InstanceTemplate)
    if template is None:
        return None
    text = await makings.template_text(engine, template)
    if isinstance(text, Problem):
        return TemplateFacts(problem=text)
    cached = ("facts", template.metadata.uid, template.metadata.resource_version, text)
    place = ("facts", namespace, name)
    kept = engine.memory.cached.get(place)
    if kept is None or kept[0] != cached:
        kept = (cached, template_facts(template, text))
        engine.memory.cached[place] = kept
    return kept[1]


def template_facts(template: InstanceTemplate, text: str) -> TemplateFacts:
    """What planning needs to know of a template with this text."""
    name = template.metadata.name
    try:
        reads = references.reads(text, f"InstanceTemplate {name}")
    except errors.TemplateError as error:
        return TemplateFacts(problem=Problem(Reason.TEMPLATE_INVALID, str(error)))
    return TemplateFacts(
        reads_services=reads.services,
        reads_variables=reads.variables - reads.optional,
        defines_variables=frozenset(each.name for each in template.spec.variables),
        clouds=tuple((each.cloud_ref.name, each.arm()[0]) for each in template.spec.implementations),
    )


def _id_taken(engine: Engine, infrastructure: Infrastructure) -> str:
    """The Infrastructure that had this spec.id first; of two, the older one keeps it."""
    if infrastructure.spec.id is None:
        return ""

    def age(each: Infrastructure) -> tuple[Any, ...]:
        return (each.metadata.creation_timestamp, each.metadata.namespace, each.metadata.name)

    for other in engine.objects.models("Infrastructure", Infrastructure):
        if (
            other.metadata.uid != infrastructure.metadata.uid
            and other.identity == infrastructure.identity
            and age(other) < age(infrastructure)
        ):
            return f"{other.metadata.namespace}/{other.metadata.name}"
    return ""


def _unclaimed(engine: Engine, infrastructure: Infrastructure) -> dict[str, int]:
    """Machines by service that no group counts yet: those without an Instance, and those whose Instance has no group."""
    found: Counter[str] = Counter()
    for service in infrastructure.spec.services:
        group = Key("InstanceGroup", infrastructure.metadata.namespace, group_name(infrastructure.metadata.name, service.name))
        same = [each for each in engine.objects.strays(group) if each["spec"]["infrastructure"]["id"] == infrastructure.identity]
        found[service.name] += sum(1 for each in same if each["spec"]["service"] == service.name)
    own = (infrastructure.metadata.namespace, infrastructure.identity)
    for _, machine in engine.clouds.suspects():
        if (machine.tags.get(clouds.NAMESPACE_TAG), machine.tags.get(clouds.INFRASTRUCTURE_ID_TAG)) == own:
            found[machine.tags.get(clouds.SERVICE_TAG, "")] += 1
    return dict(found)


async def _act(engine: Engine, key: Key, infrastructure: Infrastructure, action: Action) -> None:
    match action:
        case AddFinalizer():
            await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=True)
        case CreateGroup(name, spec):
            await engine.objects.create(_new_group(infrastructure, name, spec))
            await engine.say(key, "Normal", Reason.CREATED, f"service {spec.service}: group {name} with {spec.replicas} machines")
        case AdoptGroup(name):
            owner = owner_reference("Infrastructure", infrastructure.metadata)
            await engine.objects.write(Key("InstanceGroup", key.namespace, name), {"metadata": {"ownerReferences": [owner]}})
            await engine.say(key, "Normal", Reason.CLAIMED, f"group {name}, which nobody owned")
        case FreeGroup(name):
            await engine.objects.disown(Key("InstanceGroup", key.namespace, name), infrastructure.metadata.uid)
        case UpdateGroup(name, spec):
            await _update(engine, Key("InstanceGroup", key.namespace, name), spec)
        case DeleteGroup(name):
            await engine.say(key, "Normal", Reason.DELETED, f"group {name} is deleted")
            # As it was seen: `--cascade=orphan` takes its owner away, which a watch may show later than that of the Infrastructure.
            await engine.objects.delete(Key("InstanceGroup", key.namespace, name), as_seen=True)
        case Release():
            raise ValueError("released by reconcile")


async def _update(engine: Engine, key: Key, spec: InstanceGroupSpec) -> None:
    """Make the fields that we plan what they should be; a field that is unset is removed."""
    seen = engine.objects.get(key)
    if seen is None:
        return
    wanted = dump(spec)
    if spec.fixed_replicas is None:
        # The number is the group's own, and may have been changed since the plan was made.
        wanted["replicas"] = seen["spec"]["replicas"]
    await engine.objects.write(key, {"spec": merge.difference(seen["spec"], wanted)})


def _new_group(infrastructure: Infrastructure, name: str, spec: InstanceGroupSpec) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": infrastructure.metadata.namespace,
        "finalizers": [meta.FINALIZER],
        "labels": {meta.INFRASTRUCTURE_LABEL: infrastructure.metadata.name, meta.SERVICE_LABEL: spec.service},
        "ownerReferences": [owner_reference("Infrastructure", infrastructure.metadata)],
    }
    return typed("InstanceGroup", metadata, dump(spec))


async def _release(engine: Engine, key: Key) -> float | None:
    """Let go only after a live list shows no group (design section 5, rule 5)."""
    seen = engine.objects.get(key)
    if seen is None:
        return None
    uid = seen["metadata"]["uid"]
    groups = await engine.objects.store.list("InstanceGroup", key.namespace)
    if any(owner["uid"] == uid for each in groups for owner in each["metadata"].get("ownerReferences", ())):
        return 1.0
    await engine.objects.set_finalizer(key, meta.FINALIZER, wanted=False)
    return None
