"""`Instance`: one VM as Kubernetes sees it. Its spec is immutable and its recorded launch is written once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from controller.api.cloud import AccountStatus
from controller.api.group import InfrastructureIdentity
from controller.api.meta import Address, Condition, Metadata, Model, Status, conditions_field, rules
from controller.api.template import Health, Implementation


class Batch(Model):
    """The identity of the machine: one batch, one cloud token, ever."""

    id: str = Field(description="Random UUID; the cloud's launch token.", min_length=1, max_length=63)
    index: int = Field(description="Place in the batch.", ge=0, le=99)
    size: int = Field(description="Machines in the batch.", ge=1, le=100)


class InstanceSpec(Model):
    """Everything the machine's life needs, decided when it was planned."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            {"rule": "self == oldSelf", "message": "an Instance is never changed: delete it and its group makes another"}
        )
    )
    infrastructure: InfrastructureIdentity = Field(description="The Infrastructure it belongs to.")
    service: str = Field(description="The service.", min_length=1, max_length=63)
    index: int = Field(description="Its number in the group; free again when it is gone.", ge=0)
    batch: Batch = Field(description="The identity of its machine.")
    revision: str = Field(
        default="", description="Name of the ControllerRevision it is made from; empty where it was claimed.", max_length=253
    )
    implementation: Implementation = Field(description="The implementation chosen, its names resolved to the cloud's ids.")
    inputs: dict[str, Any] = Field(
        default_factory=dict[str, Any],
        description="What its template reads, as it was then; no secret values.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "x-kubernetes-map-type": "atomic"},
    )
    health: Health = Field(default_factory=Health, description="When it counts as healthy.")


class Launch(Model):
    """The one record whose loss could mean a second VM: written once, before the call, never changed."""

    digest: str = Field(description="SHA-256 of the rendered request, keyed by the UIDs of the Secrets in it.", max_length=80)
    fence: str = Field(default="", description="What makes a second launch fail, where the cloud has no token.", max_length=256)
    time: datetime = Field(description="When it was decided.")
    account: AccountStatus | None = Field(default=None, description="Where it is launched: the account of its Cloud.")


#: So many of a machine's addresses of each kind are kept: network plug-ins give a machine dozens.
ADDRESSES = 16


class MachineStatus(Model):
    """The machine as its cloud last showed it."""

    id: str = Field(description="The cloud's id.", max_length=256)
    state: str = Field(
        default="", description="pending, running, stopping, stopped, shutting-down, terminated, error, unknown or missing.", max_length=63
    )
    private_addresses: tuple[Address, ...] = Field(
        default=(),
        description="Private addresses, the first interface's first.",
        max_length=ADDRESSES,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    public_addresses: tuple[Address, ...] = Field(
        default=(),
        description="Public addresses, the first interface's first.",
        max_length=ADDRESSES,
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class InstanceStatus(Status):
    """One machine's life."""

    phase: str = Field(default="", description="One word, for the print column alone.", max_length=63)
    launch: Launch | None = Field(default=None, description="The launch, once it was decided.")
    machine: MachineStatus | None = Field(default=None, description="The machine, once it is known.")
    address: str = Field(default="", description="The address that others are told: first private, else public.", max_length=256)
    ready_time: datetime | None = Field(default=None, description="When it first was Ready.")
    conditions: tuple[Condition, ...] = conditions_field("Launched, Healthy, Ready")


class Instance(Model):
    """One VM."""

    metadata: Metadata
    spec: InstanceSpec
    status: InstanceStatus = InstanceStatus()

    @property
    def phase(self) -> str:
        """Where in its life it is, whether or not its status says already that it ends."""
        return "Ending" if self.metadata.deleting else self.status.phase or "Pending"


__all__ = ["ADDRESSES", "Batch", "Instance", "InstanceSpec", "InstanceStatus", "Launch", "MachineStatus"]
