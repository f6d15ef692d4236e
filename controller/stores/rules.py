"""Checks an object by the rules of the API, as the file home does where Kubernetes would ask its API server.

The rules are the emitted CRDs (schema and CEL texts alike), what Kubernetes asks of every object's metadata, and the few
rules of the built-in kinds in use. `occopus validate` asks here too. It knows no store, and no driver beyond its models.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

from controller import errors
from controller.api import crd, kinds
from controller.ports import CloudPlugin, Obj
from controller.stores import builtin
from controller.stores.metadata import metadata_faults
from controller.stores.schema import Schema

#: etcd takes requests of 1.5 MiB by default (`--max-request-bytes`).
OBJECT_LIMIT_BYTES = 1_572_864
_SURROGATE = re.compile("[\ud800-\udfff]")


class Rules:
    """The rules of every kind, for the drivers given. Each kind is compiled once, when it is first asked for (10 to 60 ms)."""

    def __init__(self, plugins: Sequence[CloudPlugin]) -> None:
        """Raises UsageError where a driver's model cannot be part of a CRD."""
        documents = crd.crds(plugins)
        self._sources = {each.kind: crd.object_schema(documents[f"{each.plural}.yaml"]) for each in kinds.KINDS} | builtin.SCHEMAS
        self._compiled: dict[str, Schema] = {}

    def check(self, obj: Obj, old: Obj | None = None) -> Obj:
        """The object as it would be stored, its defaults filled in. `old` is what an update changes.

        Neither is changed; what is returned shares with `obj` what stayed the same.
        Raises Rejected with every cause there is; CEL rules are asked only of what fits the schema, as on a server.
        """
        subject = _subject(obj)
        schema = self._schema(obj, subject)
        before = None if old is None else self.defaulted(old)
        try:
            if strange := tuple(_strange(obj, old, "")):
                raise errors.Rejected(subject, strange)
            checked = schema.defaulted(builtin.normalised(obj))
            causes = [*metadata_faults(checked, before), *schema.faults(checked, before), *builtin.faults(checked, before)]
            causes += [] if causes else schema.broken_rules(checked, before)
            size_bytes = len(json.dumps(checked, ensure_ascii=False).encode())
        except RecursionError:
            raise errors.Rejected(subject, (errors.Cause("", "nested too deeply"),)) from None
        if size_bytes > OBJECT_LIMIT_BYTES:
            causes.append(errors.Cause("", f"Too long: the object is {size_bytes} bytes, may not be more than {OBJECT_LIMIT_BYTES} bytes"))
        if causes:
            raise errors.Rejected(subject, tuple(causes))
        return checked

    def defaulted(self, obj: Obj) -> Obj:
        """A stored object as a server would read it: with the defaults of these rules. The same object if it has them."""
        return self._schema(obj, _subject(obj)).defaulted(obj)

    def _schema(self, obj: Obj, subject: str) -> Schema:
        kind = _known_kind(obj, subject)
        if kind not in self._compiled:
            self._compiled[kind] = Schema(self._sources[kind])
        return self._compiled[kind]


def _subject(obj: Obj) -> str:
    metadata: Any = obj.get("metadata")
    name = cast(dict[str, Any], metadata).get("name") if isinstance(metadata, dict) else None
    return f'{obj.get("kind") or "object"} "{name or ""}"'


def _known_kind(obj: Obj, subject: str) -> str:
    kind, version = obj.get("kind"), obj.get("apiVersion")
    if not isinstance(kind, str) or not kind:
        raise errors.Rejected(subject, (errors.Cause("kind", "Required value"),))
    wanted = kinds.api_version(kind)
    if wanted is None:
        known = ", ".join((*kinds.BY_KIND, *kinds.BUILT_IN))
        raise errors.Rejected(
            subject, (errors.Cause("kind", f'no matches for kind "{kind}" in version "{version}"; known kinds: {known}'),)
        )
    if version != wanted:
        why = "Required value" if version is None else f'no matches for kind "{kind}" in version "{version}"'
        raise errors.Rejected(subject, (errors.Cause("apiVersion", f"{why}: write {wanted}"),))
    return kind


def _strange(value: Any, known: Any, path: str) -> Iterator[errors.Cause]:
    """What JSON has no form for (YAML has dates, keys that are no strings, NaN), by its place; `known` was looked at before."""
    if value is known:
        return
    if isinstance(value, dict):
        before = cast(dict[Any, Any], known) if isinstance(known, dict) else {}
        for key, each in cast(dict[Any, Any], value).items():
            if isinstance(key, str):
                yield from _strange(each, before.get(key), f"{path}.{key}".removeprefix("."))
            else:
                yield errors.Cause(path, f"Invalid value: the key {key!r} is not a string: put it in quotes")
    elif isinstance(value, list):
        for index, each in enumerate(cast(list[Any], value)):
            yield from _strange(each, None, f"{path}[{index}]")
    elif why := _no_scalar(value):
        yield errors.Cause(path, f"Invalid value: {why}")


def _no_scalar(value: Any) -> str:
    """Why it is no string, number, boolean or null of JSON; empty where it is one."""
    if isinstance(value, str):
        return "" if value.isascii() or not _SURROGATE.search(value) else "the text has half of a surrogate pair, which is no character"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{value} is not a number in JSON"
    return "" if value is None or isinstance(value, int) else f"{type(value).__name__} {value} is not JSON: put it in quotes"


__all__ = ["OBJECT_LIMIT_BYTES", "Rules"]
