"""What the state file keeps beyond the port: times by its clock, one order over all kinds, effects that are there at once."""

from __future__ import annotations

import pytest

from controller import errors
from controller.ports import Changed, Event, Gone, Key, Obj, Snapshot, Store
from tests.api import samples
from tests.contract.stores import Clock, OnStore, Watching, exists, free, key, owned, patched, version
from tests.contract.test_store import NOTHING


def test_times_are_the_clocks(on_file: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        given = samples.cloud()
        given["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z"
        made = await store.create(given)
        assert made["metadata"]["creationTimestamp"] == "2026-01-02T03:04:05Z"
        clock.move(5)
        await store.delete(key(made), uid=made["metadata"]["uid"])
        marked = await store.get(key(made))
        assert marked["metadata"]["deletionTimestamp"] == "2026-01-02T03:04:10Z"
        clock.move(5)
        await store.delete(key(made), uid=made["metadata"]["uid"])
        assert await store.get(key(made)) == marked

    on_file(test)


def test_all_faults_are_named_at_once(on_file: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        bad = samples.cloud()
        bad["spec"] |= {"maxInstances": -1, "strange": 1}
        with pytest.raises(errors.Rejected) as refusal:
            await store.create(bad)
        assert {cause.field for cause in refusal.value.causes} == {"spec.maxInstances", "spec.strange"}

    on_file(test)


@NOTHING
def test_a_first_patch_that_changes_nothing_keeps_the_version(on_file: OnStore, patch: Obj, subresource: str) -> None:
    async def test(store: Store, clock: Clock) -> None:
        given = samples.infrastructure()
        del given["metadata"]["annotations"]
        made = await store.create(given)
        clock.move(60)
        assert await patched(store, made, patch, subresource=subresource) == made
        assert await store.get(key(made)) == made

    on_file(test)


def test_what_an_object_owns_falls_in_the_same_write(on_file: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        top = await store.create(free(samples.infrastructure()))
        group = await store.create(owned(free(samples.group()), top))
        revision = await store.create(owned(free(samples.revision()), group))
        held = await store.create(owned(samples.instance(), group))
        under = await store.create(owned(free(samples.config_map()), held))
        two = await store.create(owned(free(samples.instance(), "two"), group, await store.create(free(samples.group(), "b"))))
        await store.delete(key(top), uid=top["metadata"]["uid"])
        there = [await exists(store, each) for each in (top, group, revision, held, under)]
        assert there == [False, False, False, True, True]
        assert await store.get(key(two)) == two
        marked = await store.get(key(held))
        assert marked["metadata"]["deletionTimestamp"]
        await patched(store, marked, {"metadata": {"finalizers": []}})
        assert [await exists(store, each) for each in (held, under)] == [False, False]

    on_file(test)


def test_a_watch_has_one_order_over_all_kinds(on_file: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        watching = Watching(store)
        assert await watching.next() == Snapshot(())
        made = [await store.create(obj) for obj in (samples.cloud(), samples.group(), samples.instance(), samples.revision())]
        told = [await watching.next() for _ in made]
        assert told == [Changed(each) for each in made]
        await watching.close()

    on_file(test)


def test_a_secret_is_told_without_its_data_when_it_goes(on_file: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        made = await store.create(free(samples.secret()))
        changed = await patched(store, made, {"stringData": {"key": "new"}})
        assert changed["data"] == {"key": "bmV3"}
        watching = Watching(store)
        await watching.next()
        await store.delete(key(made), uid=made["metadata"]["uid"])
        gone = await watching.next()
        assert isinstance(gone, Gone)
        assert "data" not in gone.object
        await watching.close()

    on_file(test)


def test_an_event_says_when_it_was_first_and_last(on_file: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        event = Event(Key("Instance", "default", "gone"), "u1", "Normal", "Launched", "machine m-1 was launched")
        await store.record(event)
        clock.move(60)
        await store.record(event)
        (twice,) = await store.list("Event", "default")
        assert twice["count"] == 2
        assert (twice["firstTimestamp"], twice["lastTimestamp"]) == ("2026-01-02T03:04:05Z", "2026-01-02T03:05:05Z")
        assert twice["involvedObject"] == {
            **{"apiVersion": "occopus.io/v1alpha1", "kind": "Instance"},
            **{"namespace": "default", "name": "gone", "uid": "u1"},
        }

    on_file(test)


def test_a_version_is_a_number_of_one_sequence(on_file: OnStore) -> None:
    async def test(store: Store, clock: Clock) -> None:
        first, second = await store.create(samples.cloud()), await store.create(samples.group())
        assert int(version(second)) == int(version(first)) + 1

    on_file(test)
