"""The rights of `deploy/operator.yaml` are enough for a life from nothing to nothing, and a right that lacks is said and waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from controller.ports import Obj
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import Place, at_a_place
from tests.e2e.descriptions import CLOUD, infrastructure, service, template

RBAC = "/apis/rbac.authorization.k8s.io/v1"
MANIFEST = Path("deploy/operator.yaml")
TOLD = """
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: x}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
"""
VARIABLES = """  variables:
  - {name: password, valueFrom: {secretKeyRef: {name: keys, key: password}}}
  - {name: colour, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
"""
PAIR = (
    CLOUD
    + TOLD
    + template(command="echo {{ variables.password }} {{ variables.colour }}")
    + infrastructure("pair", service("first"), service("second", "first"), more=VARIABLES)
)


def rules(kind: str) -> list[dict[str, Any]]:
    """Those of the manifest's ClusterRole or Role."""
    (found,) = [each for each in yaml.safe_load_all(MANIFEST.read_text()) if each["kind"] == kind]
    return found["rules"]


async def grant(place: Place, name: str, granted: list[dict[str, Any]], user: str = "operator") -> None:
    """A Role of that name in the place's namespace, bound to the user; made or changed."""
    roles = f"{RBAC}/namespaces/{place.namespace}/roles"
    role: Obj = {"metadata": {"name": name}, "rules": granted}
    if (await place.ask("GET", f"{roles}/{name}")).code == 200:
        assert (await place.ask("PUT", f"{roles}/{name}", role)).code == 200
        return
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    assert (await place.ask("POST", roles, role)).code == 201
    assert (await place.ask("POST", f"{RBAC}/namespaces/{place.namespace}/rolebindings", binding)).code == 201


async def _restricted(place: Place, granted: list[dict[str, Any]]) -> None:
    """An operator that leads with these rights over objects, and its own over Lease and ConfigMap."""
    await grant(place, "objects", granted)
    await grant(place, "own", rules("Role"))
    kubeconfig = place.desk.directory / "operator.kubeconfig"
    place.cluster.plane.write_kubeconfig(kubeconfig, "operator")
    await place.lead(kubeconfig=kubeconfig)


async def the_manifest_is_enough(place: Place) -> None:
    await _restricted(place, rules("ClusterRole"))
    await place.apply(PAIR)
    await place.until(lambda: place.is_ready("pair"), "pair is Ready")
    await place.patch("InstanceGroup", "pair-second", {"spec": {"replicas": 2}})
    await place.until(lambda: len(place.live()) == 3, "scaled")
    await place.delete_all()
    refused = [each for each in place.audited("operator") if each["responseStatus"]["code"] == 403]
    assert refused == []


async def a_right_that_lacks_is_said_and_waited_for(place: Place) -> None:
    without = [{**each, "verbs": [verb for verb in each["verbs"] if verb != "create"]} for each in rules("ClusterRole")]
    await _restricted(place, without)
    await place.apply(PAIR)

    async def said() -> bool:
        (found,) = await place.objects("Infrastructure")
        ready = [each for each in found.get("status", {}).get("conditions", ()) if each["type"] == "Ready"]
        return any(each["reason"] == "Forbidden" and "create instancegroups.occopus.io" in each["message"] for each in ready)

    await place.until(said, "the condition names verb and resource")
    assert place.machines() == []
    await grant(place, "objects", rules("ClusterRole"))
    await place.until(lambda: place.is_ready("pair"), "pair is Ready once it may", 120)
    await place.delete_all()


def test_rights(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, the_manifest_is_enough, a_right_that_lacks_is_said_and_waited_for)
