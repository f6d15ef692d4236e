"""A cloud's list that lies or fails: in doubt nothing is made, replaced or ended, and all goes on when the list is good again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from controller import errors
from controller.ports import Identity, Machine, MachineId
from tests.system.documents import alone
from tests.system.rig import Rig, ids, play, steady

Lie = Callable[[Sequence[Machine]], Sequence[Machine]]


def _strangers(machines: Sequence[Machine]) -> Sequence[Machine]:
    """Another account's machines instead of ours."""
    return [
        Machine(MachineId(f"other-{number}"), Identity(f"batch-{number}", 0), "theirs", each.state, each.state_text)
        for number, each in enumerate(machines)
    ]


LIES: dict[str, Lie] = {
    "empty": lambda machines: [],
    "partial": lambda machines: machines[1:],
    "another account's": _strangers,
}


@pytest.mark.parametrize("lie", [pytest.param(each, id=name) for name, each in LIES.items()])
def test_a_list_that_lies_for_ten_minutes_replaces_nothing(tmp_path: Path, lie: Lie) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        for _ in range(700):
            rig.world.falsify(lie)
        await rig.unchanged(600)
        rig.world.answers.clear()
        await rig.unchanged(60)
        assert rig.ready()

    rig = play(tmp_path, main)
    assert len(rig.made()) == 3


def test_one_empty_list_right_after_the_start_replaces_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))

        def lie() -> None:
            for _ in range(5):
                rig.world.falsify(lambda machines: [])

        await rig.restart(lie)
        await rig.unchanged(120)
        assert rig.ready()

    assert len(play(tmp_path, main).made()) == 3


def test_a_list_that_fails_freezes_the_group_and_says_so(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        fault = rig.world.fail("list", errors.Transient("no route to the cloud"), times=float("inf"))
        await rig.until("Cloud", "sim", "CloudUnreachable", seconds=30)
        assert "no route to the cloud" in rig.said("Cloud", "sim")[2]
        sick = rig.machine("shop-app-1")
        rig.world.make_unhealthy(sick.id)
        await rig.until("InstanceGroup", "shop-app", "Frozen", seconds=60)
        await rig.unchanged(600)
        assert await rig.told("Frozen", "shop-app") == 1
        rig.world.clear(fault)
        await rig.wait(lambda: rig.ready() and sick.id not in ids(rig.live()), 120)
        assert rig.why("Cloud", "sim") == "Ready"

    assert len(play(tmp_path, main).made()) == 4


def test_a_count_that_changes_under_a_failing_list_waits(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        fault = rig.world.fail("list", errors.Transient("no route"), times=float("inf"))
        await rig.until("Cloud", "sim", "CloudUnreachable", seconds=30)
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 4}})
        await rig.until("InstanceGroup", "shop-app", "WaitingForCloud", seconds=30)
        await rig.unchanged(120)
        rig.world.clear(fault)
        await rig.wait(lambda: len(rig.live()) == 4 and rig.ready(), 120)

    play(tmp_path, main)


def test_a_machine_that_is_really_gone_under_a_lying_list_is_replaced_alone(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        gone = rig.machine("shop-app-1")
        rig.world.forget(gone.id)
        for _ in range(200):
            rig.world.falsify(lambda machines: [])
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 3, 400)
        rig.world.answers.clear()
        await rig.unchanged(120)

    rig = play(tmp_path, main)
    assert len(rig.made()) == 4
    assert len([each for each in rig.made() if each.ended < float("inf")]) == 1


def test_machines_of_another_controller_are_never_touched(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        tags = {"occopus.io/controller": "another", "occopus.io/namespace": "default", "occopus.io/service": "app"}
        other = rig.world.insert(("a1", "r1"), Identity("foreign", 0), tags)
        await rig.up(*alone(2))
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone)
        await rig.let_pass(300)
        assert ids(rig.world.live()) == {other}
        assert not any(other in each.ids or each.token == other for each in rig.world.ledger)

    play(tmp_path, main, steady())
