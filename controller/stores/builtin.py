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
from controller.stores import merge

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
#: All values together, decoded; of Secrets and ConfigMaps alike (core/v1 `MaxSecretSize`).
_DATA_LIMIT_BYTES = 1_048_576

_ROOT: dict[str, Any] = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
_TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}


def _schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {**_ROOT, **properties}}


SCHEMAS: dict[str, dict[str, Any]] = {
    "Secret": _schema(
        {"type": {"type": "string", "default": "Opaque"}, "data": _TEXTS, "stringData": _TEXTS, "immutable": {"type": "boolean"}}
    ),
    "ConfigMap": _schema({"data": _TEXTS, "binaryData": _TEXTS, "immutable": {"type": "boolean"}}),
    "ControllerRevision": _schema(
        {
            "data": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "revision": {"type": "integer", "minimum": 0, "default": 0},
        }
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


#: What never changes, of each kind; and what does not change once `immutable` is set (core/v1 and apps/v1 validation).
_IMMUTABLE = {"Secret": ("type",), "ControllerRevision": ("data",)}
_FREEZABLE = {"Secret": ("data",), "ConfigMap": ("data", "binaryData")}


def faults(obj: Obj, old: Obj | None) -> Iterator[errors.Cause]:
    """What a schema cannot say: what may not change; keys, base64 and size of the data of a Secret or ConfigMap."""
    if old is not None:
        yield from _changed(obj, old)
    if obj.get("kind") in ("Secret", "ConfigMap"):
        yield from _data_faults(obj)


def _changed(obj: Obj, old: Obj) -> Iterator[errors.Cause]:
    kind = obj.get("kind", "")
    for field in _IMMUTABLE.get(kind, ()):
        if not merge.same(obj.get(field), old.get(field)):
            yield errors.Cause(field, "Invalid value: field is immutable")
    if old.get("immutable") is not True or kind not in _FREEZABLE:
        return
    if obj.get("immutable") is not True:
        yield errors.Cause("immutable", "Forbidden: field is immutable when `immutable` is set")
    for field in _FREEZABLE[kind]:
        if not merge.same(obj.get(field, {}), old.get(field, {})):
            yield errors.Cause(field, "Forbidden: field is immutable when `immutable` is set")


def _data_faults(obj: Obj) -> Iterator[errors.Cause]:
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
            decoded = _decoded(value) if field == "binaryData" or obj["kind"] == "Secret" else value.encode()
            if decoded is None:
                yield errors.Cause(f"{field}[{key}]", "Invalid value: illegal base64 data; text goes into stringData as it is")
            else:
                size_bytes += len(decoded)
    if size_bytes > _DATA_LIMIT_BYTES:
        # The server names no field of a ConfigMap, since two fields share the limit.
        field = "data" if obj["kind"] == "Secret" else ""
        yield errors.Cause(field, f"Too long: may not be more than {_DATA_LIMIT_BYTES} bytes")


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


__all__ = ["SCHEMAS", "faults", "normalised"]
