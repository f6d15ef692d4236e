"""The sweep: when a machine is sure to be nobody's, and what is done about one that has no group."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from controller import errors
from controller.engine import clouds
from controller.engine.objects import dump
from controller.engine.sweep import Policy
from controller.ports import CONTROLLER_TAG, Account, Changed, CloudConfig, Gone, Identity, Key, MachineId, Obj
from tests.properties import build
from tests.simulated.harness import CONTROLLER
from tests.simulated.world import Settings
from tests.unit.engine.rig import ACCOUNT, CLOUD, Rig, run, turns

TAGS = {
    clouds.NAMESPACE_TAG: "default",
    clouds.INFRASTRUCTURE_TAG: "shop",
    clouds.INFRASTRUCTURE_ID_TAG: "uid-shop",
    clouds.SERVICE_TAG: "app",
}


async def stray(rig: Rig, batch: str = "stray", **tags: str) -> MachineId:
    """A machine that no Instance claims, listed."""
    if not list(rig.clouds.bindings()):
        await rig.world_of_one()
        rig.bind()
    id = rig.insert(batch, **{**TAGS, **tags})
    await rig.inventory.poll()
    return id


async def look(rig: Rig, times: int = 1) -> None:
    for _ in range(times):
        await rig.inventory.poll()
        await rig.sweep.look()


def test_it_takes_a_minute_and_two_misses(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        id = await stray(rig)
        await asyncio.sleep(55)
        await look(rig, 5)
        assert not rig.sweep.sure(ACCOUNT, id), "younger than a minute"
        await asyncio.sleep(6)
        await look(rig)
        assert not rig.sweep.sure(ACCOUNT, id), "missed once"
        await look(rig)
        assert rig.sweep.sure(ACCOUNT, id)
        assert rig.groups_woken >= 1
        assert rig.world.counts()["delete"] == 0

    run(tmp_path, scenario)


def test_a_machine_of_a_live_instance_is_nobodys_prey_though_the_cache_lacks_it(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        id = await stray(rig, "batch-0")
        assert rig.clouds.suspects() == (), "its Instance is in the cache"
        await asyncio.sleep(61)
        rig.objects.take(Gone(dump(rig.instance()) | {"kind": "Instance"}))
        await look(rig, 3)
        assert len(rig.clouds.suspects()) == 1
        assert not rig.sweep.sure(ACCOUNT, id), "the live list has its Instance"

    run(tmp_path, scenario, policy="Terminate")


def test_trouble_makes_no_machine_older(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        id = await stray(rig)
        await asyncio.sleep(61)
        await look(rig)
        rig.world.fail("list", errors.Transient("no answer"), times=1)
        await look(rig)
        assert not rig.sweep.sure(ACCOUNT, id)

    run(tmp_path, scenario)


def test_what_ended_or_is_not_ours_is_no_suspect(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        ended = await stray(rig)
        rig.world.kill(ended)
        rig.world.insert(("a1", "r1"), Identity("theirs", 0), {**TAGS, CONTROLLER_TAG: "another"}, {"image": "image-1"})
        await asyncio.sleep(61)
        await look(rig, 3)
        assert rig.clouds.suspects() == ()

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("policy", "tags", "ended"),
    [
        pytest.param("Report", {clouds.SERVICE_TAG: "gone"}, False, id="reported"),
        pytest.param("Terminate", {clouds.SERVICE_TAG: "gone"}, True, id="ended"),
        pytest.param("Terminate", {}, False, id="its group claims it"),
        pytest.param("Terminate", {clouds.NAMESPACE_TAG: "elsewhere"}, True, id="of another namespace"),
        pytest.param("Terminate", {clouds.INFRASTRUCTURE_ID_TAG: "older"}, True, id="of another identity"),
    ],
)
def test_only_a_machine_without_a_group_is_ended_and_only_on_demand(
    tmp_path: Path, policy: Policy, tags: dict[str, str], ended: bool
) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.world_of_one()
        rig.bind()
        group = await rig.store.get(Key("InstanceGroup", "default", "shop-app"))
        identity = group["spec"]["infrastructure"]["id"]
        id = await stray(rig, **{clouds.INFRASTRUCTURE_ID_TAG: identity, **tags})
        await asyncio.sleep(61)
        await look(rig)
        assert rig.world.counts()["delete"] == 0, "missed once is not enough"
        await look(rig, 3)
        assert (rig.world.counts()["delete"] > 0) == ended
        assert rig.sweep.sure(ACCOUNT, id) or ended

    run(tmp_path, scenario, Settings(terminating_seconds=0), policy)


def test_lists_of_another_account_with_as_many_changes_are_read_anew(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.insert("batch-here")
        rig.bind()
        await turns()
        assert rig.clouds.batches() == {"batch-here"}
        rig.clouds.unbind(CLOUD)
        rig.world.insert(("a2", "r1"), Identity("batch-there", 0), {CONTROLLER_TAG: CONTROLLER}, {"image": "image-1"})
        there = Account("simulated", "a2", "r1", "")
        fields = {"account": "a2", "region": "r1"}
        driver = rig.plugin.open(CloudConfig(fields, {}, CONTROLLER, "", allow_local=False, ambient_credentials=False))
        rig.clouds.bind(CLOUD, rig.plugin, driver, there)
        await turns()
        assert rig.clouds.inventories()[there].version == 1
        assert rig.clouds.batches() == {"batch-there"}

    run(tmp_path, scenario)


def test_a_homeless_machine_is_reported_once(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        id = await stray(rig, **{clouds.SERVICE_TAG: "gone"})
        await asyncio.sleep(61)
        await look(rig, 6)
        told = [each for each in await rig.store.list("Event") if each["reason"] == "Unclaimed"]
        assert [(each["count"], id in each["message"]) for each in told] == [(1, True)]

    run(tmp_path, scenario)


def test_a_claimed_machine_stops_being_sure(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        id = await stray(rig)
        await asyncio.sleep(61)
        await look(rig, 2)
        assert rig.sweep.sure(ACCOUNT, id)
        rig.world.kill(id)
        await look(rig)
        assert not rig.sweep.sure(ACCOUNT, id)
        await turns()

    run(tmp_path, scenario)


async def _homeless(rig: Rig, number: int) -> list[MachineId]:
    """So many that are sure to be nobody's, but for one look."""
    found = [await stray(rig, f"stray-{each}", **{clouds.SERVICE_TAG: "old"}) for each in range(number)]
    await asyncio.sleep(61)
    await look(rig)
    return found


