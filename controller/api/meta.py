"""What every kind has: group and version, the base model, metadata, conditions, variables."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "occopus.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

#: Our finalizer. kopf's own must have another name (see the reference of kopf: it removes the one it is given).
FINALIZER = f"{GROUP}/controller"
#: On an Instance that is deleted next: lower the group's count instead of replacing it.
SCALE_IN = f"{GROUP}/scale-in"
#: On a group: names of Instances for which the count was lowered already, until they are gone.
SCALED_IN = f"{GROUP}/scaled-in"
#: Kubernetes' own: on an object that is deleted with `--cascade=orphan`, until its children have been let go.
ORPHAN = "orphan"
#: On a deleting Instance: the machine that its user has given up for lost, by its id, or by the batch where none is recorded.
ABANDON = f"{GROUP}/abandon"
#: On an Instance: the one it was made to replace; the brake on replacements counts by it.
REPLACES = f"{GROUP}/replaces"
#: On an Infrastructure of a state file: somebody waits until it was looked at as it is now. Taken away by who reconciles, when it has.
ASKED = f"{GROUP}/asked"
#: Labels of groups and Instances.
INFRASTRUCTURE_LABEL = f"{GROUP}/infrastructure"
SERVICE_LABEL = f"{GROUP}/service"
GROUP_LABEL = f"{GROUP}/group"

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
VariableName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
Text = Annotated[str, Field(max_length=1024)]
Address = Annotated[str, Field(max_length=256)]


def exactly_one(names: tuple[str, ...], what: str) -> dict[str, Any]:
    """A CEL rule: of these optional siblings one is set (a union, as structural schemas can have it)."""
    listed = ", ".join(f"has(self.{name})" for name in names)
    return {"rule": f"[{listed}].filter(x, x).size() == 1", "message": f"exactly one of {', '.join(names)} must be set: {what}"}


def rules(*each: dict[str, Any]) -> dict[str, Any]:
    """CEL rules in the form that pydantic carries into the schema."""
    return {"x-kubernetes-validations": list(each)}


def list_map(*keys: str) -> dict[str, Any]:
    """A list whose entries are told apart by `keys`, so that server-side apply merges it."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


class Model(BaseModel):
    """Frozen; snake_case in Python, camelCase in JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class OwnerReference(Model):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class Metadata(Model):
    """The part of ObjectMeta in use."""

    name: str
    namespace: str = "default"
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def deleting(self) -> bool:
        return self.deletion_timestamp is not None

    def owned_by(self, uid: str) -> bool:
        return any(owner.uid == uid for owner in self.owner_references)


class Condition(Model):
    """`metav1.Condition`. The message holds nothing that moves by itself."""

    type: str = Field(description="What is said: Ready, Available, Launched and so on.", max_length=63)
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    observed_generation: int | None = Field(default=None, description="The generation this was said of.", ge=0)
    last_transition_time: datetime = Field(description="When status last changed.")
    reason: str = Field(description="One word of the reason list; see docs/troubleshooting.md.", min_length=1, max_length=63)
    message: str = Field(description="One line for people.", max_length=1024)


class SecretKeyRef(Model):
    name: ObjectName = Field(description="Name of the Secret, in the same namespace.")
    key: DataKey = Field(description="Key in the Secret's data.")


class ConfigMapKeyRef(Model):
    name: ObjectName = Field(description="Name of the ConfigMap, in the same namespace.")
    key: DataKey = Field(description="Key in the ConfigMap's data.")


class ValueSource(Model):
    """Where a value is read from."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one(("secretKeyRef", "configMapKeyRef"), "where the value comes from")))
    secret_key_ref: SecretKeyRef | None = Field(default=None, description="A key of a Secret; read at launch, kept nowhere.")
    config_map_key_ref: ConfigMapKeyRef | None = Field(default=None, description="A key of a ConfigMap; read when the group plans.")


class Variable(Model):
    """A value that templates read as `variables.<name>`."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one(("value", "valueFrom"), "what the variable is")))
    name: VariableName = Field(description="The name that templates use.")
    value: str | None = Field(default=None, description="The value itself.", max_length=4096)
    value_from: ValueSource | None = Field(default=None, description="Where the value is read from.")


#: So many at most are written in one place.
VARIABLES = 64


def variables_field(where: str, most: int = VARIABLES) -> Any:
    return Field(default=(), description=f"Values for templates, {where}.", max_length=most, json_schema_extra=list_map("name"))


class LocalReference(Model):
    """A reference to an object of the same namespace."""

    name: ObjectName = Field(description="Name of the object, in the same namespace.")


def conditions_field(types: str) -> Any:
    return Field(default=(), description=f"Conditions: {types}.", max_length=8, json_schema_extra=list_map("type"))


class Status(Model):
    """What every status has."""

    observed_generation: int = Field(default=-1, description="The newest generation of the spec that was looked at.")


def first_arm(extra: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """The kind of cloud and its fields, of a model that keeps its arm as an extra field; `("", {})` where there is none."""
    for kind, fields in (extra or {}).items():
        return kind, fields
    return "", {}


def condition(conditions: tuple[Condition, ...], type: str) -> Condition | None:
    """The condition of that type, if it is there."""
    return next((each for each in conditions if each.type == type), None)


def is_true(conditions: tuple[Condition, ...], type: str) -> bool:
    found = condition(conditions, type)
    return found is not None and found.status == "True"
