"""The rules of the kinds that Kubernetes brings and the reconcilers use: Secret, ConfigMap, ControllerRevision.

No CRD of ours describes them: their schemas stand here in the same form, so that one check serves all kinds. Called by
`controller.stores.rules`. Only what a user of these three can get wrong in a file is covered.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any, cast

from controller import errors
from controller.ports import Obj

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
#: Secrets and ConfigMaps alike (core/v1 `MaxSecretSize`).
_DATA_LIMIT_BYTES = 1_048_576

_ROOT: dict[str, Any] = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
_TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}


def _frozen_by_flag(field: str) -> dict[str, str]:
    same = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    rule = f"!has(oldSelf.immutable) || !oldSelf.immutable || (has(self.immutable) && self.immutable && {same})"
    return {"rule": rule, "message": f"{field} is immutable when `immutable` is set"}


def _schema(properties: dict[str, Any], *rules: dict[str, str], required: tuple[str, ...] = ()) -> dict[str, Any]:
    built: dict[str, Any] = {"type": "object", "properties": {**_ROOT, **properties}, "x-kubernetes-validations": list(rules)}
    return {**built, "required": list(required)} if required else built


SCHEMAS: dict[str, dict[str, Any]] = {
    "Secret": _schema(
        {"type": {"type": "string", "default": "Opaque"}, "data": _TEXTS, "stringData": _TEXTS, "immutable": {"type": "boolean"}},
        _frozen_by_flag("data"),
        {"rule": "self.type == oldSelf.type", "message": "type is immutable"},
    ),
    "ConfigMap": _schema(
        {"data": _TEXTS, "binaryData": _TEXTS, "immutable": {"type": "boolean"}},
        _frozen_by_flag("data"),
        _frozen_by_flag("binaryData"),
    ),
    "ControllerRevision": _schema(
        {"data": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}, "revision": {"type": "integer", "minimum": 0}},
        {
            "rule": "has(self.data) == has(oldSelf.data) && (!has(self.data) || self.data == oldSelf.data)",
            "message": "data is immutable",
        },
        required=("revision",),
    ),
}


def normalised(obj: Obj) -> Obj:
    """A Secret's `stringData` goes into `data`, in base64, as the server stores it."""
    texts = obj.get("stringData")
    if obj.get("kind") != "Secret" or not isinstance(texts, dict):
        return obj
    plain = cast(dict[str, Any], texts)
    if not all(isinstance(value, str) for value in plain.values()):
        return obj  # left for the schema to refuse
    data = cast(dict[str, Any], obj["data"]) if isinstance(obj.get("data"), dict) else {}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
    return {**{field: value for field, value in obj.items() if field != "stringData"}, "data": data | encoded}


def faults(obj: Obj) -> Iterator[errors.Cause]:
    """What a schema cannot say: keys, base64 and size of the data of a Secret or ConfigMap."""
    if obj.get("kind") not in ("Secret", "ConfigMap"):
        return
    size_bytes = 0
    for field in ("data", "binaryData"):
        found = obj.get(field)
        entries = cast(dict[str, Any], found) if isinstance(found, dict) else {}
        for key, value in entries.items():
            if not _KEY.fullmatch(key):
                yield errors.Cause(
                    f"{field}[{key}]", f"Invalid value: \"{key}\": a valid key consists of alphanumeric characters, '-', '_' or '.'"
                )
            if not isinstance(value, str):
                continue
            size_bytes += len(value.encode())
            if (field == "binaryData" or obj["kind"] == "Secret") and not _is_base64(value):
                yield errors.Cause(f"{field}[{key}]", "Invalid value: illegal base64 data; text goes into stringData as it is")
    if size_bytes > _DATA_LIMIT_BYTES:
        yield errors.Cause("data", f"Too long: may not be more than {_DATA_LIMIT_BYTES} bytes")


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


__all__ = ["SCHEMAS", "faults", "normalised"]
