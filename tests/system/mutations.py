"""Every field that a user may write, and for each the odd values that are tried of it: Acto's mutators, by type.

Fields are read off the emitted schemas, so that one that is added is tried by itself. Tests that apply CR, CR' and CR again
(`tests/system/test_every_field.py` on the file home, `tests/cluster/test_operator_fields.py` on a real API server) call it
with the documents of their base. Pure: it knows schemas and documents, no system, and not what the API says to a value.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from controller.api import crd, kinds
from controller.ports import Obj
from controller.stores import merge

Schema = Mapping[str, Any]
Place = tuple[str | int, ...]

#: In the place of a value: the field is not there.
ABSENT: Any = object()
#: What breaks out of quotes, lines, templates, YAML and shells where they do not look: no type of field forbids it but a pattern.
ODD = "ü \"'\\ \n\u2028 {{ x }} {% if %} $(id) # : 🙂"
#: The kinds that users write whole; of groups and Instances they have a number and metadata.
WRITTEN = ("Cloud", "InstanceTemplate", "Infrastructure")
#: The rule of a union (`controller.api.meta.exactly_one`), and its arms.
_UNION = re.compile(r"\[has.*\]\.filter\(x, x\)\.size\(\) == 1")
_ARM = re.compile(r"has\(self\.(\w+)\)")
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}}
#: What a user may write in metadata, which no CRD describes (Kubernetes does).
_METADATA: Schema = {
    "labels": _TEXTS,
    "annotations": _TEXTS,
    "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind; `path` has `[]` for any entry of a list. `above` is the field it stands in, None for spec itself."""

    kind: str
    path: str
    schema: Schema
    above: Field | None = None

    def __str__(self) -> str:
        return f"{self.kind}.{self.path}"

    @property
    def last(self) -> str:
        """Its own name; `[]` of an entry."""
        return self.path.rpartition(".")[2] if not self.path.endswith("[]") else "[]"


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of one field of one object."""

    field: Field
    what: str
    name: str
    place: Place
    value: Any

    def __str__(self) -> str:
        return f"{self.field}: {self.what}"

    def of(self, obj: Obj) -> Obj:
        """The object with that change."""
        return placed(obj, self.place, self.value)


def fields(documents: Mapping[str, Schema]) -> tuple[Field, ...]:
    """Every field that a user may write, by the CRDs given (as `controller.api.crd.crds` emits them)."""
    found: list[Field] = []
    for kind in WRITTEN:
        found += _below(Field(kind, "spec", _schema(documents, kind)["properties"]["spec"]))
    group = Field("InstanceGroup", "spec", _schema(documents, "InstanceGroup")["properties"]["spec"])
    found.append(Field("InstanceGroup", "spec.replicas", group.schema["properties"]["replicas"], group))
    for kind in (*WRITTEN, "InstanceGroup", "Instance"):
        metadata = Field(kind, "metadata", {"type": "object", "properties": _METADATA})
        found += [Field(kind, f"metadata.{name}", schema, metadata) for name, schema in _METADATA.items()]
    return tuple(found)


def _schema(documents: Mapping[str, Schema], kind: str) -> Schema:
    return crd.object_schema(documents[f"{kinds.BY_KIND[kind].plural}.yaml"])


def _below(field: Field) -> Iterator[Field]:
    yield field
    for name, schema in field.schema.get("properties", {}).items():
        yield from _below(Field(field.kind, f"{field.path}.{name}", schema, field))
    if "items" in field.schema:
        yield from _below(Field(field.kind, f"{field.path}[]", field.schema["items"], field))


# --- where a field stands ---------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Hints:
    """What no schema tells, by `str(field)`: a maximum to be used in place of the schema's, and values to be tried too."""

    maxima: Mapping[str, int] = dataclasses.field(default_factory=dict[str, int])
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])


