"""Members of a batch whose others are restored, orphaned, copied, deleted by hand, or cannot be made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller import errors
from controller.ports import Key
from controller.stores.sqlite import SqliteStore
from tests.simulated.world import NEVER
from tests.system.documents import Document, alone, cloud, infrastructure, secret, service, template
from tests.system.rig import Rig, play
from tests.system.test_batches import READS_ITSELF, batching, many

#: What a backup keeps of an object's metadata.
KEPT = ("name", "namespace", "labels", "ownerReferences", "finalizers")
MEMBERS = [pytest.param(0, id="the first"), pytest.param(2, id="a later one")]


# --- what the tests do
def _key(name: str) -> Key:
    return Key("Instance", "default", name)


def _member(rig: Rig, index: int) -> str:
    """The Instance at that place of the batch; those made singly do not count."""
    batches = {each["metadata"]["name"]: each["spec"]["batch"] for each in rig.instances()}
    (name,) = [name for name, batch in batches.items() if batch["index"] == index and batch["size"] > 1]
    return name


def _forget(rig: Rig, index: int) -> None:
    """The machine of that member is gone without a trace, whether or not anybody knew of it."""
    (one,) = [each for each in rig.made() if each.identity.index == index]
    rig.world.forget(one.id)


def _uids(rig: Rig) -> set[str]:
    """Names are given again, these are not."""
    return {each["metadata"]["uid"] for each in rig.instances()}


async def _backup(rig: Rig, without: int | None = None) -> list[Document]:
    """All Instances as they are, but the member `without`."""
    found = [await rig.store.get(_key(each["metadata"]["name"])) for each in rig.instances()]
    return [each for each in found if each["spec"]["batch"]["index"] != without]


async def _clear(store: SqliteStore) -> None:
    """Every Instance removed by hand, its finalizers first."""
    for each in await store.list("Instance"):
        key = _key(each["metadata"]["name"])
        seen = await store.patch(key, {"metadata": {"finalizers": None}}, version=each["metadata"]["resourceVersion"])
        await store.delete(key, uid=seen["metadata"]["uid"])


def _bare(obj: Document, **metadata: object) -> Document:
    """The object without status, under this metadata."""
    return {**{name: part for name, part in obj.items() if name != "status"}, "metadata": metadata}


async def _restore(rig: Rig, kept: list[Document], change: Callable[[], None] = lambda: None) -> None:
    """While the process is away, all Instances are replaced by those of a backup, which has no status."""
    await rig.crash()
    store = SqliteStore.open(rig.path, rig.rules, lock=True, inline=True, now=rig.clock.now)
    await _clear(store)
    for each in kept:
        await store.create(_bare(each, **{name: each["metadata"][name] for name in KEPT}))
    await store.close()
    change()
    rig.start()
    await rig.let_pass(0.5)


async def _copy_and_delete(rig: Rig, name: str) -> None:
    """A user copies an Instance, sees that it was of no use, and deletes the copy."""
    obj = await rig.store.get(_key(name))
    await rig.store.create(_bare(obj, name="copy", namespace="default", finalizers=obj["metadata"]["finalizers"]))
    await rig.let_pass(30)
    await rig.delete("Instance", "copy")
    await rig.wait(lambda: rig.find("Instance", "copy") is None, 300)


async def _orphan(rig: Rig, name: str) -> None:
    await rig.patch("Instance", name, {"metadata": {"ownerReferences": None}})


async def _delete_infrastructure(rig: Rig) -> None:
    await rig.delete("Infrastructure", "shop")
    await rig.wait(lambda: rig.find("Infrastructure", "shop") is None, 1000)


async def _make_waiting(rig: Rig) -> None:
    """A batch of four whose launch waits for a Secret that is not there."""
    waited = {"name": "s", "valueFrom": {"secretKeyRef": {"name": "awaited", "key": "k"}}}
    app = template("app", "#cloud-config\nruncmd: ['{{ variables.s }}']\n")
    await rig.make(cloud(), app, infrastructure(service("app", scaling={"min": 4}), variables=[waited]))
    await rig.wait(lambda: len(rig.instances()) == 4, 30)
    await rig.let_pass(20)


async def _make_with_lost_reply(rig: Rig) -> None:
    """A batch of four of which it is not known what its call made."""
    rig.world.fail("create", errors.Transient("lost"), after=True)
    await rig.make(*many(4))
    await rig.wait(lambda: rig.calls("create") == 1, 30)


# --- restores
@pytest.mark.parametrize("dead", MEMBERS)
@pytest.mark.parametrize("expired", [pytest.param(False, id="tokens live"), pytest.param(True, id="tokens expired")])
def test_a_backup_from_before_a_member_was_replaced_is_made_whole_again(tmp_path: Path, dead: int, expired: bool) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*many(4))
        kept = await _backup(rig)
        _forget(rig, dead)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 4 and len(rig.made()) == 5, 600)
        await _restore(rig, kept, rig.world.tokens.clear if expired else lambda: None)
        await rig.wait(rig.ready, 1500)

    play(tmp_path, main, batching())


def test_a_backup_without_the_first_member_whose_machine_of_another_is_gone_is_made_whole_again(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*many(4))
        kept = await _backup(rig, without=0)
        _forget(rig, 2)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 4 and len(rig.made()) == 5, 600)
        await _restore(rig, kept)
        await rig.wait(rig.ready, 2000)

    play(tmp_path, main, batching())


# --- machines that vanish before they were seen
@pytest.mark.parametrize("away", [pytest.param(False, id="in one process"), pytest.param(True, id="while nobody looks")])
def test_a_member_whose_machine_vanished_before_it_was_seen_is_replaced(tmp_path: Path, away: bool) -> None:
    async def main(rig: Rig) -> None:
        await _make_with_lost_reply(rig)
        if away:
            await rig.restart(lambda: _forget(rig, 2))
        else:
            _forget(rig, 2)
        await rig.wait(rig.ready, 1500)

    play(tmp_path, main, batching(lag_seconds=0.0 if away else 5.0))


def test_a_deleted_member_whose_machine_vanished_before_it_was_seen_goes(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await _make_with_lost_reply(rig)
        await rig.restart(lambda: _forget(rig, 2))
        deleted = rig.obj("Instance", _member(rig, 2))["metadata"]
        await rig.delete("Instance", deleted["name"])
        await rig.wait(lambda: deleted["uid"] not in _uids(rig), 1500)

    play(tmp_path, main, batching())


# --- owner references that are removed
@pytest.mark.parametrize("member", MEMBERS)
def test_an_infrastructure_goes_though_a_member_lost_its_owner_while_the_launch_was_prepared(tmp_path: Path, member: int) -> None:
    async def main(rig: Rig) -> None:
        rig.hold("prepare", 20)
        await rig.make(*many(4))
        await rig.wait(lambda: len(rig.instances()) == 4, 30)
        await _orphan(rig, _member(rig, member))
        rig.before.clear()
        await rig.let_pass(100)
        await _delete_infrastructure(rig)

    play(tmp_path, main, batching())


@pytest.mark.parametrize("member", MEMBERS)
def test_an_infrastructure_goes_though_a_member_lost_its_owner_while_the_launch_waited(tmp_path: Path, member: int) -> None:
    async def main(rig: Rig) -> None:
        await _make_waiting(rig)
        await _orphan(rig, _member(rig, member))
        await _delete_infrastructure(rig)

    assert play(tmp_path, main, batching()).made() == []


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_of_an_unsent_batch_goes_though_another_lost_its_owner(tmp_path: Path, member: int) -> None:
    async def main(rig: Rig) -> None:
        await _make_waiting(rig)
        deleted = rig.obj("Instance", _member(rig, 1))["metadata"]
        await _orphan(rig, _member(rig, member))
        await rig.delete("Instance", deleted["name"])
        await rig.wait(lambda: deleted["uid"] not in _uids(rig), 1000)
        await _delete_infrastructure(rig)

    assert play(tmp_path, main, batching()).made() == []


def test_a_member_stays_while_its_machine_may_still_appear_though_the_first_was_removed_by_hand(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await _make_waiting(rig)
        await rig.let_pass(180)
        rig.hold("create", 10)
        await rig.make(secret("awaited", k="v"))
        await rig.wait(lambda: any("launch" in each["status"] for each in rig.instances()), 30)
        await rig.let_pass(1)
        rig.before.clear()
        first, later = (rig.obj("Instance", _member(rig, index))["metadata"] for index in (0, 2))
        # One that is marked takes no finalizer back.
        await rig.delete("Instance", first["name"])
        await rig.patch("Instance", first["name"], {"metadata": {"finalizers": None}})
        await rig.delete("Instance", later["name"])
        await rig.wait(lambda: bool(rig.made()), 30)
        uids = _uids(rig)
        assert first["uid"] not in uids
        assert later["uid"] in uids, "it let go although its machine was on its way"
        await rig.wait(lambda: later["uid"] not in _uids(rig) and rig.ready(), 600)

    play(tmp_path, main, batching())


# --- copies, and names that are taken
def test_a_group_scales_after_a_copy_of_one_of_its_instances_went(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*many(2))
        await _copy_and_delete(rig, "shop-app-0")
        assert len(rig.live()) == 2
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 3, 1200)

    play(tmp_path, main, batching())


@pytest.mark.parametrize("text", [pytest.param("", id="batch"), pytest.param(READS_ITSELF, id="singly")])
def test_an_instance_that_cannot_be_made_keeps_no_other_from_being_made(tmp_path: Path, text: str) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*many(1, text))
        obj = await rig.store.get(_key("shop-app-0"))
        spec = {**obj["spec"], "batch": {"id": "another", "index": 0, "size": 1}, "index": 2}
        await rig.store.create(_bare({**obj, "spec": spec}, name="shop-app-2", namespace="default"))
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 5}})
        await rig.wait(lambda: len(rig.live()) >= 4, 600)

    play(tmp_path, main, batching())


@pytest.mark.parametrize(("account", "ends"), [pytest.param("a1", False, id="of its account"), pytest.param("a2", True, id="of another")])
def test_an_original_that_is_deleted_leaves_its_machine_to_a_copy_that_may_have_it(tmp_path: Path, account: str, ends: bool) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1), cloud("drill", account))
        obj = rig.obj("Instance", "shop-app-0")
        (machine,) = rig.live()
        copy = _bare(obj, name="copy", namespace="default", finalizers=obj["metadata"]["finalizers"])
        copy["spec"] = {**obj["spec"], "implementation": {**obj["spec"]["implementation"], "cloudRef": {"name": "drill"}}}
        await rig.until("Cloud", "drill", "Ready")
        await rig.store.create(copy)
        rig.left.add(machine.id)
        await rig.delete("Instance", "shop-app-0")
        await rig.wait(lambda: len(rig.made()) == 2, 200)
        assert (machine.ending < NEVER) is ends
        assert await rig.told("DuplicateMachine", "shop-app-0") == (0 if ends else 1)
        await rig.delete("Instance", "copy")
        await rig.wait(lambda: rig.find("Instance", "copy") is None, 300)

    play(tmp_path, main)
