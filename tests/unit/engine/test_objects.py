"""The cache: never older than what we wrote, never resurrecting; and the one way to write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from controller import errors
from controller.api import meta
from controller.api.cloud import AccountStatus, Cloud, CloudStatus
from controller.api.instance import Instance
from controller.engine.objects import Objects, owner_reference
from controller.ports import Changed, Gone, Key, Obj, Snapshot
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore
from tests.api import samples
from tests.simulated.cloud import plugin
from tests.simulated.world import World

KEY = Key("Cloud", "default", "sim")
RULES = Rules((plugin(World(lambda: 0.0)),))


def cloud(name: str = "sim", **status: Any) -> Obj:
    return {
        "apiVersion": meta.API_VERSION,
        "kind": "Cloud",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"simulated": {"account": "a1"}},
        **({"status": status} if status else {}),
    }


def seen(version: int, uid: str = "u1", name: str = "sim", **metadata: Any) -> Obj:
    """An object as a watch brings it."""
    obj = cloud(name)
    obj["metadata"] |= {"uid": uid, "resourceVersion": str(version), **metadata}
    return obj


class Heard:
    """What listeners were told."""

    def __init__(self, objects: Objects) -> None:
        self.changes: list[tuple[str, str]] = []
        objects.listen(lambda old, new: self.changes.append((_version(old), _version(new))))


def _version(obj: Obj | None) -> str:
    return "-" if obj is None else obj["metadata"]["resourceVersion"]


def fed() -> tuple[Objects, Heard]:
    """A cache that only events feed; it has no store to ask."""
    objects = Objects(None)  # pyright: ignore[reportArgumentType] -- no test that uses this reads or writes
    return objects, Heard(objects)


def run(path: Path, scenario: Callable[[Objects, SqliteStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = SqliteStore.open(path / "state.db", RULES, lock=True, inline=True)
        try:
            await scenario(Objects(store), store)
        finally:
            await store.close()

    asyncio.run(main())


# --- events
def test_an_older_event_is_dropped_and_an_equal_one_is_no_change() -> None:
    objects, heard = fed()
    for version in (5, 4, 5, 10, 9):
        objects.take(Changed(seen(version)))
    assert _version(objects.get(KEY)) == "10"
    assert heard.changes == [("-", "5"), ("5", "10")], "10 is newer than 9: versions are numbers"


def test_a_late_event_does_not_resurrect() -> None:
    objects, heard = fed()
    objects.take(Changed(seen(5)))
    objects.take(Gone(seen(6)))
    objects.take(Changed(seen(7)))
    assert objects.get(KEY) is None
    objects.take(Gone(seen(8)))
    assert heard.changes == [("-", "5"), ("5", "-")]


def test_another_object_of_the_same_name_takes_the_place() -> None:
    objects, heard = fed()
    objects.take(Changed(seen(5)))
    objects.take(Changed(seen(8, uid="u2")))
    objects.take(Gone(seen(7)))  # of the first
    assert objects.get(KEY) == seen(8, uid="u2")
    assert heard.changes == [("-", "5"), ("5", "-"), ("-", "8")]


def test_a_relist_evicts_what_is_gone_and_keeps_what_is_newer() -> None:
    objects, heard = fed()
    objects.take(Snapshot((seen(1), seen(2, uid="u2", name="two"), seen(9, uid="u3", name="three"))))
    objects.take(Snapshot((seen(4), seen(8, uid="u3", name="three"))))
    assert sorted(_version(each) for each in objects.list("Cloud")) == ["4", "9"]
    assert heard.changes[3:] == [("2", "-"), ("1", "4")]


def test_children_are_found_by_the_uid_of_their_owner() -> None:
    objects, _ = fed()
    parent = meta.Metadata(name="shop", uid="parent")
    objects.take(Changed(seen(1, ownerReferences=[owner_reference("Infrastructure", parent)])))
    objects.take(Changed(seen(2, uid="u2", name="another", ownerReferences=[owner_reference("Infrastructure", parent)])))
    assert objects.children("parent", "Cloud") == (Key("Cloud", "default", "another"), KEY)
    assert objects.children("parent", "Instance") == ()
    objects.take(Gone(seen(3)))
    assert objects.children("parent", "Cloud") == (Key("Cloud", "default", "another"),)


def test_a_child_that_changes_owners_is_found_by_the_new_one_alone() -> None:
    objects, _ = fed()
    first, second = meta.Metadata(name="shop", uid="first"), meta.Metadata(name="other", uid="second")
    objects.take(Changed(seen(1, ownerReferences=[owner_reference("Infrastructure", first)])))
    assert objects.children("first", "Cloud") == (KEY,)
    assert objects.children("second", "Cloud") == ()
    objects.take(Changed(seen(2, ownerReferences=[owner_reference("Infrastructure", second)])))
    assert objects.children("first", "Cloud") == ()
    assert objects.children("second", "Cloud") == (KEY,)


def test_a_model_is_parsed_once_for_each_version() -> None:
    objects, _ = fed()
    objects.take(Changed(seen(1)))
    first = objects.model(KEY, Cloud)
    assert first is not None
    assert objects.model(KEY, Cloud) is first
    objects.take(Changed(seen(2)))
    assert objects.model(KEY, Cloud) is not first
    objects.take(Gone(seen(3)))
    assert objects.model(KEY, Cloud) is None


# --- writes
def test_the_answer_to_a_write_is_there_at_once_and_its_event_changes_nothing(tmp_path: Path) -> None:
    async def scenario(objects: Objects, store: SqliteStore) -> None:
        made = await objects.create(cloud())
        assert objects.get(KEY) == made
        heard = Heard(objects)
        assert await objects.write_status(KEY, CloudStatus(observed_generation=1, machines=3))
        written = objects.get(KEY)
        assert written is not None
        assert written["status"]["machines"] == 3
        objects.take(Changed(made))
        objects.take(Changed(await store.get(KEY)))
        assert objects.get(KEY) == written
        assert len(heard.changes) == 1

    run(tmp_path, scenario)


def test_the_same_status_again_is_not_written(tmp_path: Path) -> None:
    async def scenario(objects: Objects, store: SqliteStore) -> None:
        await objects.create(cloud())
        status = CloudStatus(observed_generation=1, account=AccountStatus(kind="simulated", id="a1"), machines=3)
        assert await objects.write_status(KEY, status)
        before, writes = await store.get(KEY), objects.writes
        assert not await objects.write_status(KEY, status)
        assert not await objects.write(KEY, {"spec": {"simulated": {"account": "a1"}}})
        await objects.set_finalizer(KEY, meta.FINALIZER, wanted=False)
        assert (await store.get(KEY), objects.writes) == (before, writes)

    run(tmp_path, scenario)


def test_a_status_field_that_became_unset_is_removed(tmp_path: Path) -> None:
    async def scenario(objects: Objects, store: SqliteStore) -> None:
        await objects.create(cloud())
        await objects.write_status(KEY, CloudStatus(observed_generation=1, machines=3))
        await objects.write_status(KEY, CloudStatus(observed_generation=1))
        assert "machines" not in (await store.get(KEY))["status"]

    run(tmp_path, scenario)


class Recorded:
    """A store that keeps each patch and answers with the object patched as a newer version's CRD would: unknown fields stay."""

    def __init__(self, obj: Obj) -> None:
        self.obj = obj
        self.patches: list[Obj] = []

    async def patch(self, key: Key, patch: Obj, *, version: str, subresource: str = "") -> Obj:
        self.patches.append(patch)
        return self.obj


