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
from controller.engine.objects import Objects
from controller.reconcilers.instancegroup.plan import wanted


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what it is, how it stands, why not."""

    name: str
    ready: bool
    reason: str
    message: str
    age_seconds: int


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
    """Whether the newest description of the Infrastructure was followed to the end: all Ready."""
    infrastructure = next((each for each in objects.models("Infrastructure", Infrastructure) if each.metadata.name == name), None)
    if infrastructure is None or infrastructure.status.observed_generation != infrastructure.metadata.generation:
        return False
    said = condition(infrastructure.status.conditions, "Ready")
    return said is not None and said.status == "True"


def stalled(objects: Objects, name: str) -> str:
    """Why the newest description of the Infrastructure cannot be followed; empty where it can."""
    infrastructure = next((each for each in objects.models("Infrastructure", Infrastructure) if each.metadata.name == name), None)
    if infrastructure is None or infrastructure.status.observed_generation != infrastructure.metadata.generation:
        return ""
    said = condition(infrastructure.status.conditions, "Stalled")
    return f"{said.reason}: {said.message}" if said is not None and said.status == "True" else ""


def clouds_not_ready(objects: Objects) -> list[str]:
    """Why Clouds cannot be used, a line each."""
    found = sorted(objects.models("Cloud", Cloud), key=lambda each: each.metadata.name)
    said = [(each.metadata.name, condition(each.status.conditions, "Ready")) for each in found]
    return [f"Cloud {name}: {each.reason}: {each.message}" for name, each in said if each is not None and each.status != "True"]


def _infrastructure(objects: Objects, each: Infrastructure, now: datetime) -> InfrastructureRow:
    groups = [objects.model(key, InstanceGroup) for key in objects.children(each.metadata.uid, "InstanceGroup")]
    here = {group.spec.service: group for group in groups if group is not None}
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
    current = each.status.observed_generation == each.metadata.generation
    return InfrastructureRow(
        each.metadata.name,
        said is not None and said.status == "True" and current,
        said.reason if said is not None and current else "Pending",
        said.message if said is not None and current else "the newest description was not looked at yet",
        _age(each.metadata.creation_timestamp, now),
        each.status.phase or "Pending",
        tuple(rows),
    )


def _order(each: Infrastructure, here: dict[str, InstanceGroup]) -> list[str]:
    """Services after those they depend on, in the order of the file otherwise; removed ones last."""
    needs = {service.name: [other.service for other in service.depends_on] for service in each.spec.services}
    try:
        order = [name for name in TopologicalSorter(needs).static_order() if name in needs]
    except CycleError:
        order = list(needs)
    return [*order, *(name for name in sorted(here) if name not in needs)]


def _service(objects: Objects, group: InstanceGroup, now: datetime) -> ServiceRow:
    instances = [objects.model(key, Instance) for key in objects.children(group.metadata.uid, "Instance")]
    rows = [_instance(each, now) for each in sorted((each for each in instances if each is not None), key=lambda each: each.spec.index)]
    said = condition(group.status.conditions, "Ready")
    current = said is not None and said.observed_generation == group.metadata.generation
    return ServiceRow(
        group.spec.service,
        said is not None and said.status == "True" and current,
        said.reason if said is not None else "Pending",
        "" if said is None or said.status == "True" else said.message,
        _age(group.metadata.creation_timestamp, now),
        sum(1 for row in rows if row.ready),
        0 if group.metadata.deleting else wanted(group),
        next((row.address for row in rows if row.ready), ""),
        tuple(rows),
    )


def _instance(each: Instance, now: datetime) -> InstanceRow:
    said = condition(each.status.conditions, "Ready")
    ready = said is not None and said.status == "True" and not each.metadata.deleting
    return InstanceRow(
        each.metadata.name,
        ready,
        said.reason if said is not None else "Pending",
        "" if said is None or said.status == "True" else said.message,
        _age(each.metadata.creation_timestamp, now),
        "Ending" if each.metadata.deleting else each.status.phase or "Pending",
        each.status.address,
        each.status.machine.id if each.status.machine is not None else "",
        each.spec.implementation.cloud_ref.name,
    )


def _age(since: datetime | None, now: datetime) -> int:
    return 0 if since is None else max(0, int((now - since).total_seconds()))
