"""Emits the CRDs from the models: structural schemas, CEL rules, print columns, subresources, the drivers' arms stitched in.

Called by `python -m controller crds`, by the file home's checks (`controller.stores.rules`) and by the reference docs, so
that both homes and the documents say the same. It refuses what the API server would refuse as non-structural (unions other
than `T | None`, keywords a CRD does not have) and knows nothing of any driver beyond its two models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

from controller import errors
from controller.api.kinds import CATEGORY, KINDS, Kind
from controller.api.meta import GROUP, VERSION, exactly_one
from controller.ports import CloudPlugin

Schema = dict[str, Any]

#: Keywords that structural schemas have too (apiextensions `JSONSchemaProps`), carried over as they are. A schema's keywords
#: are emitted in this order, the others after them.
_KEPT = (
    *("description", "type", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum"),
    *("multipleOf", "minProperties", "maxProperties", "required"),
)
#: Keywords of pydantic that say nothing to an API server.
_DROPPED = frozenset(("title", "$defs", "examples", "deprecated", "readOnly", "writeOnly"))
#: The one format that the API server and the file home check alike; others the server ignores or checks by its own lights.
_FORMATS = frozenset(("date-time",))
#: Names that CEL reserves, or would want escaped, cannot be arms.
_ARM = re.compile(
    r"^(?!(?:true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return|var|void|while)$)"
    r"[a-z][a-zA-Z0-9]{0,62}$"
)
#: Fields of a driver's cloud model that say which account it is; changing one would be another Cloud (design section 3).
_IDENTIFYING = ("region", "endpoint")

_API_VERSION_WORDS = "APIVersion defines the versioned schema of this representation of an object."
_KIND_WORDS = "Kind is a string value representing the REST resource this object represents."


def crds(plugins: Sequence[CloudPlugin]) -> dict[str, Schema]:
    """File name → CRD, for the drivers given. Equal input gives equal output, key order included.

    Raises UsageError where a model cannot be a structural schema; the message names the field.
    """
    ordered = sorted(plugins, key=lambda plugin: plugin.kind)
    _check_arms(ordered)
    return {f"{kind.plural}.yaml": _crd(kind, ordered) for kind in KINDS}


def object_schema(crd: Mapping[str, Any]) -> Schema:
    """The schema of the version that is served and stored."""
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def _check_arms(plugins: Sequence[CloudPlugin]) -> None:
    seen: set[str] = set()
    for plugin in plugins:
        if not _ARM.match(plugin.kind):
            raise errors.UsageError(
                f"cloud driver {plugin.kind!r}: a kind is a camelCase word of letters and digits that CEL does not reserve"
            )
        if plugin.kind in seen:
            raise errors.UsageError(f"cloud driver {plugin.kind!r} is installed twice: uninstall one of the distributions")
        seen.add(plugin.kind)


# --- one CRD --------------------------------------------------------------------------------------------------------
def _crd(kind: Kind, plugins: Sequence[CloudPlugin]) -> Schema:
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root(kind, plugins)},
        "additionalPrinterColumns": [_column(each) for each in kind.columns],
    }
    subresources: Schema = {}
    if kind.status:
        subresources["status"] = {}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    if subresources:
        version["subresources"] = subresources
    names: Schema = {"kind": kind.kind, "listKind": f"{kind.kind}List", "plural": kind.plural, "singular": kind.singular}
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": {**names, "categories": [CATEGORY]}, "scope": "Namespaced", "versions": [version]},
    }


def _column(column: Any) -> Schema:
    shown: Schema = {"name": column.name, "type": column.type, "jsonPath": column.json_path, "description": column.description}
    return {**shown, "priority": column.priority} if column.priority else shown


def _root(kind: Kind, plugins: Sequence[CloudPlugin]) -> Schema:
    emitted = kind.model.model_json_schema(by_alias=True)
    properties: Schema = emitted["properties"]
    # The API server would persist defaults, and an upgrade of ours would look like a change of every template.
    spec_defaults = kind.kind != "InstanceTemplate"
    spec = _Converter(emitted, kind.kind, defaults=spec_defaults).convert(properties["spec"], ".spec")
    _stitch(kind.kind, spec, plugins, defaults=spec_defaults)
    root: Schema = {
        "description": emitted["description"],
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": _API_VERSION_WORDS, "type": "string"},
            "kind": {"description": _KIND_WORDS, "type": "string"},
            "metadata": {"type": "object"},
            "spec": {**spec, "description": spec.get("description", "What is wanted.")},
        },
    }
    if kind.status:
        # Defaults inside status would be written by the server beside what we wrote, and differ from what we compare with.
        status = _Converter(emitted, kind.kind, defaults=False).convert(properties["status"], ".status")
        root["properties"]["status"] = {**status, "default": {"observedGeneration": -1}}
    if kind.rules:
        root["x-kubernetes-validations"] = [dict(rule) for rule in kind.rules]
    return root


# --- the drivers' arms ----------------------------------------------------------------------------------------------
def _stitch(kind: str, spec: Schema, plugins: Sequence[CloudPlugin], *, defaults: bool) -> None:
    """Put each driver's fields into the places that have arms, with the rule that exactly one is set."""
    if kind == "Cloud":
        _add_arms(spec, {plugin.kind: _arm(plugin.kind, plugin.cloud_model, f"Cloud.spec.{plugin.kind}") for plugin in plugins})
        _add_rules(spec, [rule for plugin in plugins for rule in _cloud_transitions(plugin, spec)])
        return
    if kind == "InstanceTemplate":
        place = spec["properties"]["implementations"]["items"]
    elif kind == "Instance":
        place = spec["properties"]["implementation"]
    else:
        return
    arms = {
        plugin.kind: _arm(plugin.kind, plugin.machine_model, f"{kind}.spec.implementation.{plugin.kind}", defaults=defaults)
        for plugin in plugins
    }
    _add_arms(place, arms)


