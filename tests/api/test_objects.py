"""Asks the table of good and bad objects, and every field at odd values, of the file home's rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from controller import errors
from controller.api import crd, kinds
from controller.clouds.ec2 import driver as ec2
from controller.ports import Obj
from controller.stores.rules import Rules
from tests.api import samples, table

_RULES = Rules((*samples.PLUGINS, ec2.PLUGIN))


def refused(new: Obj, old: Obj | None = None) -> frozenset[str]:
    """The fields that the refusal names; none where the object is taken."""
    try:
        _RULES.check(new, old)
    except errors.Rejected as error:
        return frozenset(cause.field for cause in error.causes)
    return frozenset()


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table.CREATES])
def test_creation(row: table.Row) -> None:
    assert refused(row.new()) == row.refused


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table.UPDATES])
def test_update(row: table.Row) -> None:
    assert refused(row.old()) == frozenset()
    assert refused(row.new(), row.old()) == row.refused


# --- every field at odd values (test_server.py asks a server the same) ------------------------------------------------
Path = tuple[str | int, ...]
_ODD: dict[str, Any] = {"boolean": True, "integer": 7, "number": 0.5, "string": "odd", "array": [], "object": {}}
#: What a value of a type may pass for: integers are numbers.
_PASSES = {"number": {"integer", "number"}}


def _fields(schema: Obj, value: Any, path: Path) -> Iterator[tuple[Path, Obj]]:
    """Every field of a good object that its schema describes."""
    yield path, schema
    if isinstance(value, dict):
        for name, each in cast(Obj, value).items():
            if name in schema.get("properties", {}) and (*path, name) not in (("apiVersion",), ("kind",), ("metadata",)):
                yield from _fields(schema["properties"][name], each, (*path, name))
    elif isinstance(value, list):
        for index, each in enumerate(cast(list[Any], value)):
            yield from _fields(schema["items"], each, (*path, index))


def every_field() -> Iterator[tuple[str, Path, Obj]]:
    """Kind, place and schema of each field that the good objects have."""
    documents = crd.crds(samples.PLUGINS)
    for kind in kinds.KINDS:
        schema = crd.object_schema(documents[f"{kind.plural}.yaml"])
        for path, place in _fields(schema, samples.GOOD[kind.kind](), ()):
            if path:
                yield kind.kind, path, place


def _shown(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


_EVERY_FIELD = pytest.mark.parametrize(
    ("kind", "path", "place"), [pytest.param(*each, id=f"{each[0]}-{_shown(each[1])}") for each in every_field()]
)


def changed(kind: str, path: Path, value: Any) -> Obj:
    return table.changed(samples.GOOD[kind](), {".".join(map(str, path)): value})


def odd_values(place: Obj) -> Iterator[Any]:
    """Values that the field cannot take: of other types, outside of its bounds, not among its words."""
    accepted = _PASSES.get(place["type"], {place["type"]})
    yield from (value for name, value in _ODD.items() if name not in accepted)
    if "maxLength" in place:
        yield "a" * (place["maxLength"] + 1)
    if place.get("minLength"):
        yield ""
    if "enum" in place or "format" in place:
        yield "Odd"
    if "pattern" in place:
        yield "\x07"
    if "minimum" in place:
        yield place["minimum"] - (0 if place.get("exclusiveMinimum") else 1)
    if "maximum" in place:
        yield place["maximum"] + (0 if place.get("exclusiveMaximum") else 1)


@_EVERY_FIELD
def test_a_field_at_odd_values_is_refused_by_its_name(kind: str, path: Path, place: Obj) -> None:
    for value in odd_values(place):
        named = refused(changed(kind, path, value))
        assert _shown(path) in named, (value, named)


@_EVERY_FIELD
def test_a_null_is_a_field_that_is_not_there(kind: str, path: Path, place: Obj) -> None:
    null = refused(changed(kind, path, None))
    if isinstance(path[-1], int):
        assert _shown(path) in null
    else:
        assert null == refused(changed(kind, path, table.REMOVED))


@_EVERY_FIELD
def test_an_unknown_field_beside_any_is_refused_by_its_name(kind: str, path: Path, place: Obj) -> None:
    if place["type"] != "object" or place.get("x-kubernetes-preserve-unknown-fields"):
        return
    assert refused(changed(kind, (*path, "strange"), 1)) == {f"{_shown(path)}.strange"}


@_EVERY_FIELD
def test_a_required_field_that_is_missing_is_named(kind: str, path: Path, place: Obj) -> None:
    for name in place.get("required", ()):
        assert f"{_shown(path)}.{name}" in refused(changed(kind, (*path, name), table.REMOVED))
