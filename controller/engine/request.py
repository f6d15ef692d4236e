"""From an Instance to the one request that launches its machine: values, user data, tags, digest.

Deterministic: the same Instance with the same secrets gives the same bytes, so a launch can be repeated after a crash.
Secret values are read here, at launch, and are kept nowhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller import errors
from controller.api.instance import Instance
from controller.api.reasons import Reason
from controller.engine import clouds
from controller.engine.objects import Objects
from controller.ports import CONTROLLER_TAG, Key, LaunchRequest, Obj, Renderer, RenderRequest


class NotNow(errors.OccopusError):
    """The request cannot be made yet; `reason` and the message say what is missing.

    `passing` where this machine has, or may have, its part in that: it proves nothing against what the request is made of.
    """

    def __init__(self, reason: Reason, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Built:
    """A request, and the digest that is recorded of it."""

    request: LaunchRequest
    digest: str


async def build(objects: Objects, renderer: Renderer, controller_id: str, limit_bytes: int, instance: Instance) -> Built:
    """The request that an Instance's launch sends, for all of its batch. Raises NotNow."""
    template = await _template(objects, instance)
    user_data, key = b"", ""
    if template is not None:
        values, key = await _values(objects, instance)
        name = f"template of revision {instance.spec.revision}"
        user_data = await rendered(renderer, RenderRequest(template, name, values, limit_bytes))
    _, spec = instance.spec.implementation.arm()
    request = LaunchRequest(
        batch_id=instance.spec.batch.id,
        names=names(instance),
        tags=tags(instance, controller_id),
        spec=spec,
        user_data=user_data,
    )
    return Built(request, digest(request, key))


async def rendered(renderer: Renderer, request: RenderRequest) -> bytes:
    """User data, or NotNow with the reason that belongs to what went wrong."""
    try:
        return await renderer.render(request)
    except errors.RendererFailed as error:
        raise NotNow(Reason.RENDERER_FAILED, str(error), passing=True) from error
    except errors.TooLarge as error:
        raise NotNow(Reason.USER_DATA_TOO_LARGE, str(error)) from error
    except errors.ContextError as error:
        raise NotNow(Reason.TEMPLATE_INVALID, str(error), passing=isinstance(error, errors.TooCostly)) from error


def tags(instance: Instance, controller_id: str) -> dict[str, str]:
    """What a machine carries from the first (design section 5, rule 2)."""
    spec = instance.spec
    return {
        CONTROLLER_TAG: controller_id,
        clouds.NAMESPACE_TAG: instance.metadata.namespace,
        clouds.INFRASTRUCTURE_TAG: spec.infrastructure.name,
        clouds.INFRASTRUCTURE_ID_TAG: spec.infrastructure.id,
        clouds.SERVICE_TAG: spec.service,
        clouds.IMPLEMENTATION_TAG: spec.implementation.name,
        clouds.REVISION_TAG: spec.revision,
        clouds.BATCH_TAG: spec.batch.id,
        clouds.BATCH_SIZE_TAG: str(spec.batch.size),
    }


def names(instance: Instance) -> tuple[str, ...]:
    """One name per machine; those of a batch are alike, so that the first member alone can say them again after a crash."""
    size = instance.spec.batch.size
    owner = next((each.name for each in instance.metadata.owner_references if each.kind == "InstanceGroup"), instance.spec.service)
    return (instance.metadata.name,) if size == 1 else (owner,) * size


def digest(request: LaunchRequest, key: str) -> str:
    """SHA-256 over everything that the cloud is sent, save the fence; keyed where the user data may hold what is secret.

    Whoever reads Instances knows all the rest of the request, and could find out a password by trying, one digest a guess. The key is the
    UIDs of the Secrets: random, the same for every process, and shown by the API to nobody who may not read the Secret itself.
    """
    text = json.dumps(
        [request.batch_id, request.names, dict(request.tags), request.spec, base64.b64encode(request.user_data).decode()], sort_keys=True
    )
    if not key:
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    return "hmac-sha256:" + hmac.digest(key.encode(), text.encode(), "sha256").hex()


def values(inputs: Mapping[str, Any], names: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, Any]:
    """What a template can read: the inputs, its own names, and the secrets put among the variables."""
    return {
        "variables": {**inputs.get("variables", {}), **secrets},
        "services": inputs.get("services", {}),
        "infrastructure": names["infrastructure"],
        "service": names["service"],
        "instance": {"name": names["name"], "index": int(names["index"]), "id": names["id"]},
    }


async def _template(objects: Objects, instance: Instance) -> str | None:
    """The text of the template, from the revision: a later change of the template does not reach this Instance."""
    if not instance.spec.revision:
        raise NotNow(Reason.TEMPLATE_NOT_FOUND, "the Instance was claimed from its machine and is never rendered again")
    key = Key("ControllerRevision", instance.metadata.namespace, instance.spec.revision)
    revision = objects.get(key) or await objects.refresh(key)
    if revision is None:
        raise NotNow(Reason.TEMPLATE_NOT_FOUND, f"there is no ControllerRevision {key.name}")
    cloud_init: dict[str, Any] = revision["data"].get("spec", {}).get("context", {}).get("cloudInit", {})
    return cloud_init.get("template")


async def _values(objects: Objects, instance: Instance) -> tuple[dict[str, Any], str]:
    """What the template can read, and the key of the digest: the UIDs of the Secrets that are among it."""
    spec = instance.spec
    secrets: dict[str, str] = {}
    uids: set[str] = set()
    references: dict[str, dict[str, str]] = spec.inputs.get("secrets", {})
    for name, reference in sorted(references.items()):
        found = await secret(objects, instance.metadata.namespace, reference["name"])
        secrets[name] = _value(found, reference["key"])
        uids.add(found["metadata"]["uid"])
    names = {
        "infrastructure": spec.infrastructure.name,
        "service": spec.service,
        "name": instance.metadata.name,
        "index": str(spec.index),
        "id": f"{spec.batch.id}-{spec.batch.index}",
    }
    return values(spec.inputs, names, secrets), ",".join(sorted(uids))


def _value(secret: Obj, key: str) -> str:
    data = texts(secret)
    if key not in data:
        raise NotNow(Reason.SECRET_NOT_FOUND, f"Secret {secret['metadata']['name']} has no key {key}")
    return data[key]


async def secret(objects: Objects, namespace: str, name: str) -> Obj:
    """A Secret, read live; it is kept nowhere. Raises NotNow."""
    try:
        return await objects.store.get(Key("Secret", namespace, name))
    except errors.ObjectNotFound:
        raise NotNow(Reason.SECRET_NOT_FOUND, f"there is no Secret {name}") from None


def texts(secret: Obj) -> dict[str, str]:
    """All values of a Secret as texts. Raises NotNow."""
    try:
        return {each: base64.b64decode(value, validate=True).decode() for each, value in secret.get("data", {}).items()}
    except (binascii.Error, UnicodeDecodeError):
        # The cause would show the value.
        raise NotNow(
            Reason.SECRET_NOT_FOUND, f"Secret {secret['metadata']['name']} holds a value that is not base64 of UTF-8 text"
        ) from None
