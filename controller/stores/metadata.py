"""What Kubernetes asks of every object's metadata (apimachinery `ValidateObjectMeta`). Called by `controller.stores.rules`.

Metadata stands in no CRD, so these rules are written out here, in the server's words. Fields that the server owns (uid,
resourceVersion, timestamps) are the store's matter and pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

from controller import errors
from controller.ports import Obj

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
_NAME_LIMIT = 253
#: All annotations of an object together.
_ANNOTATIONS_LIMIT_BYTES = 262_144

_SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_QUALIFIED_WORDS = (
    "name part must consist of at most 63 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character; "
    "a prefix before '/' is a lowercase RFC 1123 subdomain"
)
_FIELDS = frozenset(
    (
        *("name", "namespace", "labels", "annotations", "finalizers", "ownerReferences", "uid", "resourceVersion", "generation"),
        *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"),
    )
)
_OWNER_REQUIRED = ("apiVersion", "kind", "name", "uid")
_OWNER_FIELDS = frozenset((*_OWNER_REQUIRED, "controller", "blockOwnerDeletion"))


def metadata_faults(obj: Obj, old: Obj | None) -> Iterator[errors.Cause]:
    """Every fault of the metadata; none where an update leaves it as it was."""
    metadata: Any = obj.get("metadata")
    if not isinstance(metadata, dict):
        # Where it is there but no object, the schema says so.
        if metadata is None:
            yield errors.Cause("metadata.name", "Required value: name is required")
        return
    fields = cast(dict[str, Any], metadata)
    if old is not None and fields == old.get("metadata"):
        return
    for unknown in fields.keys() - _FIELDS:
        yield errors.Cause(f"metadata.{unknown}", f'unknown field "metadata.{unknown}"')
    yield from _name(fields.get("name"))
    if not isinstance(fields.get("namespace", ""), str):
        yield _not("string", "metadata.namespace")
    yield from _string_map(fields, "labels")
    yield from _string_map(fields, "annotations")
    yield from _finalizers(fields.get("finalizers", []))
    yield from _owners(fields.get("ownerReferences", []))


def _name(name: Any) -> Iterator[errors.Cause]:
    if name is None or name == "":
        yield errors.Cause("metadata.name", "Required value: name is required")
    elif not isinstance(name, str):
        yield _not("string", "metadata.name")
    else:
        if len(name) > _NAME_LIMIT:
            yield errors.Cause("metadata.name", f"Invalid value: must be no more than {_NAME_LIMIT} bytes")
        if not _SUBDOMAIN.fullmatch(name):
            yield errors.Cause("metadata.name", f'Invalid value: "{name[:_NAME_LIMIT]}": {_SUBDOMAIN_WORDS}')


def _string_map(metadata: dict[str, Any], field: str) -> Iterator[errors.Cause]:
    where = f"metadata.{field}"
    found = metadata.get(field, {})
    if not isinstance(found, dict):
        yield _not("object", where)
        return
    entries = cast(dict[str, Any], found)
    size_bytes = 0
    for key, value in entries.items():
        if not _qualified(key):
            yield errors.Cause(where, f'Invalid value: "{key}": {_QUALIFIED_WORDS}')
        if not isinstance(value, str):
            yield _not("string", f"{where}.{key}")
        elif field == "labels" and not _LABEL_VALUE.fullmatch(value):
            yield errors.Cause(where, f'Invalid value: "{value[:80]}" of {key}: must be a valid label value of at most 63 characters')
        else:
            size_bytes += len(key.encode()) + len(value.encode())
    if field == "annotations" and size_bytes > _ANNOTATIONS_LIMIT_BYTES:
        yield errors.Cause(where, f"Too long: may not be more than {_ANNOTATIONS_LIMIT_BYTES} bytes")


def _finalizers(found: Any) -> Iterator[errors.Cause]:
    if not isinstance(found, list):
        yield _not("array", "metadata.finalizers")
        return
    for index, each in enumerate(cast(list[Any], found)):
        if not isinstance(each, str):
            yield _not("string", f"metadata.finalizers[{index}]")
        elif not _qualified(each):
            yield errors.Cause("metadata.finalizers", f'Invalid value: "{each[:80]}": {_QUALIFIED_WORDS}')


def _owners(found: Any) -> Iterator[errors.Cause]:
    if not isinstance(found, list):
        yield _not("array", "metadata.ownerReferences")
        return
    for index, each in enumerate(cast(list[Any], found)):
        where = f"metadata.ownerReferences[{index}]"
        if not isinstance(each, dict):
            yield _not("object", where)
            continue
        owner = cast(dict[str, Any], each)
        for unknown in owner.keys() - _OWNER_FIELDS:
            yield errors.Cause(f"{where}.{unknown}", f'unknown field "{where}.{unknown}"')
        for field in _OWNER_REQUIRED:
            if not isinstance(owner.get(field), str) or not owner[field]:
                yield errors.Cause(f"metadata.ownerReferences.{field}", f"Invalid value: must not be empty, in entry {index}")


def _qualified(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    if slash and (len(prefix) > _NAME_LIMIT or not _SUBDOMAIN.fullmatch(prefix)):
        return False
    return _QUALIFIED.fullmatch(name) is not None


def _not(wanted: str, field: str) -> errors.Cause:
    return errors.Cause(field, f"Invalid value: {field} must be of type {wanted}")


__all__ = ["metadata_faults"]
