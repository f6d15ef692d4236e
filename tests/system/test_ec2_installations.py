"""Who shares an account on EC2: two installations, two Clouds, strangers, and what a backup brings back. Nobody touches another's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controller.clouds.ec2 import driver
from controller.engine.inventory import SLOWEST_SECONDS
from controller.ports import CONTROLLER_TAG, Identity, MachineId, Obj
from tests.simulated.on_ec2 import ACCOUNT
from tests.simulated.world import SimulatedMachine
from tests.system.documents import alone, chain, cloud, infrastructure, service, template
from tests.system.ec2 import Ec2Rig, play
from tests.system.rig import ids

ANOTHER = "another-controller"


def _of(rig: Ec2Rig, controller: str) -> list[SimulatedMachine]:
    return [each for each in rig.world.live() if each.tags.get(CONTROLLER_TAG) == controller]


def _ended(rig: Ec2Rig) -> set[str]:
    """The ids that any TerminateInstances named."""
    return {id for each in rig.heard if each.action == "TerminateInstances" for id in each.fields.values("InstanceId")}


def _touched(rig: Ec2Rig, machines: Iterable[str]) -> set[str]:
    """Which of these any request named."""
    texts = [each.fields.flat.values() for each in rig.heard]
    return {id for id in machines if any(id in text for values in texts for text in values)}


def test_two_installations_in_one_account_do_not_see_each_other(tmp_path: Path) -> None:
    """The same names, the same spec.id even: the controller's id alone tells them apart."""

    async def main(rig: Ec2Rig) -> None:
        other = rig.beside(tmp_path / "other.db", ANOTHER)
        other.start()
        documents = [cloud(maxInstances=3), template("app"), infrastructure(service("app", scaling={"min": 3}), id="shared")]
        await rig.make(*documents)
        await other.make(*documents)
        await rig.wait(lambda: rig.ready() and other.ready(), 120)
        ours, theirs = _of(rig, rig.options.controller_id), _of(rig, ANOTHER)
        assert len(ours) == len(theirs) == 3, "neither counts the other's against its maxInstances"
        rig.world.kill(ours[0].id)
        await rig.wait(lambda: len(_of(rig, rig.options.controller_id)) == 3 and rig.ready(), 120)
        await rig.let_pass(120)
        assert ids(_of(rig, ANOTHER)) == ids(theirs)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)
        await rig.let_pass(300)
        assert ids(_of(rig, ANOTHER)) == ids(rig.world.live()) == ids(theirs)
        assert not _ended(rig) & ids(theirs)
        assert other.ready()
        assert await rig.told("Unclaimed") == await other.told("Unclaimed") == 0
        await other.crash()

    play(tmp_path, main)


