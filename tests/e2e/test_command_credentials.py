"""Credentials that stop working while something is deleted: `up` with the mended ones finishes that, and makes it anew."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from tests.e2e.descriptions import infrastructure, on_ec2, service
from tests.e2e.desk import UP_SECONDS, Desk
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.world import Settings, World

TIMEOUT = ("--timeout", str(UP_SECONDS))
TEMPLATE = """
apiVersion: occopus.io/v1alpha1
kind: InstanceTemplate
metadata: {name: plain}
spec:
  implementations: [{name: aws, cloudRef: {name: aws}, ec2: {image: {id: ami-0a000000000000001}, instanceType: t3.small}}]
---
"""


def test_a_deletion_that_waits_for_credentials_is_finished_by_up_with_the_mended_ones(desk: Desk) -> None:
    settings = Settings(boot_seconds=lambda rng: 0.3, terminating_seconds=0.3, lag_seconds=0.2)
    world = World(time.time, epoch=datetime(1970, 1, 1, tzinfo=UTC), settings=settings)
    light = LightEc2(world)
    with serve(light) as endpoint:
        text = on_ec2(endpoint) + TEMPLATE + infrastructure("one", service("a"))
        desk.occopus("up", "-f", desk.write("one.yaml", text), *TIMEOUT)
        light.keys["AKIDNEW"] = light.keys.pop("AKIDMAIN")
        assert "there is no such access key" in desk.refused(1, "delete", "one", "--timeout", "5")
        assert len(world.live()) == 1
        mended = desk.write("mended.yaml", text.replace("AKIDMAIN", "AKIDNEW"))
        assert "is being deleted: that is finished first" in desk.occopus("up", "-f", mended, *TIMEOUT)
        assert (len(world.machines), len(world.live())) == (2, 1)
        desk.occopus("delete", "--all", *TIMEOUT)
    assert world.live() == []
    assert world.duplicates() == []
