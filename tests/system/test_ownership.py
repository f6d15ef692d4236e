"""Objects changed by other hands: owners that vanish, finalizers removed, status wiped, a machine given up."""

from __future__ import annotations

from pathlib import Path

from controller import errors
from controller.ports import Key
from tests.system.documents import alone, chain, cloud, infrastructure, secret, service, template
from tests.system.rig import Rig, ids, play, steady

FINALIZER = "occopus.io/controller"
INF = float("inf")


async def _force_away(rig: Rig, kind: str, name: str) -> None:
    """As `kubectl replace` without finalizers and a deletion do, while no controller looks."""
    await rig.patch(kind, name, {"metadata": {"finalizers": None}})
    await rig.delete(kind, name)


def test_an_instance_whose_owner_is_gone_is_released_and_its_machine_left(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        machines = ids(rig.live())
        rig.left |= machines
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": True}})
        await _force_away(rig, "InstanceGroup", "shop-app")
        await rig.wait(lambda: rig.instances() == [], 30)
        assert await rig.told("OwnerMissing") == 2
        assert {machine for machine in machines if any(machine in each["message"] for each in await rig.events("OwnerMissing"))} == machines
        await rig.let_pass(30)
        assert ids(rig.live()) == machines
        assert rig.calls("delete") == 0
        # Unpaused, the Infrastructure makes the group again, which claims them.
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": False}})
        await rig.wait(rig.ready, 300)
        assert ids(rig.live()) == machines
        rig.left.clear()

    assert len(play(tmp_path, main).made()) == 2


def test_an_infrastructure_forced_away_leaves_its_machines(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        machines = ids(rig.live())
        rig.left |= machines
        # Between two passes: the finalizer goes and the object with it, before we can put it back.
        key = Key("Infrastructure", "default", "shop")
        await rig.crash()
        rig.start()
        seen = await rig.store.get(key)
        seen = await rig.store.patch(key, {"metadata": {"finalizers": None}}, version=seen["metadata"]["resourceVersion"])
        await rig.store.delete(key, uid=seen["metadata"]["uid"])
        await rig.wait(lambda: rig.find("Infrastructure", "shop") is None, 5)
        await rig.let_pass(300)
        assert rig.gone()
        assert ids(rig.live()) == machines
        assert rig.calls("delete") == 0
        assert await rig.told("OwnerMissing") == 3

    play(tmp_path, main)


def test_a_cloud_made_anew_for_another_account_leaves_the_machines_of_the_first(tmp_path: Path) -> None:
    """The new Cloud has recorded no account; that its list is empty proves nothing of machines that were launched elsewhere."""

    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        await _force_away(rig, "Cloud", "sim")
        await rig.make(cloud(account="a2"))
        await rig.until("Cloud", "sim", "AccountChanged", seconds=30)
        assert "recorded is account a1" in rig.said("Cloud", "sim")[2]
        await rig.unchanged(600)
        # The first account's again, by another Cloud of that name.
        await _force_away(rig, "Cloud", "sim")
        await rig.make(cloud())
        await rig.until("Cloud", "sim", "Ready", seconds=30)
        await rig.wait(rig.ready, 60)
        await rig.unchanged(120)

    assert len(play(tmp_path, main).made()) == 2


def test_groups_that_the_garbage_collector_overlooks_outlive_their_infrastructure_all_the_same(tmp_path: Path) -> None:
    """Of `kubectl delete infrastructure --cascade=orphan`: it takes the finalizer away and has not heard of the groups yet."""

    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        machines = ids(rig.world.live())
        await rig.patch("Infrastructure", "shop", {"metadata": {"finalizers": [FINALIZER, "orphan"]}})
        await rig.delete("Infrastructure", "shop")
        await rig.let_pass(30)
        assert rig.find("Infrastructure", "shop") is not None
        await rig.patch("Infrastructure", "shop", {"metadata": {"finalizers": [FINALIZER]}})
        await rig.wait(lambda: rig.find("Infrastructure", "shop") is None, 30)
        await rig.let_pass(120)
        groups = [rig.obj("InstanceGroup", f"shop-{name}")["metadata"] for name in ("db", "app", "web")]
        assert [each.get("ownerReferences", []) for each in groups] == [[], [], []]
        assert not any(each.get("deletionTimestamp") for each in groups)
        assert ids(rig.world.live()) == machines

    play(tmp_path, main)


def test_instances_that_the_garbage_collector_overlooks_outlive_their_group_all_the_same(tmp_path: Path) -> None:
    """Of `kubectl delete instancegroup --cascade=orphan`: the Infrastructure makes the group anew, and it takes them over."""

    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        machines, before = ids(rig.world.live()), rig.obj("InstanceGroup", "shop-app")["metadata"]["uid"]
        await rig.patch("InstanceGroup", "shop-app", {"metadata": {"finalizers": [FINALIZER, "orphan"]}})
        await rig.delete("InstanceGroup", "shop-app")
        await rig.let_pass(30)
        await rig.patch("InstanceGroup", "shop-app", {"metadata": {"finalizers": [FINALIZER]}})
        await rig.wait(lambda: rig.find("InstanceGroup", "shop-app") is not None and _uid(rig, "shop-app") != before, 30)
        await rig.wait(rig.ready, 60)
        await rig.unchanged(120)
        assert ids(rig.world.live()) == machines
        assert {each["metadata"]["ownerReferences"][0]["uid"] for each in rig.instances()} == {_uid(rig, "shop-app")}

    assert len(play(tmp_path, main).made()) == 3


def _uid(rig: Rig, group: str) -> str:
    return rig.obj("InstanceGroup", group)["metadata"]["uid"]


def test_an_infrastructure_that_was_not_deleted_so_takes_its_groups_along(tmp_path: Path) -> None:
    """The collector's finalizer by itself says nothing: only a deletion with it."""

    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        for finalizers in ([FINALIZER, "orphan"], [FINALIZER]):
            await rig.patch("Infrastructure", "shop", {"metadata": {"finalizers": finalizers}})
            await rig.let_pass(5)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 200)
        assert rig.world.live() == []

    play(tmp_path, main)


def test_a_group_that_was_left_without_its_infrastructure_keeps_what_may_run_until_it_is_back(tmp_path: Path) -> None:
    """As `kubectl delete infrastructure --cascade=orphan` leaves it: nothing could be launched in a machine's place."""

    async def main(rig: Rig) -> None:
        described = (cloud(), template("app"), infrastructure(service("app", scaling={"min": 5}), id="shop-7"))
        await rig.up(*described)
        machines = ids(rig.live())
        await rig.patch("InstanceGroup", "shop-app", {"metadata": {"ownerReferences": None}})
        await _force_away(rig, "Infrastructure", "shop")
        await rig.let_pass(30)
        for each in rig.live()[:3]:
            rig.world.make_unhealthy(each.id)
        rig.world.stop(rig.live()[3].id)
        await rig.until("InstanceGroup", "shop-app", "OwnerMissing", seconds=120)
        await rig.unchanged(1800)
        assert ids(rig.live()) == machines
        await rig.make(described[-1])
        await rig.wait(lambda: rig.ready() and len(rig.made()) == 9, 1800)

    play(tmp_path, main, steady())


async def _orphan(rig: Rig, *groups: str) -> None:
    """`kubectl delete infrastructure shop --cascade=orphan`, and what the garbage collector does then."""
    await rig.patch("Infrastructure", "shop", {"metadata": {"finalizers": [FINALIZER, "orphan"]}})
    await rig.delete("Infrastructure", "shop")
    for each in groups:
        await rig.patch("InstanceGroup", each, {"metadata": {"ownerReferences": None}})
    await rig.patch("Infrastructure", "shop", {"metadata": {"finalizers": [FINALIZER]}})
    await rig.wait(lambda: rig.find("Infrastructure", "shop") is None, 30)


def test_what_was_never_launched_when_its_infrastructure_went_is_launched_when_it_is_back(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        reads = [{"name": "pw", "valueFrom": {"secretKeyRef": {"name": "db", "key": "pw"}}}]
        described = infrastructure(service("app", scaling={"min": 2}), id="shop-7")
        await rig.make(cloud(), template("app", "#cloud-config\na: {{ variables.pw }}\n", variables=reads), described)
        await rig.until("Instance", "shop-app-1", "SecretNotFound", seconds=60)
        await _orphan(rig, "shop-app")
        await rig.make(secret("db", pw="abc"))
        await rig.until("Instance", "shop-app-1", "WaitingForGroup", seconds=20)
        await rig.make(described)
        await rig.wait(lambda: len(rig.live()) == 2, 10)
        await rig.wait(rig.ready, 60)

    assert len(play(tmp_path, main).made()) == 2


def test_a_group_that_the_infrastructure_which_is_put_back_does_not_own_makes_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        both = (service("db"), service("app", "db", scaling={"min": 2}))
        await rig.up(cloud(), template("db"), template("app"), infrastructure(*both, id="shop-7"))
        await _orphan(rig, "shop-db", "shop-app")
        await rig.make(infrastructure(service("db"), id="shop-7"))
        await rig.let_pass(60)
        rig.world.kill(rig.live()[0].id)
        await rig.until("InstanceGroup", "shop-app", "OwnerMissing", seconds=60)
        assert "spec.id shop-7 and a service app" in rig.said("InstanceGroup", "shop-app")[2]
        await rig.let_pass(600)
        assert len(rig.made()) == 3
        await rig.make(infrastructure(*both, id="shop-7"))
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 2, 90)

    assert len(play(tmp_path, main).made()) == 4


def test_a_group_that_was_left_by_another_identity_is_made_anew_once_it_was_deleted(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        await _orphan(rig, "shop-app")
        await rig.make(*alone(1))
        await rig.until("Infrastructure", "shop", "NameTaken", seconds=30)
        await rig.let_pass(20)
        await rig.delete("InstanceGroup", "shop-app")
        await rig.wait(rig.ready, 90)

    assert len(play(tmp_path, main).made()) == 2


def test_a_group_whose_owner_was_taken_off_by_hand_is_taken_back(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        await rig.let_pass(20)
        await rig.patch("InstanceGroup", "shop-app", {"metadata": {"ownerReferences": None}})
        await rig.let_pass(5)
        assert rig.obj("InstanceGroup", "shop-app")["metadata"]["ownerReferences"][0]["name"] == "shop"
        assert rig.why("InstanceGroup", "shop-app") == "Ready"

    assert len(play(tmp_path, main).made()) == 1


def test_a_machine_given_up_for_lost_is_let_go(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        machine = rig.machine("shop-app-0").id
        fault = rig.world.fail("delete", errors.Denied("the account is closed"), times=INF)
        await rig.patch("Instance", "shop-app-0", {"metadata": {"annotations": {"occopus.io/abandon": machine}}})
        await rig.unchanged(60)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 60)
        (event,) = await rig.events("Abandoned")
        assert machine in event["message"]
        assert ids(rig.live()) == {machine}
        rig.left.add(machine)
        rig.world.clear(fault)

    play(tmp_path, main)


def test_a_launch_on_an_account_that_is_lost_is_given_up_by_its_batch(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail("create", errors.Transient("no answer"), times=INF, after=True)
        await rig.make(*alone(1))
        await rig.wait(lambda: len(rig.made()) == 1, 30)
        lost = errors.Denied("the account is closed")
        faults = [rig.world.fail(each, lost, times=INF) for each in ("list", "describe", "identity", "delete", "close")]
        await rig.delete("Infrastructure", "shop")
        await rig.let_pass(120)
        instance = rig.find("Instance", "shop-app-0")
        assert instance is not None
        assert "machine" not in instance["status"]
        batch = instance["spec"]["batch"]["id"]
        await rig.patch("Instance", "shop-app-0", {"metadata": {"annotations": {"occopus.io/abandon": batch}}})
        await rig.wait(rig.gone, 60)
        (event,) = await rig.events("Abandoned")
        assert batch in event["message"]
        rig.left |= ids(rig.live())
        for each in faults:
            rig.world.clear(each)

    play(tmp_path, main)


def test_abandoning_another_machine_lets_nothing_go(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        fault = rig.world.fail("delete", errors.Denied("the account is closed"), times=INF)
        await rig.patch("Instance", "shop-app-0", {"metadata": {"annotations": {"occopus.io/abandon": "m-999999"}}})
        await rig.delete("Infrastructure", "shop")
        await rig.let_pass(120)
        assert rig.find("Instance", "shop-app-0") is not None
        rig.world.clear(fault)
        await rig.wait(rig.gone, 60)
        assert rig.live() == []

    play(tmp_path, main)


def test_a_finalizer_that_was_removed_is_put_back(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        things = [("Instance", "shop-app-0"), ("InstanceGroup", "shop-app"), ("Infrastructure", "shop"), ("Cloud", "sim")]
        for kind, name in things:
            await rig.patch(kind, name, {"metadata": {"finalizers": None}})
        await rig.wait(lambda: all(rig.obj(*each)["metadata"].get("finalizers") == [FINALIZER] for each in things), 10)
        await rig.unchanged(30)
        # Others' finalizers stay as they are.
        await rig.patch("Instance", "shop-app-0", {"metadata": {"finalizers": ["example.org/mine"]}})
        await rig.wait(lambda: set(rig.obj("Instance", "shop-app-0")["metadata"]["finalizers"]) == {FINALIZER, "example.org/mine"}, 10)

    play(tmp_path, main)


def test_a_status_wiped_by_hand_is_rebuilt_and_the_launch_cannot_go(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        machines = ids(rig.world.live())
        for kind, name in (("Instance", "shop-app-0"), ("InstanceGroup", "shop-app"), ("Infrastructure", "shop"), ("Cloud", "sim")):
            status = rig.obj(kind, name)["status"]
            wiped = {each: None for each in status if each != "launch"}
            await rig.patch(kind, name, {"status": wiped}, status=True)
            try:
                await rig.patch(kind, name, {"status": {"launch": None}}, status=True)
                assert kind != "Instance"
            except errors.Rejected:
                assert kind == "Instance"
        await rig.wait(lambda: rig.ready() and rig.said("Cloud", "sim")[0] == "True", 400)
        assert rig.obj("Cloud", "sim")["status"]["account"]["id"] == "a1"
        await rig.let_pass(60)
        assert ids(rig.world.live()) == machines

    play(tmp_path, main)


def test_a_label_removed_by_hand_makes_no_second_machine(tmp_path: Path) -> None:
    """Indexes are found by label; the name fences all the same."""

    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        await rig.patch("Instance", "shop-app-0", {"metadata": {"labels": {"occopus.io/group": None}}})
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
        await rig.let_pass(120)
        assert len(rig.live()) <= 3
        assert rig.world.duplicates() == []

    play(tmp_path, main)


def test_the_identity_of_the_description_is_in_the_tags(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app"), id="shop-7"))
        tags = rig.live()[0].tags
        assert tags["occopus.io/infrastructure-id"] == "shop-7"
        assert tags["occopus.io/infrastructure"] == "shop"
        assert tags["occopus.io/service"] == "app"
        assert tags["occopus.io/namespace"] == "default"
        assert tags["occopus.io/batch"] == rig.instances()[0]["spec"]["batch"]["id"]
        assert tags["occopus.io/revision"] == rig.instances()[0]["spec"]["revision"]

    play(tmp_path, main)


def test_without_an_id_the_uid_is_the_identity(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        assert rig.live()[0].tags["occopus.io/infrastructure-id"] == rig.obj("Infrastructure", "shop")["metadata"]["uid"]

    play(tmp_path, main)


def test_the_same_id_twice_is_refused_to_the_younger(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(cloud(), template("app"), infrastructure(service("app"), name="first", id="same"))
        await rig.wait(lambda: rig.ready("first"))
        await rig.make(infrastructure(service("app"), name="second", id="same"))
        await rig.until("Infrastructure", "second", "IdTaken", seconds=10)
        assert "first" in rig.said("Infrastructure", "second")[2]
        await rig.unchanged(120)
        assert rig.ready("first")
        await rig.delete("Infrastructure", "first")
        await rig.wait(lambda: rig.ready("second"), 200)

    assert len(play(tmp_path, main).made()) == 2
