"""The watch of the Kubernetes home: first lists, what is news, what has gone unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from controller.api import meta
from controller.engine.objects import Objects
from controller.ports import Change, Changed, Gone, Key, Obj, Snapshot
from controller.stores import watching
from controller.stores.kubernetes import KubernetesStore
from tests.api import samples
from tests.contract.stores import Watching, patched
from tests.unit.stores import lying
from tests.unit.stores.lying import CLOUD, TRUE, Lie, Lying, status

KINDS = 6
BROKEN = Lie(code=500, body={"message": "boom"})


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watching, "_FIRST_PAUSE_SECONDS", 0.01)
    return iter(())


def cloud(name: str, version: int, uid: str = "") -> Obj:
    metadata: Obj = {"name": name, "namespace": "default", "uid": uid or name, "resourceVersion": str(version), "managedFields": [{}]}
    return {"apiVersion": meta.API_VERSION, "kind": "Cloud", "metadata": metadata}


def told(change: Change) -> tuple[str, str, str]:
    assert not isinstance(change, Snapshot)
    metadata = change.object["metadata"]
    return type(change).__name__, metadata["name"], metadata.get("resourceVersion", "")


async def quiet(store: KubernetesStore, watch: Watching) -> None:
    """Nothing is told before what is observed now."""
    store.observe(Changed(cloud("mark", 10_000)))
    assert told(await watch.next())[1] == "mark"


def test_the_first_lists_are_tried_until_all_of_them_succeed() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        made = await store.create(samples.cloud())
        forbidden = status(403, "Forbidden")
        server.lies = [*[BROKEN] * 3, forbidden, TRUE, forbidden, *[TRUE] * (KINDS - 1), *[BROKEN] * 3]
        watch = Watching(store)
        assert await watch.next() == Snapshot((made,))
        assert server.lies == []
        await watch.close()

    lying.run(test)


def test_secrets_and_config_maps_are_in_no_list_and_no_watch() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        watch = Watching(store)
        assert await watch.next() == Snapshot(())
        assert len(server.asked) == KINDS
        assert not any("secrets" in each or "configmaps" in each for each in server.asked)
        revisions = [each for each in server.asked if "controllerrevisions" in each]
        assert ["labelSelector=occopus.io%2Fgroup" in each for each in revisions] == [True]
        for obj in (samples.secret(), samples.config_map(), samples.revision(), {"kind": "Pod", "metadata": {"name": "a"}}):
            store.observe(Changed(obj))
        await quiet(store, watch)
        ours = samples.revision()
        ours["metadata"] |= {"labels": {meta.GROUP_LABEL: "shop-web"}, "uid": "r", "resourceVersion": "20000"}
        store.observe(Changed(ours))
        assert await watch.next() == Changed(ours)
        await watch.close()

    lying.run(test)


def test_what_the_first_lists_held_is_no_news() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.version = 200
        made = server.put(lying.path(Key("Cloud", "default", "a")), cloud("a", 0))
        watch = Watching(store)
        await watch.next()
        assert made["metadata"]["resourceVersion"] == "201"
        store.observe(Changed(cloud("a", 150)))
        store.observe(Changed(cloud("a", 201)))
        store.observe(Changed(cloud("earlier", 180)))
        store.observe(Gone(cloud("earlier", 190)))
        store.observe(Changed(cloud("a", 202)))
        store.observe(Changed(cloud("b", 203)))
        store.observe(Gone(cloud("b", 203)))  # a server whose last version is not the deletion's
        store.observe(Gone(cloud("a", 201)))
        expected = [("Changed", "a", "202"), ("Changed", "b", "203"), ("Gone", "b", "203"), ("Gone", "a", "201")]
        assert [told(await watch.next()) for _ in expected] == expected
        await watch.close()

    lying.run(test)


def test_what_is_observed_while_the_lists_are_made_is_told_after_them() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        store.observe(Changed(cloud("before", 300)))  # nobody watches yet, and the list will hold it
        server.lies = [Lie(deed=True, after=lambda: store.observe(Changed(cloud("during", 400))))]
        watch = Watching(store)
        assert isinstance(await watch.next(), Snapshot)
        change = await watch.next()
        assert told(change) == ("Changed", "during", "400")
        assert isinstance(change, Changed)
        assert "managedFields" not in change.object["metadata"]
        await watch.close()

    lying.run(test)


def test_each_watch_is_told_and_one_that_ended_is_not() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        first, second = Watching(store), Watching(store)
        await first.next()
        await second.next()
        await first.close()
        store.observe(Changed(cloud("a", 300)))
        assert told(await second.next())[1] == "a"
        await second.close()

    lying.run(test)


# --- what has gone unseen ---------------------------------------------------------------------------------------------
@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "EVICT_SECONDS", 0.05)


def _path(name: str) -> str:
    return lying.path(Key("Cloud", "default", name))


@pytest.mark.usefixtures("_often")
def test_what_no_watch_reported_is_evicted_by_a_list_of_metadata() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        for name in ("listed", "kept"):
            server.put(_path(name), cloud(name, 0))
        watch = Watching(store)
        await watch.next()
        made = await store.create(samples.cloud())  # known by its answer alone
        store.observe(Changed(cloud("seen", 300)))
        assert told(await watch.next())[1] == "seen"
        for path in (_path("listed"), lying.path(CLOUD)):
            del server.objects[path]
        gone = [await watch.next() for _ in range(3)]
        assert {told(each)[:2] for each in gone} == {("Gone", "listed"), ("Gone", "seen"), ("Gone", "acme-north")}
        assert {each.object["metadata"]["uid"] for each in gone if isinstance(each, Gone)} == {"listed", "seen", made["metadata"]["uid"]}
        await quiet(store, watch)
        await watch.close()

    lying.run(test)


@pytest.mark.usefixtures("_often")
def test_of_an_object_whose_name_another_took_the_first_is_evicted() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.put(_path("a"), cloud("a", 0, "first"))
        watch = Watching(store)
        await watch.next()
        server.put(_path("a"), cloud("a", 0, "second"))
        change = await watch.next()
        assert isinstance(change, Gone)
        assert change.object["metadata"]["uid"] == "first"
        await watch.close()

    lying.run(test)


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(Lie(code=404, body="404 page not found\n"), id="crd-gone"),
        pytest.param(status(403, "Forbidden"), id="forbidden"),
        pytest.param(BROKEN, id="500"),
    ],
)
def test_a_list_that_fails_evicts_nothing(lie: Lie) -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.put(_path("a"), cloud("a", 0))
        watch = Watching(store)
        await watch.next()
        server.lies = [lie] * 20
        following = asyncio.create_task(watch.next())
        while server.lies:
            await asyncio.sleep(0.01)
        assert not following.done()
        store.observe(Changed(cloud("a", 400)))
        assert told(await following) == ("Changed", "a", "400")
        await watch.close()

    lying.run(test)


@pytest.mark.usefixtures("_often")
def test_what_was_made_while_the_list_was_made_is_not_evicted() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.put(_path("a"), cloud("a", 0))
        watch = Watching(store)
        await watch.next()
        following = asyncio.create_task(watch.next())
        asked = len(server.asked)
        # The list was read before the object came, and is answered after its event.
        server.lies = [Lie(deed=True, after=lambda: store.observe(Changed(cloud("late", 500))))]
        assert told(await following) == ("Changed", "late", "500")
        assert len(server.asked) == asked + 1
        server.put(_path("late"), cloud("late", 0))
        following = asyncio.create_task(watch.next())
        while len(server.asked) < asked + 4:
            await asyncio.sleep(0.01)
        assert not following.done()
        store.observe(Changed(cloud("mark", 10_000)))
        assert told(await following)[1] == "mark"
        await watch.close()

    lying.run(test)


@pytest.mark.usefixtures("_often")
def test_an_event_that_comes_late_resurrects_nothing_that_was_evicted() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.put(_path("a"), cloud("a", 0))
        objects = Objects(store)
        changes = store.watch()
        objects.take(await anext(changes))
        assert objects.get(Key("Cloud", "default", "a")) is not None
        del server.objects[_path("a")]
        objects.take(await anext(changes))
        assert objects.get(Key("Cloud", "default", "a")) is None
        store.observe(Changed(cloud("a", 900)))
        objects.take(await anext(changes))
        assert objects.get(Key("Cloud", "default", "a")) is None
        store.observe(Changed(cloud("a", 901, "again")))
        objects.take(await anext(changes))
        assert objects.get(Key("Cloud", "default", "a")) is not None
        await _close(changes)

    lying.run(test)


@pytest.mark.usefixtures("_often")
def test_a_defect_of_the_eviction_ends_the_watch() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        server.put(_path("a"), cloud("a", 0))
        watch = Watching(store)
        await watch.next()
        server.lies = [Lie(code=200, body={"metadata": {}, "items": [1]})]
        with pytest.raises(TypeError):
            await watch.next()

    lying.run(test)


async def _close(changes: AsyncIterator[Change]) -> None:
    await changes.aclose()  # type: ignore[attr-defined]  # the store's watches are generators


def test_an_answer_is_newer_than_an_event_that_comes_after_it() -> None:
    async def test(server: Lying, store: KubernetesStore) -> None:
        objects = Objects(store)
        changes = store.watch()
        objects.take(await anext(changes))
        made = await objects.create(samples.cloud())
        changed = await patched(store, made, {"spec": {"maxInstances": 7}})
        objects.take(Changed(changed))
        store.observe(Changed(made))
        objects.take(await anext(changes))
        assert objects.get(CLOUD) == changed
        await _close(changes)

    lying.run(test)
