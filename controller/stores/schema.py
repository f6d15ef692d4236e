"""One CRD schema, compiled: fills in defaults, finds what breaks it, evaluates its CEL rules. Used by `controller.stores.rules`.

It says what an API server would say, in its words, and knows no kind: a schema goes in, causes come out. As there,
CEL rules stand over objects that fit the schema, and what an update leaves as it was is not judged again (an object taken
under older rules stays writable).
"""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import jsonschema_rs

from controller import errors
from controller.stores import merge

if TYPE_CHECKING:
    import cel

Json = Any
_ABSENT: Json = object()
#: What evaluating CEL may raise.
_CEL_ERRORS = (KeyError, TypeError, ValueError, RuntimeError, OverflowError)
#: The longest value that a message repeats.
_SHOWN_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class _Rule:
    """One CEL rule. At the root only the `parts` that it names are handed over: converting the whole costs 0.5 ms."""

    text: str
    message: str
    #: CEL for what to say in place of `message`; empty where that says it all.
    words: str
    transition: bool
    parts: frozenset[str]

    def broken(self, new: Json, old: Json) -> str | None:
        """What is wrong, or why it cannot be said; None where the rule holds."""
        values = {"self": self._trimmed(new)}
        if self.transition:
            values["oldSelf"] = self._trimmed(old)
        try:
            return None if _program(self.text).execute(values) is True else self._said(values)
        except _CEL_ERRORS as error:
            return f"rule evaluation error: {error}"

    def _said(self, values: dict[str, Json]) -> str:
        """As on a server: the message where its expression fails, or gives nothing that is one line of text."""
        try:
            said = _program(self.words).execute(values) if self.words else ""
        except _CEL_ERRORS:
            return self.message
        return said if isinstance(said, str) and said.strip() and "\n" not in said else self.message

    def _trimmed(self, value: Json) -> Json:
        if not self.parts:
            return value
        kept = {key: each for key, each in value.items() if key in self.parts}
        if "metadata" in kept:  # rules may read these two alone, as on a server
            kept["metadata"] = {key: each for key, each in kept["metadata"].items() if key in ("name", "generateName")}
        return kept


@dataclass(frozen=True, slots=True)
class _Node:
    """What a place of the schema asks beyond JSON Schema; places that ask nothing are left out of the tree."""

    default: Json = _ABSENT
    rules: tuple[_Rule, ...] = ()
    keys: tuple[str, ...] = ()
    is_set: bool = False
    properties: Mapping[str, _Node] = field(default_factory=dict[str, "_Node"])
    items: _Node | None = None
    values: _Node | None = None

    @property
    def empty(self) -> bool:
        asks = self.default is not _ABSENT or self.rules or self.keys or self.is_set
        return not (asks or self.properties or self.items or self.values)


class Schema:
    """A structural schema, ready to check objects by."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = jsonschema_rs.Draft202012Validator(_json_schema(schema), validate_formats=True)
        self._tree = _node(schema, ())
        self._schema = schema

    def defaulted(self, obj: dict[str, Any]) -> dict[str, Any]:
        """The object with the schema's defaults where a field is missing or null, and without other nulls; the same object where
        nothing is to be done."""
        return _filled(self._tree, _without_nulls(self._schema, obj) if _has_null(obj) else obj)

    def faults(self, obj: dict[str, Any], old: dict[str, Any] | None) -> list[errors.Cause]:
        """Where the object does not fit: types, bounds, required, unknown fields, duplicate keys of list maps."""
        found = [*_duplicates(self._tree, obj, ())]
        if not self._validator.is_valid(obj):
            found += [fault for error in self._validator.iter_errors(obj) for fault in _faults(error, obj)]
        return [fault.cause for fault in found if old is None or not merge.same(_at(obj, fault.path), _at(old, fault.path))]

    def broken_rules(self, obj: dict[str, Any], old: dict[str, Any] | None) -> list[errors.Cause]:
        """The CEL rules that an object which fits the schema breaks; transition rules are asked on update alone."""
        return [*_broken(self._tree, obj, _ABSENT if old is None else old, ())]


# --- compiling ------------------------------------------------------------------------------------------------------
def _json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The structural schema as plain JSON Schema, closed as `fieldValidation=Strict` closes it."""
    plain: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "properties":
            plain[keyword] = {name: _json_schema(each) for name, each in value.items()}
        elif keyword in ("items", "additionalProperties"):
            plain[keyword] = _json_schema(value)
        elif keyword in ("exclusiveMinimum", "exclusiveMaximum"):
            plain[keyword] = schema[keyword.removeprefix("exclusive").lower()]
        elif keyword not in ("default", "description") and not keyword.startswith("x-kubernetes-"):
            plain[keyword] = value
    # An object without a list of properties is metadata, whose rules stand in no schema.
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        plain["additionalProperties"] = False
    return plain