def test_two_clouds_of_one_account_share_one_list_and_each_keeps_its_most(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(cloud("one", maxInstances=2), cloud("two", maxInstances=5))
        await rig.make(template("app", on="one"), template("web", on="two"))
        await rig.make(infrastructure(service("app", replicas=4)))
        await rig.wait(lambda: len(rig.world.live()) == 2, 120)
        await rig.make(infrastructure(service("app", replicas=4), service("web", replicas=4)))
        await rig.wait(lambda: len(rig.world.live()) == 5, 120)
        await rig.let_pass(900)
        assert len(rig.live("app")) <= 2
        assert len(rig.world.live()) == len(rig.made()) == 5
        waiting = [each for each in rig.instances() if "machine" not in each["status"]]
        assert {rig.why("Instance", each["metadata"]["name"]) for each in waiting} == {"LimitReached"}
        since = rig.clock() - 600
        assert sum(1 for each in rig.heard if each.is_list and each.at >= since) <= 1.1 * 600 / SLOWEST_SECONDS + 15, "as for one Cloud"
        every = [each.at for each in rig.heard if each.is_list]
        assert len(every) == len(set(every)), "no two lists at one moment"

    play(tmp_path, main)


def test_two_groups_planned_at_once_take_all_the_room_that_there_is(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(cloud("one", maxInstances=2), cloud("two", maxInstances=5))
        await rig.make(template("app", on="one"), template("web", on="two"))
        await rig.make(infrastructure(service("app", replicas=4), service("web", replicas=4)))
        await rig.wait(lambda: len(rig.world.live()) == 5, 120)

    play(tmp_path, main)


def _foreign(rig: Ec2Rig) -> set[MachineId]:
    """Machines in the account that are not this controller's, however like its own they look."""
    ours = {"occopus.io/service": "app", "occopus.io/namespace": "default"}
    tags = {
        "untagged": {},
        "named": {"Name": "shop-app-0", **ours},
        "theirs": {CONTROLLER_TAG: ANOTHER, **ours},
        "longer": {CONTROLLER_TAG: rig.options.controller_id + "-2"},
        "case": {CONTROLLER_TAG: rig.options.controller_id.upper()},
    }
    return {rig.world.insert(ACCOUNT, Identity(name, 0), each) for name, each in tags.items()}


def test_foreign_machines_are_never_touched(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        foreign = _foreign(rig)
        await rig.crash()
        rig.options = type(rig.options)(rig.options.controller_id, "", allow_local=True, workers=16, sweep="Terminate")
        rig.start()
        await rig.make(*chain())
        await rig.wait(rig.ready, 300)
        rig.world.kill(rig.machine("shop-app-0").id)
        await rig.let_pass(120)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 200)
        await rig.delete("Cloud", "sim")
        await rig.let_pass(300)
        assert ids(rig.world.live()) == foreign
        assert _touched(rig, foreign) == set()

    play(tmp_path, main)


def test_a_machine_that_was_given_to_another_controller_is_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tag was changed: it is no more ours, whatever the object says."""

    async def main(rig: Ec2Rig) -> None:
        monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=rig.clock))
        await rig.make(*alone(2))
        await rig.wait(rig.ready, 120)
        given = rig.machine("shop-app-0")
        given.tags = {**given.tags, CONTROLLER_TAG: ANOTHER}
        # What was shown as ours within a minute is ended without another look.
        await rig.let_pass(61)
        rig.left.add(given.id)
        await rig.delete("Infrastructure", "shop")
        await rig.until("Instance", "shop-app-0", "MachineUnknown", seconds=120)
        await rig.let_pass(200)
        assert ids(rig.world.live()) == {given.id}
        await rig.patch("Instance", "shop-app-0", {"metadata": {"annotations": {"occopus.io/abandon": given.id}}})
        await rig.wait(rig.gone, 60)
        assert ids(rig.world.live()) == {given.id}
        assert given.id not in _ended(rig)

    play(tmp_path, main)


# --- a backup -------------------------------------------------------------------------------------------------------
KINDS = ("Secret", "Cloud", "InstanceTemplate", "Infrastructure", "InstanceGroup", "ControllerRevision", "Instance")


async def _backup(rig: Ec2Rig) -> list[Obj]:
    """All objects as a backup keeps them: what the API sets by itself is left out, status too."""
    return [_kept(each) for kind in KINDS for each in await rig.store.list(kind)]


def _kept(obj: Obj) -> Obj:
    own = ("name", "namespace", "labels", "annotations", "ownerReferences", "finalizers")
    metadata: dict[str, Any] = {name: value for name, value in obj["metadata"].items() if name in own}
    return {**{name: value for name, value in obj.items() if name != "status"}, "metadata": metadata}


async def _restore(rig: Ec2Rig, objects: list[Obj]) -> None:
    """The state is lost; a new process begins with nothing, and the objects are made again: with new UIDs, without status."""

    def lose() -> None:
        for each in rig.path.parent.glob(rig.path.name + "*"):
            each.unlink()

    await rig.restart(lose)
    for each in objects:
        await rig.store.create(each)


ALONE = ("Secret", "Cloud", "InstanceTemplate", "Infrastructure")
WHICH = [pytest.param(KINDS, id="all objects"), pytest.param(ALONE, id="the Infrastructure alone")]


def _documents(id: str) -> list[Obj]:
    whole = chain()
    return [*whole[:-1], infrastructure(*whole[-1]["spec"]["services"], **({"id": id} if id else {}))]


@pytest.mark.parametrize("kinds", WHICH)
def test_a_backup_with_an_id_claims_its_machines_and_makes_none(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    async def main(rig: Ec2Rig) -> None:
        foreign = _foreign(rig)
        await rig.make(*_documents("shop-1"))
        await rig.wait(rig.ready, 300)
        await rig.let_pass(60)
        before = ids(rig.world.live())
        await _restore(rig, [each for each in await _backup(rig) if each["kind"] in kinds])
        await rig.wait(lambda: rig.ready() and len(rig.instances()) == 4, 300)
        await rig.unchanged(120)
        assert ids(rig.world.live()) == before
        # They are really its own: they are ended with it.
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 300)
        assert ids(rig.world.live()) == foreign
        assert _touched(rig, foreign) == set()

    assert len(play(tmp_path, main).made()) == 4 + 5


@pytest.mark.parametrize("kinds", WHICH)
def test_a_backup_without_an_id_waits_for_its_machines_and_makes_none(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*_documents(""))
        await rig.wait(rig.ready, 300)
        old = rig.obj("Infrastructure", "shop")["metadata"]["uid"]
        await rig.let_pass(60)
        before = ids(rig.world.live())
        backup = [each for each in await _backup(rig) if each["kind"] in kinds]
        await _restore(rig, backup)
        rig.left |= before
        await rig.let_pass(300)
        assert ids(rig.world.live()) == before
        assert rig.why("InstanceGroup", "shop-db") == "Unclaimed"
        assert f"spec.id: {old}" in rig.said("InstanceGroup", "shop-db")[2]
        assert rig.obj("Infrastructure", "shop")["metadata"]["uid"] != old

    assert len(play(tmp_path, main).made()) == 4


@pytest.mark.parametrize("other", [pytest.param("aaa", id="before it by name"), pytest.param("zzz", id="after it by name")])
def test_a_backup_claims_its_machines_beside_another_cloud_of_the_account(tmp_path: Path, other: str) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(cloud(), cloud(other), template("app"), infrastructure(service("app", scaling={"min": 3}), id="shop-1"))
        await rig.wait(lambda: rig.ready() and rig.why("Cloud", other) == "Ready", 300)
        await rig.let_pass(60)
        before = ids(rig.world.live())
        await _restore(rig, [each for each in await _backup(rig) if each["kind"] in ALONE])
        await rig.wait(lambda: rig.ready() and len(rig.instances()) == 3, 300)
        await rig.unchanged(120)
        assert ids(rig.world.live()) == before

    assert len(play(tmp_path, main).made()) == 3


def test_machines_on_an_account_that_the_template_does_not_name_are_told_of(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(cloud(), template("app"), infrastructure(service("app", scaling={"min": 3}), id="shop-1"))
        await rig.wait(rig.ready, 300)
        await rig.let_pass(60)
        before = ids(rig.world.live())
        # In the backup the template names a Cloud of another region.
        objects = [each for each in await _backup(rig) if each["kind"] in ALONE]
        moved = next(each for each in objects if each["kind"] == "InstanceTemplate")
        moved["spec"]["implementations"][0]["cloudRef"]["name"] = "elsewhere"
        there = next(each for each in objects if each["kind"] == "Cloud")
        other = {
            **there,
            "metadata": {**there["metadata"], "name": "elsewhere"},
            "spec": {"ec2": {**there["spec"]["ec2"], "region": "eu-west-3"}},
        }
        await _restore(rig, [other, *objects])
        await rig.until("InstanceGroup", "shop-app", "Unclaimed", seconds=120)
        await rig.let_pass(60)
        assert "no implementation of InstanceTemplate app names a Cloud" in rig.said("InstanceGroup", "shop-app")[2]
        await rig.unchanged(200)
        await rig.patch(
            "InstanceTemplate", "app", {"spec": {"implementations": [{**moved["spec"]["implementations"][0], "cloudRef": {"name": "sim"}}]}}
        )
        await rig.wait(lambda: rig.ready() and len(rig.instances()) == 3, 300)
        assert ids(rig.world.live()) == before

    assert len(play(tmp_path, main).made()) == 3
