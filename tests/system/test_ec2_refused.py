"""Launches that EC2 refuses: no room, no quota, an image that may not be used, a permission that lacks. None is blamed on another."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from controller import errors
from tests.simulated.ec2 import Refusal, Reply, Request, Response
from tests.system.documents import cloud, implementation, infrastructure, many, service, template
from tests.system.ec2 import Ec2Rig, play
from tests.system.rig import steady

INF = float("inf")


def test_no_room_is_asked_for_by_halves_then_elsewhere_and_remembered_for_three_minutes(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.world.settings.capacity = {"t3.small": 7}
        two = template("app", implementations=[implementation("one"), implementation("two", size="large")])
        await rig.make(cloud(), two, infrastructure(service("app", scaling={"min": 30})))
        await rig.wait(rig.ready, 200)
        small = [each for each in rig.launches() if each.type == "t3.small"]
        sizes = [each.size for each in small]
        assert sizes[0] == 30
        assert max(sizes[1:]) == 15
        assert sizes[-1] == 1
        assert len(sizes) <= 40, "halves of what was refused, until it fits"
        types = [each.spec["size"] for each in rig.live()]
        assert (types.count("t3.small"), types.count("t3.large")) == (7, 23)
        last = small[-1].at
        rig.world.settings.capacity = {}
        rig.world.kill(next(each.id for each in rig.live() if each.spec["size"] == "t3.small"))
        await rig.wait(lambda: len(rig.made()) == 31, 30)
        assert rig.clock() < last + 180
        assert rig.launches()[-1].type == "t3.large"
        await rig.let_pass(last + 190 - rig.clock())
        rig.world.kill(rig.live()[0].id)
        await rig.wait(lambda: len(rig.made()) == 32, 30)
        assert rig.launches()[-1].type == "t3.small"

    play(tmp_path, main)


def test_no_quota_for_one_type_is_asked_for_by_halves_then_elsewhere_and_remembered(tmp_path: Path) -> None:
    """A quota counts the vCPUs of some types alone: others have their own."""

    async def main(rig: Ec2Rig) -> None:
        def full(token: str) -> bool:
            asked = rig.launches()[-1]
            small = sum(1 for each in rig.live() if each.spec["size"] == "t3.small")
            return asked.type == "t3.small" and small + asked.size > 7

        over = Refusal("VcpuLimitExceeded", "You have requested more vCPU capacity than your current limit of 14 allows.")
        rig.world.fail("RunInstances", over, times=INF, where=full)
        two = template("app", implementations=[implementation("one"), implementation("two", size="large")])
        await rig.make(cloud(), two, infrastructure(service("app", scaling={"min": 30})))
        await rig.wait(rig.ready, 200)
        types = [each.spec["size"] for each in rig.live()]
        assert (types.count("t3.small"), types.count("t3.large")) == (7, 23)
        small = [each for each in rig.launches() if each.type == "t3.small"]
        assert (small[0].size, small[-1].size) == (30, 1)
        assert len(small) <= 40, "halves of what was refused, until it fits"
        assert await rig.told("QuotaExceeded") >= 1
        rig.world.kill(next(each.id for each in rig.live() if each.spec["size"] == "t3.large"))
        await rig.wait(lambda: len(rig.made()) == 31, 30)
        assert rig.clock() < small[-1].at + 180
        assert rig.launches()[-1].type == "t3.large"

    play(tmp_path, main)


@pytest.mark.parametrize("served", [pytest.param(False, id="before they served"), pytest.param(True, id="when they had served")])
def test_machines_that_ec2_ends_before_they_served_are_made_by_the_next_implementation(tmp_path: Path, served: bool) -> None:
    """EC2 has taken the launch: whether there was a volume, a key or room left for it shows later."""

    async def main(rig: Ec2Rig) -> None:
        two = template("app", implementations=[implementation("one"), implementation("two", size="large")])
        await rig.make(cloud(), two, infrastructure(service("app", scaling={"min": 30})))
        await rig.wait(rig.ready if served else lambda: len(rig.made()) == 30, 120)
        for each in rig.live():
            each.message = "Client.VolumeLimitExceeded: Volume limit exceeded"
            rig.world.kill(each.id)
        await rig.hear("MachineEnded", "shop-app-0", 30)
        ended = rig.clock()
        await rig.wait(rig.ready, 120)
        assert {each.spec["size"] for each in rig.live()} == {"t3.small" if served else "t3.large"}
        await rig.let_pass(ended + 190 - rig.clock())
        rig.world.kill(rig.live()[0].id)
        await rig.wait(lambda: len(rig.made()) == 61, 30)
        assert rig.launches()[-1].type == "t3.small"

    assert len(play(tmp_path, main).launches()) == 3


@pytest.mark.parametrize("shown", [pytest.param(False, id="shown no more"), pytest.param(True, id="shown all the same")])
def test_an_image_that_is_taken_back_is_left_for_the_next_implementation_and_no_key_is_blamed(tmp_path: Path, shown: bool) -> None:
    """EC2 answers the launch with AuthFailure, as it does a wrong key."""
    first, second = "ami-0a000000000000001", "ami-0a000000000000002"

    async def main(rig: Ec2Rig) -> None:
        refused = Refusal("AuthFailure", f"Not authorized for images: [{first}]")
        rig.world.fail("RunInstances", refused, times=INF, where=lambda token: rig.launches()[-1].fields.text("ImageId") == first)
        await rig.make(cloud(), template("app"))
        await rig.implement("app", one={}, two={"image": {"id": second}})
        await rig.make(infrastructure(service("app", scaling={"min": 10})))
        await rig.wait(lambda: bool(rig.launches()), 60)
        if not shown:
            rig.light.catalogue.images = [each for each in rig.light.catalogue.images if each.id != first]
        await rig.wait(rig.ready, 180)
        assert rig.said("Cloud", "sim")[0] == "True"
        assert {each.spec["image"] for each in rig.live()} == {second}

    rig = play(tmp_path, main)
    assert len(rig.launches()) <= 8


def test_an_image_that_may_not_be_launched_is_tried_less_and_less(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        fault = rig.world.fail("RunInstances", Refusal("AuthFailure", "Not authorized for images: [ami-0a000000000000001]"), times=INF)
        await rig.make(*many(2))
        await rig.let_pass(600)
        assert "Not authorized for images" in rig.said("InstanceGroup", "shop-app", "Progressing")[2]
        assert rig.said("Cloud", "sim")[0] == "True"
        assert len(rig.launches()) <= 10
        rig.world.clear(fault)
        await rig.wait(rig.ready, 400)

    play(tmp_path, main)


def test_an_answer_without_tags_is_that_launch_all_the_same(tmp_path: Path) -> None:
    """Tags come late: the token says what the machines are."""

    async def main(rig: Ec2Rig) -> None:
        answer = rig.light.handle

        def bare(request: Request) -> Reply:
            reply = answer(request)
            if isinstance(reply, Response) and b"<RunInstancesResponse" in reply.body:
                return replace(reply, body=re.sub(rb"<tagSet>.*?</tagSet>", b"", reply.body))
            return reply

        rig.light.handle = bare
        await rig.make(*many(10))
        await rig.wait(lambda: len(rig.made()) == 10, 30)
        await rig.let_pass(5)
        assert all(each["status"]["machine"]["id"] for each in rig.instances()), "before any list shows them"
        await rig.wait(rig.ready, 60)

    rig = play(tmp_path, main, steady(lag_seconds=20))
    assert len(rig.launches()) == 1


def test_what_the_quota_allows_is_made_and_the_rest_waits_for_it(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.world.settings.quota = 7
        await rig.make(*many(12))
        await rig.wait(lambda: sum(1 for each in rig.instances() if rig.why("Instance", each["metadata"]["name"]) == "Ready") == 7, 300)
        assert await rig.told("QuotaExceeded") >= 1
        assert "vCPU" in (await rig.events("QuotaExceeded"))[-1]["message"]
        await rig.let_pass(150)
        assert len(rig.launches()) <= 50, "a full account is asked less and less"
        rig.world.settings.quota = None
        await rig.wait(rig.ready, 700)

    assert len(play(tmp_path, main).made()) == 12


def test_a_permission_that_is_lacking_and_then_granted_sends_the_same_launch(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        fault = rig.world.fail("RunInstances", errors.Denied("You are not authorized to perform this operation."), times=INF)
        await rig.make(*many(3))
        await rig.until("Instance", "shop-app-0", "Denied", "Launched", seconds=30)
        assert "not authorized" in rig.said("Instance", "shop-app-0", "Launched")[2]
        await rig.let_pass(90)
        assert rig.made() == []
        rig.world.clear(fault)
        await rig.wait(lambda: len(rig.made()) == 3, 12)
        await rig.wait(rig.ready, 60)

    assert len(play(tmp_path, main).tokens()) == 1
