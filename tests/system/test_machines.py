"""Machines that end, stop, break or vanish by themselves: which are replaced, when, and what their user is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.ports import MachineId
from tests.simulated.harness import reason
from tests.simulated.world import NEVER, World
from tests.system.documents import alone
from tests.system.rig import Rig, ids, play, steady

HARM = [
    pytest.param(World.kill, "MachineEnded", id="terminated"),
    pytest.param(World.stop, "MachineStopped", id="stopped"),
    pytest.param(World.break_down, "MachineError", id="error"),
]


@pytest.mark.parametrize(("harm", "why"), HARM)
def test_a_machine_that_serves_no_more_is_replaced_at_once(tmp_path: Path, harm: Callable[[World, str], None], why: str) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        await rig.let_pass(1200)
        hurt = rig.machine("shop-app-0")
        harm(rig.world, hurt.id)
        hurt_at = rig.clock()
        await rig.wait(lambda: len(rig.made()) == 3, 30)
        # The list is asked every 12.5 s when nothing has moved for ten minutes, jittered by 5 %.
        assert rig.clock() - hurt_at <= 14
        await rig.wait(lambda: rig.ready() and hurt.id not in ids(rig.live()), 120)
        assert rig.clock() - hurt_at <= 14 + 40 + 5
        assert await rig.told(why) >= 1
        assert rig.find("Instance", "shop-app-0") is None

    rig = play(tmp_path, main)
    assert len(rig.made()) == 3


def test_the_clouds_words_about_a_fault_reach_the_user(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        rig.world.break_down(rig.machine("shop-app-0").id, "host h7 burnt down")
        await rig.wait(lambda: rig.ready() and len(rig.made()) == 2)
        (said,) = [each for each in await rig.events("MachineError", "shop-app-0") if each["involvedObject"]["kind"] == "Instance"]
        assert "host h7 burnt down" in said["message"]

    play(tmp_path, main)


def test_an_unknown_state_is_said_and_replaces_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        strange = rig.machine("shop-app-1")
        strange.strange_state = "rebalancing"
        await rig.until("Instance", "shop-app-1", "MachineUnknown", seconds=30)
        assert "rebalancing" in rig.said("Instance", "shop-app-1")[2]
        await rig.unchanged(900)
        # It stops nobody else.
        other = rig.machine("shop-app-2")
        rig.world.kill(other.id)
        await rig.wait(lambda: len(rig.made()) == 4, 30)
        strange.strange_state = ""
        await rig.wait(rig.ready, 120)
        assert strange.ended == NEVER

    assert len(play(tmp_path, main).made()) == 4


def test_an_absent_machine_is_replaced_only_after_two_not_founds_and_the_settling_time(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        await rig.let_pass(400)
        gone = rig.machine("shop-app-0")
        rig.world.forget(gone.id)
        forgotten_at = rig.clock()
        await rig.wait(lambda: len(rig.made()) == 3, 120)
        described = [each for each in rig.world.ledger if each.action == "describe" and each.time >= forgotten_at]
        assert described[-1].time - described[0].time >= 30
        assert rig.clock() - forgotten_at >= 30
        assert rig.clock() - forgotten_at <= 30 + 16 + 5
        await rig.wait(rig.ready, 120)
        assert await rig.told("MachineMissing", "shop-app-0") >= 1

    play(tmp_path, main)


def test_a_machine_that_vanishes_right_after_its_launch_is_unknown_until_the_cloud_settled(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*alone(1))
        await rig.wait(lambda: bool(rig.made()) and "machine" in rig.obj("Instance", "shop-app-0")["status"])
        (first,) = rig.made()
        rig.world.forget(first.id)
        await rig.wait(lambda: len(rig.made()) == 2, 300)
        assert rig.clock() - first.created >= rig.world.settings.settle_seconds
        await rig.wait(rig.ready)

    play(tmp_path, main)


def test_an_absent_machine_that_shows_again_is_kept(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        away = rig.machine("shop-app-0")
        away.visible = rig.clock() + 25
        await rig.unchanged(200)
        assert reason(rig.obj("Instance", "shop-app-0")) == "Ready"

    assert len(play(tmp_path, main).made()) == 2


def test_a_machine_that_ends_while_it_boots_is_replaced_and_its_token_never_used_again(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*alone(1))
        await rig.wait(lambda: bool(rig.live()))
        rig.world.kill(rig.live()[0].id)
        await rig.wait(rig.ready)
        tokens = [each.token for each in rig.world.ledger if each.action == "create"]
        assert len(tokens) == len(set(tokens)) == 2

    play(tmp_path, main)


def test_all_machines_that_the_cloud_ended_are_replaced_at_once(tmp_path: Path) -> None:
    """Spot capacity taken back: the brake does not count machines that are gone anyway."""

    async def main(rig: Rig) -> None:
        await rig.up(*alone(10))
        for each in rig.live():
            rig.world.kill(each.id)
        killed_at = rig.clock()
        await rig.wait(lambda: len(rig.made()) == 20, 60)
        assert rig.clock() - killed_at <= 20
        await rig.wait(rig.ready)

    assert len(play(tmp_path, main).made()) == 20


def test_a_machine_stopped_by_its_user_at_the_cloud_is_ended_when_it_is_replaced(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        stopped = rig.machine("shop-app-0").id
        rig.world.stop(stopped)
        await rig.wait(lambda: rig.ready() and len(rig.made()) == 2)
        await rig.wait(lambda: len(rig.world.live()) == 1, 120)
        assert rig.world.machines[MachineId(stopped)].ended <= rig.clock()

    play(tmp_path, main, steady())
