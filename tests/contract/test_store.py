"""What every home of the objects keeps, because the reconcilers rely on it: creation, reading, patches. By the port alone."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from controller import errors
from controller.ports import Key, Obj, Store
from tests.api import samples
from tests.contract.stores import Clock, OnStore, free, key, patched, version


# --- creation and reading -------------------------------------------------------------------------------------------
def test_creation_gives_the_servers_fields_and_drops_status(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        given = samples.instance()
        made = await store.create(given)
        assert made["metadata"]["uid"]
        assert int(version(made)) > 0
        assert made["metadata"]["generation"] == 1
        assert made["metadata"]["creationTimestamp"]
        assert made["status"] == {"observedGeneration": -1}
        assert made["spec"] == samples.instance()["spec"]
        assert given == samples.instance()
        assert await store.get(key(made)) == made

    on_store(test)


def test_creation_takes_none_of_the_servers_fields_from_the_caller(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        given = free(samples.cloud())
        first = await store.create(given)
        given["metadata"] |= {"name": "again", "uid": first["metadata"]["uid"], "generation": 7, "resourceVersion": "1"}
        given["metadata"] |= {"creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "2001-01-01T00:00:00Z"}
        made = await store.create(given)
        assert made["metadata"]["uid"] != first["metadata"]["uid"]
        assert made["metadata"]["generation"] == 1
        assert made["metadata"]["creationTimestamp"] >= first["metadata"]["creationTimestamp"]
        assert "deletionTimestamp" not in made["metadata"]

    on_store(test)


def test_defaults_are_persisted(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        given = samples.cloud()
        del given["spec"]["maxInstances"]
        assert (await store.get(key(await store.create(given))))["spec"]["maxInstances"] == 100

    on_store(test)


def test_a_name_is_given_once(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.cloud())
        with pytest.raises(errors.AlreadyExists):
            await store.create(samples.cloud())
        await store.delete(key(made), uid=made["metadata"]["uid"])
        with pytest.raises(errors.AlreadyExists):  # its finalizer holds it yet
            await store.create(samples.cloud())
        assert await store.create(samples.group())  # of another kind

    on_store(test)


_ACME = samples.cloud()["spec"]["acme"]
_VALUES = {"spec.maxInstances", "spec.acme.credentials.secretRef.name"}


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        pytest.param({"maxInstances": -1, "acme": {**_ACME, "credentials": {"secretRef": {"name": ""}}}}, _VALUES, id="values"),
        pytest.param({"strange": 1, "acme": {**_ACME, "odd": 1}}, {"spec.strange", "spec.acme.odd"}, id="unknown-fields"),
        pytest.param({"acme": None}, {"spec"}, id="rule"),
    ],
)
def test_a_bad_object_is_refused_by_field_and_not_stored(on_store: OnStore, spec: Obj, fields: set[str]) -> None:
    async def test(store: Store, clock: Clock) -> None:
        bad = samples.cloud()
        bad["spec"] |= spec
        with pytest.raises(errors.Rejected) as refusal:
            await store.create(bad)
        assert {cause.field for cause in refusal.value.causes} == fields
        assert await store.list("Cloud") == []
        good = await store.create(samples.cloud())
        with pytest.raises(errors.Rejected) as refusal:
            await patched(store, good, {"spec": spec})
        assert {cause.field for cause in refusal.value.causes} == fields
        assert await store.get(key(good)) == good

    on_store(test)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"kind": [], "status": {}}, id="kind-no-text"),
        pytest.param({"apiVersion": "occopus.io/v1alpha1", "kind": "Cloud", "metadata": ["name"], "spec": {}}, id="metadata-no-object"),
        pytest.param({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}}, id="kind-not-made-so"),
    ],
)
def test_garbage_is_refused(on_store: OnStore, garbage: Obj) -> None:
    async def test(store: Store, clock: Clock) -> None:
        with pytest.raises(errors.Rejected):
            await store.create(garbage)

    on_store(test)


_CALLS: dict[str, Callable[[Store, Key], Awaitable[object]]] = {
    "get": lambda store, key: store.get(key),
    "patch": lambda store, key: store.patch(key, {}, version="1"),
    "delete": lambda store, key: store.delete(key, uid="x"),
}


@pytest.mark.parametrize("call", _CALLS)
def test_what_does_not_exist_is_not_found(on_store: OnStore, call: str) -> None:
    async def test(store: Store, clock: Clock) -> None:
        await store.create(samples.cloud())
        for missing in (Key("Cloud", "default", "other"), Key("Instance", "default", "acme-north"), Key("Cloud", "other", "acme-north")):
            with pytest.raises(errors.ObjectNotFound):
                await _CALLS[call](store, missing)

    on_store(test)


def test_objects_returned_are_the_callers_own(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.instance())
        wanted = copy.deepcopy(made)
        changed = await patched(store, made, {"metadata": {"labels": {"a": "b"}}})
        for obj in (made, changed, await store.get(key(made)), (await store.list("Instance"))[0]):
            obj["spec"]["inputs"].clear()
            obj["metadata"]["labels"].clear()
        assert (await store.get(key(made)))["spec"] == wanted["spec"]
        assert "a" in (await store.get(key(made)))["metadata"]["labels"]

    on_store(test)


def test_lists_are_by_kind_namespace_and_labels(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        for name, labels in (("b", {"group": "x"}), ("a", {"group": "x", "zone": "1"}), ("c", {"group": "y"}), ("d", {})):
            obj = samples.instance()
            obj["metadata"] |= {"name": name, "labels": labels}
            await store.create(obj)
        await store.create(samples.cloud())

        async def names(*arguments: Any, **options: Any) -> list[str]:
            return [each["metadata"]["name"] for each in await store.list(*arguments, **options)]

        assert await names("Instance") == ["a", "b", "c", "d"]
        assert await names("Instance", "default") == ["a", "b", "c", "d"]
        assert await names("Instance", "other") == []
        assert await names("Instance", labels={"group": "x"}) == ["a", "b"]
        assert await names("Instance", labels={"group": "x", "zone": "1"}) == ["a"]
        assert await names("Cloud", labels={"group": "x"}) == []
        moved = await store.get(Key("Instance", "default", "a"))
        await patched(store, moved, {"metadata": {"labels": {"group": "y", "zone": None}}})
        assert await names("Instance", labels={"group": "x"}) == ["b"]
        assert await names("Instance", labels={"group": "y"}) == ["a", "c"]
        assert await names("Instance", labels={"zone": "1"}) == []

    on_store(test)


# --- patches --------------------------------------------------------------------------------------------------------
def test_generation_rises_with_the_spec_alone(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        obj = await store.create(samples.infrastructure())
        seen = [(obj["metadata"]["generation"], version(obj))]
        for patch, options in (
            ({"metadata": {"labels": {"a": "b"}}}, {}),
            ({"status": {"phase": "Starting"}}, {"subresource": "status"}),
            ({"spec": {"paused": True}}, {}),
        ):
            obj = await patched(store, obj, patch, **options)
            seen.append((obj["metadata"]["generation"], version(obj)))
        assert [generation for generation, _ in seen] == [1, 1, 1, 2]
        assert len({each for _, each in seen}) == 4
        assert await store.get(key(obj)) == obj

    on_store(test)


NOTHING = pytest.mark.parametrize(
    ("patch", "subresource"),
    [
        pytest.param({"spec": {"paused": False}}, "", id="spec"),
        pytest.param({}, "", id="empty"),
        pytest.param({"spec": {"nothing": None}}, "", id="removing-nothing"),
        pytest.param({"spec": {"paused": None}}, "", id="removing-a-default"),
        pytest.param({"metadata": {"annotations": None, "finalizers": ["occopus.io/controller"]}}, "", id="metadata"),
        pytest.param({"metadata": {"ownerReferences": []}}, "", id="empty-list"),
        pytest.param({"status": {"observedGeneration": -1}}, "status", id="status"),
    ],
)


@NOTHING
def test_a_patch_that_changes_nothing_keeps_the_version(on_store: OnStore, patch: Obj, subresource: str) -> None:
    async def test(store: Store, clock: Clock) -> None:
        given = samples.infrastructure()
        del given["metadata"]["annotations"]
        # With the first write after creation an API server stores the default of status, which it only showed until then.
        made = await patched(store, await store.create(given), {"status": {"phase": "Starting"}}, subresource="status")
        clock.move(60)
        assert await patched(store, made, patch, subresource=subresource) == made
        assert await store.get(key(made)) == made

    on_store(test)


@pytest.mark.parametrize("subresource", ["", "status"])
def test_a_patch_at_an_old_version_is_a_conflict_and_does_nothing(on_store: OnStore, subresource: str) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.infrastructure())
        now = await patched(store, made, {"spec": {"paused": True}})
        for patch in ({"spec": {"paused": False}, "status": {"phase": "Old"}}, {}):
            with pytest.raises(errors.Conflict):
                await patched(store, made, patch, subresource=subresource)
        assert await store.get(key(made)) == now

    on_store(test)


def test_of_many_patches_at_one_version_one_wins(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.cloud())
        tries = [patched(store, made, {"spec": {"maxInstances": number}}) for number in range(30, 60)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        won = [each for each in outcomes if isinstance(each, dict)]
        assert len(won) == 1
        assert sum(isinstance(each, errors.Conflict) for each in outcomes) == 29
        assert await store.get(key(made)) == won[0]

    on_store(test)


def test_status_and_the_rest_are_apart(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.infrastructure())
        patch = {"metadata": {"labels": {"a": "b"}}, "spec": {"paused": True}, "status": {"phase": "Starting"}}
        main = await patched(store, made, patch)
        assert main["status"] == made["status"]
        assert main["spec"]["paused"] is True
        patch = {"metadata": {"labels": {"c": "d"}, "finalizers": None}, "spec": {"paused": False}, "status": {"phase": "Starting"}}
        status = await patched(store, main, patch, subresource="status")
        assert status["status"] == {"observedGeneration": -1, "phase": "Starting"}
        assert status["spec"]["paused"] is True
        assert status["metadata"]["labels"] == main["metadata"]["labels"]
        assert status["metadata"]["finalizers"] == main["metadata"]["finalizers"]

    on_store(test)


def test_a_template_has_no_status(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.template())
        with pytest.raises(errors.ObjectNotFound):
            await patched(store, made, {"status": {}}, subresource="status")

    on_store(test)


def test_a_patch_that_breaks_a_rule_is_refused_and_does_nothing(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.instance())
        with pytest.raises(errors.Rejected) as refusal:
            await patched(store, made, {"spec": {"index": 5}})
        assert [cause.field for cause in refusal.value.causes] == ["spec"]
        assert await store.get(key(made)) == made

    on_store(test)


def test_the_recorded_launch_is_written_once_and_never_goes(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.instance())
        launch = {"digest": "d", "fence": "f", "time": samples.TIME}
        sent = await patched(store, made, {"status": {"launch": launch}}, subresource="status")
        for status in ({"launch": {"digest": "e"}}, {"launch": None}, None, {"launch": {"fence": None}}):
            with pytest.raises(errors.Rejected):
                await patched(store, sent, {"status": status}, subresource="status")
        later = await patched(store, sent, {"status": {"phase": "Booting", "launch": launch}}, subresource="status")
        assert later["status"]["launch"] == launch

    on_store(test)


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"metadata": {"name": "other"}}, id="name"),
        pytest.param({"metadata": {"namespace": "other"}}, id="namespace"),
        pytest.param({"metadata": {"uid": "other"}}, id="uid"),
        pytest.param({"metadata": None}, id="all-of-it"),
        pytest.param({"kind": "Instance"}, id="kind"),
        pytest.param({"apiVersion": None}, id="version"),
    ],
)
def test_what_names_an_object_cannot_be_patched(on_store: OnStore, patch: Obj) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.cloud())
        with pytest.raises(errors.Rejected):
            await patched(store, made, patch)
        assert await store.get(key(made)) == made

    on_store(test)


def test_the_servers_fields_cannot_be_patched(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await patched(store, await store.create(samples.cloud()), {"status": {"machines": 1}}, subresource="status")
        metadata = {"generation": 9, "creationTimestamp": "2001-01-01T00:00:00Z", "resourceVersion": None, "uid": None}
        assert await patched(store, made, {"metadata": metadata}) == made
        with pytest.raises(errors.Rejected) as refusal:
            await patched(store, made, {"metadata": {"deletionTimestamp": samples.TIME}})
        assert [cause.field for cause in refusal.value.causes] == ["metadata.deletionTimestamp"]
        await store.delete(key(made), uid=made["metadata"]["uid"])
        marked = await store.get(key(made))
        assert await patched(store, marked, {"metadata": {"deletionTimestamp": None}}) == marked

    on_store(test)
