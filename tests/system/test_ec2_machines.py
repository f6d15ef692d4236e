"""Machines on EC2 that end, stop or turn strange by themselves: what is said of them, whether and how soon they are replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.ports import MachineId
from tests.simulated.world import NEVER
from tests.system.documents import alone, cloud, infrastructure, service, template
from tests.system.ec2 import Ec2Rig, play
from tests.system.rig import ids, steady


def _kill(rig: Ec2Rig, id: MachineId) -> None:
    rig.world.kill(id)


def _terminate(rig: Ec2Rig, id: MachineId) -> None:
    rig.world.terminate(id)


def _stop(rig: Ec2Rig, id: MachineId) -> None:
    rig.world.stop(id)


def _interrupt(rig: Ec2Rig, id: MachineId) -> None:
    rig.light.interrupt(id)


Harm = Callable[[Ec2Rig, MachineId], None]
HARM = [
    pytest.param(_kill, "MachineEnded", "User initiated shutdown", id="terminated"),
    pytest.param(_terminate, "MachineEnded", "User initiated shutdown", id="shutting down"),
    pytest.param(_stop, "MachineStopped", "User initiated shutdown", id="stopped"),
    pytest.param(_interrupt, "MachineEnded", "Spot instance termination", id="spot taken back"),
]


@pytest.mark.parametrize(("harm", "why", "words"), HARM)
def test_a_lost_machine_is_told_within_20_s_and_replaced_within_25(tmp_path: Path, harm: Harm, why: str, words: str) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(cloud(), template("app"))
        await rig.implement("app", one={"spot": {}})
        await rig.make(infrastructure(service("app", scaling={"min": 3})))
        await rig.wait(rig.ready, 120)
        assert rig.launches()[0].fields.text("InstanceMarketOptions.MarketType") == "spot"
        await rig.let_pass(900)
        hurt = rig.machine("shop-app-0").id
        harm(rig, hurt)
        at = rig.clock()
        assert words in await rig.hear(why, "shop-app-0", 20)
        # Three singly, as spot machines are, and the one that stands in.
        await rig.wait(lambda: len(rig.launches()) == 4, at + 25 - rig.clock())
        await rig.wait(lambda: rig.ready() and hurt not in ids(rig.live()), 120)
        # A machine that is only stopped is ended by us, one that has ended is not.
        ended = [hurt in each.fields.values("InstanceId") for each in rig.heard if each.action == "TerminateInstances"]
        assert ended == ([True] if why == "MachineStopped" else [])
        await rig.unchanged(60)

    assert len(play(tmp_path, main, steady(lag_seconds=1.0)).made()) == 4


def test_a_machine_that_shuts_down_for_long_is_replaced_once_and_its_instance_waits_for_its_end(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(2))
        await rig.wait(rig.ready, 120)
        slow = rig.machine("shop-app-0")
        rig.world.settings.terminating_seconds = 400
        rig.world.terminate(slow.id)
        await rig.wait(lambda: len(rig.made()) == 3, 20)
        await rig.let_pass(200)
        assert len(rig.made()) == 3
        assert rig.obj("Instance", "shop-app-0")["metadata"]["deletionTimestamp"]
        assert rig.sent("TerminateInstances") == 0, "it needs no call to end"
        await rig.wait(lambda: rig.find("Instance", "shop-app-0") is None, 250)
        assert slow.ended <= rig.clock() <= slow.ended + 20
        assert rig.ready()

    play(tmp_path, main)


def test_a_deletion_that_ec2_takes_long_over_asks_once_and_waits(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        rig.world.settings.terminating_seconds = 400
        await rig.delete("Infrastructure", "shop")
        await rig.let_pass(300)
        assert len(rig.instances()) == 3
        assert rig.sent("TerminateInstances") == 1
        await rig.wait(rig.gone, 150)
        assert rig.world.live() == []

    play(tmp_path, main)


def test_a_state_that_nobody_knows_is_said_and_replaces_nothing(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        strange = rig.machine("shop-app-1")
        strange.strange_state = "rebalancing"
        await rig.until("Instance", "shop-app-1", "MachineUnknown", seconds=30)
        assert "rebalancing" in rig.said("Instance", "shop-app-1")[2]
        await rig.unchanged(150)
        # It stops nobody else.
        rig.world.kill(rig.machine("shop-app-2").id)
        await rig.wait(lambda: len(rig.made()) == 4, 20)
        strange.strange_state = ""
        await rig.wait(rig.ready, 120)
        assert strange.ended == NEVER

    assert len(play(tmp_path, main).made()) == 4


def test_a_state_that_nobody_knows_from_the_launch_on_is_said_and_replaces_nothing(tmp_path: Path) -> None:
    """Longer than a machine has to start: it may well run."""

    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(lambda: len(rig.made()) == 3, 30)
        strange = rig.made()[1]
        strange.strange_state = "rebalancing"
        name = f"shop-app-{strange.identity.index}"
        await rig.until("Instance", name, "MachineUnknown", seconds=30)
        assert "rebalancing" in rig.said("Instance", name)[2]
        await rig.wait(lambda: sum(rig.why("Instance", each["metadata"]["name"]) == "Ready" for each in rig.instances()) == 2, 60)
        await rig.unchanged(900)
        assert rig.why("Instance", name) == "MachineUnknown"
        strange.strange_state = ""
        await rig.wait(rig.ready, 120)
        assert strange.ended == NEVER

    assert len(play(tmp_path, main).made()) == 3


@pytest.mark.parametrize("at", [pytest.param(0, id="before it is asked to end"), pytest.param(15, id="while it ends")])
def test_a_machine_in_a_state_that_nobody_knows_is_ended_and_waited_for(tmp_path: Path, at: float) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        strange = rig.machine("shop-app-1")
        rig.world.settings.terminating_seconds = 30
        if at == 0:
            strange.strange_state = "rebalancing"
            await rig.until("Instance", "shop-app-1", "MachineUnknown", seconds=30)
        await rig.delete("Infrastructure", "shop")
        await rig.let_pass(at)
        strange.strange_state = "rebalancing"
        await rig.wait(lambda: len(rig.instances()) == 1, 90)
        # It has ended, but nobody says so.
        assert strange.ending < NEVER
        await rig.let_pass(200)
        assert [each["metadata"]["name"] for each in rig.instances()] == ["shop-app-1"]
        assert rig.why("Instance", "shop-app-1") == "Terminating"
        assert 2 <= rig.sent("TerminateInstances") <= 15, "it is asked again, now and then"
        strange.strange_state = ""
        await rig.wait(rig.gone, 90)
        assert rig.world.live() == []

    assert len(play(tmp_path, main).made()) == 3


def test_spot_capacity_that_is_taken_back_whole_is_replaced_whole(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(10))
        await rig.wait(rig.ready, 120)
        for each in rig.live():
            rig.light.interrupt(each.id)
        at = rig.clock()
        await rig.wait(lambda: len(rig.made()) == 20, 25)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 10, 120)
        assert rig.clock() - at <= 25 + 40 + 5
        assert len(rig.launches()) <= 3, "alike ones are replaced by one call"

    assert len(play(tmp_path, main).made()) == 20


def test_a_machine_that_vanishes_without_a_trace_is_replaced_within_a_minute(tmp_path: Path) -> None:
    """Merely absent: two NotFound answers by id, 30 s apart (design section 5, rule 5)."""

    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(2))
        await rig.wait(rig.ready, 120)
        await rig.let_pass(900)
        rig.world.forget(rig.machine("shop-app-0").id)
        at = rig.clock()
        await rig.hear("MachineMissing", "shop-app-0", 60)
        assert rig.clock() - at >= 30
        await rig.wait(lambda: len(rig.made()) == 3, at + 60 - rig.clock())
        await rig.wait(rig.ready, 120)

    play(tmp_path, main)


def test_a_machine_whose_tags_fade_with_its_end_is_replaced_once_and_let_go(tmp_path: Path) -> None:
    """EC2 forgets the tags of a terminated instance before the instance: the list by tag shows it no more."""

    async def main(rig: Ec2Rig) -> None:
        rig.light.behaviour.tags_fade_seconds = 0
        await rig.make(*alone(2))
        await rig.wait(rig.ready, 120)
        await rig.let_pass(200)
        dead = rig.machine("shop-app-0").id
        rig.world.kill(dead)
        await rig.wait(lambda: len(rig.made()) == 3, 60)
        await rig.wait(lambda: rig.ready() and rig.find("Instance", "shop-app-0") is None, 120)
        await rig.unchanged(60)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)
        assert rig.world.machines[MachineId(dead)].ended < NEVER

    play(tmp_path, main)