def mutations(every: Iterable[Field], objects: Sequence[Obj], hints: Hints) -> tuple[Mutation, ...]:
    """The changes to try of each field, at the first place in `objects` that has it, else at the first that can.

    A field for which there is no place is put there with what it stands in, made up as its schema wants it.
    """
    found: list[Mutation] = []
    for field in every:
        named = str(field)
        schema = {**field.schema, "maximum": hints.maxima[named]} if named in hints.maxima else field.schema
        where = _where(field, objects)
        if where is None:
            found += _made_up(field, schema, objects)
            continue
        name, place, value = where
        tried = [*_values(schema, value), *([("given", hints.values[named])] if named in hints.values else ())]
        # Of a field that is in no list, a merge patch takes a null for its removal.
        tried += [("null", None)] if any(isinstance(step, int) for step in place[:-1]) else []
        found += [Mutation(field, what, name, place, new) for what, new in tried if not _same(value, new)]
    return tuple(found)


def _where(field: Field, objects: Sequence[Obj]) -> tuple[str, Place, Any] | None:
    places = [
        (obj["metadata"]["name"], place, at(obj, place))
        for obj in objects
        if obj["kind"] == field.kind
        for place in _places(obj, field.path.replace("[]", ".[]").split("."))
    ]
    return next((each for each in places if each[2] is not ABSENT), places[0] if places else None)


def _places(value: Any, steps: Sequence[str], before: Place = ()) -> Iterator[Place]:
    """The places of a path whose surroundings are there."""
    step, rest = steps[0], steps[1:]
    inner: list[tuple[str | int, Any]]
    if step == "[]":
        inner = list(enumerate(cast(list[Any], value))) if isinstance(value, list) else []
    else:
        inner = [(step, cast(Obj, value).get(step, ABSENT))] if isinstance(value, dict) else []
    for key, each in inner:
        if not rest:
            yield (*before, key)
        elif each is not ABSENT:
            yield from _places(each, rest, (*before, key))


def _made_up(field: Field, schema: Schema, objects: Sequence[Obj]) -> Iterator[Mutation]:
    """The values of a field whose surroundings are not there: with surroundings."""
    for what, new in _values(schema, ABSENT):
        around, value = field, new
        while around.above is not None and value is not ABSENT:
            value = [value] if around.last == "[]" else {**example(around.above.schema), around.last: value}
            around = around.above
            where = _where(around, objects)
            if where is not None:
                yield Mutation(field, what, where[0], where[1], value)
                break


def at(obj: Any, place: Place) -> Any:
    """What stands there, or ABSENT."""
    for step in place:
        if isinstance(step, int) or step in obj:
            obj = obj[step]
        else:
            return ABSENT
    return obj


def placed(obj: Obj, place: Place, value: Any) -> Obj:
    """A copy with that value there, or without it."""
    copy = merge.copied(obj)
    *parents, last = place
    around = at(copy, tuple(parents))
    if value is not ABSENT:
        around[last] = value
    elif isinstance(last, int) or last in around:
        del around[last]
    return copy


def writable(obj: Obj) -> Obj:
    """What of an object a user may write."""
    metadata: Obj = {name: obj["metadata"][name] for name in _METADATA if obj["metadata"].get(name)}
    return {"metadata": metadata, **{name: obj[name] for name in ("spec",) if name in obj}}


