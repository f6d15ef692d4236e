"""Instances that nobody owns, on EC2, as some backup tools leave them: their group takes them over, and none is made beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.ports import Obj
from tests.system.documents import chain, infrastructure
from tests.system.ec2 import Ec2Rig, play
from tests.system.rig import ids

KINDS = ("Secret", "Cloud", "InstanceTemplate", "Infrastructure", "InstanceGroup", "ControllerRevision", "Instance")


def _without(*kinds: str) -> tuple[str, ...]:
    return tuple(each for each in KINDS if each not in kinds)


def _kept(obj: Obj) -> Obj:
    """What the API sets by itself is left out, and status, and who owns it."""
    own = ("name", "namespace", "labels", "annotations", "finalizers")
    metadata: dict[str, Any] = {name: value for name, value in obj["metadata"].items() if name in own}
    return {**{name: value for name, value in obj.items() if name != "status"}, "metadata": metadata}


async def _restored(rig: Ec2Rig, kinds: tuple[str, ...]) -> None:
    """The state is lost, and these kinds are made again from a backup, without their owners."""
    backup = [_kept(each) for kind in kinds for each in await rig.store.list(kind)]

    def lose() -> None:
        for each in rig.path.parent.glob(rig.path.name + "*"):
            each.unlink()

    await rig.restart(lose)
    for each in backup:
        await rig.store.create(each)


async def _up(rig: Ec2Rig, id: str) -> set[str]:
    whole = chain()
    await rig.make(*whole[:-1], infrastructure(*whole[-1]["spec"]["services"], **({"id": id} if id else {})))
    await rig.wait(rig.ready, 300)
    await rig.let_pass(60)
    return ids(rig.world.live())


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(KINDS, id="all kinds"),
        pytest.param(_without("ControllerRevision"), id="no revisions"),
        pytest.param(_without("InstanceGroup", "ControllerRevision"), id="no groups"),
    ],
)
def test_of_an_infrastructure_with_an_id_they_are_taken_over(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    async def main(rig: Ec2Rig) -> None:
        before = await _up(rig, "shop-1")
        await _restored(rig, kinds)
        await rig.wait(rig.ready, 300)
        await rig.unchanged(120)
        assert ids(rig.world.live()) == before
        assert {each["status"]["machine"]["id"] for each in rig.instances()} == before
        # They are really its own: they are ended with it.
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 300)
        assert rig.world.live() == []

    assert len(play(tmp_path, main).made()) == 4


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(KINDS, id="all kinds"),
        pytest.param(_without("ControllerRevision"), id="no revisions"),
        pytest.param(_without("InstanceGroup", "ControllerRevision"), id="no groups"),
    ],
)
def test_of_an_infrastructure_without_an_id_none_is_made_beside_them(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    async def main(rig: Ec2Rig) -> None:
        before = await _up(rig, "")
        old = rig.obj("Infrastructure", "shop")["metadata"]["uid"]
        await _restored(rig, kinds)
        rig.left |= before
        await rig.let_pass(300)
        assert ids(rig.world.live()) == before
        said = rig.said("Infrastructure", "shop")
        assert f"spec.id {old}" in said[2] or f"spec.id: {old}" in said[2]

    assert len(play(tmp_path, main).made()) == 4
