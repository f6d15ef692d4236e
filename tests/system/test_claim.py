"""Machines without an Instance: after a restore, after a new beginning, of nobody. Claimed, reported, never made again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.engine.engine import Options
from controller.ports import Identity, MachineId
from tests.simulated.harness import CONTROLLER
from tests.system.documents import alone, chain, cloud, infrastructure, service, template
from tests.system.rig import Rig, ids, play, steady

INF = float("inf")


def _tags(infrastructure: str, identity: str, service: str = "app", **more: str) -> dict[str, str]:
    return {
        "occopus.io/controller": CONTROLLER,
        "occopus.io/namespace": "default",
        "occopus.io/infrastructure": infrastructure,
        "occopus.io/infrastructure-id": identity,
        "occopus.io/service": service,
        "occopus.io/implementation": "one",
        "occopus.io/batch-size": "1",
        **more,
    }


def _insert(rig: Rig, *batches: str, **tags: Any) -> list[MachineId]:
    return [rig.world.insert(("a1", "r1"), Identity(each, 0), _tags(**tags)) for each in batches]


async def _copy(rig: Rig) -> Path:
    """A copy of the state file as it is now."""
    await rig.crash()
    copy = rig.path.with_suffix(".copy")
    shutil.copy2(rig.path, copy)
    rig.start()
    await rig.let_pass(0.5)
    return copy


async def _restore(rig: Rig, copy: Path) -> None:
    """The copy is put into the file's place, without the log of what came after it."""

    def swap() -> None:
        rig.path.with_name(rig.path.name + "-wal").unlink(missing_ok=True)
        rig.path.write_bytes(copy.read_bytes())

    await rig.restart(swap)


def test_an_older_copy_claims_the_machines_that_it_does_not_know(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        copy = await _copy(rig)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 5}})
        await rig.wait(lambda: len(rig.live()) == 5 and rig.ready())
        five = ids(rig.live())
        await rig.let_pass(120)
        await _restore(rig, copy)
        back = rig.clock()
        await rig.until("InstanceGroup", "shop-app", "Unclaimed", seconds=30)
        await rig.wait(lambda: len(rig.instances()) == 5, 60)
        # Two looks of the sweep, 10 s apart, at machines that are older than a minute.
        assert 10 <= rig.clock() - back <= 40
        assert await rig.told("Claimed", "shop-app") == 3
        # The copy says two: what is too much goes by the rules of scale-in.
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 2, 200)
        assert ids(rig.live()) <= five

    rig = play(tmp_path, main)
    assert len(rig.made()) == 5


