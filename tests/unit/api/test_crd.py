"""What is emitted is what an API server takes: structural, described, bounded, its CEL in the standard language."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import cel
import pytest
import yaml
from pydantic import BaseModel, Field

from controller import crds as command
from controller import errors
from controller.api import crd, kinds
from controller.clouds import plugins
from controller.clouds.local import driver as local
from controller.ports import CloudPlugin
from tests.api import samples

Schema = dict[str, Any]
_PLUGINS = (*samples.PLUGINS, local.PLUGIN)
_KINDS = [pytest.param(each, id=each.kind) for each in kinds.KINDS]
#: apiextensions/v1 JSONSchemaProps, as far as a structural schema may use it.
_STRUCTURAL = re.compile(
    r"description|type|enum|pattern|format|default|required|properties|items|additionalProperties|multipleOf|"
    r"(min|max)(Length|Items|Properties|imum)|exclusive(Min|Max)imum|"
    r"x-kubernetes-(validations|list-type|list-map-keys|map-type|preserve-unknown-fields)"
)
#: The CEL standard library's functions and operators that the rules may use; none of Kubernetes' own (isURL, find, split …).
_STANDARD_CEL = {"_&&_", "_||_", "!_", "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "_+_", "_?_:_", "_[_]", "size", "@in"} | {
    "@not_strictly_false"
}


@functools.cache
def _documents(plugins: tuple[CloudPlugin, ...] = _PLUGINS) -> dict[str, Schema]:
    return crd.crds(plugins)


def _schema(kind: kinds.Kind, plugins: tuple[CloudPlugin, ...] = _PLUGINS) -> Schema:
    return crd.object_schema(_documents(plugins)[f"{kind.plural}.yaml"])


def _places(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from _places(field, f"{path}.{name}")
    for keyword, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if keyword in schema:
            yield from _places(schema[keyword], path + suffix)


def _rules(schema: Schema) -> Iterator[tuple[str, Schema]]:
    for path, place in _places(schema):
        for rule in place.get("x-kubernetes-validations", ()):
            yield path, rule


@pytest.mark.parametrize("kind", _KINDS)
def test_every_field_is_described(kind: kinds.Kind) -> None:
    bare = [path for path, place in _places(_schema(kind)) if not place.get("description") and not path.endswith("[]")]
    assert bare == [".metadata"]  # which the API server replaces by its own


@pytest.mark.parametrize("kind", _KINDS)
def test_every_place_is_structural(kind: kinds.Kind) -> None:
    for path, place in _places(_schema(kind)):
        assert all(_STRUCTURAL.fullmatch(keyword) for keyword in place), (path, list(place))
        assert place["type"] in ("object", "array", "string", "integer", "number", "boolean"), path
        assert not ("properties" in place and "additionalProperties" in place), path
        assert place.get("default", 0) is not None, path
        assert set(place.get("required", ())) <= set(place.get("properties", {})), path


@pytest.mark.parametrize("kind", _KINDS)
def test_everything_is_bounded_so_that_cel_stays_cheap(kind: kinds.Kind) -> None:
    for path, place in _places(_schema(kind)):
        if path in (".apiVersion", ".kind"):
            continue
        if place["type"] == "string":
            assert "maxLength" in place or "enum" in place or place.get("format") == "date-time", path
        if place["type"] == "array":
            assert "maxItems" in place, path
        assert "additionalProperties" not in place or "maxProperties" in place, path


@pytest.mark.parametrize("kind", _KINDS)
def test_lists_of_objects_are_maps_by_required_keys(kind: kinds.Kind) -> None:
    for path, place in _places(_schema(kind)):
        if place["type"] == "array" and place["items"]["type"] == "object":
            assert place["x-kubernetes-list-type"] == "map", path
            assert set(place["x-kubernetes-list-map-keys"]) <= set(place["items"]["required"]), path


@pytest.mark.parametrize("kind", _KINDS)
def test_rules_are_standard_cel_with_a_message(kind: kinds.Kind) -> None:
    for path, rule in _rules(_schema(kind)):
        used = set(cel.compile(rule["rule"]).references()["functions"])
        assert used <= _STANDARD_CEL, (path, rule["rule"])
        assert rule["message"], path
        assert len(rule["message"]) <= 2048, path
        assert "\n" not in rule["message"], path
        if "oldSelf" in rule["rule"]:
            assert path in ("", ".spec"), rule["rule"]


def test_names_and_subresources() -> None:
    found = {
        document["spec"]["names"]["kind"]: (
            document["metadata"]["name"],
            document["spec"]["names"].get("shortNames", []),
            sorted(document["spec"]["versions"][0].get("subresources", {})),
        )
        for document in _documents().values()
    }
    assert found == {
        "Cloud": ("clouds.occopus.io", [], ["status"]),
        "InstanceTemplate": ("instancetemplates.occopus.io", ["it"], []),
        "Infrastructure": ("infrastructures.occopus.io", ["infra"], ["status"]),
        "InstanceGroup": ("instancegroups.occopus.io", ["ig"], ["scale", "status"]),
        "Instance": ("instances.occopus.io", ["inst"], ["status"]),
    }
    assert all(document["spec"]["names"]["categories"] == ["occopus"] for document in _documents().values())


@pytest.mark.parametrize("kind", _KINDS)
def test_print_columns_and_scale_name_fields_that_exist(kind: kinds.Kind) -> None:
    known = {path for path, _ in _places(_schema(kind))} | {".metadata.creationTimestamp"}
    version = _documents()[f"{kind.plural}.yaml"]["spec"]["versions"][0]
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    paths += list(version.get("subresources", {}).get("scale", {}).values())
    for path in paths:
        assert re.sub(r"\[[^]]*\]", "[]", path) in known, path


def test_a_template_has_no_defaults() -> None:
    schema = _schema(kinds.BY_KIND["InstanceTemplate"])
    assert [path for path, place in _places(schema) if "default" in place] == []


@pytest.mark.parametrize("kind", [each for each in _KINDS if each.id != "InstanceTemplate"])
def test_status_has_the_one_default_that_nothing_was_seen(kind: kinds.Kind) -> None:
    status = _schema(kind)["properties"]["status"]
    assert [(path, place["default"]) for path, place in _places(status) if "default" in place] == [("", {"observedGeneration": -1})]


def test_defaults_of_the_spec_are_kept_where_they_say_something() -> None:
    spec = _schema(kinds.BY_KIND["Infrastructure"])["properties"]["spec"]
    found = {path: place["default"] for path, place in _places(spec) if "default" in place}
    assert found == {".paused": False, ".services[].scaling.min": 1, ".services[].dependsOn[].onChange": "Report"}


def test_arms_are_stitched_into_all_three_places_with_the_rule_that_one_is_set() -> None:
    places = (
        _schema(kinds.BY_KIND["Cloud"])["properties"]["spec"],
        _schema(kinds.BY_KIND["InstanceTemplate"])["properties"]["spec"]["properties"]["implementations"]["items"],
        _schema(kinds.BY_KIND["Instance"])["properties"]["spec"]["properties"]["implementation"],
    )
    for place in places:
        assert {"acme", "beta", "local"} <= set(place["properties"])
        assert not {"acme", "beta", "local"} & set(place.get("required", ()))
        assert place["x-kubernetes-validations"][0]["rule"] == "[has(self.acme), has(self.beta), has(self.local)].filter(x, x).size() == 1"


def test_without_drivers_there_are_no_arms_and_no_rules_on_them() -> None:
    assert "x-kubernetes-validations" not in _schema(kinds.BY_KIND["Cloud"], ())["properties"]["spec"]


def test_the_order_of_drivers_does_not_matter() -> None:
    assert list(crd.crds(_PLUGINS).items()) == list(crd.crds(_PLUGINS[::-1]).items())
    assert command.text(crd.crds(_PLUGINS)["clouds.yaml"]) == command.text(crd.crds(_PLUGINS[::-1])["clouds.yaml"])


def test_the_committed_crds_are_fresh() -> None:
    directory = Path(command.__file__).parents[1] / "crds"
    wanted = {name: command.text(document) for name, document in crd.crds(plugins.installed()).items()}
    assert {each.name: each.read_text(encoding="utf-8") for each in directory.glob("*.yaml")} == wanted


def test_writing_replaces_ours_and_leaves_others_alone(tmp_path: Path) -> None:
    command.write(tmp_path, {"old.yaml": {"kind": "Old"}})
    (tmp_path / "theirs.yaml").write_text("a: 1\n")
    command.write(tmp_path, {"new.yaml": {"kind": "New"}})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["new.yaml", "theirs.yaml"]
    assert yaml.safe_load((tmp_path / "new.yaml").read_text()) == {"kind": "New"}


# --- the converter --------------------------------------------------------------------------------------------------
class _Converted(BaseModel):
    """Everything that is rewritten."""

    one: Literal["a"] = Field(description="const")
    above: int = Field(description="exclusive", gt=3, lt=9)
    kinds: set[str] = Field(description="set", max_length=3)
    named: dict[str, int] = Field(description="map")
    when: datetime = Field(description="time")
    maybe: int | None = Field(default=None, description="optional")


def _arm(model: type[BaseModel]) -> Schema:
    plugin = CloudPlugin("odd", model, samples.AcmeMachine, samples.ACME.open)
    return _schema(kinds.BY_KIND["Cloud"], (plugin,))["properties"]["spec"]["properties"]["odd"]


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        pytest.param("one", {"description": "const", "type": "string", "enum": ["a"]}, id="const"),
        pytest.param(
            "above",
            {
                **{"description": "exclusive", "type": "integer", "minimum": 3, "maximum": 9},
                **{"exclusiveMinimum": True, "exclusiveMaximum": True},
            },
            id="exclusive-bounds",
        ),
        pytest.param(
            "kinds",
            {"description": "set", "type": "array", "maxItems": 3, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            id="set",
        ),
        pytest.param("named", {"description": "map", "type": "object", "additionalProperties": {"type": "integer"}}, id="map"),
        pytest.param("when", {"description": "time", "type": "string", "format": "date-time"}, id="time"),
        pytest.param("maybe", {"description": "optional", "type": "integer"}, id="optional"),
    ],
)
def test_a_field_is_rewritten(field: str, wanted: Schema) -> None:
    assert _arm(_Converted)["properties"][field] == wanted
    assert "maybe" not in _arm(_Converted)["required"]


class _Union(BaseModel):
    size: int | str = Field(description="either")


class _Recursive(BaseModel):
    inner: _Recursive | None = Field(default=None, description="itself")


class _Pair(BaseModel):
    pair: tuple[int, str] = Field(description="positional")


class _Keys(BaseModel):
    named: dict[Literal["a", "b"], int] = Field(description="restricted keys")


class _Null(BaseModel):
    nothing: int | str | None = Field(description="either or null")


@pytest.mark.parametrize(
    ("model", "field"),
    [
        pytest.param(_Union, ".size", id="union"),
        pytest.param(_Null, ".nothing", id="union-with-null"),
        pytest.param(_Recursive, ".inner", id="recursion"),
        pytest.param(_Pair, ".pair", id="positional-items"),
        pytest.param(_Keys, ".named", id="restricted-keys"),
    ],
)
def test_a_model_that_is_not_structural_is_refused_by_field(model: type[BaseModel], field: str) -> None:
    with pytest.raises(errors.UsageError, match=f"Cloud.spec.odd{re.escape(field)}"):
        _arm(model)


@pytest.mark.parametrize(
    "plugins",
    [
        pytest.param([samples.ACME, samples.ACME], id="twice"),
        pytest.param([CloudPlugin("in", samples.AcmeCloud, samples.AcmeMachine, samples.ACME.open)], id="reserved-by-cel"),
        pytest.param([CloudPlugin("my-cloud", samples.AcmeCloud, samples.AcmeMachine, samples.ACME.open)], id="not-a-word"),
        pytest.param([CloudPlugin("maxInstances", samples.AcmeCloud, samples.AcmeMachine, samples.ACME.open)], id="beside-the-arms"),
    ],
)
def test_a_driver_whose_kind_cannot_be_an_arm_is_refused(plugins: list[CloudPlugin]) -> None:
    with pytest.raises(errors.UsageError):
        crd.crds(plugins)
