"""Copies of an Instance, as a restore beside the original makes them: who of the two has the machine is a matter of their accounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulated.world import NEVER, SimulatedMachine
from tests.system.documents import Document, alone, cloud, secret
from tests.system.rig import Rig, ids, play

_FINALIZERS = ("finalizers",)


def _drill(account: str) -> list[Document]:
    """A Cloud of that account, which asks for a password."""
    return [secret("keys", password="right"), cloud("drill", account, secret="keys")]


async def _copied(rig: Rig, *documents: Document, kept: tuple[str, ...] = _FINALIZERS) -> SimulatedMachine:
    """An Instance, and its copy on the Cloud `drill` beside these documents, with these parts of its metadata; the machine."""
    await rig.up(*alone())
    await rig.make(*documents)
    await rig.let_pass(5)
    original = rig.obj("Instance", "shop-app-0")
    metadata = {"name": "copy", "namespace": "default", **{each: original["metadata"][each] for each in kept}}
    spec = {**original["spec"], "implementation": {**original["spec"]["implementation"], "cloudRef": {"name": "drill"}}}
    await rig.store.create({**{name: part for name, part in original.items() if name != "status"}, "metadata": metadata, "spec": spec})
    await rig.let_pass(30)
    return rig.machine("shop-app-0")


async def _force_away(rig: Rig, kind: str, name: str) -> None:
    """As by somebody who takes the finalizer off."""
    await rig.patch(kind, name, {"metadata": {"finalizers": None}})
    await rig.delete(kind, name)


@pytest.mark.parametrize("how", ["not asked since the start", "denied", "no Cloud"])
def test_an_original_ends_its_machine_though_a_copy_that_cannot_have_it_stays(tmp_path: Path, how: str) -> None:
    async def main(rig: Rig) -> None:
        machine = await _copied(rig, *(_drill("a2") if how != "no Cloud" else ()))
        if how == "denied":
            rig.password = "wrong"
            await rig.until("Cloud", "drill", "Denied")
        await rig.delete("Instance", "shop-app-0")
        if how == "not asked since the start":
            await rig.restart()
        await rig.wait(lambda: machine.ended <= rig.clock(), 300)
        await rig.until("InstanceGroup", "shop-app", "Ready", seconds=300)
        assert await rig.told("DuplicateMachine", "shop-app-0") == 0
        rig.password = "right"
        await rig.delete("Instance", "copy")
        await rig.wait(lambda: rig.find("Instance", "copy") is None, 300)

    play(tmp_path, main)


@pytest.mark.parametrize(
    ("account", "then", "ends"),
    [
        pytest.param("a1", "right", False, id="of its account"),
        pytest.param("a2", "right", True, id="of another"),
        pytest.param("a1", "no copy", True, id="the copy goes"),
        pytest.param("a1", "no Cloud", True, id="its Cloud goes"),
    ],
)
def test_while_it_is_not_known_whether_a_copy_may_have_the_machine_its_original_waits(
    tmp_path: Path, account: str, then: str, ends: bool
) -> None:
    async def main(rig: Rig) -> None:
        rig.password = "not given yet"
        machine = await _copied(rig, *_drill(account))
        uid = rig.obj("Instance", "shop-app-0")["metadata"]["uid"]
        await rig.delete("Instance", "shop-app-0")
        await rig.until("Instance", "shop-app-0", "WaitingForCloud", seconds=30)
        assert "Instance default/copy" in rig.said("Instance", "shop-app-0")[2]
        await rig.unchanged(1000)
        match then:
            case "right":
                rig.password = "right"
            case "no copy":
                await rig.delete("Instance", "copy")
            case _:
                await _force_away(rig, "Cloud", "drill")
        rig.left |= set() if ends else {machine.id}
        # Of itself it would look again within five minutes.
        await rig.wait(lambda: uid not in {each["metadata"]["uid"] for each in rig.instances()}, 60)
        assert (machine.ending < NEVER) is ends
        assert await rig.told("DuplicateMachine", "shop-app-0") == (0 if ends else 1)

    play(tmp_path, main)


@pytest.mark.parametrize(
    ("account", "kept"),
    [
        pytest.param("a1", _FINALIZERS, id="of its account"),
        pytest.param("a2", _FINALIZERS, id="of another"),
        pytest.param("", _FINALIZERS, id="without a Cloud"),
        pytest.param("", (*_FINALIZERS, "labels", "ownerReferences"), id="without a Cloud, in the group"),
    ],
)
def test_a_copy_that_is_deleted_goes_and_leaves_the_machine(tmp_path: Path, account: str, kept: tuple[str, ...]) -> None:
    async def main(rig: Rig) -> None:
        machine = await _copied(rig, *(_drill(account) if account else ()), kept=kept)
        await rig.delete("Instance", "copy")
        await rig.wait(lambda: rig.find("Instance", "copy") is None, 30)
        await rig.unchanged(60)
        assert ids(rig.live()) == {machine.id}

    play(tmp_path, main)


def test_the_machine_of_an_original_that_went_is_claimed_though_a_copy_of_another_account_stays(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        machine = await _copied(rig, *_drill("a2"))
        await rig.let_pass(60)
        await _force_away(rig, "Instance", "shop-app-0")
        await rig.until("Instance", "shop-app-0", "Ready", seconds=300)
        assert ids(rig.live()) == {machine.id}
        await rig.unchanged(120)

    assert len(play(tmp_path, main).made()) == 1
