"""Whom a change wakes: never its own object for a status write, always those who read what has changed."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.meta import GROUP_LABEL
from controller.engine.objects import Objects, key_of
from controller.ports import Changed, Obj
from controller.reconcilers.wakes import How, Wake, wakes


def obj(kind: str, name: str, owner: str = "", spec: dict[str, Any] | None = None, **metadata: Any) -> Obj:
    references = [{"kind": owner.partition("/")[0], "name": owner.partition("/")[2], "uid": f"uid-{owner}"}] if owner else []
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{kind}-{name}", "resourceVersion": "1", "generation": 1}
        | ({"ownerReferences": references} if references else {})
        | metadata,
        "spec": spec or {},
    }


def group(name: str, *needs: str, **metadata: Any) -> Obj:
    spec = {"infrastructure": {"name": "shop"}, "service": name, "dependsOn": [{"service": each} for each in needs]}
    return obj("InstanceGroup", f"shop-{name}", "Infrastructure/shop", spec, **metadata)


def instance(name: str, cloud: str = "sim", **metadata: Any) -> Obj:
    batch = {"id": f"batch of {name}", "index": 0, "size": 1}
    spec = {"infrastructure": {"name": "shop"}, "implementation": {"cloudRef": {"name": cloud}}, "batch": batch}
    return obj("Instance", name, f"InstanceGroup/{name.rpartition('-')[0]}", spec, **metadata)


WORLD = (
    obj("Cloud", "sim"),
    obj("Cloud", "going", deletionTimestamp="2030-01-01T00:00:00Z"),
    obj("Infrastructure", "shop"),
    obj("Infrastructure", "other"),
    obj("Infrastructure", "far", namespace="far"),
    group("db"),
    group("app", "db"),
    group("web", "app"),
    instance("shop-db-0"),
    instance("shop-app-0", deletionTimestamp="2030-01-01T00:00:00Z"),
)


def woken(old: Obj | None, new: Obj | None) -> dict[str, How]:
    objects = Objects(None)  # pyright: ignore[reportArgumentType] -- only the cache is asked
    for number, each in enumerate(WORLD):
        objects.take(Changed(each | {"metadata": each["metadata"] | {"resourceVersion": str(number + 1)}}))
    found: dict[str, How] = {}
    for each in wakes(objects, old, new):
        name = f"{each.key.kind} {each.key.name}"
        first = found.get(name, each.how)
        found[name] = each.how if list(How).index(each.how) < list(How).index(first) else first
    return found


def ready(value: Obj, status: str = "True", **more: Any) -> Obj:
    conditions = [{"type": "Ready", "status": status}, {"type": "Available", "status": status}]
    return value | {"status": {"conditions": conditions, **more}}


def said_of(value: Obj, generation: int) -> Obj:
    return value | {"status": {"conditions": [{"type": "Available", "status": "True", "observedGeneration": generation}]}}


def changed(value: Obj, **metadata: Any) -> Obj:
    return value | {"metadata": value["metadata"] | metadata}


@pytest.mark.parametrize("value", [pytest.param(each, id=str(key_of(each))) for each in WORLD])
def test_a_status_write_never_wakes_its_own_object(value: Obj) -> None:
    name = f"{value['kind']} {value['metadata']['name']}"
    assert name not in woken(value, ready(value))
    assert name not in woken(ready(value), ready(value, "False", observedGeneration=2))
    assert name not in woken(value, changed(value, resourceVersion="99", labels={"a": "b"}))


@pytest.mark.parametrize("value", [pytest.param(each, id=str(key_of(each))) for each in WORLD])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"generation": 2}, id="generation"),
        pytest.param({"deletionTimestamp": "2031-01-01T00:00:00Z"}, id="deletion"),
        pytest.param({"finalizers": ["x"]}, id="finalizers"),
        pytest.param({"annotations": {"a": "b"}}, id="annotations"),
        pytest.param({"uid": "another"}, id="another of the name"),
    ],
)
def test_what_its_user_changes_wakes_it_in_the_users_lane(value: Obj, change: dict[str, Any]) -> None:
    assert woken(value, changed(value, **change))[f"{value['kind']} {value['metadata']['name']}"] is How.USER
    assert woken(None, value)[f"{value['kind']} {value['metadata']['name']}"] is How.USER


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(instance("shop-db-0"), ready(instance("shop-db-0")), {"InstanceGroup shop-db": How.ROLL_UP}, id="Instance Ready"),
        pytest.param(instance("shop-db-0"), None, {"InstanceGroup shop-db": How.SOON}, id="Instance gone"),
        pytest.param(
            instance("shop-db-0", "going"),
            None,
            {"InstanceGroup shop-db": How.SOON, "Cloud going": How.SOON},
            id="Instance gone: a Cloud that goes waits for it",
        ),
        pytest.param(
            group("db"),
            ready(group("db")),
            {"Infrastructure shop": How.ROLL_UP, "InstanceGroup shop-app": How.SOON},
            id="group Available: its dependents, and no others",
        ),
        pytest.param(
            ready(group("db"), readyReplicas=1),
            ready(group("db"), readyReplicas=1, reason="Scaling"),
            {"Infrastructure shop": How.ROLL_UP},
            id="group says what nobody reads",
        ),
        pytest.param(
            ready(group("db"), addresses=["10.0.0.1"]),
            ready(group("db"), addresses=["10.0.0.2"]),
            {"Infrastructure shop": How.ROLL_UP, "InstanceGroup shop-app": How.SOON},
            id="group has another address",
        ),
        pytest.param(
            said_of(group("db", generation=2), 1),
            said_of(group("db", generation=2), 2),
            {"Infrastructure shop": How.ROLL_UP, "InstanceGroup shop-app": How.SOON},
            id="group is Available by its newest generation",
        ),
        pytest.param(
            group("app", "db"),
            group("app", generation=2),
            {
                "Infrastructure shop": How.ROLL_UP,
                "InstanceGroup shop-app": How.USER,
                "InstanceGroup shop-db": How.SOON,
                "InstanceGroup shop-web": How.SOON,
                "Instance shop-app-0": How.SOON,
            },
            id="group depends on another no more",
        ),
        pytest.param(
            group("web", "app"),
            None,
            {
                "Infrastructure shop": How.SOON,
                "InstanceGroup shop-db": How.SOON,
                "InstanceGroup shop-app": How.SOON,
                "InstanceGroup shop-web": How.SOON,
                "Instance shop-app-0": How.SOON,
            },
            id="group gone: whoever may wait for it",
        ),
        pytest.param(obj("Infrastructure", "shop"), ready(obj("Infrastructure", "shop")), {}, id="Infrastructure's status"),
        pytest.param(
            obj("Infrastructure", "shop"),
            None,
            {
                **{f"Infrastructure {name}": How.SOON for name in ("shop", "other")},
                **{f"InstanceGroup shop-{name}": How.SOON for name in ("db", "app", "web")},
            },
            id="Infrastructure gone: its groups make nothing more",
        ),
        pytest.param(ready(obj("Cloud", "sim")), ready(obj("Cloud", "sim"), machines=3), {}, id="Cloud counts its machines"),
    ],
)
def test_who_reads_it_is_woken(old: Obj, new: Obj | None, expected: dict[str, How]) -> None:
    assert woken(old, new) == expected


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        pytest.param("InstanceTemplate", {"Infrastructure", "InstanceGroup"}, id="template"),
        pytest.param("Secret", {"Cloud", "Infrastructure", "InstanceGroup", "Instance"}, id="Secret"),
        pytest.param("ConfigMap", {"Cloud", "Infrastructure", "InstanceGroup", "Instance"}, id="ConfigMap"),
    ],
)
def test_what_many_read_wakes_its_namespace(kind: str, kinds: set[str]) -> None:
    found = woken(None, obj(kind, "some"))
    assert {name.partition(" ")[0] for name in found} == kinds
    assert "Infrastructure far" not in found
    assert len([name for name in found if name.startswith("InstanceGroup")]) == 3


def test_an_infrastructure_that_goes_wakes_who_names_its_identity_in_any_namespace() -> None:
    far = obj("Infrastructure", "far", namespace="far", spec={"id": "uid-Infrastructure-shop"})
    objects = Objects(None)  # pyright: ignore[reportArgumentType] -- only the cache is asked
    objects.take(Changed(far))
    assert Wake(key_of(far), How.SOON) in set(wakes(objects, obj("Infrastructure", "shop"), None))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(None, {"labels": {GROUP_LABEL: "shop-db"}}, id="comes"),
        pytest.param({"labels": {GROUP_LABEL: "shop-db"}}, None, id="goes"),
        pytest.param({"labels": {GROUP_LABEL: "shop-db"}}, {"labels": {}}, id="loses the label"),
    ],
)
def test_an_instance_of_another_owner_wakes_the_group_that_its_label_names(old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
    other = instance("other-0")
    found = woken(*(None if each is None else changed(other, **each) for each in (old, new)))
    assert found["InstanceGroup shop-db"] is How.SOON


def test_a_cloud_that_becomes_ready_wakes_all_that_wait_for_it() -> None:
    found = woken(ready(obj("Cloud", "sim"), "False"), ready(obj("Cloud", "sim")))
    assert {name.partition(" ")[0] for name in found} == {"Infrastructure", "InstanceGroup", "Instance"}


def test_what_we_do_not_reconcile_is_not_woken() -> None:
    assert woken(None, obj("ControllerRevision", "shop-app-1")) == {}
    assert woken(None, obj("Event", "one")) == {}
    assert woken(None, None) == {}