def test_status_fields_that_a_newer_version_wrote_stay() -> None:
    obj = seen(1)
    obj["status"] = {"observedGeneration": 1, "machines": 3, "secrets": [], "newer": {"field": True}, "conditions": []}
    store = Recorded(obj)
    objects = Objects(store)  # pyright: ignore[reportArgumentType] -- only patch is called
    objects.take(Changed(obj))
    asyncio.run(objects.write_status(KEY, CloudStatus(observed_generation=2)))
    assert store.patches == [{"status": {"observedGeneration": 2, "machines": None}}], "the difference and no more"


def test_a_field_that_a_newer_version_put_into_a_launch_is_no_reason_to_write() -> None:
    """The API refuses every change of a recorded launch."""
    launch = {"digest": "sha256:1", "fence": "", "time": "2026-01-01T00:00:00Z", "newer": "x"}
    condition = {**samples.condition(), "type": "Ready", "newer": 1}
    key = Key("Instance", "default", "shop-app-0")
    obj: Obj = samples.instance() | {
        "status": {"observedGeneration": 1, "phase": "", "address": "", "launch": launch, "conditions": [condition]}
    }
    obj["metadata"] = {"name": key.name, "namespace": "default", "uid": "u1", "resourceVersion": "1"}
    store = Recorded(obj)
    objects = Objects(store)  # pyright: ignore[reportArgumentType] -- only patch is called
    objects.take(Changed(obj))
    known = objects.model(key, Instance)
    assert known is not None
    assert not asyncio.run(objects.write_status(key, known.status))
    assert asyncio.run(objects.write_status(key, known.status.model_copy(update={"phase": "Ready"})))
    assert store.patches == [{"status": {"phase": "Ready"}}]


