"""What users and garbage collectors do to the objects: cascades, namespaces, edits by hand, backups. No second machine, order kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from controller.ports import Obj
from controller.stores import resources
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import Place, Story, at_a_place
from tests.e2e.descriptions import CLOUD, infrastructure, service, template

SERVICES = (service("first"), service("second", "first"))
PAIR = CLOUD + template() + infrastructure("pair", *SERVICES)
#: The same with an identity that a restore keeps.
KEPT = CLOUD + template() + infrastructure("pair", *SERVICES, more="  id: pair-of-old\n")
EACH = {"first": 1, "second": 1}


async def _up(place: Place, text: str = PAIR) -> None:
    await place.lead()
    await place.apply(text)
    await place.settled("pair", EACH)


async def _cascade(place: Place, policy: str) -> None:
    path = resources.resource("Infrastructure").path(place.namespace, "pair")
    deleted = await place.ask("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy})
    assert deleted.code in (200, 202), deleted


def _ends(place: Place) -> dict[str, Any]:
    """When the end of each service's machine was begun."""
    return {each["tags"]["occopus.io/service"]: each["ending"] or each["ended"] for each in place.machines()}


def deleted_with(policy: str) -> Story:
    """Foreground marks everything at once; it is permission, and each waits its turn."""

    async def story(place: Place) -> None:
        await _up(place)
        await _cascade(place, policy)
        await place.until(lambda: _none(place, "Infrastructure", "InstanceGroup", "Instance"), "all gone", 120)
        ends = _ends(place)
        assert ends["second"] < ends["first"], ends
        assert place.live() == []

    return story


async def _none(place: Place, *kinds: str) -> bool:
    return not any([await place.objects(kind) for kind in kinds])


async def orphans_live_on(place: Place) -> None:
    await _up(place)
    await _cascade(place, "Orphan")
    await place.until(lambda: _none(place, "Infrastructure"), "the Infrastructure is gone", 120)
    groups = await place.objects("InstanceGroup")
    assert [each["metadata"].get("ownerReferences", []) for each in groups] == [[], []]
    live = {each["id"] for each in place.live()}
    assert len(live) == 2
    # Another Infrastructure of that name is told by which id it takes them over; with it, it does.
    await place.apply(infrastructure("pair", *SERVICES))
    identity = groups[0]["spec"]["infrastructure"]["id"]
    await place.until(lambda: _stalled(place, f"spec.id {identity}"), "told how", 60)
    await place.delete("Infrastructure", "pair")
    await place.until(lambda: _none(place, "Infrastructure"), "it is gone again", 60)
    await place.apply(infrastructure("pair", *SERVICES, more=f"  id: {identity}\n"))
    await place.until(lambda: place.is_ready("pair"), "taken over", 120)
    assert {each["id"] for each in place.live()} == live
    await _cascade(place, "Background")
    await place.until(lambda: _none(place, "Infrastructure", "InstanceGroup", "Instance"), "all gone", 120)
    assert place.live() == []


async def _stalled(place: Place, told: str) -> bool:
    (found,) = await place.objects("Infrastructure")
    said = {each["type"]: each for each in found["status"].get("conditions", ())}
    return "Stalled" in said and told in said["Stalled"]["message"]


async def a_namespace_goes(place: Place) -> None:
    """The operator lives elsewhere (its Lease and rights are not of this namespace's life)."""
    await place.ask("DELETE", place.lease_path)
    operator = await place.start("--own-namespace", "default", "--lease", place.namespace)
    await place.until(lambda: place.leads(operator), "leads")
    await place.apply(PAIR)
    await place.until(lambda: place.is_ready("pair"), "pair is Ready")
    path = f"/api/v1/namespaces/{place.namespace}"
    assert (await place.ask("DELETE", path)).code == 200

    async def gone() -> bool:
        return (await place.ask("GET", path)).code == 404

    await place.until(gone, "the namespace is gone", 120)
    assert place.live() == []


async def edits_by_hand(place: Place) -> None:
    """A finalizer that is removed comes back; a launch cannot be wiped; what is deleted by hand is replaced, and nothing else."""
    await _up(place)
    (first,) = [each for each in await place.objects("Instance") if each["spec"]["service"] == "first"]
    name = first["metadata"]["name"]
    assert (await place.patch("Instance", name, {"metadata": {"finalizers": None}})).code == 200

    async def guarded() -> bool:
        return any(each["metadata"]["name"] == name and each["metadata"].get("finalizers") for each in await place.objects("Instance"))

    await place.until(guarded, "the finalizer is back")
    status = f"{resources.resource('Instance').path(place.namespace, name)}/status"
    headers = {"Content-Type": "application/merge-patch+json"}
    for launch in (None, {"digest": "sha256:0"}):
        assert (await place.ask("PATCH", status, {"status": {"launch": launch}}, headers=headers)).code == 422
    assert (await place.ask("PATCH", status, {"status": None}, headers=headers)).code == 422
    before = {each["id"] for each in place.live()}
    await place.delete("Instance", "pair-second-0")
    await place.until(lambda: len({each["id"] for each in place.live()} - before) == 1, "another is made")
    await place.whole("pair", EACH)
    await place.delete("InstanceGroup", "pair-second")
    await place.until(lambda: _made_anew(place), "the group is made anew", 120)
    await place.whole("pair", EACH)
    await place.delete_all()


