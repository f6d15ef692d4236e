"""`InstanceGroup`: one service as n alike VMs. Made by the Infrastructure; `spec.replicas` may be anyone's."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from controller.api.infrastructure import Dependency, Scaling, ServiceName
from controller.api.meta import (
    VARIABLES,
    Address,
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


class InfrastructureIdentity(Model):
    """Whose machines these are."""

    name: str = Field(description="Name of the Infrastructure.", max_length=253)
    id: str = Field(description="Its identity: spec.id, else its UID.", max_length=63)


_SPEC_RULES = rules(
    {
        "rule": "!has(self.fixedReplicas) || self.replicas == self.fixedReplicas",
        "message": "replicas is fixed by the Infrastructure: change services[].replicas there, or remove it to scale the group",
    }
)


class InstanceGroupSpec(Model):
    """What the Infrastructure wants of one service."""

    model_config = ConfigDict(json_schema_extra=_SPEC_RULES)
    infrastructure: InfrastructureIdentity = Field(description="The Infrastructure it belongs to.")
    service: str = Field(description="The service.", min_length=1, max_length=63)
    replicas: int = Field(description="Machines wanted. Set by the Infrastructure only where the service names a number.", ge=0, le=10_000)
    fixed_replicas: int | None = Field(
        default=None, description="The service's own number; while set, replicas equals it.", ge=0, le=10_000
    )
    scaling: Scaling | None = Field(default=None, description="Bounds on replicas.")
    template_ref: LocalReference = Field(description="The InstanceTemplate.")
    depends_on: tuple[Dependency, ...] = Field(
        default=(), description="The last accepted edges of this service.", max_length=20, json_schema_extra=list_map("service")
    )
    variables: tuple[Variable, ...] = variables_field("of the infrastructure and the service, merged", 2 * VARIABLES)
    paused: bool = Field(default=False, description="Stops every change but deletion.")


class Replacement(Model):
    """The brake on replacing what fails."""

    consecutive: int = Field(default=0, description="Replacements since the group was last well.", ge=0)
    time: datetime = Field(description="When the last one was begun.")
    due: datetime | None = Field(default=None, description="When the next one may begin, while something that failed waits for it.")
    unmade: tuple[Annotated[str, Field(max_length=128)], ...] = Field(
        default=(),
        description="UIDs of Instances that went, whose machines might have served, and in whose place none is made yet.",
        max_length=10000,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class InstanceGroupStatus(Status):
    """How the service stands."""

    replicas: int = Field(default=0, description="Instances that exist and are not going.", ge=0)
    ready_replicas: int = Field(default=0, description="Instances Ready.", ge=0)
    updated_replicas: int = Field(default=0, description="Instances made from the newest revision.", ge=0)
    selector: str = Field(default="", description="Label selector of its Instances, for the scale subresource.", max_length=256)
    dependencies_met: tuple[ServiceName, ...] = Field(
        default=(),
        description="Services of dependsOn that were Available once, all that were new together; they hold nothing back any more.",
        max_length=20,
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    revision: str = Field(default="", description="The newest revision of the template.", max_length=253)
    replacement: Replacement | None = Field(default=None, description="The last replacement of a failed machine.")
    addresses: tuple[Address, ...] = Field(
        default=(),
        description="Addresses of the first Ready machines.",
        max_length=5,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    reason: str = Field(default="", description="One word, for the print column: Ready, or why not.", max_length=63)
    conditions: tuple[Condition, ...] = conditions_field("Available, Progressing, Ready, InputsCurrent, Scaled")


class InstanceGroup(Model):
    """One service of an Infrastructure: n alike VMs."""

    metadata: Metadata
    spec: InstanceGroupSpec
    status: InstanceGroupStatus = InstanceGroupStatus()


__all__ = ["InfrastructureIdentity", "InstanceGroup", "InstanceGroupSpec", "InstanceGroupStatus", "Replacement"]
