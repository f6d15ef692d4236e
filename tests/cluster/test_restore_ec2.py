"""A backup is put back over machines on EC2, under the real garbage collector: they are claimed or waited for; none is made or ended.

All objects are lost, and those of a backup are made again: with new UIDs and without status. Some tools keep ownerReferences, which
then name owners of old, and the garbage collector deletes what it finds no owner of; some leave them out; and some users put back
what they wrote alone. The ledger of EC2 says what was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from controller.ports import Obj
from controller.stores import resources
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import Place, at_a_place
from tests.cluster.test_operator_ec2 import OnEc2, on_ec2, settled
from tests.simulated.world import World

#: What a user wrote, and what was made of it, in the order in which they are put back.
WRITTEN = ("Secret", "Cloud", "InstanceTemplate", "Infrastructure")
ALL = (*WRITTEN, "InstanceGroup", "ControllerRevision", "Instance")
#: Machines are claimed once they are a minute old; these are made so.
OLDER_SECONDS = 120.0
#: One for `first`, one for the three of `second`.
LAUNCHES = 2
#: So many lists after all has come to rest, nothing has been done yet.
LISTS = 5
CLAIMED_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Backup:
    """What it keeps; whether it is put back before an operator runs, so that the garbage collector comes first."""

    kinds: tuple[str, ...]
    references: bool = True
    operator_first: bool = True


BACKUPS = (
    pytest.param(Backup(ALL), id="all"),
    pytest.param(Backup(ALL, operator_first=False), id="all, the garbage collector first"),
    pytest.param(Backup(ALL, references=False), id="no owners"),
    pytest.param(Backup(tuple(each for each in ALL if each != "ControllerRevision"), references=False), id="no owners, no revisions"),
    pytest.param(Backup(WRITTEN), id="the Infrastructure alone"),
)


async def _here(place: Place, kind: str) -> list[Obj]:
    """The objects of a kind that are of the description, or were made of it."""
    return [each for each in await place.objects(kind) if kind != "Secret" or each["metadata"]["name"] == "aws"]


async def _kept(place: Place, backup: Backup) -> list[Obj]:
    """What the server sets by itself is left out, status too; finalizers are kept."""
    own = ("name", "labels", "annotations", "finalizers", *(("ownerReferences",) if backup.references else ()))
    found: list[Obj] = []
    for kind in backup.kinds:
        for each in await _here(place, kind):
            metadata = {name: value for name, value in each["metadata"].items() if name in own}
            content = {name: value for name, value in each.items() if name not in ("metadata", "status")}
            found.append({**content, "apiVersion": resources.resource(kind).api_version, "kind": kind, "metadata": metadata})
    return found


async def _lose(place: Place) -> None:
    """All objects go, the operator before them; the machines stay."""
    for operator in place.operators:
        await operator.kill()
    for kind in ALL:
        for each in await _here(place, kind):
            name = each["metadata"]["name"]
            await place.patch(kind, name, {"metadata": {"finalizers": None, "ownerReferences": None}})
            await place.ask("DELETE", resources.resource(kind).path(place.namespace, name))

    async def none() -> bool:
        return not any([await _here(place, kind) for kind in ALL])

    await place.until(none, "all objects are lost")


async def _restore(place: Place, kept: list[Obj]) -> None:
    for each in kept:
        made = await place.ask("POST", resources.resource(each["kind"]).path(place.namespace), each)
        assert made.code == 201, made


async def _collected(place: Place) -> bool:
    """Whether the garbage collector has marked all that it finds no owner of."""
    found = [each for kind in ("InstanceGroup", "Instance") for each in await place.objects(kind)]
    return all("deletionTimestamp" in each["metadata"] for each in found)


async def _restored(place: Place, world: World, backup: Backup, id: str = "") -> str:
    """Bring the pair up, lose all objects, put the backup back with an operator running; the UID of the Infrastructure of old."""
    text = (place.desk.directory / "pair.yaml").read_text()
    await place.lead()
    await place.apply(text.replace("spec:\n  services:", f"spec:\n  id: {id}\n  services:") if id else text)
    await settled(place, world, made=4)
    (old,) = await place.objects("Infrastructure")
    kept = await _kept(place, backup)
    await _lose(place)
    for each in world.machines.values():
        each.created -= OLDER_SECONDS
    if backup.operator_first:
        await place.lead()
        await _restore(place, kept)
    else:
        await _restore(place, kept)
        await place.until(lambda: _collected(place), "the garbage collector was there")
        await place.lead()
    return old["metadata"]["uid"]


def _calls(world: World, action: str) -> int:
    return len([each for each in world.ledger if each.action == action])


async def _untouched(place: Place, world: World) -> None:
    """By the ledger, some lists later: nothing was launched beyond the first time, and nothing ended."""
    before = _calls(world, "DescribeInstances")
    await place.until(lambda: _calls(world, "DescribeInstances") >= before + LISTS, "the cloud is listed", 120)
    assert len(world.live()) == len(world.machines) == 4
    assert (_calls(world, "RunInstances"), _calls(world, "TerminateInstances")) == (LAUNCHES, 0)


def claimed(backup: Backup) -> OnEc2:
    async def story(place: Place, world: World) -> None:
        await _restored(place, world, backup, id="pair-of-old")

        async def whole() -> bool:
            instances = await place.objects("Instance")
            recorded = {each.get("status", {}).get("machine", {}).get("id") for each in instances}
            return len(instances) == 4 and recorded == set(world.machines) and await place.is_ready("pair")

        await place.until(whole, "each machine has its Instance again", CLAIMED_SECONDS)
        await _untouched(place, world)
        # They are really its own: they are ended with it.
        await place.delete_all()
        assert world.live() == []

    return story


def waited_for(backup: Backup) -> OnEc2:
    async def story(place: Place, world: World) -> None:
        old = await _restored(place, world, backup)

        async def told() -> bool:
            (found,) = await place.objects("Infrastructure")
            said = [each["message"] for each in found.get("status", {}).get("conditions", ()) if each["type"] == "Ready"]
            return any(f"spec.id {old}" in each or f"spec.id: {old}" in each for each in said)

        await place.until(told, "the identity of old is named", CLAIMED_SECONDS)
        await _untouched(place, world)
        for each in world.live():
            world.kill(each.id)

    return story


@pytest.mark.parametrize("backup", BACKUPS)
def test_a_backup_makes_no_machine_and_ends_none(cluster: Cluster, tmp_path: Path, backup: Backup) -> None:
    """With an identity that a restore keeps, its machines are claimed; without, they are waited for."""
    at_a_place(cluster, tmp_path, on_ec2(claimed(backup)), on_ec2(waited_for(backup)))
