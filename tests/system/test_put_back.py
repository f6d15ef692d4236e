"""Objects that were taken away behind the controller's back, and are put back: what ran runs on, as many as there were."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.ports import Key
from tests.system.documents import chain, cloud, implementation, infrastructure, service, template
from tests.system.rig import Rig, ids, play


async def _force_away(rig: Rig, key: Key) -> None:
    """As by `kubectl patch` of the finalizers and a deletion: it is gone at once."""
    await rig.patch(key.kind, key.name, {"metadata": {"finalizers": None}})
    seen = await rig.store.get(key)
    await rig.store.delete(key, uid=seen["metadata"]["uid"])


def test_an_infrastructure_forced_away_and_applied_again_at_once_claims_its_machines(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        whole = chain()
        described = [*whole[:-1], infrastructure(*whole[-1]["spec"]["services"], id="shop-1")]
        await rig.up(*described)
        before = ids(rig.world.live())
        await _force_away(rig, Key("Infrastructure", "default", "shop"))
        # The controller has had no time to let anything go.
        await rig.store.create(described[-1])
        await rig.wait(rig.ready, 300)
        await rig.unchanged(120)
        assert ids(rig.world.live()) == before
        assert {each["status"]["machine"]["id"] for each in rig.instances()} == before

    assert len(play(tmp_path, main).made()) == 4


async def _scaled_out(rig: Rig) -> set[str]:
    """Five machines of a service that would be made with one."""
    await rig.up(cloud(), template("app"), _ONE_TO_TEN)
    await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 5}})
    await rig.wait(lambda: len(rig.live()) == 5 and rig.ready(), 120)
    await rig.let_pass(120)
    return ids(rig.live())


_ONE_TO_TEN = infrastructure(service("app", scaling={"min": 1, "max": 10}), id="shop-1")


def test_an_orphaned_groups_machines_are_taken_over_all_of_them(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        five = await _scaled_out(rig)
        # What the garbage collector leaves of `kubectl delete instancegroup shop-app --cascade=orphan`.
        for each in rig.instances():
            await rig.patch("Instance", each["metadata"]["name"], {"metadata": {"ownerReferences": None}})
        await _force_away(rig, Key("InstanceGroup", "default", "shop-app"))
        await rig.wait(rig.ready, 300)
        await rig.unchanged(120)
        assert ids(rig.live()) == five

    assert len(play(tmp_path, main).made()) == 5


def test_an_infrastructure_forced_away_and_applied_again_keeps_its_number(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        five = await _scaled_out(rig)
        await _force_away(rig, Key("Infrastructure", "default", "shop"))
        await rig.store.create(_ONE_TO_TEN)
        await rig.wait(rig.ready, 300)
        await rig.unchanged(120)
        assert ids(rig.live()) == five

    assert len(play(tmp_path, main).made()) == 5


@pytest.mark.parametrize("slow", [pytest.param(0, id="at once"), pytest.param(20, id="listed late")])
def test_a_description_that_is_put_back_as_a_whole_shrinks_nothing_while_its_cloud_is_not_listed(tmp_path: Path, slow: float) -> None:
    """As `kubectl apply` of a backup does it, without a pause between Cloud and Infrastructure."""
    documents = [cloud(), template("app"), infrastructure(service("app", scaling={"min": 1, "max": 10}), id="shop-1")]

    async def main(rig: Rig) -> None:
        await rig.up(*documents)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 5}})
        await rig.wait(lambda: len(rig.live()) == 5 and rig.ready())
        five = ids(rig.live())
        await rig.let_pass(60)
        await rig.crash()
        await rig.lose_objects()
        rig.start()
        rig.hold("list", slow)
        await rig.make(*documents)
        await rig.let_pass(min(slow, 15))
        if slow:
            assert rig.why("Infrastructure", "shop") == "Reconciling"
            assert "WaitingForCloud" in rig.said("Infrastructure", "shop")[2]
            assert rig.find("InstanceGroup", "shop-app") is None
        await rig.wait(rig.ready, 300)
        await rig.unchanged(120)
        assert rig.obj("InstanceGroup", "shop-app")["spec"]["replicas"] == 5
        assert ids(rig.live()) == five

    assert len(play(tmp_path, main).made()) == 5


@pytest.mark.parametrize("fixed", [pytest.param(True, id="fixed"), pytest.param(False, id="scaled")])
@pytest.mark.parametrize("home", [pytest.param(0, id="on the first"), pytest.param(1, id="on the second")])
def test_a_restore_looks_on_every_cloud_before_it_makes_anything(tmp_path: Path, home: int, fixed: bool) -> None:
    """The Cloud that has the machines is listed some time after the other one."""
    here, other = ("one", "two") if home == 0 else ("two", "one")
    both = template("app", implementations=[implementation("first", on="one"), implementation("second", on="two")])
    number = {"replicas": 3} if fixed else {"scaling": {"min": 3}}
    described = infrastructure(service("app", **number), id="shop-1")
    clouds = {"one": cloud("one", "a1"), "two": cloud("two", "a2")}

    async def main(rig: Rig) -> None:
        await rig.make(clouds[here], template("app", implementations=[implementation(on=here)]), described)
        await rig.wait(rig.ready, 120)
        three = ids(rig.live())
        await rig.let_pass(60)
        await rig.crash()
        await rig.lose_objects()
        rig.start()
        rig.hold("list", 20, account="a1" if here == "one" else "a2")
        await rig.make(*clouds.values(), both, described)
        await rig.until("Cloud", other, "Ready", seconds=10)
        await rig.let_pass(8)
        assert rig.instances() == []
        await rig.until("Cloud", here, "Ready", seconds=30)
        rig.before.clear()
        await rig.wait(rig.ready, 300)
        await rig.unchanged(120)
        assert ids(rig.live()) == three

    assert len(play(tmp_path, main).made()) == 3


def test_what_is_lacking_at_a_start_is_made_on_the_first_cloud_though_the_second_is_listed_before(tmp_path: Path) -> None:
    both = template(
        "app", implementations=[implementation("first", on="one", size="first"), implementation("second", on="two", size="second")]
    )

    async def main(rig: Rig) -> None:
        await rig.make(cloud("one", "a1"), cloud("two", "a2"), both, infrastructure(service("app", scaling={"min": 3})))
        await rig.wait(rig.ready, 120)
        rig.hold("list", 10, account="a1")
        await rig.restart()
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 4}})
        await rig.wait(lambda: len(rig.made()) == 4, 120)
        rig.before.clear()
        await rig.wait(rig.ready, 120)
        assert [each.spec["size"] for each in rig.live()] == ["first"] * 4

    play(tmp_path, main)