def test_an_older_copy_makes_nothing_while_young_machines_are_unclaimed(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(cloud(), template("app"), infrastructure(service("app", replicas=1)))
        copy = await _copy(rig)
        rig.world.kill(rig.live()[0].id)
        await rig.wait(lambda: len(rig.live()) == 1, 60)
        await rig.let_pass(2)
        young = rig.live()[0]
        # The copy knows the machine that ended and not its successor, which is some seconds old.
        await _restore(rig, copy)
        await rig.wait(lambda: rig.ready() and rig.clock() > young.created + 60, 300)
        assert ids(rig.live()) == {young.id}

    assert len(play(tmp_path, main).made()) == 2


def test_a_lost_state_file_is_made_anew_and_claims_by_the_id_of_the_description(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        documents = [*chain()[:-1], infrastructure(*chain()[-1]["spec"]["services"], id="shop-1")]
        await rig.up(*documents)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
        await rig.wait(lambda: len(rig.live("app")) == 3 and rig.ready())
        before = ids(rig.world.live())
        await rig.let_pass(60)

        def lose() -> None:
            for each in rig.path.parent.glob(rig.path.name + "*"):
                each.unlink()

        await rig.restart(lose)
        await rig.make(cloud())
        await rig.until("Cloud", "sim", "Ready")
        await rig.make(*documents)
        await rig.wait(rig.ready, 200)
        await rig.let_pass(60)
        # The group began with the number of its machines, so the restore shrank nothing.
        assert rig.obj("InstanceGroup", "shop-app")["spec"]["replicas"] == 3
        assert ids(rig.world.live()) == before
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 200)
        assert rig.world.live() == []

    assert len(play(tmp_path, main).made()) == 5


def test_machines_of_another_identity_hold_back_and_name_the_id_that_claims_them(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        machines = _insert(rig, "b1", "b2", infrastructure="shop", identity="old-id")
        rig.left |= set(machines)
        await rig.make(cloud())
        await rig.until("Cloud", "sim", "Ready")
        await rig.make(*alone(2))
        await rig.until("InstanceGroup", "shop-app", "Unclaimed", seconds=30)
        assert "spec.id: old-id" in rig.said("InstanceGroup", "shop-app")[2]
        assert await rig.told("Unclaimed", "shop-app") == 1
        await rig.let_pass(300)
        assert len(rig.world.machines) == 2, "nothing is made beside them"
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 60)
        assert ids(rig.world.live()) == set(machines), "nothing of theirs is ended"
        await rig.make(infrastructure(service("app", scaling={"min": 2}), id="old-id"))
        await rig.wait(rig.ready, 200)
        assert ids(rig.world.live()) == set(machines)
        assert {each["spec"]["batch"]["id"] for each in rig.instances()} == {"b1", "b2"}

    play(tmp_path, main)


def test_a_claimed_machine_is_never_rendered_and_its_successor_is(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        (machine,) = _insert(rig, "b1", infrastructure="shop", identity="shop-1")
        await rig.make(cloud())
        await rig.until("Cloud", "sim", "Ready")
        await rig.make(template("app"), infrastructure(service("app"), id="shop-1"))
        await rig.wait(rig.ready, 300)
        (claimed,) = rig.instances()
        assert claimed["spec"].get("revision", "") == ""
        assert claimed["status"]["launch"]["digest"] == "restored"
        await rig.unchanged(60)
        rig.world.kill(machine)
        await rig.wait(lambda: len(rig.live()) == 1 and rig.ready(), 120)
        assert rig.instances()[0]["spec"]["revision"] != ""

    assert len(play(tmp_path, main).world.machines) == 2


def test_machines_of_a_living_infrastructure_are_its_own_business(tmp_path: Path) -> None:
    """Same name, other identity, and that identity lives under another name: it holds nobody back."""

    async def main(rig: Rig) -> None:
        await rig.make(cloud(), template("app"), infrastructure(service("app"), name="other", id="shared"))
        await rig.wait(lambda: rig.ready("other"))
        rig.left |= set(_insert(rig, "b1", infrastructure="shop", identity="shared", service="gone"))
        await rig.make(infrastructure(service("app")))
        await rig.wait(rig.ready, 120)

    play(tmp_path, main)


@pytest.mark.parametrize("policy", ["Report", "Terminate"])
def test_machines_of_no_group_are_reported_and_ended_only_by_the_policy(tmp_path: Path, policy: Any) -> None:
    async def main(rig: Rig) -> None:
        await rig.crash()
        rig.options = Options(CONTROLLER, "", workers=16, sweep=policy)
        rig.start()
        (machine,) = _insert(rig, "b1", infrastructure="ghost", identity="ghost-1")
        other = rig.world.insert(("a1", "r1"), Identity("b2", 0), {"occopus.io/controller": "another"})
        rig.left |= {machine} if policy == "Report" else set()
        await rig.make(cloud())
        message = await rig.hear("Unclaimed", "sim", 200)
        assert machine in message
        # Older than a minute, and missed twice.
        assert rig.clock() >= 60
        await rig.let_pass(600)
        assert await rig.told("Unclaimed", "sim") == 1
        ended = rig.world.machines[machine].ending
        assert (ended < INF) is (policy == "Terminate")
        assert ended >= 60
        assert rig.world.machines[other].ending == INF

    play(tmp_path, main)


def test_the_sweep_never_ends_what_is_being_launched(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.crash()
        rig.options = Options(CONTROLLER, "", workers=16, sweep="Terminate")
        rig.start()
        await rig.up(*alone(3))
        for _ in range(3):
            rig.world.kill(rig.live()[0].id)
            await rig.let_pass(200)
        await rig.wait(rig.ready)
        assert rig.calls("delete") == 0

    assert len(play(tmp_path, main).made()) == 6


def test_a_machine_that_may_be_of_a_namespace_that_is_not_served_is_not_ended(tmp_path: Path) -> None:
    """Its Instance may be a copy of one there, as a restore beside its original makes it."""

    async def main(rig: Rig) -> None:
        await rig.up(*alone())
        (machine,) = rig.live()
        await rig.crash()
        machine.tags = {**machine.tags, "occopus.io/namespace": "other"}
        rig.options = replace(rig.options, namespaces=("default",), unserved=("other",))
        rig.start()
        await rig.delete("Infrastructure", "shop")
        await rig.until("Instance", "shop-app-0", "Frozen", seconds=60)
        await rig.let_pass(300)
        assert rig.calls("delete") == 0
        await rig.crash()
        rig.options = replace(rig.options, unserved=())
        rig.start()
        await rig.let_pass(1)
        await rig.wait(lambda: rig.find("Infrastructure", "shop") is None, 300)
        assert rig.calls("delete") == 1

    play(tmp_path, main)


def test_two_machines_of_one_identity_stop_their_group_and_end_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        first = rig.machine("shop-app-0")
        double = rig.world.insert(("a1", "r1"), first.identity, dict(first.tags))
        await rig.until("InstanceGroup", "shop-app", "DuplicateMachine", seconds=60)
        await rig.until("Instance", "shop-app-0", "DuplicateMachine", seconds=10)
        message = rig.said("Instance", "shop-app-0")[2]
        assert first.id in message
        assert double in message
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 4}})
        rig.world.kill(rig.machine("shop-app-1").id)
        await rig.let_pass(300)
        assert {first.id, double} == ids(rig.live())
        assert rig.calls("delete") == 0
        # Its user ends one of them; the rest goes on.
        rig.world.kill(double)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 4, 200)
        rig.forgiven.add(first.identity)

    play(tmp_path, main, steady())


def test_a_deleted_instance_of_two_machines_ends_both(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        first = rig.machine("shop-app-0")
        rig.world.insert(("a1", "r1"), first.identity, dict(first.tags))
        await rig.until("Instance", "shop-app-0", "DuplicateMachine", seconds=60)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)
        assert rig.world.live() == []
        rig.forgiven.add(first.identity)

    play(tmp_path, main)


def test_a_copied_state_file_starts_frozen(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        await rig.crash()
        moved = rig.path.with_name("moved.db")
        shutil.copy2(rig.path, moved)
        original, rig.path = rig.path, moved
        rig.start()
        await rig.let_pass(1)
        rig.world.kill(rig.live()[0].id)
        await rig.until("Instance", "shop-app-2", "Frozen", seconds=60)
        await rig.delete("Instance", "shop-app-1")
        await rig.let_pass(120)
        assert rig.calls("delete") == 0
        assert len(rig.made()) == 2
        await rig.crash()
        rig.moved = True
        rig.start()
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 2, 200)
        assert original.exists()

    play(tmp_path, main)
