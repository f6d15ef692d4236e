"""DescribeInstances that lies or fails: in doubt nothing is made, replaced or ended, and all goes on when the list is good again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from controller import errors
from controller.clouds.ec2 import driver
from controller.ports import CONTROLLER_TAG, Identity, Machine
from tests.simulated.ec2 import Dropped, Garbage, Refusal, Reply, Response
from tests.simulated.harness import CONTROLLER
from tests.system.documents import alone
from tests.system.ec2 import Ec2Rig, Heard, Lie, play
from tests.system.rig import ids

INF = float("inf")


def _first_page(machines: Sequence[Machine]) -> Sequence[Machine]:
    return machines[:1]


LIES: dict[str, Lie] = {"empty": lambda machines: [], "a page lost": _first_page}


@pytest.mark.parametrize("lie", [pytest.param(each, id=name) for name, each in LIES.items()])
def test_a_list_that_lies_for_minutes_replaces_nothing(tmp_path: Path, lie: Lie) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        await rig.let_pass(120)
        rig.lie(lie)
        await rig.unchanged(120)
        # One that is really gone is replaced all the same, and no other.
        rig.world.forget(rig.machine("shop-app-1").id)
        await rig.wait(lambda: len(rig.made()) == 4 and rig.ready(), 200)
        rig.lie(None)
        await rig.unchanged(120)
        assert rig.ready()

    rig = play(tmp_path, main)
    assert len(rig.made()) == 4
    assert rig.sent("TerminateInstances") == 0


@pytest.mark.parametrize("controller", [pytest.param("another", id="theirs by tag"), pytest.param(CONTROLLER, id="ours by tag")])
def test_a_list_of_another_accounts_machines_touches_neither_ours_nor_theirs(tmp_path: Path, controller: str) -> None:
    async def main(rig: Ec2Rig) -> None:
        tags = {CONTROLLER_TAG: controller, "occopus.io/namespace": "default", "occopus.io/service": "app"}
        theirs = [rig.world.insert(("222222222222", "eu-west-1"), Identity(f"b{each}", 0), tags) for each in range(3)]
        rig.left |= set(theirs)
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        shown = [each.shown(rig.clock(), rig.world.epoch) for each in rig.world.live() if each.id in theirs]
        rig.lie(lambda machines: shown)
        await rig.unchanged(120)
        rig.lie(None)
        await rig.unchanged(120)
        assert rig.ready()
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)
        assert ids(rig.world.live()) == set(theirs)
        assert not any(set(each.fields.values("InstanceId")) & set(theirs) for each in rig.heard)

    play(tmp_path, main)


FAILURES: dict[str, tuple[errors.CloudError, str]] = {
    "garbage": (Garbage(), "CloudUnreachable"),
    "a proxy's page": (Garbage(b"<html><body>Bad gateway</body></html>", 502), "CloudUnreachable"),
    "500": (Refusal("InternalError", "An internal error has occurred", 500), "CloudUnreachable"),
    "503": (Refusal("Unavailable", "The server is overloaded", 503), "CloudUnreachable"),
    "dropped": (errors.Transient("dropped"), "CloudUnreachable"),
    "throttled": (errors.Throttled("Request limit exceeded."), "Throttled"),
    "denied": (errors.Denied("You are not authorized to perform this operation."), "Denied"),
}


@pytest.mark.parametrize(("error", "why"), [pytest.param(*each, id=name) for name, each in FAILURES.items()])
def test_a_list_that_fails_freezes_and_thaws(tmp_path: Path, error: errors.CloudError, why: str) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        await rig.let_pass(90)
        fault = rig.world.fail("DescribeInstances", error, times=INF)
        # While lists are throttled the last good one stands for 30 s.
        stands = 30 if why == "Throttled" else 0
        await rig.wait(lambda: rig.said("Cloud", "sim")[0] == "False", stands + 30)
        assert rig.why("Cloud", "sim") == why
        rig.world.kill(rig.machine("shop-app-0").id)
        sick = rig.machine("shop-app-1").id
        rig.world.make_unhealthy(sick)
        await rig.until("InstanceGroup", "shop-app", "Frozen", seconds=60)
        await rig.unchanged(60)
        rig.world.clear(fault)
        await rig.until("Cloud", "sim", "Ready", seconds=30)
        await rig.wait(lambda: rig.ready() and sick not in ids(rig.live()) and len(rig.live()) == 3, 200)

    assert len(play(tmp_path, main).made()) == 5


@pytest.mark.parametrize(("every", "told"), [pytest.param(2, False, id="every second"), pytest.param(10, True, id="nine of ten")])
def test_lists_that_are_throttled_for_others_sake_keep_no_sick_machine(tmp_path: Path, every: int, told: bool) -> None:
    """Who throttles has answered: the controller was not cut off, and what its probes say meanwhile is so."""

    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        await rig.let_pass(90)
        turns = itertools.count()
        rig.world.fail("DescribeInstances", errors.Throttled("Request limit exceeded."), times=INF, where=lambda _: next(turns) % every > 0)
        await rig.unchanged(900)
        sick = rig.machine("shop-app-1").id
        rig.world.make_unhealthy(sick)
        await rig.wait(lambda: rig.ready() and sick not in ids(rig.live()) and len(rig.live()) == 3, 300)
        assert bool(await rig.told("Throttled", "sim")) is told

    assert len(play(tmp_path, main).made()) == 4


def test_a_right_to_list_that_lacks_from_the_first_is_told_and_once_it_is_there_machines_are_made(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        fault = rig.world.fail("DescribeInstances", errors.Denied("You are not authorized to perform this operation."), times=INF)
        await rig.make(*alone(2))
        await rig.until("Cloud", "sim", "Denied", seconds=30)
        assert rig.said("Cloud", "sim", "Stalled")[0] == "True"
        await rig.unchanged(120)
        rig.world.clear(fault)
        await rig.wait(rig.ready, 120)

    assert len(play(tmp_path, main).made()) == 2


_NOBODY = b"""<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
<requestId>r</requestId><reservationSet/></DescribeInstancesResponse>"""


def test_answers_that_show_nothing_even_to_questions_by_id_freeze_and_thaw(tmp_path: Path) -> None:
    """EC2 names an id that it does not know: an answer that only lacks it is no proof."""

    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(5))
        await rig.wait(rig.ready, 120)
        await rig.let_pass(120)
        rig.meet = lambda heard: Response(200, _NOBODY) if heard.action == "DescribeInstances" else None
        await rig.until("Cloud", "sim", "CloudUnreachable", seconds=60)
        assert "lacks 5 of the machines that were asked for by id" in rig.said("Cloud", "sim")[2]
        await rig.unchanged(600)
        await rig.restart()
        await rig.unchanged(300)
        rig.meet = lambda heard: None
        await rig.until("Cloud", "sim", "Ready", seconds=30)
        await rig.unchanged(200)
        assert rig.ready()

    assert len(play(tmp_path, main).made()) == 5


LATER: dict[str, Reply] = {
    "dropped": Dropped(),
    "expired": Response(400, b"<Response><Errors><Error><Code>InvalidNextToken</Code><Message>no</Message></Error></Errors></Response>"),
}


@pytest.mark.parametrize("reply", [pytest.param(each, id=name) for name, each in LATER.items()])
def test_a_list_whose_second_page_fails_is_no_list(tmp_path: Path, reply: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_PAGE", 5)

    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(7))
        await rig.wait(rig.ready, 120)
        await rig.let_pass(90)
        assert any(each.is_later_page for each in rig.heard)

        def later(heard: Heard) -> Reply | None:
            return reply if heard.fields.has("NextToken") else None

        rig.meet = later
        await rig.until("Cloud", "sim", "CloudUnreachable", seconds=30)
        await rig.unchanged(60)
        rig.meet = lambda heard: None
        await rig.until("Cloud", "sim", "Ready", seconds=30)
        await rig.unchanged(60)
        assert rig.ready()

    assert len(play(tmp_path, main).made()) == 7


def test_a_restart_into_a_lying_list_replaces_nothing(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        await rig.restart(lambda: rig.lie(lambda machines: []))
        await rig.unchanged(180)
        rig.lie(None)
        await rig.unchanged(60)
        assert rig.ready()

    assert len(play(tmp_path, main).made()) == 3


def test_a_machine_that_ended_and_is_forgotten_is_not_asked_for_while_its_instance_is_kept(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        await rig.let_pass(120)
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": True}})
        ended = rig.machine("shop-app-0")
        rig.world.kill(ended.id)
        await rig.until("Instance", "shop-app-0", "MachineEnded", seconds=30)
        ended.tags = {}
        await rig.let_pass(1200)
        since = rig.clock()
        await rig.let_pass(600)
        assert sum(1 for each in rig.heard if each.is_list and each.at >= since) <= 60

    play(tmp_path, main)
