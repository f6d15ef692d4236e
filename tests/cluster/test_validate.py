"""`occopus validate` over a real API server: its rules by dry run, the graph in the words that it has without one; nothing is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from controller.clouds import plugins
from controller.ports import Key, Obj
from tests.api import samples
from tests.cluster.command import Command, command
from tests.cluster.fixtures import Cluster


@pytest.fixture
def here(cluster: Cluster, tmp_path: Path) -> Command:
    return command(cluster, tmp_path)


def plain(obj: Obj) -> Obj:
    """As a user writes it: no status, no finalizers, no namespace."""
    return {**{name: obj[name] for name in obj if name != "status"}, "metadata": {"name": obj["metadata"]["name"]}}


def described(*services: Obj) -> tuple[Obj, ...]:
    """A shop of these services with the Cloud and the template that they need."""
    shop = plain(samples.infrastructure())
    shop["spec"] = {"services": list(services), "variables": [{"name": "domain", "value": "example.org"}]}
    template = plain(samples.template())
    template["spec"] |= {"context": {"cloudInit": {"template": "#cloud-config\n{}\n"}}}
    return plain(samples.cloud()), template, shop


WEB: Obj = {"name": "web", "templateRef": {"name": "web"}}


def test_good_documents_are_valid_and_not_stored(here: Command) -> None:
    file = here.file(*described(WEB), plain(samples.secret()), plain(samples.config_map()))
    assert here.done("validate", "-f", file) == "5 documents are valid\n"
    assert here.store(lambda store: store.list("Cloud", here.namespace)) == []


@pytest.mark.parametrize(
    "services",
    [
        pytest.param(({**WEB, "dependsOn": [{"service": "db"}]}, {**WEB, "name": "db", "dependsOn": [{"service": "web"}]}), id="a-ring"),
        pytest.param(({**WEB, "templateRef": {"name": "nope"}},), id="an-unknown-template"),
        pytest.param(({**WEB, "dependsOn": [{"service": "nope"}]},), id="an-unknown-service"),
        pytest.param(({**WEB, "replicas": 1, "scaling": {"min": 1}},), id="what-does-not-go-together"),
    ],
)
def test_a_wrong_graph_has_the_words_that_it_has_without_a_server(
    services: tuple[Obj, ...], here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "installed", lambda: samples.PLUGINS)
    file = here.file(*described(*services))
    offline = CliRunner().invoke(main.cli, ["validate", "-f", file])
    assert offline.exit_code == 2
    assert here.refused(2, "validate", "-f", file) == offline.stderr != ""


def test_references_may_be_to_what_is_there_but_what_a_file_describes_counts(here: Command) -> None:
    cloud, template, shop = described(WEB)
    text = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "text"}, "data": {"web": "{{ services.db.address }}"}}
    template["spec"]["context"] = {"cloudInit": {"configMapRef": {"name": "text", "key": "web"}}}
    here.make(cloud, template, text)
    said = here.refused(2, "validate", "-f", here.file(shop))
    assert "Infrastructure shop:" in said
    assert "db" in said, "what the template reads was looked up too"
    assert here.done("validate", "-f", here.file(shop, {**text, "data": {"web": "#cloud-config\n"}})) == "2 documents are valid\n"
    wrong: Obj = {**template, "spec": {**template["spec"], "implementations": []}}
    lines = here.refused(2, "validate", "-f", here.file(shop, wrong)).splitlines()
    assert any("InstanceTemplate web: spec.implementations" in line for line in lines)
    assert not any("Infrastructure shop" in line for line in lines), "it only follows"


def newer_region(cloud: Obj) -> Obj:
    return {**cloud, "spec": {**cloud["spec"], "acme": {**cloud["spec"]["acme"], "region": "south-1"}}}


def typed_wrong(cloud: Obj) -> Obj:
    return {**cloud, "spec": {**cloud["spec"], "maxInstances": "many"}}


def unknown_field(cloud: Obj) -> Obj:
    return {**cloud, "spec": {**cloud["spec"], "maxInstance": 4}}


def fewer(cloud: Obj) -> Obj:
    return {**cloud, "spec": {"acme": cloud["spec"]["acme"], "maxInstances": None}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param(newer_region, "acme.region cannot be changed", id="what-may-never-change"),
        pytest.param(typed_wrong, "spec.maxInstances", id="of-another-type"),
        pytest.param(unknown_field, "spec.maxInstance", id="an-unknown-field"),
    ],
)
def test_a_change_of_what_is_there_is_asked_too(change: Callable[[Obj], Obj], field: str, here: Command) -> None:
    cloud = plain(samples.cloud())
    made = here.make(cloud)
    said = here.refused(2, "validate", "-f", here.file(change(cloud)))
    assert said.startswith("error: Cloud acme-north: spec")
    assert field in said
    assert here.done("validate", "-f", here.file(fewer(cloud))) == "1 documents are valid\n"
    assert here.store(lambda store: store.get(Key("Cloud", here.namespace, "acme-north"))) == made


def test_namespaces_are_those_of_the_documents_or_the_one_asked_for(here: Command) -> None:
    cloud = plain(samples.cloud())
    elsewhere = {**cloud, "metadata": {"name": "acme-north", "namespace": "elsewhere"}}
    said = here.refused(2, "validate", "-f", here.file(cloud, elsewhere))
    assert "metadata.namespace" in said
    assert "elsewhere" in said
    nowhere = here.refused(2, "validate", "-f", here.file(cloud), namespace="no-such-namespace")
    assert "metadata.namespace" in nowhere


def test_a_kind_of_nobody(here: Command) -> None:
    said = here.refused(2, "validate", "-f", here.file({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}))
    assert "Deployment x: kind" in said