def test_one_whose_end_is_refused_keeps_no_other(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        first, *others = await _homeless(rig, 3)
        rig.world.fail("delete", errors.Denied("it is protected"), times=float("inf"), where=lambda token: token == first)
        await look(rig)
        await turns()
        assert {each.id for each in rig.world.live()} >= {first}
        assert all(rig.world.machines[each].ending <= rig.world.clock() for each in others)
        assert len(await rig.store.list("Event")) == 3, "each is reported all the same"

    run(tmp_path, scenario, policy="Terminate")


def _group_put_back() -> Obj:
    group = dump(build.group("old"))
    group["spec"]["infrastructure"]["id"] = TAGS[clouds.INFRASTRUCTURE_ID_TAG]
    return {**group, "kind": "InstanceGroup"}


def _infrastructure_put_back(**metadata: Any) -> Obj:
    infrastructure = dump(build.infrastructure(build.service("old"), id=TAGS[clouds.INFRASTRUCTURE_ID_TAG], **metadata))
    infrastructure["metadata"]["name"] = "put-back"
    return {**infrastructure, "kind": "Infrastructure"}


@pytest.mark.parametrize(
    ("home", "stays"),
    [
        pytest.param(_group_put_back(), True, id="its group"),
        pytest.param(_infrastructure_put_back(), True, id="its infrastructure"),
        pytest.param(_infrastructure_put_back(deleting=True), False, id="one that goes"),
    ],
)
def test_one_whose_home_is_put_back_while_others_are_ended_is_left(tmp_path: Path, home: Obj, stays: bool) -> None:
    async def scenario(rig: Rig) -> None:
        first, second = await _homeless(rig, 2)
        call = rig.threads

        async def put_back(do: Any, lane: str) -> Any:
            answer = await call(do, lane)
            if rig.world.machines[first].ending <= rig.world.clock():
                rig.objects.take(Changed(home))
            return answer

        rig.threads = put_back
        await look(rig)
        assert rig.world.machines[first].ending <= rig.world.clock()
        assert (rig.world.machines[second].ending > rig.world.clock()) is stays

    run(tmp_path, scenario, policy="Terminate")
