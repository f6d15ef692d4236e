"""Mutations whose answer was lost: what a live read decides, and that nothing is done twice."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

import pytest

from controller import errors
from controller.ports import Obj
from controller.stores import merge
from controller.stores.kubernetes import KubernetesStore
from tests.api import samples
from tests.contract.stores import free, patched
from tests.unit.stores import lying
from tests.unit.stores.lying import CLOUD, DROPPED_AFTER, DROPPED_BEFORE, TRUE, Lie, Lying, status

_500_AFTER = Lie(code=500, deed=True, body={"message": "etcdserver: request timed out"})
_500_BEFORE = Lie(code=500, body={"message": "etcdserver: request timed out"})
LOST_AFTER = [pytest.param(DROPPED_AFTER, id="dropped"), pytest.param(_500_AFTER, id="500")]
LOST_BEFORE = [pytest.param(DROPPED_BEFORE, id="dropped"), pytest.param(_500_BEFORE, id="500")]
FORBIDDEN = status(403, "Forbidden")


def methods(server: Lying) -> list[str]:
    return [each.partition(" ")[0] for each in server.asked]


# --- create -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lie", LOST_AFTER)
def test_a_creation_that_was_done_is_found(lie: Lie) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.lies = [lie]
        made = await store.create(samples.cloud())
        assert made["metadata"]["uid"] == server.objects[lying.path()]["metadata"]["uid"]
        assert methods(server) == ["POST", "GET"]

    lying.run(test)


@pytest.mark.parametrize("lie", LOST_BEFORE)
def test_a_creation_that_may_come_yet_is_undecided_and_not_repeated(lie: Lie) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.lies = [lie]
        with pytest.raises(errors.Unavailable):
            await store.create(samples.cloud())
        assert methods(server) == ["POST", "GET"]

    lying.run(test)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"spec": {"maxInstances": 77}}, id="other-spec"),
        pytest.param({"metadata": {"ownerReferences": None}}, id="other-owner"),
        pytest.param({"metadata": {"deletionTimestamp": samples.TIME}}, id="deleting"),
    ],
)
def test_an_object_that_is_not_what_was_sent_is_not_taken_for_it(change: Obj) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        sent = samples.cloud()
        sent["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"}]
        server.lies = [Lie(drop=True, deed=True, after=lambda: _change(server, change))]
        with pytest.raises(errors.Unavailable):
            await store.create(sent)

    lying.run(test)


def test_a_creation_is_undecided_where_it_cannot_be_read() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.lies = [DROPPED_AFTER, FORBIDDEN]
        with pytest.raises(errors.Unavailable):
            await store.create(samples.cloud())

    lying.run(test)


# --- patch ------------------------------------------------------------------------------------------------------------
Subresource = Literal["", "status"]
PATCHES = pytest.mark.parametrize(
    ("patch", "subresource"),
    [
        pytest.param({"spec": {"maxInstances": 7}}, "", id="spec"),
        pytest.param({"status": {"machines": 7}, "spec": {"maxInstances": 7}}, "status", id="status"),
        pytest.param({"metadata": {"finalizers": None}}, "", id="finalizer"),
    ],
)


def _change(server: Lying, change: Obj) -> None:
    server.put(lying.path(), merge.apply(server.objects[lying.path()], change))


@PATCHES
@pytest.mark.parametrize("lie", LOST_AFTER)
def test_a_patch_that_was_done_is_found(patch: Obj, subresource: Subresource, lie: Lie) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        server.lies = [lie]
        changed = await patched(store, made, patch, subresource=subresource)
        assert changed["metadata"]["resourceVersion"] == str(int(made["metadata"]["resourceVersion"]) + 1) == str(server.version)
        assert methods(server) == ["POST", "PATCH", "GET"]

    lying.run(test)


@PATCHES
@pytest.mark.parametrize("lie", LOST_BEFORE)
def test_a_patch_that_was_not_done_is_sent_again_at_the_same_version(patch: Obj, subresource: Subresource, lie: Lie) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        server.lies = [lie]
        changed = await patched(store, made, patch, subresource=subresource)
        assert changed["metadata"]["resourceVersion"] == str(int(made["metadata"]["resourceVersion"]) + 1)
        assert methods(server) == ["POST", "PATCH", "GET", "PATCH"]

    lying.run(test)


@PATCHES
def test_a_patch_that_is_done_late_is_done_once(patch: Obj, subresource: Subresource) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        # The first one is on its way while the object is read; it arrives before the second.
        server.lies = [DROPPED_BEFORE, Lie(deed=True, after=lambda: _change(server, patch))]
        changed = await patched(store, made, patch, subresource=subresource)
        assert changed["metadata"]["resourceVersion"] == str(server.version)
        assert methods(server) == ["POST", "PATCH", "GET", "PATCH", "GET"]

    lying.run(test)


def test_a_patch_that_another_write_has_passed_is_a_conflict() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        server.lies = [Lie(drop=True, after=lambda: _change(server, {"spec": {"maxInstances": 9}}))]
        with pytest.raises(errors.Conflict):
            await patched(store, made, {"spec": {"maxInstances": 7}})
        assert methods(server) == ["POST", "PATCH", "GET"]

    lying.run(test)


def test_a_patch_that_was_done_and_then_built_upon_is_found() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        server.lies = [Lie(drop=True, deed=True, after=lambda: _change(server, {"metadata": {"labels": {"a": "b"}}}))]
        changed = await patched(store, made, {"spec": {"maxInstances": 7}})
        assert changed["metadata"]["labels"]["a"] == "b"

    lying.run(test)


@pytest.mark.parametrize(
    ("lies", "error"),
    [
        pytest.param([DROPPED_BEFORE, TRUE, DROPPED_BEFORE], errors.Unavailable, id="lost-twice"),
        pytest.param([DROPPED_AFTER, FORBIDDEN], errors.Unavailable, id="unreadable"),
        pytest.param([DROPPED_BEFORE, *[_500_BEFORE] * 3], errors.Unavailable, id="server-down"),
        pytest.param([DROPPED_BEFORE, status(404, "NotFound", name="acme-north", kind="clouds")], errors.ObjectNotFound, id="gone"),
    ],
)
def test_a_patch_that_cannot_be_decided_is_left_to_a_later_look(lies: list[Lie], error: type[Exception]) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        server.lies = list(lies)
        with pytest.raises(error):
            await patched(store, made, {"spec": {"maxInstances": 7}})

    lying.run(test)


# --- delete -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lie", [*LOST_AFTER, *[pytest.param(each.values[0], id=f"{each.id}-before") for each in LOST_BEFORE]])
@pytest.mark.parametrize("finalizer", [pytest.param(True, id="held"), pytest.param(False, id="free")])
@pytest.mark.parametrize("versioned", [pytest.param(True, id="at-a-version"), pytest.param(False, id="any-version")])
def test_a_deletion_is_repeated_until_it_is_done(lie: Lie, finalizer: bool, versioned: bool) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud() if finalizer else free(samples.cloud()))
        server.lies = [lie]
        options: dict[str, Any] = {"version": made["metadata"]["resourceVersion"]} if versioned else {}
        with suppress(errors.ObjectNotFound):  # aiohttp repeats it by itself where the connection was kept from before
            await store.delete(CLOUD, uid=made["metadata"]["uid"], **options)
        found = server.objects.get(lying.path())
        assert found is None if not finalizer else found is not None and "deletionTimestamp" in found["metadata"]

    lying.run(test)


def test_a_deletion_whose_name_another_object_took_meanwhile_harms_it_not() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(free(samples.cloud()))
        server.lies = [
            Lie(drop=True, deed=True, after=lambda: server.put(lying.path(), {**made, "metadata": {**made["metadata"], "uid": "x"}}))
        ]
        with pytest.raises(errors.Conflict):
            await store.delete(CLOUD, uid=made["metadata"]["uid"])
        assert server.objects[lying.path()]["metadata"]["uid"] == "x"

    lying.run(test)


def test_a_deletion_names_no_policy_which_would_undo_its_users() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        await store.delete(CLOUD, uid=made["metadata"]["uid"])
        assert server.asked[-1] == f"DELETE {lying.path()}"
        assert server.bodies[-1] == {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": made["metadata"]["uid"]}}

    lying.run(test)
