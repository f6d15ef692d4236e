"""Revisions: equal content equal name, defaults in neither, ConfigMap texts inside."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.template import InstanceTemplateSpec
from controller.engine.objects import dump
from controller.reconcilers.instancegroup import revision

SPEC: dict[str, Any] = {
    "implementations": [{"name": "one", "cloudRef": {"name": "sim"}, "simulated": {"image": "debian"}}],
    "context": {"cloudInit": {"template": "#cloud-config\n"}},
    "health": {"probes": [{"name": "up", "tcp": {"port": 80}}]},
}


def name(spec: dict[str, Any], text: str | None = None) -> str:
    return revision.name("shop-app", revision.data(spec, text))


def test_the_hash_is_of_what_the_user_wrote() -> None:
    filled = dump(InstanceTemplateSpec.model_validate(SPEC))
    assert filled != SPEC, "the model fills defaults in"
    assert name(SPEC) != name(filled), "so the model's dump must not be hashed: an upgrade of defaults would change every template"
    assert name(SPEC) == "shop-app-" + name(SPEC)[-10:]


def test_the_hash_is_the_same_in_every_version() -> None:
    """A fixed text: where this fails, HASH_VERSION has to rise, and every template looks changed to its users."""
    assert name({"implementations": []}) == "shop-app-01f0e57e08"


def test_the_order_of_keys_does_not_matter_and_that_of_lists_does() -> None:
    assert name(dict(reversed(SPEC.items()))) == name(SPEC)
    more = SPEC | {"implementations": [*SPEC["implementations"], {"name": "two", "cloudRef": {"name": "sim"}, "simulated": {}}]}
    assert name(more) != name(more | {"implementations": list(reversed(more["implementations"]))})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"context": {"cloudInit": {"template": "#cloud-config\nx: 1\n"}}}, id="template"),
        pytest.param({"variables": [{"name": "a", "value": "b"}]}, id="variables"),
        pytest.param({"health": {"startupSeconds": 600}}, id="a default written down"),
    ],
)
def test_every_field_the_user_sets_counts(change: dict[str, Any]) -> None:
    assert name(SPEC | change) != name(SPEC)


def test_a_config_maps_text_is_inside_and_counts() -> None:
    spec = SPEC | {"context": {"cloudInit": {"configMapRef": {"name": "c", "key": "k"}}}}
    data = revision.data(spec, "#cloud-config\na: 1\n")
    assert data["spec"]["context"]["cloudInit"] == {"template": "#cloud-config\na: 1\n"}
    assert name(spec, "#cloud-config\na: 1\n") != name(spec, "#cloud-config\na: 2\n")
    assert name(spec, "#cloud-config\n") == name(SPEC, "#cloud-config\n"), "where a text comes from is no change of it"


def test_the_template_itself_is_not_changed() -> None:
    spec: dict[str, Any] = {"context": {"cloudInit": {"configMapRef": {"name": "c", "key": "k"}}}}
    data = revision.data(spec, "text")
    data["spec"]["context"]["more"] = 1
    assert spec == {"context": {"cloudInit": {"configMapRef": {"name": "c", "key": "k"}}}}


def test_a_template_without_context_stays_without() -> None:
    assert revision.data({"implementations": []}, None) == {"hashVersion": 1, "spec": {"implementations": []}}
    assert revision.data({"implementations": []}, "text")["spec"] == {"implementations": []}
