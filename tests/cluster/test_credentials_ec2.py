"""Keys of EC2 that change in the Secret of a Cloud, with the objects on an API server: nobody watches Secrets there.

In virtual time; the tests of all that may become of keys are those of the state file (`tests/system/test_ec2_credentials.py`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.fixtures import Cluster
from tests.simulated import on_kubernetes
from tests.system.documents import alone
from tests.system.ec2 import Ec2Rig, play

#: A Secret is read every 10 s.
POLL = 13


@pytest.mark.parametrize(
    ("key", "why"),
    [pytest.param("AKIDWRONG", "Denied", id="unknown keys"), pytest.param("AKIDOTHER", "AccountChanged", id="another account's keys")],
)
def test_other_keys_in_the_secret_of_a_cloud_that_is_ready_are_seen_within_one_poll(
    cluster: Cluster, tmp_path: Path, key: str, why: str
) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(2))
        await rig.wait(rig.ready, 120)
        await rig.let_pass(60)
        before = rig.world.live()
        await rig.key(key)
        await rig.until("Cloud", "sim", why, seconds=POLL)
        await rig.let_pass(60)
        assert rig.world.live() == before
        await rig.key("AKIDMAIN")
        await rig.until("Cloud", "sim", "Ready", seconds=POLL)
        await rig.let_pass(30)
        assert rig.world.live() == before

    play(tmp_path, main, home=lambda rig: on_kubernetes.on_kubernetes(rig, cluster))
