"""The table of the kinds: how each is called, what its model is, what `kubectl get` shows of it, and its rules at the root.

`controller.api.crd` emits the CRDs from it, the stores and the command line look names up in it. It knows the pydantic
models and nothing of the drivers: what the arms of a Cloud add to the rules is stitched in at emission.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from controller.api.cloud import Cloud
from controller.api.group import InstanceGroup
from controller.api.infrastructure import Infrastructure
from controller.api.instance import Instance
from controller.api.meta import API_VERSION
from controller.api.template import InstanceTemplate

#: `kubectl get occopus` lists every kind of this group.
CATEGORY = "occopus"


@dataclass(frozen=True, slots=True)
class Column:
    """A print column. A `priority` above 0 shows under `-o wide` alone."""

    name: str
    json_path: str
    description: str
    type: Literal["string", "integer", "date"] = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. `rules` are CEL rules at the root of the object; `scale` gives it the scale subresource."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    model: type[BaseModel]
    columns: tuple[Column, ...]
    rules: tuple[dict[str, Any], ...] = ()
    status: bool = True
    scale: bool = False

    @property
    def singular(self) -> str:
        return self.kind.lower()


_AGE = Column("Age", ".metadata.creationTimestamp", "Time since it was made.", "date")
_READY_STATUS = '.status.conditions[?(@.type=="Ready")].status'
_READY_REASON = '.status.conditions[?(@.type=="Ready")].reason'

#: A group's name is a label value (63 characters) and leaves room for `-<index>` and a revision's hash (design section 3).
GROUP_NAME_LIMIT = 52

_GROUP_NAMES = {
    "rule": f"self.spec.services.all(s, size(self.metadata.name) + 1 + size(s.name) <= {GROUP_NAME_LIMIT})",
    "message": f"the name of the Infrastructure, '-' and the name of a service may be {GROUP_NAME_LIMIT} characters together",
}
# At the root, because only there does the server hold `status` that vanishes as a whole against the rule, on /status too.
_LAUNCH_ONCE = {
    "rule": (
        "!has(oldSelf.status) || !has(oldSelf.status.launch)"
        " || (has(self.status) && has(self.status.launch) && self.status.launch == oldSelf.status.launch)"
    ),
    "message": "status.launch is written once and never changes or goes",
}

KINDS: tuple[Kind, ...] = (
    Kind(
        "Cloud",
        "clouds",
        (),
        Cloud,
        (
            Column("Ready", _READY_STATUS, "Whether the account is reachable and authorised."),
            Column("Account", ".status.account.id", "The account at the cloud."),
            Column("Machines", ".status.machines", "Machines of this controller there.", "integer"),
            Column("Why", _READY_REASON, "Why it is or is not ready."),
            _AGE,
        ),
    ),
    Kind("InstanceTemplate", "instancetemplates", ("it",), InstanceTemplate, (_AGE,), status=False),
    Kind(
        "Infrastructure",
        "infrastructures",
        ("infra",),
        Infrastructure,
        (
            Column("Ready", _READY_STATUS, "Whether all services are ready."),
            Column("Services", ".status.ready", "Services ready of services wanted."),
            Column("Phase", ".status.phase", "What it is doing."),
            Column("Why", ".status.why", "The worst reason."),
            _AGE,
        ),
        (_GROUP_NAMES,),
    ),
    Kind(
        "InstanceGroup",
        "instancegroups",
        ("ig",),
        InstanceGroup,
        (
            Column("Wanted", ".spec.replicas", "Machines wanted.", "integer"),
            Column("Ready", ".status.readyReplicas", "Machines ready.", "integer"),
            Column("Reason", ".status.reason", "Ready, or why not."),
            Column("Address", ".status.addresses[0]", "Address of the first ready machine."),
            _AGE,
        ),
        scale=True,
    ),
    Kind(
        "Instance",
        "instances",
        ("inst",),
        Instance,
        (
            Column("Phase", ".status.phase", "Where in its life it is."),
            Column("Cloud", ".spec.implementation.cloudRef.name", "The Cloud it is made on."),
            Column("Address", ".status.address", "The address that others are told."),
            Column("Machine", ".status.machine.id", "The cloud's id of its machine.", priority=1),
            Column("Why", _READY_REASON, "Why it is or is not ready."),
            _AGE,
        ),
        (_LAUNCH_ONCE,),
    ),
)

BY_KIND: dict[str, Kind] = {each.kind: each for each in KINDS}

#: Kinds of Kubernetes itself that the reconcilers use, and their apiVersion.
BUILT_IN: dict[str, str] = {"Secret": "v1", "ConfigMap": "v1", "ControllerRevision": "apps/v1"}


def api_version(kind: str) -> str | None:
    """The apiVersion under which a kind is known; None for a strange one."""
    return API_VERSION if kind in BY_KIND else BUILT_IN.get(kind)


__all__ = ["BUILT_IN", "BY_KIND", "CATEGORY", "GROUP_NAME_LIMIT", "KINDS", "Column", "Kind", "api_version"]