# --- which values are tried -------------------------------------------------------------------------------------------
def _values(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    """What is tried in place of `value`, each with what it is called; some of it may be the same as `value`."""
    yield "removed", ABSENT
    kind = schema["type"]
    if kind == "string":
        yield from _enumerated(schema, value) if "enum" in schema else _texts(schema, value)
    elif kind == "integer":
        yield from _integers(schema, value)
    elif kind == "boolean":
        yield "toggled", value is not True
        yield "false", False
    elif kind == "array":
        yield from _lists(schema, value)
    elif "additionalProperties" in schema:
        yield from _maps(schema, value)
    else:
        yield "empty", {}
        yield "example", example(schema)
        yield from _arms(schema, value)


def _unions(schema: Schema) -> Iterator[list[str]]:
    """The arms of each union among the fields of an object, by the rules that say that exactly one of them is set."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if _UNION.fullmatch(rule["rule"]):
            yield _ARM.findall(rule["rule"])


def _arms(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    """A union as another of its arms."""
    now: Obj = {} if value is ABSENT else value
    for arms in _unions(schema):
        others = {name: each for name, each in now.items() if name not in arms}
        yield from ((f"as {arm}", {**others, arm: example(schema["properties"][arm])}) for arm in arms if arm not in now)


def _enumerated(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    yield from ((each, each) for each in schema["enum"])
    yield "no such word", "Other"


def _texts(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    beginning = "" if value is ABSENT else value
    longest = schema.get("maxLength", 1024)
    yield "empty", ""
    yield "odd", ODD[:longest]
    yield "other", f"{beginning}x"
    # What it began with keeps the pattern, where it has one.
    yield "longest", (beginning + "x" * longest)[:longest]
    yield "too long", (beginning + "x" * longest)[:longest] + "x"


def _integers(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    least, most = schema.get("minimum", -(2**31)), schema.get("maximum", 2**31 - 1)
    least, most = least + bool(schema.get("exclusiveMinimum")), most - bool(schema.get("exclusiveMaximum"))
    yield "minimum", least
    yield "maximum", most
    yield "below", least - 1
    yield "above", most + 1
    if value is not ABSENT:
        yield "doubled", value * 2
        yield "one more", value + 1


def _lists(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    entries: list[Any] = [] if value is ABSENT else list(value)
    yield "empty", []
    yield "one more", [*entries, _another(schema, entries)]
    if entries:
        yield "without its first", entries[1:]
        yield "without its last", entries[:-1]
        yield "first twice", [*entries, entries[0]]
        yield "other way round", entries[::-1]


def _another(schema: Schema, entries: list[Any]) -> Any:
    """One more entry, like the last but for its keys."""
    if schema["items"]["type"] == "string":
        return "example.org/another"
    keys: list[str] = schema.get("x-kubernetes-list-map-keys", [])
    last: Obj = entries[-1] if entries else example(schema["items"])
    return {**last, **{key: f"{last.get(key, 'a')}2" for key in keys}}


def _maps(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    entries: Obj = {} if value is ABSENT else value
    longest: int = schema["additionalProperties"].get("maxLength", 1024)
    yield "empty", {}
    yield "one more", {**entries, "example.org/odd-one": "a"}
    yield "key without a value", {**entries, "odd-one": ""}
    yield "odd value", {**entries, "odd-one": ODD}
    yield "odd key", {**entries, "{{ x }}": "a"}
    yield "longest value", {**entries, "odd-one": "x" * longest}
    if entries:
        yield "values changed", dict.fromkeys(entries, "changed")
        yield "without its first", dict(list(entries.items())[1:])


def example(schema: Schema) -> Any:
    """The least that fits a schema, its CEL rules aside."""
    match schema["type"]:
        case "object":
            names = [*schema.get("required", ()), *(arms[0] for arms in _unions(schema))]
            return {name: example(schema["properties"][name]) for name in names}
        case "array":
            return [example(schema["items"])] * schema.get("minItems", 0)
        case "string":
            return schema["enum"][0] if "enum" in schema else "a" * max(1, schema.get("minLength", 1))
        case "integer":
            return max(1, schema.get("minimum", 1))
        case _:
            return False


def _same(left: Any, right: Any) -> bool:
    if left is ABSENT or right is ABSENT:
        return left is right
    return json.dumps(left) == json.dumps(right)


__all__ = ["ABSENT", "ODD", "Field", "Hints", "Mutation", "Place", "Schema", "at", "example", "fields", "mutations", "placed", "writable"]
