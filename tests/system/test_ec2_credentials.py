"""Credentials on EC2 that are wrong, another account's, or expire; a Cloud and its Secret deleted while its machines live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from controller.ports import Key
from tests.system.documents import alone
from tests.system.ec2 import Ec2Rig, play
from tests.system.rig import ids, steady

FINALIZER = "occopus.io/controller"
#: A Cloud that does not answer as it should is asked again every 10 s.
POLL = 12


def test_wrong_keys_are_said_and_right_ones_are_taken_within_one_poll(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        await rig.key("AKIDWRONG")
        await rig.until("Cloud", "sim", "Denied", seconds=POLL)
        said = rig.said("Cloud", "sim")[2]
        assert "AuthFailure" in said or "InvalidClientTokenId" in said
        assert "AKIDWRONG" not in said
        await rig.unchanged(120)
        await rig.key("AKIDMAIN")
        await rig.until("Cloud", "sim", "Ready", seconds=POLL)
        await rig.unchanged(60)

    play(tmp_path, main)


async def _force_away(rig: Ec2Rig) -> None:
    """As somebody does who takes the finalizer off."""
    await rig.patch("Secret", "aws", {"metadata": {"finalizers": None}})
    await rig.delete("Secret", "aws")


async def _replace(rig: Ec2Rig) -> None:
    await rig.key("AKIDWRONG")


async def _empty(rig: Ec2Rig) -> None:
    await rig.patch("Secret", "aws", {"data": {"AWS_ACCESS_KEY_ID": None}})


TAKEN = [
    pytest.param(_replace, "Denied", id="replaced by wrong ones"),
    pytest.param(_empty, "Denied", id="taken out of the Secret"),
    pytest.param(_force_away, "SecretNotFound", id="the Secret forced away"),
]


@pytest.mark.parametrize(("take", "why"), TAKEN)
def test_keys_that_were_taken_back_are_used_no_more(tmp_path: Path, take: Callable[[Ec2Rig], Awaitable[None]], why: str) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        await take(rig)
        await rig.until("Cloud", "sim", why, seconds=330)
        rig.world.kill(rig.machine("shop-app-0").id)
        sick = rig.machine("shop-app-1").id
        rig.world.make_unhealthy(sick)
        await rig.unchanged(120)
        await rig.make()
        await rig.key("AKIDMAIN")
        await rig.until("Cloud", "sim", "Ready", seconds=POLL)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 3 and sick not in ids(rig.live()), 200)

    assert len(play(tmp_path, main).made()) == 5


def test_keys_that_are_wrong_from_the_first_make_nothing_until_they_are_right(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        rig.keys = {**rig.keys, "AWS_ACCESS_KEY_ID": "AKIDWRONG"}
        await rig.make(*alone(1))
        await rig.until("Cloud", "sim", "Denied", seconds=POLL)
        assert rig.said("Cloud", "sim", "Stalled")[0] == "True"
        await rig.let_pass(90)
        assert await rig.told("Denied", "sim") == 1
        await rig.key("AKIDMAIN")
        await rig.until("Cloud", "sim", "Ready", seconds=POLL)
        await rig.wait(rig.ready, 60)

    play(tmp_path, main)


def test_keys_that_are_blocked_at_the_cloud_freeze_and_a_new_secret_thaws(tmp_path: Path) -> None:
    """Nothing of ours changes at first: the next list is refused."""

    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(2))
        await rig.wait(rig.ready, 120)
        rig.light.keys = {"AKIDNEWER": "111111111111"}
        await rig.wait(lambda: rig.said("Cloud", "sim")[0] == "False", 20)
        rig.world.kill(rig.machine("shop-app-0").id)
        await rig.unchanged(120)
        await rig.key("AKIDNEWER")
        await rig.until("Cloud", "sim", "Ready", seconds=POLL)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 2, 200)

    assert len(play(tmp_path, main).made()) == 3


@pytest.mark.parametrize("ours", [pytest.param(True, id="the Secret was changed"), pytest.param(False, id="the key changed hands")])
def test_another_accounts_keys_freeze_everything_and_nothing_is_made_or_ended(tmp_path: Path, ours: bool) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        if ours:
            await rig.key("AKIDOTHER")
        else:
            rig.light.keys["AKIDMAIN"] = "222222222222"
        await rig.until("Cloud", "sim", "AccountChanged", seconds=POLL)
        message = rig.said("Cloud", "sim")[2]
        assert "111111111111" in message
        assert "222222222222" in message
        await rig.unchanged(120)
        await rig.delete("Instance", "shop-app-0")
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 5}})
        await rig.let_pass(90)
        assert rig.find("Instance", "shop-app-0") is not None, "no end is believed of another account"
        assert len(rig.world.live()) == len(rig.made()) == 3
        assert rig.sent("TerminateInstances") == 0
        if ours:
            await rig.key("AKIDMAIN")
        else:
            rig.light.keys["AKIDMAIN"] = "111111111111"
        await rig.until("Cloud", "sim", "Ready", seconds=POLL)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 5, 200)
        assert rig.obj("Cloud", "sim")["status"]["account"]["id"] == "111111111111"

    rig = play(tmp_path, main)
    assert len(rig.made()) == 6
    assert {each.account[0] for each in rig.made()} == {"111111111111"}


def test_a_restart_with_another_accounts_keys_makes_nothing_anew(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        await rig.restart(lambda: rig.light.keys.update(AKIDMAIN="222222222222"))
        await rig.until("Cloud", "sim", "AccountChanged", seconds=POLL)
        await rig.unchanged(120)
        rig.light.keys["AKIDMAIN"] = "111111111111"
        await rig.wait(lambda: rig.said("Cloud", "sim")[0] == "True" and rig.ready(), POLL)

    assert len(play(tmp_path, main).made()) == 3


@pytest.mark.parametrize("sent", [pytest.param(True, id="after the call"), pytest.param(False, id="before the call")])
def test_keys_that_expire_in_the_middle_of_a_deletion_stop_it_until_they_are_renewed(tmp_path: Path, sent: bool) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        if not sent:
            rig.light.expired.add("AKIDMAIN")
        await rig.delete("Infrastructure", "shop")
        if sent:
            await rig.wait(lambda: rig.sent("TerminateInstances") == 1, 30)
            rig.light.expired.add("AKIDMAIN")
        await rig.let_pass(120)
        assert len(rig.instances()) == 3, "no end is believed that no list shows"
        assert rig.said("Cloud", "sim")[0] == "False"
        assert len(rig.live()) == (0 if sent else 3)
        rig.light.keys["AKIDRENEWED"] = "111111111111"
        await rig.key("AKIDRENEWED")
        await rig.wait(rig.gone, 60)
        assert rig.world.live() == []

    rig = play(tmp_path, main)
    assert rig.outcomes("TerminateInstances").count("ok") == 1


def test_a_cloud_and_its_secret_that_are_deleted_stay_until_the_machines_are_gone(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(rig.ready, 120)
        await rig.delete("Cloud", "sim")
        await rig.delete("Secret", "aws")
        await rig.let_pass(60)
        for kind, name in (("Cloud", "sim"), ("Secret", "aws")):
            kept = (await rig.store.get(Key(kind, "default", name)))["metadata"]
            assert kept["deletionTimestamp"]
            assert FINALIZER in kept["finalizers"]
        # A Cloud that goes makes no machines more; it ends those it has.
        rig.world.kill(rig.machine("shop-app-0").id)
        await rig.until("InstanceGroup", "shop-app", "WaitingForCloud", seconds=60)
        await rig.let_pass(90)
        assert len(rig.made()) == 3
        await rig.delete("Infrastructure", "shop")
        await rig.wait(lambda: rig.gone() and rig.find("Cloud", "sim") is None, 120)
        await rig.let_pass(1)
        assert await rig.store.list("Secret") == []
        assert rig.world.live() == []

    play(tmp_path, main, steady())


def test_a_secret_forced_away_while_machines_live_is_taken_again_within_one_poll(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await rig.make(*alone(2))
        await rig.wait(rig.ready, 120)
        await _force_away(rig)
        await rig.until("Cloud", "sim", "SecretNotFound", seconds=330)
        await rig.unchanged(90)
        await rig.make()
        await rig.until("Cloud", "sim", "Ready", seconds=POLL)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 60)
        assert rig.world.live() == []

    assert len(play(tmp_path, main, steady()).made()) == 2
