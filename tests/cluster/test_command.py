"""`occopus status`, `get`, `scale` and `console` over a real API server: the same rows, the same words, and what is forbidden."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest
import yaml

from controller.clouds import plugins
from controller.ports import CloudConfig, CloudDriver, Key, MachineId, Obj
from tests.api import samples
from tests.cluster.command import Command, command
from tests.cluster.fixtures import Cluster

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
SCALE_ALONE: Obj = {"apiGroups": ["occopus.io"], "resources": ["instancegroups/scale"], "verbs": ["patch"]}
LOOK: Obj = {"apiGroups": ["occopus.io"], "resources": ["*"], "verbs": ["get", "list"]}


@pytest.fixture
def here(cluster: Cluster, tmp_path: Path) -> Command:
    return command(cluster, tmp_path)


# --- status -----------------------------------------------------------------------------------------------------------
def test_status_shows_what_is_there_and_in_no_other_namespace(here: Command, tmp_path: Path) -> None:
    here.shop()
    lines = here.done("status").splitlines()
    assert [line.split()[:3] for line in lines] == [["shop", "Ready", "1/1"], ["└─", "web", "Ready"], ["└─", "shop-web-0", "Ready"]]
    (row,) = json.loads(here.done("status", "shop", "-o", "json"))["infrastructures"]
    assert (row["name"], row["ready"], row["services"][0]["address"]) == ("shop", True, "10.0.0.2")
    assert "no infrastructure nope" in here.refused(2, "status", "nope")
    empty = command(here.cluster, tmp_path)
    kubeconfig = here.cluster.plane.kubeconfig
    said = empty.done("status")
    assert said.startswith(f"no infrastructure in namespace {empty.namespace};")
    assert f"`kubectl --kubeconfig {kubeconfig} -n {empty.namespace} apply -f FILE`" in said


def test_status_tells_what_is_not_ready_and_waits_for_it(here: Command) -> None:
    _, group, instance = here.shop()
    booting = {**samples.condition(), "status": "False", "reason": "Booting", "message": "machine m-1 is pending"}
    for each in (group, instance):
        here.change(each, {"status": {"conditions": [booting]}}, "status")
    assert here.services()["web"]["reason"] == "Booting"
    late = here.run("status", "--wait", "--timeout", "1")
    assert late.exit_code == 1
    assert "machine m-1 is pending" in late.stdout
    ready = {"status": {"conditions": [samples.condition()]}}
    healer = threading.Timer(1.5, lambda: [here.change(each, ready, "status") for each in (instance, group)])
    healer.start()
    try:
        said = here.done("status", "--wait", "--timeout", "60")
    finally:
        healer.join()
    assert "shop-web-0: Ready 10.0.0.2" in said


# --- get --------------------------------------------------------------------------------------------------------------
def test_get_prints_what_is_stored_and_hides_secrets_wherever_they_are(here: Command) -> None:
    here.shop()
    assert yaml.safe_load(here.done("get", "ig", "shop-web")) == here.store(
        lambda store: store.get(Key("InstanceGroup", here.namespace, "shop-web"))
    )
    assert [each["metadata"]["name"] for each in json.loads(here.done("get", "inst", "-o", "json"))["items"]] == ["shop-web-0"]
    secret = samples.secret()
    secret["metadata"]["annotations"] = {LAST_APPLIED: json.dumps({"stringData": {"key": "secret"}}), "note": "kept"}
    here.make(secret)
    shown = here.done("get", "secret", "acme")
    assert yaml.safe_load(shown)["data"] == {"key": "(not shown)"}
    assert yaml.safe_load(shown)["metadata"]["annotations"] == {"note": "kept"}
    assert "c2VjcmV0" not in shown
    assert "by name" in here.refused(2, "get", "secrets")
    assert "no Instance nope" in here.refused(2, "get", "inst", "nope")


def test_get_leaves_out_the_events_and_revisions_of_others(here: Command) -> None:
    theirs = samples.revision()
    ours = samples.revision()
    theirs["metadata"] = {"name": "theirs"}
    ours["metadata"] = {"name": "ours", "labels": {"occopus.io/group": "shop-web"}}
    here.make(theirs, ours)
    assert [each["metadata"]["name"] for each in yaml.safe_load(here.done("get", "controllerrevisions"))["items"]] == ["ours"]


# --- scale ------------------------------------------------------------------------------------------------------------
def test_scale_needs_no_other_right_than_that(here: Command) -> None:
    _, group, _ = here.shop()
    here.change(group, {"spec": {"fixedReplicas": None}})
    scaler = here.as_user("operator", SCALE_ALONE)
    assert here.done("scale", "shop", "web", "3", kubeconfig=scaler) == "shop/web: 3 wanted\n"
    assert here.store(lambda store: store.get(Key("InstanceGroup", here.namespace, "shop-web")))["spec"]["replicas"] == 3


def test_scale_says_by_field_and_reason_why_not(here: Command) -> None:
    here.shop()
    said = here.refused(2, "scale", "shop", "web", "3")
    assert "spec" in said
    assert "services[].replicas" in said
    assert "shop has no service nope" in here.refused(2, "scale", "shop", "nope", "1")
    assert "there are shop" in here.refused(2, "scale", "nope", "web", "1")


# --- rights -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("status",), ("list infrastructures.occopus.io",), id="status"),
        pytest.param(("get", "cloud", "x"), ("get clouds.occopus.io",), id="get"),
        pytest.param(("scale", "shop", "web", "1"), ("patch instancegroups.occopus.io/scale",), id="scale"),
        pytest.param(("console", "shop-web-0"), ("get instances.occopus.io",), id="console"),
    ],
)
def test_what_is_forbidden_names_verb_resource_and_namespace(arguments: tuple[str, ...], words: tuple[str, ...], here: Command) -> None:
    nobody = here.directory / "nobody.kubeconfig"
    here.cluster.plane.write_kubeconfig(nobody, "nobody")
    said = here.refused(3, *arguments, kubeconfig=nobody)
    for word in (*words, here.namespace, 'User "nobody"'):
        assert word in said


# --- console ----------------------------------------------------------------------------------------------------------
@dataclass
class Acme:
    """A cloud that shows with what it was opened."""

    opened: list[CloudConfig] = field(default_factory=list[CloudConfig])

    def open(self, config: CloudConfig) -> CloudDriver:
        self.opened.append(config)
        return cast(CloudDriver, self)

    def console(self, id: MachineId) -> str:
        return f"console of {id}\n"


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> Acme:
    acme = Acme()
    monkeypatch.setattr(plugins, "installed", lambda: (replace(samples.ACME, open=acme.open),))
    return acme


def test_console_asks_the_cloud_with_the_secret_of_its_user(here: Command, acme: Acme) -> None:
    here.shop()
    here.make(samples.cloud(), samples.secret())
    assert here.done("console", "shop-web-0") == "console of m-1\n"
    assert [(each.secret, each.controller_id) for each in acme.opened] == [({"key": "secret"}, "mine")]


def test_console_says_which_right_is_missing(here: Command, acme: Acme) -> None:
    here.shop()
    here.make(samples.cloud())
    looker = here.as_user("operator", LOOK)
    said = here.refused(3, "console", "shop-web-0", kubeconfig=looker)
    assert "get secrets" in said
    assert "credentials" in said
    assert acme.opened == []


def test_console_of_what_is_not_there(here: Command, acme: Acme) -> None:
    _, _, instance = here.shop()
    assert "no Instance nope" in here.refused(2, "console", "nope")
    assert "no Cloud acme-north" in here.refused(2, "console", "shop-web-0")
    here.change(instance, {"status": {"machine": None}}, "status")
    assert "no machine yet" in here.refused(2, "console", "shop-web-0")
    assert acme.opened == []
