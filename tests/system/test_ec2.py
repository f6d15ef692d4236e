"""The main job on EC2: up in order, healed, scaled, down against the edges, by how many calls; and what its faults mean."""

from __future__ import annotations

from pathlib import Path

from tests.system.documents import chain, cloud, infrastructure, service, template
from tests.system.ec2 import Ec2Rig, play
from tests.system.rig import steady


def test_up_healed_and_down(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*chain())
        await rig.wait(rig.ready, 300)
        assert [len(rig.live(each)) for each in ("db", "app", "web")] == [1, 2, 1]
        lost = rig.machine("shop-app-0").id
        rig.world.kill(lost)
        await rig.wait(lambda: rig.ready() and len(rig.live("app")) == 2, 120)
        live = {each: rig.live(each) for each in ("web", "app", "db")}
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 200)
        for first, then in (("web", "app"), ("app", "db")):
            assert max(each.ended for each in live[first]) <= min(each.ending for each in live[then])

    rig = play(tmp_path, main, steady(lag_seconds=2.0))
    assert len(rig.made()) == 5
    assert rig.sent("CreateTags") == 0
    assert rig.sent("RunInstances") == 4, "the two app are one call"


def test_a_hundred_alike_cost_one_call_to_make_and_few_lists_to_watch(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.light.behaviour.throttles = True
        await rig.make(cloud(maxInstances=1000), template("app"), infrastructure(service("app", scaling={"min": 100})))
        await rig.wait(rig.ready, 200)
        assert rig.sent("RunInstances") == 1
        assert rig.sent("DescribeInstances") <= 50
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)
        assert rig.sent("TerminateInstances") <= 2

    play(tmp_path, main, steady(lag_seconds=2.0))
