"""Keys of EC2 that expire in the middle of a deletion in several steps: between two services, and between two calls for one service."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from tests.simulated.world import NEVER
from tests.system.documents import chain, cloud, infrastructure, service, template
from tests.system.ec2 import Ec2Rig, Heard, play
from tests.system.rig import ids, steady

ORDER = ("web", "app", "db")


async def _renew(rig: Ec2Rig) -> None:
    rig.light.keys["AKIDRENEWED"] = "111111111111"
    await rig.key("AKIDRENEWED")


def _in_order(rig: Ec2Rig, *order: str) -> None:
    """All of a service had ended before one of the next began to."""
    for first, then in itertools.pairwise(order):
        assert rig.spans(first)[1] <= rig.spans(then)[0]


@pytest.mark.parametrize("restarts", [pytest.param(False, id="one process"), pytest.param(True, id="restarted")])
@pytest.mark.parametrize(("ended", "left"), [pytest.param("web", "app", id="web has ended"), pytest.param("app", "db", id="app has ended")])
def test_keys_that_expire_between_two_services_end_nothing_more_until_they_are_renewed(
    tmp_path: Path, ended: str, left: str, restarts: bool
) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*chain())
        await rig.wait(rig.ready, 300)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(lambda: not rig.live(ended), 60, every=0.1)
        rig.light.expired.add("AKIDMAIN")
        assert all(each.ending == NEVER for each in rig.made(left))
        await rig.let_pass(30)
        if restarts:
            await rig.restart()
        calls, waiting = rig.sent("TerminateInstances"), {each["metadata"]["name"] for each in rig.instances()}
        await rig.let_pass(150)
        assert all(each.ending == NEVER for each in rig.made(left))
        assert rig.said("Cloud", "sim")[0] == "False"
        assert {each["metadata"]["name"] for each in rig.instances()} == waiting
        assert any(each["spec"]["service"] == ended for each in rig.instances()), "no end is believed that no list shows"
        assert rig.sent("TerminateInstances") == calls, "nor is one asked for"
        await _renew(rig)
        await rig.wait(rig.gone, 120)
        _in_order(rig, *ORDER)

    # Reads show an end 5 s late, so none has shown it when the keys expire.
    rig = play(tmp_path, main, steady(lag_seconds=5.0))
    assert _ends(rig) == dict.fromkeys(ids(rig.made()), 1)


def test_keys_that_expire_between_two_calls_leave_the_others_and_what_they_depend_on(tmp_path: Path) -> None:
    """250 machines are three calls of 100 at most. The controller is restarted before the keys are renewed."""

    async def main(rig: Ec2Rig) -> None:
        def expire(heard: Heard) -> None:
            if heard.action == "TerminateInstances" and rig.sent("TerminateInstances") == 1:
                rig.light.expired.add("AKIDMAIN")

        rig.meet = expire
        app = service("app", "db", scaling={"min": 250})
        await rig.make(cloud(maxInstances=1000), template("db"), template("app"), infrastructure(service("db"), app))
        await rig.wait(rig.ready, 300)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(lambda: bool(rig.light.expired), 60)
        await rig.let_pass(30)
        await rig.restart()
        await rig.let_pass(60)
        assert len(rig.live("app")) == 150
        assert len(rig.instances("app")) == 250, "no end is believed that no list shows"
        await _renew(rig)
        await rig.wait(rig.gone, 120)
        _in_order(rig, "app", "db")

    rig = play(tmp_path, main, steady(lag_seconds=1.0))
    assert _ends(rig) == dict.fromkeys(ids(rig.made()), 1)


def _ends(rig: Ec2Rig) -> Counter[str]:
    """How often the end of each machine was asked for and granted."""
    return Counter(id for each in rig.world.ledger if each.action == "TerminateInstances" and each.outcome == "ok" for id in each.ids)
