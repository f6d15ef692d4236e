"""What new Instances of a group would be made of: revision, implementation by ids, what they are told. Reads and asks; makes nothing.

Called while the group is gathered. Answers of drivers and of the renderer are kept for a while, by what was asked, so that a pass over
an unchanged group asks nobody.
"""

from __future__ import annotations

import asyncio
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
from controller.engine import request
from controller.engine.clouds import cloud_key
from controller.engine.engine import Engine
from controller.ports import Key, MachineId, MachineState, RenderRequest
from controller.reconcilers.graph import Problem
from controller.reconcilers.infrastructure.plan import group_name
from controller.reconcilers.instancegroup import inputs, refusals, revision
from controller.reconcilers.instancegroup.observed import Hold, ready

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


_Made = tuple[Makings | None, Hold | None, str, dict[str, Any] | None]


async def makings(engine: Engine, group: InstanceGroup, instances: tuple[Instance, ...]) -> _Made:
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
    refused = refusals.refused(engine, group, chosen)
    fitting = max(1, refused.size // 2) if refused is not None else MOST
    most = min(MOST, binding.driver.most_per_call(chosen.arm()[1]), halved, fitting) if alike else 1
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
    services = {service: _instances(engine, other) if other is not None else () for service, other in dependencies(engine, group).items()}
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
    """The first implementation whose Cloud can be used and that was not refused lately, its names resolved to ids.

    Of a group without Instances, which may have been restored without them, the machines have to be looked for first, on every Cloud.
    """
    refusals.remember(engine, group, instances)
    if not instances:
        for each in template.spec.implementations:
            if (hidden := unseen(engine, _cloud_of(group, each))) is not None:
                return hidden
    avoided = refusals.avoided(engine, group)
    order = sorted(template.spec.implementations, key=lambda each: each.name in avoided)
    hold: Hold | None = None
    for candidate in order:
        key = _cloud_of(group, candidate)
        if engine.clouds.is_unasked(key) and (hidden := unseen(engine, key)) is not None:
            # What comes after it is for when it cannot be used, not for when it answers a moment later.
            return hidden
        resolved = await _resolved(engine, group, candidate)
        if isinstance(resolved, Implementation):
            return resolved
        hold = hold or resolved
    return hold or Hold(Reason.CLOUD_NOT_FOUND, "the template has no implementation")


def _cloud_of(group: InstanceGroup, candidate: Implementation) -> Key:
    return Key("Cloud", group.metadata.namespace, candidate.cloud_ref.name)


def unseen(engine: Engine, key: Key) -> Hold | None:
    """That it is not known yet which machines a Cloud has, and why, if so."""
    cloud = engine.objects.model(key, Cloud)
    if cloud is None or cloud.metadata.deleting or not engine.clouds.is_unseen(key):
        return None
    return _not_listed(cloud)


def _not_listed(cloud: Cloud) -> Hold:
    said = meta.condition(cloud.status.conditions, "Ready")
    why = f"{said.reason}: {said.message}" if said is not None and said.status == "False" else "its machines were not listed yet"
    return Hold(Reason.WAITING_FOR_CLOUD, f"Cloud {cloud.metadata.name}: {why}")


async def _resolved(engine: Engine, group: InstanceGroup, candidate: Implementation) -> Implementation | Hold:
    key = _cloud_of(group, candidate)
    binding, cloud = engine.clouds.binding(key), engine.objects.model(key, Cloud)
    if cloud is None:
        return Hold(Reason.CLOUD_NOT_FOUND, f"there is no Cloud {key.name}")
    if cloud.metadata.deleting:
        return Hold(Reason.WAITING_FOR_CLOUD, f"Cloud {key.name} is being deleted")
    if binding is None or binding.inventory.listed is None or binding.inventory.trouble is not None:
        return _not_listed(cloud)
    kind, arm = candidate.arm()
    place, now = ("resolve", key, json.dumps([kind, arm], sort_keys=True)), asyncio.get_running_loop().time()
    kept: tuple[float, dict[str, Any] | Hold] | None = engine.memory.cached.get(place)
    if kept is None or kept[0] < now:
        answer: dict[str, Any] | Hold
        try:
            answer = await binding.inventory.calls("resolve", lambda: binding.driver.resolve(arm))
        except errors.Invalid as error:
            answer = Hold(Reason.CLOUD_INVALID, f"implementation {candidate.name}: {error}")
        except errors.CloudError as error:
            if isinstance(error, errors.Denied):
                engine.clouds.doubt(binding.driver)
            return Hold(Reason.WAITING_FOR_CLOUD, f"Cloud {key.name}: {error}")
        kept = (now + RESOLVED_SECONDS, answer)
        _drop_expired(engine, now)
        engine.memory.cached[place] = kept
    if isinstance(kept[1], Hold):
        return kept[1]
    return Implementation.model_validate({"name": candidate.name, "cloudRef": {"name": candidate.cloud_ref.name}, kind: kept[1]})


def _drop_expired(engine: Engine, now: float) -> None:
    """What nobody has asked for since: of implementations that were changed, or whose Cloud has gone."""
    for place in [place for place, kept in engine.memory.cached.items() if place[0] == "resolve" and kept[0] < now]:
        del engine.memory.cached[place]


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
    kept: tuple[str, Hold | None] | None = engine.memory.cached.get(place)
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
    hold = None
    try:
        await request.rendered(
            engine.ports.renderer, RenderRequest(text, f"InstanceTemplate {group.spec.template_ref.name}", values, limit)
        )
    except request.NotNow as wrong:
        hold = Hold(wrong.reason, str(wrong))
        if wrong.passing:
            return hold  # the renderer knows when it is worth trying again
    engine.memory.cached[place] = (asked, hold)
    return hold


# --- what it reads --------------------------------------------------------------------------------------------------
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


def dependencies(engine: Engine, group: InstanceGroup) -> dict[str, InstanceGroup | None]:
    """The groups of the services depended on, by their names; None where there is none of this Infrastructure's."""
    owner = next((each for each in group.metadata.owner_references if each.kind == "Infrastructure"), None)
    found: dict[str, InstanceGroup | None] = {}
    for each in group.spec.depends_on:
        name = group_name(group.spec.infrastructure.name, each.service)
        other = engine.objects.model(Key("InstanceGroup", group.metadata.namespace, name), InstanceGroup)
        found[each.service] = other if other is not None and owner is not None and other.metadata.owned_by(owner.uid) else None
    return found


def _instances(engine: Engine, group: InstanceGroup) -> tuple[Instance, ...]:
    """Those whose addresses are told: the newest list may show of one that is called Ready still that it runs no more."""
    found = (engine.objects.model(each, Instance) for each in engine.objects.children(group.metadata.uid, "Instance"))
    return tuple(each for each in found if each is not None and ready(each) and _runs(engine, each))


def _runs(engine: Engine, instance: Instance) -> bool:
    binding, recorded = engine.clouds.binding(cloud_key(instance)), instance.status.machine
    shown = binding.inventory.machines.get(MachineId(recorded.id)) if binding is not None and recorded is not None else None
    return shown is None or shown.state is MachineState.RUNNING


__all__ = ["Makings", "dependencies", "makings", "template_text", "unseen"]
