"""What every home of the objects keeps: finalizers, the deletion mark, and what falls with an owner. By the port alone."""

from __future__ import annotations

import pytest

from controller import errors
from controller.ports import Changed, Obj, Store
from tests.api import samples
from tests.contract.stores import Clock, OnStore, Watching, eventually, exists, free, key, owned, patched, version


async def none_of(store: Store, *objects: Obj) -> bool:
    return not any([await exists(store, each) for each in objects])


async def deleting(store: Store, obj: Obj) -> bool:
    return "deletionTimestamp" in (await store.get(key(obj)))["metadata"]


async def collected(store: Store, owner: Obj) -> None:
    """Wait until what a home collects of this owner, which is gone, is collected."""
    witness = await store.create(owned(free(samples.config_map(), "witness"), owner))
    await eventually(lambda: none_of(store, witness))


# --- deletion -------------------------------------------------------------------------------------------------------
def test_without_finalizers_an_object_goes_at_once(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(free(samples.cloud()))
        await store.delete(key(made), uid=made["metadata"]["uid"])
        assert not await exists(store, made)
        again = await store.create(free(samples.cloud()))
        assert again["metadata"]["uid"] != made["metadata"]["uid"]
        assert int(version(again)) > int(version(made))

    on_store(test)


def test_with_a_finalizer_an_object_is_marked_once_and_goes_with_the_last_of_them(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        given = samples.cloud()
        given["metadata"]["finalizers"] = ["occopus.io/controller", "example.org/other"]
        made = await store.create(given)
        await store.delete(key(made), uid=made["metadata"]["uid"])
        marked = await store.get(key(made))
        assert marked["metadata"]["deletionTimestamp"]
        assert marked["metadata"]["generation"] == 2
        await store.delete(key(made), uid=made["metadata"]["uid"])
        assert await store.get(key(made)) == marked
        fewer = await patched(store, marked, {"metadata": {"finalizers": ["example.org/other"]}})
        assert await store.get(key(made)) == fewer
        assert fewer["metadata"]["generation"] == 2
        await patched(store, fewer, {"metadata": {"finalizers": None}})
        assert not await exists(store, made)

    on_store(test)


def test_a_deleting_object_takes_no_new_finalizer_but_other_changes(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.infrastructure())
        await store.delete(key(made), uid=made["metadata"]["uid"])
        marked = await store.get(key(made))
        with pytest.raises(errors.Rejected) as refusal:
            await patched(store, marked, {"metadata": {"finalizers": ["occopus.io/controller", "example.org/late"]}})
        assert [cause.field for cause in refusal.value.causes] == ["metadata.finalizers"]
        changed = await patched(store, marked, {"spec": {"paused": True}})
        assert changed["metadata"]["generation"] == 3
        assert (await patched(store, changed, {"status": {"phase": "Ending"}}, subresource="status"))["status"]["phase"] == "Ending"

    on_store(test)


def test_a_deletion_holds_for_one_uid_and_if_asked_for_one_version(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(free(samples.cloud()))
        changed = await patched(store, made, {"spec": {"maxInstances": 7}})
        uid = made["metadata"]["uid"]
        with pytest.raises(errors.Conflict):
            await store.delete(key(made), uid="another")
        with pytest.raises(errors.Conflict):
            await store.delete(key(made), uid=uid, version=version(made))
        assert await store.get(key(made)) == changed
        await store.delete(key(made), uid=uid, version=version(changed))
        assert not await exists(store, made)

    on_store(test)


def test_what_an_object_owns_falls_with_it_at_every_depth(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        top = await store.create(free(samples.infrastructure()))
        group = await store.create(owned(free(samples.group()), top))
        revision = await store.create(owned(free(samples.revision()), group))
        held = await store.create(owned(samples.instance(), group))
        under = await store.create(owned(free(samples.config_map()), held))
        other = await store.create(free(samples.instance(), "other"))
        await store.delete(key(top), uid=top["metadata"]["uid"])
        assert not await exists(store, top)
        await eventually(lambda: none_of(store, group, revision))
        await eventually(lambda: deleting(store, held))
        marked = await store.get(key(held))
        assert marked["metadata"]["generation"] == 2
        assert await store.get(key(other)) == other
        assert await store.get(key(under)) == under
        await patched(store, marked, {"metadata": {"finalizers": []}})
        assert not await exists(store, held)
        await eventually(lambda: none_of(store, under))

    on_store(test)


def test_what_has_another_owner_stays_until_that_goes_too(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        first, second = await store.create(free(samples.group(), "a")), await store.create(free(samples.group(), "b"))
        child = await store.create(owned(free(samples.instance()), first, second))
        await store.delete(key(first), uid=first["metadata"]["uid"])
        await collected(store, first)
        assert (await store.get(key(child)))["metadata"]["uid"] == child["metadata"]["uid"]
        await store.delete(key(second), uid=second["metadata"]["uid"])
        await eventually(lambda: none_of(store, child))

    on_store(test)


def test_an_owner_is_known_by_its_uid_not_its_name(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        group = await store.create(free(samples.group()))
        child = await store.create(owned(free(samples.instance()), group))
        await patched(store, child, {"metadata": {"ownerReferences": None}})
        await store.delete(key(group), uid=group["metadata"]["uid"])
        await collected(store, group)
        assert await exists(store, child)
        again = await store.create(free(samples.group()))
        await store.delete(key(again), uid=again["metadata"]["uid"])
        await collected(store, again)
        assert await exists(store, child)

    on_store(test)


def test_what_is_made_for_an_owner_that_has_gone_is_collected(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        group = await store.create(free(samples.group()))
        await store.delete(key(group), uid=group["metadata"]["uid"])
        watching = Watching(store)
        await watching.next()
        late = await store.create(owned(samples.instance(), group))
        change = await watching.next()
        while not (isinstance(change, Changed) and "deletionTimestamp" in change.object["metadata"]):
            change = await watching.next()
        assert change.object["metadata"]["uid"] == late["metadata"]["uid"]
        await watching.close()

    on_store(test)