def _arm(kind: str, model: type[BaseModel], where: str, *, defaults: bool = True) -> Schema:
    emitted = model.model_json_schema(by_alias=True)
    schema = _Converter(emitted, where, defaults=defaults).convert(emitted, "")
    if schema.get("type") != "object":
        raise errors.UsageError(f"{where}: a driver's model is an object")
    return {**schema, "description": schema.get("description", f"Fields of a cloud of kind {kind}.")}


def _add_arms(place: Schema, arms: Mapping[str, Schema]) -> None:
    if not arms:
        return
    taken = set(arms) & set(place["properties"])
    if taken:
        raise errors.UsageError(f"cloud driver {min(taken)!r}: its kind is the name of a field that stands beside the arms")
    place["properties"] = {**place["properties"], **arms}
    _add_rules(place, [exactly_one(tuple(arms), "the kind of cloud")])


def _add_rules(place: Schema, added: Sequence[Schema]) -> None:
    if added:
        place["x-kubernetes-validations"] = [*place.get("x-kubernetes-validations", []), *added]


def _cloud_transitions(plugin: CloudPlugin, spec: Schema) -> list[Schema]:
    """The kind of a Cloud never changes, nor what says which account it is."""
    kind = plugin.kind
    found = [{"rule": f"has(self.{kind}) == has(oldSelf.{kind})", "message": "the kind of a Cloud cannot change: make another Cloud"}]
    for field in _IDENTIFYING:
        if field not in spec["properties"][kind].get("properties", {}):
            continue
        new, old = f"self.{kind}.{field}", f"oldSelf.{kind}.{field}"
        same = f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"
        rule = f"!has(self.{kind}) || !has(oldSelf.{kind}) || ({same})"
        found.append({"rule": rule, "message": f"{kind}.{field} cannot be changed, set later or removed: make another Cloud"})
    return found


# --- pydantic's JSON schema → structural schema -----------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Converter:
    """Rewrites one model's schema; `where` and the path name the field in refusals."""

    emitted: Mapping[str, Any]
    where: str
    defaults: bool

    def convert(self, schema: Mapping[str, Any], path: str, above: tuple[str, ...] = ()) -> Schema:
        """The structural form of `schema`; `above` are the references being inlined, to refuse recursion."""
        schema, above = self._inline(schema, path, above)
        schema = self._optional(schema, path)
        if "$ref" in schema:
            return self.convert(schema, path, above)
        converted: Schema = {}
        for keyword, value in schema.items():
            nested = keyword in ("properties", "items", "additionalProperties")
            converted |= self._nested(keyword, value, path, above) if nested else self._keyword(keyword, value, path)
        if "properties" in converted:
            converted.pop("additionalProperties", None)
        first = {keyword: converted[keyword] for keyword in _KEPT if keyword in converted}
        return first | converted

    def _inline(self, schema: Mapping[str, Any], path: str, above: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        merged = dict(schema)
        if "allOf" in merged and len(merged["allOf"]) == 1:
            merged = {**merged.pop("allOf")[0], **merged}
        while "$ref" in merged:
            name = merged.pop("$ref").removeprefix("#/$defs/")
            if name in above:
                raise self._refused(path, f"the model {name} contains itself")
            above = (*above, name)
            merged = {**self.emitted["$defs"][name], **merged}
        return merged, above

    def _optional(self, schema: Schema, path: str) -> Schema:
        """`T | None` is T, not required: a null is not stored."""
        if "anyOf" not in schema:
            return schema
        arms = [arm for arm in schema["anyOf"] if arm.get("type") != "null"]
        if len(arms) != 1 or len(arms) == len(schema["anyOf"]):
            raise self._refused(path, "a union other than `T | None`: use optional siblings and a rule that exactly one is set")
        beside = {keyword: value for keyword, value in schema.items() if keyword != "anyOf"}
        if beside.get("default", ...) is None:
            del beside["default"]
        return {**arms[0], **beside}

    def _nested(self, keyword: str, value: Any, path: str, above: tuple[str, ...]) -> Schema:
        if keyword == "properties":
            fields = cast(dict[str, Schema], value)
            return {keyword: {name: self.convert(field, f"{path}.{name}", above) for name, field in fields.items()}}
        if isinstance(value, bool):  # additionalProperties: whether there may be more says nothing of what it is
            return {}
        return {keyword: self.convert(value, path + ("[]" if keyword == "items" else ".*"), above)}

    def _keyword(self, keyword: str, value: Any, path: str) -> Schema:
        if keyword in _KEPT or keyword.startswith("x-kubernetes-"):
            return {keyword: value}
        if keyword in _DROPPED:
            return {}
        match keyword:
            case "const":
                return {"enum": [value]}
            case "exclusiveMinimum" | "exclusiveMaximum":
                return {keyword.removeprefix("exclusive").lower(): value, keyword: True}
            case "uniqueItems":
                return {"x-kubernetes-list-type": "set"} if value else {}
            case "format":
                return {"format": value} if value in _FORMATS else {}
            case "default":
                return {"default": value} if self.defaults and value not in (None, "", [], {}) else {}
            case _:
                raise self._refused(path, f"the keyword {keyword!r} has no place in a structural schema")

    def _refused(self, path: str, why: str) -> errors.UsageError:
        return errors.UsageError(f"{self.where}{path}: {why}")


__all__ = ["crds", "object_schema"]