def test_what_is_as_its_default_is_written_all_the_same(tmp_path: Path) -> None:
    """Who reads it, such as a column or the scale subresource, knows no defaults."""

    async def scenario(objects: Objects, store: SqliteStore) -> None:
        await objects.create(cloud())
        await objects.write_status(KEY, CloudStatus(observed_generation=1))
        assert (await store.get(KEY))["status"]["secrets"] == []

    run(tmp_path, scenario)


def test_a_conflict_reads_again_and_says_so(tmp_path: Path) -> None:
    async def scenario(objects: Objects, store: SqliteStore) -> None:
        made = await objects.create(cloud())
        version = made["metadata"]["resourceVersion"]
        other = await store.patch(KEY, {"metadata": {"labels": {"by": "another"}}}, version=version)
        with pytest.raises(errors.Conflict):
            await objects.write_status(KEY, CloudStatus(observed_generation=1))
        assert objects.get(KEY) == other
        assert await objects.write_status(KEY, CloudStatus(observed_generation=1))

    run(tmp_path, scenario)


def test_a_write_to_what_is_gone_evicts_it(tmp_path: Path) -> None:
    async def scenario(objects: Objects, store: SqliteStore) -> None:
        made = await objects.create(cloud())
        await store.delete(KEY, uid=made["metadata"]["uid"])
        with pytest.raises(errors.ObjectNotFound):
            await objects.write_status(KEY, CloudStatus(observed_generation=1))
        assert objects.get(KEY) is None
        objects.take(Changed(made))
        assert objects.get(KEY) is None

    run(tmp_path, scenario)


def test_finalizers_of_others_stay_and_the_last_one_lets_go(tmp_path: Path) -> None:
    async def scenario(objects: Objects, store: SqliteStore) -> None:
        obj = cloud()
        obj["metadata"]["finalizers"] = ["example.org/theirs"]
        await objects.create(obj)
        await objects.set_finalizer(KEY, meta.FINALIZER, wanted=True)
        assert (await store.get(KEY))["metadata"]["finalizers"] == ["example.org/theirs", meta.FINALIZER]
        await objects.delete(KEY)
        await objects.refresh(KEY)
        writes = objects.writes
        await objects.delete(KEY)  # marked already
        assert objects.writes == writes
        await objects.set_finalizer(KEY, "example.org/theirs", wanted=False)
        assert objects.get(KEY) is not None
        await objects.set_finalizer(KEY, meta.FINALIZER, wanted=False)
        assert objects.get(KEY) is None
        with pytest.raises(errors.ObjectNotFound):
            await store.get(KEY)

    run(tmp_path, scenario)


def test_what_is_told_late_of_another_object_of_the_name_displaces_nothing() -> None:
    objects, _ = fed()
    objects.take(Changed(seen(9, uid="u2")))
    objects.take(Changed(seen(5, uid="u1")))
    found = objects.get(KEY)
    assert found is not None
    assert found["metadata"]["uid"] == "u2"
    objects.take(Changed(seen(10, uid="u2")))
    assert _version(objects.get(KEY)) == "10", "it is not taken for gone"


class _Says:
    """A store that answers as it is told, and may let something happen first."""

    def __init__(self, answer: Obj | None, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._answer, self._meanwhile = answer, meanwhile

    async def get(self, key: Key) -> Obj:
        self._meanwhile()
        if self._answer is None:
            raise errors.ObjectNotFound(str(key))
        return self._answer

    async def delete(self, key: Key, *, uid: str, version: str | None = None) -> Obj | None:
        return self._answer


def test_a_read_that_finds_nothing_takes_away_what_stood_there_before_it_alone() -> None:
    objects, _ = fed()
    objects.take(Changed(seen(5, uid="u1")))
    objects.store = _Says(None, lambda: objects.take(Changed(seen(9, uid="u2"))))  # pyright: ignore[reportAttributeAccessIssue]
    assert asyncio.run(objects.refresh(KEY)) is None
    assert _version(objects.get(KEY)) == "9"


@pytest.mark.parametrize("told", [pytest.param(True, id="the store says so"), pytest.param(False, id="the watch will tell")])
def test_what_we_deleted_is_seen_to_go_at_once(told: bool) -> None:
    objects, _ = fed()
    objects.take(Changed(seen(5, finalizers=["occopus.io/controller"])))
    marked = seen(6, finalizers=["occopus.io/controller"], deletionTimestamp="2026-11-28T00:00:00Z") if told else None
    objects.store = _Says(marked)  # pyright: ignore[reportAttributeAccessIssue]
    asyncio.run(objects.delete(KEY))
    found = objects.get(KEY)
    assert found is not None
    assert ("deletionTimestamp" in found["metadata"]) is told
