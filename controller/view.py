"""What a user is shown of the objects: services in order with their machines, addresses and reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from typing import Any

from controller.api.cloud import Cloud
from controller.api.group import InstanceGroup
from controller.api.infrastructure import Infrastructure
from controller.api.instance import Instance
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.engine.objects import Objects
from controller.ports import Key
from controller.reconcilers.instancegroup import revision
from controller.reconcilers.instancegroup.observed import wanted

#: Reasons of a group's conditions that are told also of one that is Ready.
_NOTED = {each.value for each in (Reason.REVISION_CHANGED, Reason.INPUT_CHANGED, Reason.CLAMPED)}


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what it is, how it stands, why not."""

    name: str
    ready: bool
    reason: str
    message: str
    age_seconds: int


@dataclass(frozen=True, slots=True)
class Note:
    """What is so and keeps nothing from being Ready: an older revision, an address that has changed, a number out of bounds."""

    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True, slots=True)
class InstanceRow(Row):
    phase: str
    address: str
    machine: str
    cloud: str


@dataclass(frozen=True, slots=True)
class ServiceRow(Row):
    ready_replicas: int
    replicas: int
    address: str
    instances: tuple[InstanceRow, ...]
    #: What its user should know of it though it is Ready.
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class InfrastructureRow(Row):
    phase: str
    services: tuple[ServiceRow, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def infrastructures(objects: Objects, now: datetime, only: Iterable[str] | None = None) -> list[InfrastructureRow]:
    """All Infrastructures, or those named, by name."""
    named = set(only) if only is not None else None
    found = objects.models("Infrastructure", Infrastructure)
    chosen = [each for each in found if named is None or each.metadata.name in named]
    return [_infrastructure(objects, each, now) for each in sorted(chosen, key=lambda each: each.metadata.name)]


def settled(objects: Objects, name: str) -> bool:
    """Whether the newest description of the Infrastructure was followed to the end: all Ready, and what had to go is gone."""
    infrastructure = next((each for each in objects.models("Infrastructure", Infrastructure) if each.metadata.name == name), None)
    if infrastructure is None or infrastructure.status.observed_generation != infrastructure.metadata.generation:
        return False
    said = condition(infrastructure.status.conditions, "Ready")
    if said is None or said.status != "True":
        return False
    # The Infrastructure's own word may be older than the newest change of a group: `occopus scale` touches the group alone.
    groups = _groups(objects, infrastructure)
    ready = all(_group_ready(group, _instances(objects, group)) and _template_seen(objects, group) for group in groups)
    return ready and not ending(objects, name)


def ending(objects: Objects, name: str) -> list[str]:
    """The machines of the Infrastructure that are on their way out, a line each."""
    found = [each for each in objects.models("Instance", Instance) if each.spec.infrastructure.name == name and each.metadata.deleting]
    return [f"{each.metadata.name}: {': '.join(_why(each))}" for each in sorted(found, key=lambda each: each.metadata.name)]


def stalled(objects: Objects, name: str) -> str:
    """Why the newest description of the Infrastructure cannot be followed, however long one waits; empty where it can."""
    infrastructure = next((each for each in objects.models("Infrastructure", Infrastructure) if each.metadata.name == name), None)
    if infrastructure is None or infrastructure.metadata.deleting:
        return f"{Reason.TERMINATING.value}: it {'was' if infrastructure is None else 'is being'} deleted"
    if infrastructure.status.observed_generation != infrastructure.metadata.generation:
        return ""
    if infrastructure.spec.paused:
        return f"{Reason.PAUSED.value}: spec.paused is true, and nothing is made or changed until it is false"
    said = condition(infrastructure.status.conditions, "Stalled")
    return f"{said.reason}: {said.message}" if said is not None and said.status == "True" else ""


def clouds_not_ready(objects: Objects) -> list[str]:
    """Why Clouds cannot be used, a line each."""
    found = sorted(objects.models("Cloud", Cloud), key=lambda each: each.metadata.name)
    said = [(each.metadata.name, condition(each.status.conditions, "Ready")) for each in found]
    return [f"Cloud {name}: {each.reason}: {each.message}" for name, each in said if each is not None and each.status != "True"]


def _infrastructure(objects: Objects, each: Infrastructure, now: datetime) -> InfrastructureRow:
    here = {group.spec.service: group for group in _groups(objects, each)}
    shown = {service.name: service for service in each.status.services}
    rows: list[ServiceRow] = []
    for name in _order(each, here):
        if name in here:
            rows.append(_service(objects, here[name], now))
        elif each.metadata.deleting:
            continue
        elif name in shown:
            told = shown[name]
            rows.append(ServiceRow(name, False, told.reason, told.message, 0, 0, told.replicas, "", ()))
        else:
            rows.append(ServiceRow(name, False, "Pending", "not looked at yet", 0, 0, 0, "", ()))
    said = condition(each.status.conditions, "Ready")
    phase, reason, message = each.status.phase or "Pending", "Pending", "the newest description was not looked at yet"
    if said is not None and each.status.observed_generation == each.metadata.generation:
        reason, message = said.reason, said.message
        if said.status == "True" and not all(row.ready for row in rows):
            late = next(row for row in rows if not row.ready)
            phase, reason, message = Reason.RECONCILING.value, Reason.RECONCILING.value, f"{late.name}: {late.message}"
    ready = reason == Reason.READY.value
    return InfrastructureRow(each.metadata.name, ready, reason, message, _age(each.metadata.creation_timestamp, now), phase, tuple(rows))


def _order(each: Infrastructure, here: dict[str, InstanceGroup]) -> list[str]:
    """Services after those they depend on, in the order of the file otherwise; removed ones last."""
    needs = {service.name: [other.service for other in service.depends_on] for service in each.spec.services}
    try:
        order = [name for name in TopologicalSorter(needs).static_order() if name in needs]
    except CycleError:
        order = list(needs)
    return [*order, *(name for name in sorted(here) if name not in needs)]


def _groups(objects: Objects, each: Infrastructure) -> list[InstanceGroup]:
    found = [objects.model(key, InstanceGroup) for key in objects.children(each.metadata.uid, "InstanceGroup")]
    return [group for group in found if group is not None]


def _instances(objects: Objects, group: InstanceGroup) -> list[Instance]:
    found = [objects.model(key, Instance) for key in objects.children(group.metadata.uid, "Instance")]
    return sorted((each for each in found if each is not None), key=lambda each: each.spec.index)


def _group_ready(group: InstanceGroup, instances: list[Instance]) -> bool:
    """What its condition says, unless the group or its machines have changed since."""
    said = condition(group.status.conditions, "Ready")
    current = said is not None and said.status == "True" and said.observed_generation == group.metadata.generation
    return current and not group.metadata.deleting and sum(map(_instance_ready, instances)) >= wanted(group)


def _template_seen(objects: Objects, group: InstanceGroup) -> bool:
    """Whether the group has looked at its template as it is: a changed one is a new revision. One in a ConfigMap is not asked of."""
    stored = objects.get(Key("InstanceTemplate", group.metadata.namespace, group.spec.template_ref.name))
    cloud_init: dict[str, Any] = stored["spec"].get("context", {}).get("cloudInit", {}) if stored is not None else {}
    if stored is None or "configMapRef" in cloud_init:
        return True
    data = revision.data(stored["spec"], cloud_init.get("template") or None)
    return group.status.revision == revision.name(group.metadata.name, data)


def _notes(group: InstanceGroup) -> tuple[Note, ...]:
    found = [condition(group.status.conditions, type) for type in ("Progressing", "InputsCurrent", "Scaled")]
    return tuple(Note(each.reason, each.message) for each in found if each is not None and each.reason in _NOTED)


def _instance_ready(each: Instance) -> bool:
    said = condition(each.status.conditions, "Ready")
    return said is not None and said.status == "True" and not each.metadata.deleting


def _service(objects: Objects, group: InstanceGroup, now: datetime) -> ServiceRow:
    instances = _instances(objects, group)
    rows = [_instance(each, now) for each in instances]
    said = condition(group.status.conditions, "Ready")
    ready = _group_ready(group, instances)
    reason, message = (said.reason, "" if ready else said.message) if said is not None else ("Pending", "not looked at yet")
    if not ready and said is not None and said.status == "True":
        late = "its machines are going" if group.metadata.deleting else "the newest change was not looked at yet"
        reason, message = (Reason.TERMINATING if group.metadata.deleting else Reason.RECONCILING).value, late
    return ServiceRow(
        group.spec.service,
        ready,
        reason,
        message,
        _age(group.metadata.creation_timestamp, now),
        sum(1 for row in rows if row.ready),
        0 if group.metadata.deleting else wanted(group),
        next((row.address for row in rows if row.ready), ""),
        tuple(rows),
        () if group.metadata.deleting else _notes(group),
    )


def _instance(each: Instance, now: datetime) -> InstanceRow:
    reason, message = _why(each)
    return InstanceRow(
        each.metadata.name,
        _instance_ready(each),
        reason,
        "" if reason == Reason.READY.value else message,
        _age(each.metadata.creation_timestamp, now),
        each.phase,
        each.status.address,
        each.status.machine.id if each.status.machine is not None else "",
        each.spec.implementation.cloud_ref.name,
    )


def _why(each: Instance) -> tuple[str, str]:
    """Reason and message of its Ready condition; of one that ends and says nothing of it yet, that it does."""
    said = condition(each.status.conditions, "Ready")
    if each.metadata.deleting and each.status.phase != "Ending":
        return Reason.TERMINATING.value, "it is being deleted"
    return (said.reason, said.message) if said is not None else ("Pending", "")


def _age(since: datetime | None, now: datetime) -> int:
    return 0 if since is None else max(0, int((now - since).total_seconds()))
