"""The status of an Infrastructure from its groups. Pure; bounded: one entry a service, never a list of machines."""

from __future__ import annotations

from datetime import datetime

from controller.api.group import InstanceGroup
from controller.api.infrastructure import Infrastructure, InfrastructureStatus, Service, ServiceStatus
from controller.api.meta import condition
from controller.api.reasons import Reason
from controller.reconcilers import conditions
from controller.reconcilers.conditions import Say, say
from controller.reconcilers.infrastructure.plan import Observed, Plan
from controller.reconcilers.instancegroup.observed import wanted

_WAY = {Reason.SCALING, Reason.RECONCILING, Reason.WAITING_FOR_DEPENDENCIES}


def report(o: Observed, plan: Plan, now: datetime) -> InfrastructureStatus:
    """What is written to the Infrastructure's status."""
    infra = o.infrastructure
    services = tuple(sorted((*_of_groups(o, plan), *_missing(o, plan)), key=lambda each: each.name))
    up = sum(1 for each in services if each.reason == Reason.READY.value)
    all_ready = up == len(services) and not plan.actions and not plan.problems and not infra.metadata.deleting
    said = _said(infra, plan, services, all_ready)
    worst = _worst(said, services)
    return InfrastructureStatus(
        observed_generation=infra.metadata.generation,
        services=services,
        ready=f"{up}/{len(services)}",
        phase="Deleting"
        if infra.metadata.deleting
        else "Stalled"
        if plan.problems
        else "Paused"
        if infra.spec.paused
        else "Ready"
        if all_ready
        else "Reconciling",
        why="" if all_ready else worst,
        conditions=conditions.merge(infra.status.conditions, said, infra.metadata.generation, now),
    )


def _of_groups(o: Observed, plan: Plan) -> list[ServiceStatus]:
    return [_service(each, plan) for each in o.groups]


def _service(group: InstanceGroup, plan: Plan) -> ServiceStatus:
    ready = condition(group.status.conditions, "Ready")
    going = group.metadata.deleting or group.spec.service in plan.waits
    reason, message = (ready.reason, ready.message) if ready else (Reason.RECONCILING.value, "not seen yet")
    if going:
        reason, message = Reason.TERMINATING.value, message
        if first := plan.waits.get(group.spec.service):
            reason, message = Reason.WAITING_FOR_DEPENDENTS.value, f"{', '.join(first)} have machines that go first"
    elif ready is not None and ready.observed_generation != group.metadata.generation:
        reason, message = Reason.RECONCILING.value, "the newest change was not looked at yet"
    return ServiceStatus(
        name=group.spec.service,
        replicas=0 if going else wanted(group),
        ready=group.status.ready_replicas,
        reason=reason,
        message="" if reason == Reason.READY.value else message[:512],
        address=next(iter(group.status.addresses), ""),
    )


def _missing(o: Observed, plan: Plan) -> list[ServiceStatus]:
    if o.infrastructure.metadata.deleting:
        return []
    have = {each.spec.service for each in o.groups}
    missing = [each for each in o.infrastructure.spec.services if each.name not in have]
    return [_not_made(each, plan.unseen.get(each.name, "")) for each in missing]


def _not_made(service: Service, unseen: str) -> ServiceStatus:
    reason, message = (Reason.WAITING_FOR_CLOUD, unseen) if unseen else (Reason.RECONCILING, "its group is not made yet")
    return ServiceStatus(name=service.name, replicas=service.initial_replicas(), reason=reason.value, message=message[:512])


def _said(infra: Infrastructure, plan: Plan, services: tuple[ServiceStatus, ...], all_ready: bool) -> tuple[Say, ...]:
    if plan.problems:
        first, more = plan.problems[0], len(plan.problems) - 1
        message = first.message + (f" (and {more} more)" if more else "")
        return (
            say("Ready", False, first.reason, message),
            say("Reconciling", False, first.reason, "nothing is changed until the description is right"),
            say("Stalled", True, first.reason, message),
        )
    stalled = say("Stalled", False, Reason.CONVERGED if all_ready else Reason.RECONCILING, "the description can be followed")
    if all_ready:
        text = f"all {len(services)} services are Ready"
        return (say("Ready", True, Reason.READY, text), say("Reconciling", False, Reason.CONVERGED, "nothing is left to do"), stalled)
    reason = Reason.TERMINATING if infra.metadata.deleting else Reason.PAUSED if infra.spec.paused else Reason.RECONCILING
    text = _worst((), services) or "services are being made"
    return (say("Ready", False, reason, text), say("Reconciling", not infra.spec.paused or infra.metadata.deleting, reason, text), stalled)


def _worst(said: tuple[Say, ...], services: tuple[ServiceStatus, ...]) -> str:
    """The most telling line: what is wrong before what waits, then by name."""
    if said and said[-1].status == "True":
        return said[-1].message[:256]
    late = sorted((each for each in services if each.reason != Reason.READY.value), key=lambda each: (_weight(each.reason), each.name))
    return f"{late[0].name}: {late[0].reason}: {late[0].message}"[:256] if late else ""


def _weight(reason: str) -> int:
    known = next((each for each in Reason if each.value == reason), None)
    return 1 if known in _WAY else 0