def _node(schema: Mapping[str, Any], path: tuple[str, ...]) -> _Node:
    children = {name: _node(each, (*path, name)) for name, each in schema.get("properties", {}).items()}
    items = _node(schema["items"], (*path, "[]")) if "items" in schema else None
    values = _node(schema["additionalProperties"], (*path, "*")) if "additionalProperties" in schema else None
    return _Node(
        default=schema.get("default", _ABSENT),
        rules=tuple(_rule(each, path) for each in schema.get("x-kubernetes-validations", ())),
        keys=tuple(schema.get("x-kubernetes-list-map-keys", ())),
        is_set=schema.get("x-kubernetes-list-type") == "set",
        properties={name: node for name, node in children.items() if not node.empty},
        items=items if items and not items.empty else None,
        values=values if values and not values.empty else None,
    )


@functools.cache
def _program(text: str) -> cel.Program:
    """The rule, compiled when it is first asked: the library takes 0.3 CPU-s to load, and most commands ask none."""
    import cel

    return cel.compile(text)


def _rule(rule: Mapping[str, str], path: tuple[str, ...]) -> _Rule:
    text, words = rule["rule"], rule.get("messageExpression", "")
    transition = "oldSelf" in text
    if transition and path not in ((), ("spec",)):
        raise errors.UsageError(f"a rule with oldSelf stands at the root or at .spec, not at {_shown(path)}: {text}")
    whole = re.search(r"\b(?:self|oldSelf)\b(?!\.)", f"{text} {words}") is not None
    parts = frozenset(re.findall(r"\b(?:self|oldSelf)\.(\w+)", f"{text} {words}")) if not path and not whole else frozenset[str]()
    return _Rule(text, rule.get("message", f"failed rule: {text}"), words, transition, parts)


# --- nulls: no field of ours is nullable, and a server drops them before it fills defaults in -------------------------------
def _has_null(value: Json) -> bool:
    if isinstance(value, dict):
        return any(map(_has_null, cast(dict[str, Json], value).values()))
    return any(map(_has_null, cast(list[Json], value))) if isinstance(value, list) else value is None


def _without_nulls(schema: Mapping[str, Any], value: Json) -> Json:
    """Fields that the schema names and that are null are left out; in lists, and where the schema names nothing, nulls stay."""
    if isinstance(value, list) and "items" in schema:
        return [_without_nulls(schema["items"], each) for each in cast(list[Json], value)]
    if not isinstance(value, dict):
        return cast(Json, value)
    known, other = schema.get("properties", {}), schema.get("additionalProperties")
    kept: dict[str, Json] = {}
    for name, each in cast(dict[str, Json], value).items():
        place = known.get(name, other)
        if each is not None or place is None or "default" in place:
            kept[name] = each if place is None else _without_nulls(place, each)
    return kept


# --- defaults -------------------------------------------------------------------------------------------------------
def _filled(node: _Node, value: Json) -> Json:
    if isinstance(value, dict):
        return _filled_fields(node, cast(dict[str, Json], value))
    if isinstance(value, list) and node.items:
        before = cast(list[Json], value)
        after = [_filled(node.items, each) for each in before]
        return before if all(map(operator.is_, before, after)) else after
    return cast(Json, value)


def _filled_fields(node: _Node, fields: dict[str, Json]) -> dict[str, Json]:
    children = dict.fromkeys(fields, node.values) if node.values else node.properties
    filled = fields
    for name, child in children.items():
        before = fields.get(name)
        after = merge.copied(child.default) if before is None and child and child.default is not _ABSENT else before
        after = _filled(child, after) if child else after
        if after is not before:
            filled = dict(fields) if filled is fields else filled
            filled[name] = after
    return filled


# --- duplicates and CEL ---------------------------------------------------------------------------------------------
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Fault:
    """A cause, and the place whose value is to blame."""

    path: Path
    cause: errors.Cause


def _children(node: _Node, value: Json, old: Json) -> Iterator[tuple[_Node, Json, Json, str | int]]:
    """The places below, each with its value before the update where that can be told (list maps by their keys)."""
    if isinstance(value, dict):
        fields = cast(dict[str, Json], value)
        before = cast(dict[str, Json], old) if isinstance(old, dict) else {}
        for name, each in fields.items():
            child = node.properties.get(name) or node.values
            if child:
                yield child, each, before.get(name, _ABSENT), name
    elif isinstance(value, list) and node.items:
        items = cast(list[Json], value)
        earlier = {_key(node, each): each for each in cast(list[Json], old)} if node.keys and isinstance(old, list) else {}
        for index, each in enumerate(items):
            yield node.items, each, earlier.get(_key(node, each), _ABSENT) if earlier else _ABSENT, index


def _key(node: _Node, item: Json) -> str:
    """What tells an entry of a list map, or of a set, from the others."""
    if node.keys and isinstance(item, dict):
        entry = cast(dict[str, Json], item)
        return json.dumps({key: entry.get(key) for key in node.keys}, separators=(",", ":"))
    return json.dumps(item, separators=(",", ":"), sort_keys=True)


