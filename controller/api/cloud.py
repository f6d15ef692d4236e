"""`Cloud`: an account on a cloud. Its arm (`local`, `ec2`, …) comes from the drivers installed."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from controller.api.meta import Condition, Metadata, Model, Status, conditions_field, first_arm


class CloudSpec(Model):
    """Which account; the arm is kept as an extra field, named by its kind."""

    model_config = ConfigDict(extra="allow")
    max_instances: int = Field(
        default=100,
        description="The most machines of this controller that the account may have at once; a typo costs no fortune.",
        ge=0,
        le=100_000,
    )

    def arm(self) -> tuple[str, dict[str, Any]]:
        """The kind of cloud and its fields."""
        return first_arm(self.model_extra)

    def secret_name(self) -> str:
        """The Secret with its credentials; empty where it names none."""
        _, arm = self.arm()
        reference: dict[str, str] = arm.get("credentials", {}).get("secretRef", {})
        return reference.get("name", "")


class AccountStatus(Model):
    """Whose machines these credentials answer for; recorded at first contact and then held against every answer."""

    kind: str = Field(description="The kind of cloud.", max_length=63)
    id: str = Field(description="The account's id at the cloud.", max_length=256)
    region: str = Field(default="", description="The region, where the cloud has regions.", max_length=256)
    endpoint: str = Field(default="", description="The endpoint, where one was given.", max_length=1024)


class CloudStatus(Status):
    """What is known of the account."""

    account: AccountStatus | None = Field(default=None, description="The account, as first seen.")
    controller_id: str | None = Field(
        default=None, description="The controller's id, in the tag occopus.io/controller of each of its machines.", max_length=63
    )
    secrets: tuple[Annotated[str, Field(max_length=253)], ...] = Field(
        default=(),
        max_length=16,
        description="Secrets that carry the controller's finalizer for this Cloud: without them its machines could not be ended.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    machines: int | None = Field(default=None, description="How many machines of this controller the account has.", ge=0)
    conditions: tuple[Condition, ...] = conditions_field("Ready, Stalled")


class Cloud(Model):
    """An account on a cloud: kind, endpoint, region, credentials."""

    metadata: Metadata
    spec: CloudSpec
    status: CloudStatus = CloudStatus()
