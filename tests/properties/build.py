"""Objects for tests of planners, made shortly: each function fills in what the test at hand does not care about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.api import meta
from controller.api.group import InfrastructureIdentity, InstanceGroup, InstanceGroupSpec, InstanceGroupStatus
from controller.api.infrastructure import Dependency, Infrastructure, InfrastructureSpec, Scaling, Service
from controller.api.instance import Batch, Instance, InstanceSpec, InstanceStatus, Launch, MachineStatus
from controller.api.meta import Condition, LocalReference, Metadata, OwnerReference
from controller.api.reasons import Reason
from controller.api.template import Health, Implementation, Probe, TcpProbe
from controller.ports import Identity, Machine, MachineId, MachineState

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PROBED = Health(startup_seconds=300, probes=(Probe(name="up", tcp=TcpProbe(port=80)),))


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def metadata(name: str, *, deleting: bool = False, **more: Any) -> Metadata:
    """Metadata of an object that has our finalizer and its own name as UID."""
    fields: dict[str, Any] = {"uid": f"uid-{name}", "generation": 1, "resource_version": "1", "creation_timestamp": NOW}
    fields |= {"finalizers": (meta.FINALIZER,), "deletion_timestamp": NOW if deleting else None}
    return Metadata(name=name, **(fields | more))


def said(type: str, holds: bool, reason: Reason, message: str = "so it is", *, since: datetime = NOW) -> Condition:
    status = "True" if holds else "False"
    return Condition(type=type, status=status, observed_generation=1, last_transition_time=since, reason=reason.value, message=message)


def service(name: str, *needs: str, replicas: int | None = None, scaling: Scaling | None = None) -> Service:
    return Service(
        name=name,
        template_ref=LocalReference(name="template"),
        replicas=replicas,
        scaling=scaling,
        depends_on=tuple(Dependency(service=each) for each in needs),
    )


def infrastructure(*services: Service, paused: bool = False, id: str | None = None, **more: Any) -> Infrastructure:
    return Infrastructure(metadata=metadata("shop", **more), spec=InfrastructureSpec(id=id, paused=paused, services=services))


def owner(kind: str, name: str) -> OwnerReference:
    return OwnerReference(api_version=meta.API_VERSION, kind=kind, name=name, uid=f"uid-{name}", controller=True)


def group(
    service: str = "app",
    *,
    replicas: int = 1,
    needs: tuple[str, ...] = (),
    status: InstanceGroupStatus | None = None,
    spec: Mapping[str, Any] | None = None,
    **more: Any,
) -> InstanceGroup:
    """A group of the Infrastructure `shop`; `spec` overrides its fields, `more` those of its metadata."""
    fields: dict[str, Any] = {
        "infrastructure": InfrastructureIdentity(name="shop", id="uid-shop"),
        "service": service,
        "replicas": replicas,
        "template_ref": LocalReference(name="template"),
        "depends_on": tuple(Dependency(service=each) for each in needs),
        **(spec or {}),
    }
    owned: dict[str, Any] = {"owner_references": (owner("Infrastructure", "shop"),), **more}
    about = metadata(f"shop-{service}", **owned)
    return InstanceGroup(metadata=about, spec=InstanceGroupSpec(**fields), status=status or InstanceGroupStatus())


def instance(index: int = 0, *, status: InstanceStatus | None = None, spec: Mapping[str, Any] | None = None, **more: Any) -> Instance:
    """An Instance of the group `shop-app`; its batch is `batch-<index>`."""
    fields: dict[str, Any] = {
        "infrastructure": InfrastructureIdentity(name="shop", id="uid-shop"),
        "service": "app",
        "index": index,
        "batch": Batch(id=f"batch-{index}", index=0, size=1),
        "revision": "shop-app-1",
        "implementation": Implementation.model_validate({"name": "one", "cloudRef": {"name": "sim"}, "simulated": {"image": "image-1"}}),
        "health": PROBED,
        **(spec or {}),
    }
    owned: dict[str, Any] = {"owner_references": (owner("InstanceGroup", "shop-app"),), **more}
    about = metadata(f"shop-app-{index}", **owned)
    return Instance(metadata=about, spec=InstanceSpec(**fields), status=status or InstanceStatus())


def stands(index: int, ready: bool, reason: Reason = Reason.READY, **more: Any) -> Instance:
    """An Instance whose Ready condition says so."""
    address = f"10.0.0.{index}" if ready else ""
    return instance(index, status=InstanceStatus(address=address, conditions=(said("Ready", ready, reason),)), **more)


def launched(*, at: datetime = NOW, machine: str = "", state: str = "running", ready: bool = False) -> InstanceStatus:
    """The status of an Instance whose launch is recorded, and perhaps its machine."""
    return InstanceStatus(
        launch=Launch(digest="sha256:1", time=at),
        machine=MachineStatus(id=machine, state=state) if machine else None,
        ready_time=at if ready else None,
    )


def machine(id: str = "m-0", state: MachineState = MachineState.RUNNING, *, of: int = 0) -> Machine:
    """A machine of the Instance of index `of`."""
    return Machine(MachineId(id), Identity(f"batch-{of}", 0), f"shop-app-{of}", state, state.value, private_addresses=("10.0.0.9",))