def _duplicates(node: _Node, value: Json, path: Path) -> Iterator[_Fault]:
    if isinstance(value, list) and (node.keys or node.is_set):
        seen: set[str] = set()
        for index, item in enumerate(cast(list[Json], value)):
            key = _key(node, item)
            if key in seen:
                yield _Fault(path, errors.Cause(_shown((*path, index)), f"Duplicate value: {_cut(key)}"))
            seen.add(key)
    for child, each, _, name in _children(node, value, _ABSENT):
        yield from _duplicates(child, each, (*path, name))


def _broken(node: _Node, value: Json, old: Json, path: Path) -> Iterator[errors.Cause]:
    if old is not _ABSENT and merge.same(value, old):
        return
    for rule in node.rules:
        if rule.transition and old is _ABSENT:
            continue
        why = rule.broken(value, old)
        if why is not None:
            yield errors.Cause(_shown(path), f"Invalid value: {why}")
    for child, each, before, name in _children(node, value, old):
        yield from _broken(child, each, before, (*path, name))


# --- the server's words ---------------------------------------------------------------------------------------------
#: Keyword → message of value, field, limit and the value's size (kube-openapi and field.Error, as 1.36 words them).
_WORDS: dict[str, Callable[[str, str, str, int], str]] = {
    "pattern": lambda value, name, limit, size: f"Invalid value: {value}: {name} in body should match '{limit}'",
    "minLength": lambda value, name, limit, size: f"Invalid value: {value}: {name} in body should be at least {limit} chars long",
    "maxLength": lambda value, name, limit, size: f"Too long: may not be more than {limit} bytes",
    "minItems": lambda value, name, limit, size: f"Invalid value: {size}: {name} in body should have at least {limit} items",
    "maxItems": lambda value, name, limit, size: f"Too many: {size}: must have at most {limit} items",
    "minProperties": lambda value, name, limit, size: f"Invalid value: {size}: {name} in body should have at least {limit} properties",
    "maxProperties": lambda value, name, limit, size: f"Too many: {size}: must have at most {limit} items",
    "minimum": lambda value, name, limit, size: f"Invalid value: {value}: {name} in body should be greater than or equal to {limit}",
    "maximum": lambda value, name, limit, size: f"Invalid value: {value}: {name} in body should be less than or equal to {limit}",
    "exclusiveMinimum": lambda value, name, limit, size: f"Invalid value: {value}: {name} in body should be greater than {limit}",
    "exclusiveMaximum": lambda value, name, limit, size: f"Invalid value: {value}: {name} in body should be less than {limit}",
    "multipleOf": lambda value, name, limit, size: f"Invalid value: {value}: {name} in body should be a multiple of {limit}",
    "format": lambda value, name, limit, size: f"Invalid value: {value}: {name} in body must be of type {limit}: {value}",
}


def _faults(error: jsonschema_rs.ValidationError, obj: Json) -> Iterator[_Fault]:
    path: Path = tuple(error.instance_path)
    keyword, limit = error.kind.name, error.kind.value
    if keyword == "additionalProperties":
        for unknown in cast(list[str], cast(Any, error.kind).unexpected):
            where = _shown((*path, unknown))
            yield _Fault((*path, unknown), errors.Cause(where, f'unknown field "{where}"'))
    elif keyword == "required":
        yield _Fault(path, errors.Cause(_shown((*path, limit)), "Required value"))
    else:
        value = _at(obj, path)
        # A server's words for a wrong type leave the value out. Elsewhere than in a spec it may be a Secret's.
        told = keyword == "type" and path[:1] == ("spec",) and not isinstance(value, dict | list)
        yield _Fault(path, errors.Cause(_shown(path), _message(error, value, _shown(path)), _json(value) if told else ""))


def _message(error: jsonschema_rs.ValidationError, value: Json, name: str) -> str:
    keyword, limit = error.kind.name, error.kind.value
    if keyword == "enum":
        return f"Unsupported value: {_json(value)}: supported values: " + ", ".join(map(_json, limit))
    if keyword == "type":
        wanted, found = limit[0], _type(value)
        return f'Invalid value: "{found}": {name} in body must be of type {wanted}: "{found}"'
    if keyword not in _WORDS:
        return f"Invalid value: {_json(value)}: {error.message}"
    size = len(cast(list[Json], value)) if isinstance(value, list | dict | str) else 0
    return _WORDS[keyword](_json(value), name, _number(limit), size)


def _at(value: Json, path: Path) -> Json:
    """The value at a path; `_ABSENT` where there is none."""
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return value


def _shown(path: Path) -> str:
    """`spec.services[0].name`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _json(value: Json) -> str:
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _number(limit: Json) -> str:
    return str(int(limit)) if isinstance(limit, float) and limit.is_integer() else str(limit)


def _type(value: Json) -> str:
    """The JSON type; of numbers `integer` where it is one."""
    if value is None:
        return "null"
    names: tuple[tuple[type, str], ...] = ((bool, "boolean"), (str, "string"), (int, "integer"), (float, "number"), (dict, "object"))
    return next((name for kind, name in names if isinstance(value, kind)), "array")


__all__ = ["Schema"]
