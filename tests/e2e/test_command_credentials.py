"""Credentials that stop working while something is deleted: `up` with the mended ones finishes that, and makes it anew."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from tests.e2e.descriptions import on_ec2
from tests.e2e.desk import UP_SECONDS, Desk
from tests.e2e.test_kill_ec2 import FILE
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.world import Settings, World

TIMEOUT = ("--timeout", str(UP_SECONDS))


def test_a_deletion_that_waits_for_credentials_is_finished_by_up_with_the_mended_ones(desk: Desk) -> None:
    settings = Settings(boot_seconds=lambda rng: 0.3, terminating_seconds=0.3, lag_seconds=0.2)
    world = World(time.time, epoch=datetime(1970, 1, 1, tzinfo=UTC), settings=settings)
    light = LightEc2(world)
    with serve(light) as endpoint:
        text = on_ec2(endpoint) + FILE
        desk.occopus("up", "-f", desk.write("pair.yaml", text), *TIMEOUT)
        light.keys["AKIDNEW"] = light.keys.pop("AKIDMAIN")
        assert "there is no such access key" in desk.refused(1, "delete", "pair", "--timeout", "5")
        assert len(world.live()) == 4
        mended = desk.write("mended.yaml", text.replace("AKIDMAIN", "AKIDNEW"))
        assert "is being deleted: that is finished first" in desk.occopus("up", "-f", mended, *TIMEOUT)
        assert (len(world.machines), len(world.live())) == (8, 4)
        desk.occopus("delete", "--all", *TIMEOUT)
    assert world.live() == []
    assert world.duplicates() == []


def test_a_secret_is_not_deleted_without_the_cloud_that_names_it(desk: Desk) -> None:
    """It would wait for that without a word."""
    text = on_ec2("http://127.0.0.1:9")
    both, secret = desk.write("both.yaml", text), desk.write("secret.yaml", text.partition("---")[0])
    desk.occopus("up", "-f", both, *TIMEOUT)
    assert "Cloud aws names Secret aws; delete that with it" in desk.refused(2, "delete", "-f", secret)
    assert "deleted" in desk.occopus("delete", "-f", both, *TIMEOUT)
    assert desk.objects("secret") == []
