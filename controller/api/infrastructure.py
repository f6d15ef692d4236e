"""`Infrastructure`: the graph a user writes: services, their order, variables, policies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from controller.api.meta import (
    Condition,
    LocalReference,
    Metadata,
    Model,
    Status,
    Variable,
    conditions_field,
    list_map,
    rules,
    variables_field,
)

ServiceName = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class Scaling(Model):
    """Bounds on the number of machines."""

    model_config = ConfigDict(
        json_schema_extra=rules({"rule": "!has(self.max) || self.min <= self.max", "message": "min must not be above max"})
    )
    min: int = Field(default=1, description="The fewest machines; also how many there are at first.", ge=0, le=10_000)
    max: int | None = Field(default=None, description="The most machines.", ge=0, le=10_000)


class Dependency(Model):
    """An edge of the graph: this service comes up after that one is healthy, and goes before it."""

    service: ServiceName = Field(description="The service depended on.")
    on_change: Literal["Report", "Replace"] = Field(
        default="Report",
        description="What happens when an address that running machines were told has changed; Replace acts as Report for now.",
    )


_SERVICE_RULES = rules(
    {
        "rule": "!(has(self.replicas) && has(self.scaling))",
        "message": "replicas and scaling cannot be set together: a fixed number, or bounds",
    },
    {"rule": "!has(self.dependsOn) || self.dependsOn.all(d, d.service != self.name)", "message": "a service cannot depend on itself"},
)


class Service(Model):
    """One entry of the graph: n alike VMs."""

    model_config = ConfigDict(json_schema_extra=_SERVICE_RULES)
    name: ServiceName = Field(description="Name of the service, unique in its Infrastructure.")
    template_ref: LocalReference = Field(description="The InstanceTemplate its machines are made from.")
    replicas: int | None = Field(
        default=None,
        description="A fixed number of machines. Unset: the group's own number, which autoscalers may change.",
        ge=0,
        le=10_000,
    )
    scaling: Scaling | None = Field(default=None, description="Bounds on the number of machines.")
    depends_on: tuple[Dependency, ...] = Field(
        default=(), description="Services that must be healthy first.", max_length=20, json_schema_extra=list_map("service")
    )
    variables: tuple[Variable, ...] = variables_field("over those of the template, under those of the infrastructure")

    def initial_replicas(self) -> int:
        """How many machines a new group has (design section 3)."""
        if self.replicas is not None:
            return self.replicas
        return self.scaling.min if self.scaling else 1


#: Whether a dependency `d` is none of the services.
_UNKNOWN = "!self.services.exists(t, t.name == d.service)"
_SPEC_RULES = rules(
    {
        "rule": "self.services.all(s, !has(s.dependsOn) || s.dependsOn.all(d, self.services.exists(t, t.name == d.service)))",
        "message": "dependsOn names a service that is not in services",
        # The first of them by name: a message that only says that there is one sends its reader searching. Which service asks for
        # it is left out: joining that in too is over what an API server lets a message cost.
        "messageExpression": (
            f"self.services.map(s, has(s.dependsOn) && s.dependsOn.exists(d, {_UNKNOWN}), "
            f"s.dependsOn.map(d, {_UNKNOWN}, 'dependsOn names a service that is not in services: ' + d.service)[0])[0]"
        ),
    },
    {
        "rule": "has(self.id) == has(oldSelf.id) && (!has(self.id) || self.id == oldSelf.id)",
        "message": "id cannot be changed, set later or removed",
    },
)


class InfrastructureSpec(Model):
    """The graph and its variables."""

    model_config = ConfigDict(json_schema_extra=_SPEC_RULES)
    id: str | None = Field(
        default=None,
        description="The identity its machines carry; unset, the object's UID. A restored Infrastructure claims its machines by it.",
        min_length=1,
        max_length=63,
        pattern=r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$",
    )
    paused: bool = Field(default=False, description="Stops every change but deletion.")
    variables: tuple[Variable, ...] = variables_field("over all others")
    services: tuple[Service, ...] = Field(description="The services.", max_length=100, json_schema_extra=list_map("name"))


class ServiceStatus(Model):
    """How one service stands."""

    name: str = Field(description="The service.", max_length=63)
    replicas: int = Field(default=0, description="Machines wanted.", ge=0)
    ready: int = Field(default=0, description="Machines Ready.", ge=0)
    reason: str = Field(default="", description="One word: Ready, or why not.", max_length=63)
    message: str = Field(default="", description="One line: why not.", max_length=512)
    address: str = Field(default="", description="Address of the first machine.", max_length=256)


class InfrastructureStatus(Status):
    """How the whole stands."""

    services: tuple[ServiceStatus, ...] = Field(
        default=(), description="One entry a service.", max_length=200, json_schema_extra=list_map("name")
    )
    ready: str = Field(default="", description="Services ready of services wanted, for the print column.", max_length=16)
    phase: str = Field(default="", description="One word, for the print column alone.", max_length=63)
    why: str = Field(default="", description="The worst reason, for the print column.", max_length=256)
    conditions: tuple[Condition, ...] = conditions_field("Ready, Reconciling, Stalled")


class Infrastructure(Model):
    """A graph of services on cloud VMs."""

    metadata: Metadata
    spec: InfrastructureSpec
    status: InfrastructureStatus = InfrastructureStatus()

    @property
    def identity(self) -> str:
        """What its machines carry in their tags."""
        return self.spec.id or self.metadata.uid


__all__ = ["Dependency", "Infrastructure", "InfrastructureSpec", "InfrastructureStatus", "Scaling", "Service", "ServiceStatus"]
