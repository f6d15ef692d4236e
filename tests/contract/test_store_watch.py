"""What every home of the objects keeps: watches, the built-in kinds, events, many writes at once. By the port alone."""

from __future__ import annotations

import asyncio

import pytest

from controller import errors
from controller.ports import Changed, Event, Gone, Key, Obj, Snapshot, Store
from tests.api import samples
from tests.contract.stores import Clock, OnStore, Watching, free, key, patched, version


# --- watching -------------------------------------------------------------------------------------------------------
def test_a_watch_begins_with_what_is_there_and_tells_every_later_change_in_order(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        before = await store.create(samples.cloud())
        watching = Watching(store)
        assert await watching.next() == Snapshot((before,))
        made = await store.create(free(samples.infrastructure()))
        assert await watching.next() == Changed(made)
        changed = await patched(store, made, {"spec": {"paused": True}})
        assert await watching.next() == Changed(changed)
        status = await patched(store, changed, {"status": {"phase": "Starting"}}, subresource="status")
        assert await watching.next() == Changed(status)
        await store.delete(key(made), uid=made["metadata"]["uid"])
        gone = await watching.next()
        assert isinstance(gone, Gone)
        assert gone.object["metadata"]["uid"] == made["metadata"]["uid"]
        assert gone.object["spec"] == status["spec"]
        assert int(version(gone.object)) > int(version(status))
        again = await store.create(free(samples.infrastructure()))
        assert await watching.next() == Changed(again)
        await watching.close()

    on_store(test)


def test_a_watch_that_was_slow_ends_at_the_same_state(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        watching = Watching(store)
        assert await watching.next() == Snapshot(())
        kept = await store.create(samples.cloud())
        for number in range(5):
            kept = await patched(store, kept, {"spec": {"maxInstances": 20 + number}})
        first = await store.create(free(samples.group()))
        await store.delete(key(first), uid=first["metadata"]["uid"])
        second = await store.create(free(samples.group()))
        known: dict[Key, Obj] = {}
        told: dict[str, list[str]] = {}
        while known.get(key(second)) != second or known.get(key(kept)) != kept:
            change = await watching.next()
            assert not isinstance(change, Snapshot)
            told.setdefault(change.object["kind"], []).append(version(change.object))
            if isinstance(change, Gone):
                known.pop(key(change.object), None)
            else:
                known[key(change.object)] = change.object
        assert known == {key(kept): kept, key(second): second}
        assert all(versions == sorted(versions, key=int) for versions in told.values())
        await watching.close()

    on_store(test)


def test_what_changes_nothing_and_what_fails_is_told_to_nobody(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await patched(store, await store.create(samples.cloud()), {"status": {"machines": 1}}, subresource="status")
        watching = Watching(store)
        await watching.next()
        await patched(store, made, {"spec": {"maxInstances": 5}})
        with pytest.raises(errors.Rejected):
            await patched(store, made, {"spec": {"maxInstances": -1}})
        with pytest.raises(errors.AlreadyExists):
            await store.create(samples.cloud())
        await store.record(Event(key(made), made["metadata"]["uid"], "Normal", "Ready", "is ready"))
        last = await store.create(samples.group())
        assert await watching.next() == Changed(last)
        await watching.close()

    on_store(test)


def test_two_watches_are_told_the_same(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        first, second = Watching(store), Watching(store)
        assert await first.next() == await second.next() == Snapshot(())
        made = await store.create(samples.cloud())
        assert await first.next() == await second.next() == Changed(made)
        await first.close()
        assert isinstance(await store.create(samples.group()), dict)
        assert isinstance(await second.next(), Changed)
        await second.close()

    on_store(test)


# --- kinds that Kubernetes brings -------------------------------------------------------------------------------------
def test_text_of_a_secret_is_stored_as_data(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        given = free(samples.secret())
        given["stringData"] = {"other": "text"}
        made = await store.create(given)
        assert made["data"] == {"key": "c2VjcmV0", "other": "dGV4dA=="}
        changed = await patched(store, made, {"stringData": {"key": "new"}, "data": {"other": None}})
        assert (await store.get(key(made)))["data"] == {"key": "bmV3"}
        assert changed["metadata"] == (await store.get(key(made)))["metadata"]
        assert (changed["apiVersion"], changed["kind"]) == ("v1", "Secret")

    on_store(test)


def test_a_secret_is_guarded_by_a_finalizer(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(free(samples.secret()))
        guarded = await patched(store, made, {"metadata": {"finalizers": ["occopus.io/controller"]}})
        assert guarded["metadata"]["finalizers"] == ["occopus.io/controller"]
        with pytest.raises(errors.Conflict):
            await patched(store, made, {"metadata": {"finalizers": None}})
        await store.delete(key(made), uid=made["metadata"]["uid"])
        marked = await store.get(key(made))
        assert marked["metadata"]["deletionTimestamp"]
        assert marked["data"] == made["data"]
        await patched(store, marked, {"metadata": {"finalizers": None}})
        with pytest.raises(errors.ObjectNotFound):
            await store.get(key(made))

    on_store(test)


def test_data_of_a_revision_is_immutable(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(samples.revision())
        with pytest.raises(errors.Rejected):
            await patched(store, made, {"data": {"spec": {"anything": []}}})
        assert (await patched(store, made, {"revision": 2}))["revision"] == 2

    on_store(test)


def count(event: Obj) -> int:
    """Events of a series count there (events.k8s.io)."""
    return event.get("series", event).get("count", 1)


# --- events ---------------------------------------------------------------------------------------------------------
def test_equal_events_are_counted_not_repeated(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        about = Key("Instance", "default", "gone")  # an event outlives what it is about
        await store.record(Event(about, "u1", "Normal", "Launched", "machine m-1 was launched"))
        clock.move(30)
        await store.record(Event(about, "u1", "Warning", "Unhealthy", "page: connection refused"))
        clock.move(30)
        await store.record(Event(about, "u1", "Normal", "Launched", "machine m-1 was launched"))
        await store.record(Event(about, "u2", "Normal", "Launched", "machine m-1 was launched"))
        found = await store.list("Event", "default")
        told = [(each["involvedObject"]["uid"], each["reason"], each["type"], count(each)) for each in found]
        assert sorted(told) == [("u1", "Launched", "Normal", 2), ("u1", "Unhealthy", "Warning", 1), ("u2", "Launched", "Normal", 1)]
        twice = next(each for each in found if count(each) == 2)
        assert twice["message"] == "machine m-1 was launched"
        about = {name: twice["involvedObject"][name] for name in ("kind", "namespace", "name", "uid")}
        assert about == {"kind": "Instance", "namespace": "default", "name": "gone", "uid": "u1"}
        assert len({each["metadata"]["name"] for each in found}) == 3

    on_store(test)


# --- at once --------------------------------------------------------------------------------------------------------
def test_many_writes_at_once_are_each_done_and_seen(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        async def life(number: int) -> None:
            made = await store.create(free(samples.instance(), f"n-{number}"))
            changed = await patched(store, made, {"status": {"phase": "Booting"}}, subresource="status")
            assert await store.get(key(made)) == changed
            if number % 2:
                await store.delete(key(made), uid=made["metadata"]["uid"])

        await asyncio.gather(*map(life, range(100)))
        assert len(await store.list("Instance")) == 50

    on_store(test)


def test_a_write_whose_caller_gave_up_harms_no_other(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        writes = [asyncio.create_task(store.create(free(samples.instance(), f"n-{number}"))) for number in range(20)]
        await asyncio.sleep(0)
        for write in writes[::2]:
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)
        assert await store.create(samples.cloud())
        assert {f"n-{number}" for number in range(1, 20, 2)} <= {each["metadata"]["name"] for each in await store.list("Instance")}

    on_store(test)


def test_a_store_that_was_opened_first_holds(on_store: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        assert await store.holds()

    on_store(test)
