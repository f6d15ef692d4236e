"""Tags of our machines that somebody takes away or changes: a machine is known by the id that its Instance has recorded.

By the tag of the controller's id alone a machine may be touched. Without it nothing is done about the machine, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.engine import clouds
from controller.ports import CONTROLLER_TAG
from tests.simulated.harness import CONTROLLER
from tests.simulated.world import SimulatedMachine
from tests.system.documents import alone, cloud, infrastructure, service, template
from tests.system.ec2 import Ec2Rig, play
from tests.system.rig import ids
from tests.system.two_clouds import on_another_cloud

#: What says which Instance a machine is, and all else that is ours.
TAGS = [
    pytest.param((clouds.BATCH_TAG,), id="batch"),
    pytest.param(
        (
            clouds.NAMESPACE_TAG,
            clouds.INFRASTRUCTURE_TAG,
            clouds.INFRASTRUCTURE_ID_TAG,
            clouds.SERVICE_TAG,
            clouds.IMPLEMENTATION_TAG,
            clouds.REVISION_TAG,
            clouds.BATCH_SIZE_TAG,
            "Name",
        ),
        id="others",
    ),
]
VALUES = [pytest.param(None, id="taken away"), pytest.param("another", id="changed")]


def _retag(machines: Iterable[SimulatedMachine], tags: Sequence[str], value: str | None) -> None:
    for each in machines:
        kept = {name: text for name, text in each.tags.items() if name not in tags}
        each.tags = kept if value is None else kept | dict.fromkeys(tags, value)


async def _up(rig: Ec2Rig, number: int) -> set[str]:
    """So many machines, in one batch, for long; the test may leave them."""
    await rig.make(*alone(number))
    await rig.wait(rig.ready, 120)
    await rig.let_pass(120)
    rig.left |= ids(rig.world.live())
    return ids(rig.world.live())


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("tags", TAGS)
def test_a_fleet_stands_whatever_becomes_of_its_tags_and_ends_with_its_infrastructure(
    tmp_path: Path, tags: Sequence[str], value: str | None
) -> None:
    async def main(rig: Ec2Rig) -> None:
        await _up(rig, 3)
        _retag(rig.world.live(), tags, value)
        await rig.unchanged(200)
        await rig.restart()
        await rig.unchanged(200)
        assert rig.ready()
        assert all(each["status"]["machine"]["id"] in ids(rig.world.live()) for each in rig.instances())
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 400)
        assert rig.world.live() == []

    assert len(play(tmp_path, main).world.machines) == 3


@pytest.mark.parametrize("value", VALUES)
def test_a_machine_without_the_controllers_tag_is_neither_replaced_nor_ended_and_that_is_said(tmp_path: Path, value: str | None) -> None:
    async def main(rig: Ec2Rig) -> None:
        await _up(rig, 3)
        lost, other = rig.machine("shop-app-0"), rig.machine("shop-app-1")
        _retag([lost, other], (CONTROLLER_TAG,), value)
        assert f"{CONTROLLER_TAG} does not name this controller" in await rig.hear("MachineUnknown", "shop-app-0", 60)
        await rig.unchanged(200)
        await rig.restart()
        await rig.unchanged(200)
        assert not rig.ready()
        _retag([other], (CONTROLLER_TAG,), CONTROLLER)
        await rig.until("Instance", "shop-app-1", "Ready", seconds=60)
        # Its Infrastructure goes, and waits for the one that may not be ended.
        await rig.delete("Infrastructure", "shop")
        await rig.until("Instance", "shop-app-0", "MachineUnknown", seconds=120)
        await rig.let_pass(300)
        assert [each["metadata"]["name"] for each in rig.instances()] == ["shop-app-0"]
        assert ids(rig.world.live()) == {lost.id}
        assert f"occopus.io/abandon={lost.id}" in rig.said("Instance", "shop-app-0")[2]
        await rig.patch("Instance", "shop-app-0", {"metadata": {"annotations": {"occopus.io/abandon": lost.id}}})
        await rig.wait(rig.gone, 60)
        await rig.let_pass(200)
        assert ids(rig.world.live()) == {lost.id}

    assert len(play(tmp_path, main).world.machines) == 3


def test_a_machine_without_any_tag_that_ends_is_replaced(tmp_path: Path) -> None:
    """EC2 takes the tags of a terminated instance away in its own time."""

    async def main(rig: Ec2Rig) -> None:
        await _up(rig, 3)
        gone = rig.machine("shop-app-0")
        rig.world.kill(gone.id)
        gone.tags = {}
        await rig.wait(lambda: len(rig.world.machines) == 4, 120)
        await rig.wait(rig.ready, 120)

    play(tmp_path, main)


@pytest.mark.parametrize("goes", [pytest.param("one", id="the one it is named after goes"), pytest.param("two", id="its own goes")])
def test_a_machine_that_is_tagged_as_anothers_ends_with_its_own_instance_alone(tmp_path: Path, goes: str) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(cloud(), template("app"), *(infrastructure(service("app"), name=name) for name in ("one", "two")))
        await rig.wait(lambda: rig.ready("one") and rig.ready("two"), 120)
        await rig.let_pass(60)
        machines = {name: rig.machine(f"{name}-app-0") for name in ("one", "two")}
        _retag([machines["two"]], (clouds.BATCH_TAG,), machines["one"].identity.batch_id)
        await rig.unchanged(120)
        assert rig.ready("one")
        assert rig.ready("two")
        await rig.delete("Infrastructure", goes)
        await rig.wait(lambda: rig.find("Infrastructure", goes) is None, 200)
        assert rig.world.live() == [each for name, each in machines.items() if name != goes]
        await rig.unchanged(120)

    play(tmp_path, main)


@pytest.mark.parametrize(
    "how", [pytest.param("paused", id="while it is paused"), pytest.param("braked", id="while it is not replaced yet")]
)
def test_a_machine_that_is_tagged_as_one_that_has_ended_is_still_its_own_instances(tmp_path: Path, how: str) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(cloud(), template("app"), *(infrastructure(service("app"), name=name) for name in ("one", "two")))
        await rig.wait(lambda: rig.ready("one") and rig.ready("two"), 120)
        if how == "paused":
            await rig.patch("Infrastructure", "one", {"spec": {"paused": True}})
        else:  # a replacement lately, so that the next one waits
            rig.world.kill(rig.machine("one-app-0").id)
            await rig.let_pass(5)
            await rig.wait(lambda: rig.ready("one"), 120)
        await rig.let_pass(60)
        ended = next(each for each in rig.instances() if each["metadata"]["name"].startswith("one"))
        first, second = rig.machine(ended["metadata"]["name"]), rig.machine("two-app-0")
        _retag([second], (clouds.BATCH_TAG,), first.identity.batch_id)
        await rig.let_pass(60)
        rig.world.kill(first.id)
        await rig.let_pass(60)
        assert rig.ready("two")
        await rig.delete("Infrastructure", "one")
        await rig.wait(lambda: rig.find("Infrastructure", "one") is None, 200)
        assert rig.world.live() == [second]
        rig.world.stop(second.id)
        await rig.wait(lambda: second not in rig.world.live(), 120)
        await rig.wait(lambda: rig.ready("two"), 120)

    play(tmp_path, main)


@pytest.mark.parametrize(
    ("restarted", "sweep"),
    [
        pytest.param(False, "Report", id="its Secret is away"),
        pytest.param(False, "Terminate", id="its Secret is away and strays are ended"),
        pytest.param(True, "Report", id="its key is refused at a start"),
    ],
)
def test_a_fleet_whose_tags_are_lost_stands_while_its_cloud_is_not_bound(tmp_path: Path, restarted: bool, sweep: Any) -> None:
    """Another Cloud of the account is, so that its machines are listed."""

    async def main(rig: Ec2Rig) -> None:
        rig.options = replace(rig.options, sweep=sweep)
        await rig.restart()
        await on_another_cloud(rig)
        before = rig.world.live()
        _retag(before, (clouds.BATCH_TAG, clouds.INFRASTRUCTURE_ID_TAG, clouds.SERVICE_TAG), None)
        rig.left |= ids(before)
        await rig.let_pass(60)
        if restarted:
            del rig.light.keys["AKIDMORE"]
            await rig.restart()
        else:
            await rig.patch("Cloud", "other", {"spec": {"ec2": {"credentials": {"secretRef": {"name": "none"}}}}})
        await rig.let_pass(200)
        assert rig.world.live() == before
        assert len(rig.instances()) == 3
        rig.light.keys["AKIDMORE"] = rig.light.keys["AKIDMAIN"]
        await rig.patch("Cloud", "other", {"spec": {"ec2": {"credentials": {"secretRef": {"name": "more"}}}}})
        await rig.until("Cloud", "other", "Ready", seconds=60)
        await rig.unchanged(200)
        assert rig.ready()

    play(tmp_path, main)


def test_a_copy_of_an_instance_takes_nothing_from_the_original(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await _up(rig, 3)
        before, seen = rig.world.live(), rig.obj("Instance", "shop-app-0")
        await rig.store.create({**seen, "metadata": {"name": "copy", "namespace": "default"}})
        await rig.let_pass(30)
        await rig.delete("Instance", "copy")
        await rig.let_pass(30)
        _retag(before, (clouds.BATCH_TAG,), None)
        await rig.unchanged(200)
        assert rig.world.live() == before

    play(tmp_path, main)


def test_one_that_may_not_be_ended_is_the_last_to_be_scaled_in(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(cloud(), template("app"), infrastructure(service("app", scaling={"min": 1})))
        await rig.wait(rig.ready, 120)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
        await rig.wait(lambda: len(rig.instances()) == 3 and rig.ready(), 120)
        await rig.let_pass(60)
        rig.left |= ids(rig.world.live())
        lost = rig.machine("shop-app-0")
        _retag([lost], (CONTROLLER_TAG,), None)
        await rig.until("Instance", "shop-app-0", "MachineUnknown", seconds=60)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 2}})
        await rig.wait(lambda: len(rig.instances()) == 2, 120)
        assert len(rig.world.live()) == 2
        assert lost in rig.world.live()

    play(tmp_path, main)
