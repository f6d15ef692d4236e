"""The fields of a kind, as its emitted CRD and its models have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

from controller.api import crd

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its path from the object's root, and what may stand there. `rules` are its CEL rules with their messages."""

    path: str
    type: str
    required: bool
    default: str
    bounds: str
    description: str
    rules: tuple[tuple[str, str], ...]


def fields(crd_document: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[Field]:
    """The fields of spec and status in the order of the schema; the parts of a condition are left to their own section."""
    schema = crd.object_schema(dict(crd_document))
    return [
        each
        for name in ("spec", "status")
        if name in schema["properties"]
        for each in _fields(schema["properties"][name], name, name in schema["required"], defaults)
    ]


def _fields(schema: Schema, path: str, required: bool, defaults: Mapping[str, Any]) -> Iterator[Field]:
    item: Schema = schema["items"] if schema.get("type") == "array" else schema
    # A list of single values has its bounds on the values; of a list of objects they are the objects' fields.
    single = _bounds(item) if item is not schema and "properties" not in item else ""
    yield Field(
        path,
        _type(schema),
        required,
        _default(defaults.get(path, schema.get("default"))),
        "; ".join(filter(None, (_bounds(schema), single))),
        schema.get("description", ""),
        tuple((each["message"], each["rule"]) for each in (*rules_of(schema), *(rules_of(item) if item is not schema else ()))),
    )
    if path.endswith(".conditions"):
        return
    below = f"{path}[]" if item is not schema else path
    for name, each in item.get("properties", {}).items():
        yield from _fields(each, f"{below}.{name}", name in item.get("required", ()), defaults)


def rules_of(schema: Schema) -> Sequence[Schema]:
    """The CEL rules of a schema itself."""
    return schema.get("x-kubernetes-validations", ())


def _type(schema: Schema) -> str:
    if schema.get("type") != "array":
        return "time" if schema.get("format") == "date-time" else str(schema.get("type", "any"))
    keys = schema.get("x-kubernetes-list-map-keys")
    return f"list of {_type(schema['items'])}" + (f", by {', '.join(keys)}" if keys else "")


def _bounds(schema: Schema) -> str:
    found = ["one of " + ", ".join(f"`{each}`" for each in schema["enum"])] if "enum" in schema else []
    for least, most, unit in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " entries")):
        low, high = schema.get(least), schema.get(most)
        if low is not None and high is not None:
            found.append(f"{low} to {high}{unit}")
        elif low is not None or high is not None:
            found.append((f"at least {low}" if high is None else f"at most {high}") + unit)
    return ", ".join([*found, *([f"`{schema['pattern']}`"] if "pattern" in schema else [])])


def _default(value: Any) -> str:
    # Of an object the fields below have the defaults.
    return "" if value in (None, "", [], ()) or isinstance(value, dict) else f"`{json.dumps(value)}`"


def model_defaults(model: type[BaseModel], path: str) -> dict[str, Any]:
    """Defaults by path. From the models: the CRD of InstanceTemplate carries none, and models fill them while planning."""
    emitted = model.model_json_schema(by_alias=True)
    definitions: Mapping[str, Any] = emitted.get("$defs", {})

    def walk(schema: Schema, place: str) -> Iterator[tuple[str, Any]]:
        schema = _inlined(schema, definitions)
        if "default" in schema:
            yield place, schema["default"]
        if "items" in schema:
            schema, place = _inlined(schema["items"], definitions), f"{place}[]"
        for name, each in schema.get("properties", {}).items():
            yield from walk(each, f"{place}.{name}".lstrip("."))

    return dict(walk(emitted, path))


def _inlined(schema: Schema, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its reference resolved and `T | None` read as T."""
    merged = dict(schema)
    for arm in cast("list[dict[str, Any]]", merged.pop("anyOf", [])):
        merged = {**arm, **merged} if arm.get("type") != "null" else merged
    while "$ref" in merged:
        name: str = merged.pop("$ref").removeprefix("#/$defs/")
        merged = {**definitions[name], **merged}
    return merged


__all__ = ["Field", "Schema", "fields", "model_defaults", "rules_of"]
