"""The controller's own credentials on EC2, as the SDK finds them: those of a file expire, and somebody logs in again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controller.clouds.ec2.access import Access
from controller.clouds.ec2.driver import Ec2Driver
from controller.ports import CloudConfig, CloudDriver
from tests.simulated.harness import put
from tests.system.documents import alone
from tests.system.ec2 import Ec2Rig, play
from tests.system.test_ec2_credentials import POLL

_LISTED = 15


def _log_in(path: Path, key: str) -> None:
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = x\naws_session_token = of {key}\n")


@pytest.mark.parametrize("account", [pytest.param("111111111111", id="the same account"), pytest.param("222222222222", id="another one")])
def test_own_credentials_that_expire_are_read_again_from_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: str) -> None:
    file = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    async def main(rig: Ec2Rig) -> None:
        first, *others = alone(2)
        await put(rig.store, {**first, "spec": {"ec2": {"region": "eu-west-1"}}})
        await rig.make(*others)
        await rig.wait(rig.ready, 120)
        rig.light.expired.add("AKIDMAIN")
        await rig.until("Cloud", "sim", "Denied", seconds=_LISTED + POLL)
        rig.world.kill(rig.machine("shop-app-0").id)
        await rig.unchanged(120)
        rig.light.keys["AKIDRENEWED"] = account
        _log_in(file, "AKIDRENEWED")
        if account != "111111111111":
            await rig.until("Cloud", "sim", "AccountChanged", seconds=2 * POLL)
            await rig.unchanged(120)
            return
        await rig.until("Cloud", "sim", "Ready", seconds=2 * POLL)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 2, 200)

    def home(rig: Ec2Rig) -> None:
        """Own credentials go to the region's own endpoint alone; here it is that of the light EC2."""

        def opened(config: CloudConfig) -> CloudDriver:
            return Ec2Driver(Access(config.spec["region"], rig.endpoint, {}), config.controller_id)

        _log_in(file, "AKIDMAIN")
        rig.plugin = replace(rig.plugin, open=opened)

    rig = play(tmp_path, main, home=home)
    assert len(rig.made()) == (3 if account == "111111111111" else 2)