async def _made_anew(place: Place) -> bool:
    groups = {each["spec"]["service"]: each for each in await place.objects("InstanceGroup")}
    return "second" in groups and "deletionTimestamp" not in groups["second"]["metadata"] and len(place.machines()) == 4


async def a_backup_is_put_back(place: Place) -> None:
    """The objects are lost, finalizers and all, and put back without status: their machines are claimed, none is made."""
    await _up(place, KEPT)
    kinds = ("Infrastructure", "InstanceGroup", "Instance")
    saved = [each for kind in ("Cloud", "InstanceTemplate", *kinds) for each in await place.objects(kind)]
    for operator in place.operators:
        await operator.kill()
    for each in saved:
        kind, name = each["kind"], each["metadata"]["name"]
        await place.patch(kind, name, {"metadata": {"finalizers": None, "ownerReferences": None}})
        await place.ask("DELETE", resources.resource(kind).path(place.namespace, name))
    await place.until(lambda: _none(place, *kinds), "all objects are lost")
    machines = {each["id"] for each in place.live()}
    assert len(machines) == 2
    # Infrastructures alone: groups and Instances are made for the machines.
    for each in saved:
        if each["kind"] in ("Cloud", "InstanceTemplate", "Infrastructure"):
            made = await place.ask("POST", resources.resource(each["kind"]).path(place.namespace), _backup(each))
            assert made.code == 201, made
    await place.lead()
    await place.until(lambda: place.is_ready("pair"), "pair is Ready", 240)
    await place.whole("pair", EACH)
    assert {each["id"] for each in place.live()} == machines
    assert len(place.machines()) == 2
    await place.delete_all()


def _backup(obj: Obj) -> Obj:
    """As tools keep it: what the server gave it is left out."""
    metadata = {"name": obj["metadata"]["name"]}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata, "spec": obj["spec"]}


async def there_and_back_again(place: Place) -> None:
    """A field is changed and changed back: it ends as it began, with the same machines."""
    await _up(place)

    async def state() -> str:
        found = [each for kind in ("Infrastructure", "InstanceGroup", "Instance") for each in await place.objects(kind)]
        return json.dumps([[each["spec"], _settled(each)] for each in found], sort_keys=True)

    began, machines = await state(), sorted(each["id"] for each in place.live())
    for changed, back in _changes():
        assert (await place.patch("Infrastructure", "pair", changed)).code == 200
        await place.until(lambda: _seen(place), "the change is seen")
        assert (await place.patch("Infrastructure", "pair", back)).code == 200
        await place.until(lambda: place.is_ready("pair"), "pair is Ready")

        async def same() -> bool:
            return await state() == began

        await place.until(same, f"as it began, after {changed}")
    assert sorted(each["id"] for each in place.live()) == machines
    await place.delete_all()


def _changes() -> Iterator[tuple[Obj, Obj]]:
    first: Obj = {"name": "first", "templateRef": {"name": "plain"}, "dependsOn": []}
    after: Obj = {"name": "second", "templateRef": {"name": "plain"}, "dependsOn": [{"service": "first"}]}
    services: Obj = {"spec": {"services": [first, after]}}
    yield {"spec": {"paused": True}}, {"spec": {"paused": None}}
    yield {"spec": {"variables": [{"name": "unused", "value": "x"}]}}, {"spec": {"variables": None}}
    yield {"spec": {"services": [first, {**after, "dependsOn": []}]}}, services
    yield {"spec": {"services": [first, {**after, "scaling": {"min": 0, "max": 3}}]}}, services
    # One that cannot be followed: nothing is done, and nothing is lost.
    yield {"spec": {"services": [first, {**after, "templateRef": {"name": "nope"}}]}}, services


async def _seen(place: Place) -> bool:
    (found,) = await place.objects("Infrastructure")
    return found["status"]["observedGeneration"] == found["metadata"]["generation"]


def _settled(obj: Obj) -> Any:
    """What of the status tells how it stands, without times and generations."""
    status: Obj = obj.get("status", {})
    conditions = [[each["type"], each["status"], each["reason"]] for each in status.get("conditions", ())]
    return [status.get("phase"), status.get("machine", {}).get("id"), conditions]


def test_cascades(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, deleted_with("Foreground"), deleted_with("Background"), orphans_live_on)


def test_hands(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, edits_by_hand, there_and_back_again)


def test_losses(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, a_backup_is_put_back, a_namespace_goes)
