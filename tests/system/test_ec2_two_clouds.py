"""Two Clouds of one account share its list; the keys of one that fail must not freeze the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from controller import errors
from controller.ports import Obj
from tests.simulated.ec2 import Reply, Request, Response
from tests.simulated.ec2.query import signer
from tests.system.ec2 import Ec2Rig, play
from tests.system.two_clouds import MORE, on_another_cloud

#: The lists of a quiet account come every 12.5 s, and one by the other keys comes next.
SOON = 30
#: Which Cloud has which access key.
KEY_OF = {"sim": "AKIDMAIN", "other": MORE}


class Listed:
    """By which key the account is listed, and whose lists are refused though STS knows the key."""

    def __init__(self, rig: Ec2Rig) -> None:
        self.keys: list[str] = []
        self.refused = ""
        self._rig = rig
        self._answer = rig.light.handle
        rig.light.handle = self._hear

    def _hear(self, request: Request) -> Reply:
        signed = signer(request)
        if signed is not None and b"Action=DescribeInstances" in request.body:
            self.keys.append(signed.access_key)
            if signed.access_key == self.refused:
                self._rig.world.fail("DescribeInstances", errors.Denied("not authorized"))
        return self._answer(request)

    async def now(self) -> str:
        """The Cloud by whose key the next list is made."""
        self.keys.clear()
        await self._rig.wait(lambda: bool(self.keys), SOON)
        return next(cloud for cloud, key in KEY_OF.items() if key == self.keys[0])


def _unknown(rig: Ec2Rig, key: str) -> None:
    del rig.light.keys[key]


def _expired(rig: Ec2Rig, key: str) -> None:
    rig.light.expired.add(key)


@pytest.mark.parametrize("fail", [pytest.param(_unknown, id="unknown"), pytest.param(_expired, id="expired")])
def test_keys_of_one_cloud_that_fail_do_not_freeze_the_other(tmp_path: Path, fail: Callable[[Ec2Rig, str], None]) -> None:
    async def main(rig: Ec2Rig) -> None:
        await on_another_cloud(rig)
        listed = Listed(rig)
        failing = await listed.now()
        (other,) = KEY_OF.keys() - {failing}
        before, since = rig.world.live(), _since(rig, other)
        fail(rig, KEY_OF[failing])
        await rig.until("Cloud", failing, "Denied", seconds=SOON)
        listed.keys.clear()
        await rig.let_pass(300)
        assert rig.said("Cloud", other)[:2] == ("True", "Ready")
        assert _since(rig, other) == since, "it was Ready all the time"
        assert set(listed.keys) == {KEY_OF[other]}
        assert rig.world.live() == before
        rig.light.keys[KEY_OF[failing]] = rig.light.keys[KEY_OF[other]]
        rig.light.expired.clear()
        await rig.until("Cloud", failing, "Ready", seconds=SOON)
        await rig.unchanged(60)

    play(tmp_path, main)


def test_keys_that_may_not_list_do_not_freeze_the_other(tmp_path: Path) -> None:
    """STS takes them all the same, so nothing else tells."""

    async def main(rig: Ec2Rig) -> None:
        await on_another_cloud(rig)
        listed = Listed(rig)
        failing = await listed.now()
        (other,) = KEY_OF.keys() - {failing}
        listed.refused = KEY_OF[failing]
        await rig.let_pass(SOON)
        listed.keys.clear()
        await rig.let_pass(300)
        assert set(listed.keys) == {KEY_OF[other]}
        assert rig.said("Cloud", other)[1] == "Ready"

    play(tmp_path, main)


def test_keys_that_fail_are_said_though_another_cloud_is_listed_by(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await on_another_cloud(rig)
        listed = Listed(rig)
        if await listed.now() == "other":
            # Whose Secret was changed last lists; a launch is for the first implementation, on `other`.
            await rig.patch("Secret", "aws", {"stringData": {"AWS_SESSION_TOKEN": "new"}})
            await rig.let_pass(SOON)
            assert await listed.now() == "sim"
        del rig.light.keys[MORE]
        lost = rig.machine("shop-app-0").id
        rig.world.kill(lost)
        await rig.until("Cloud", "other", "Denied", seconds=SOON + 15)
        await rig.wait(lambda: len(rig.world.live()) == 3, 300)
        assert {_cloud(each) for each in rig.instances()} == {"sim", "other"}
        rig.light.keys[MORE] = rig.light.keys["AKIDMAIN"]
        await rig.wait(rig.ready, 120)

    play(tmp_path, main)


def test_lists_that_both_clouds_are_refused_in_their_own_words_write_once(tmp_path: Path) -> None:
    """STS takes both keys."""

    async def main(rig: Ec2Rig) -> None:
        await on_another_cloud(rig)
        number = itertools.count()
        rig.meet = lambda heard: _refused(next(number)) if heard.action == "DescribeInstances" else None
        await rig.let_pass(60)
        assert rig.said("Cloud", "sim")[0] == rig.said("Cloud", "other")[0] == "False"
        writes = rig.engine.objects.writes
        await rig.unchanged(120)
        assert rig.engine.objects.writes == writes
        rig.meet = lambda heard: None
        for each in KEY_OF:
            await rig.until("Cloud", each, "Ready", seconds=SOON)

    play(tmp_path, main)


def _refused(number: int) -> Reply:
    error = f"<Error><Code>UnauthorizedOperation</Code><Message>user {number} may not</Message></Error>"
    return Response(403, f"<Response><Errors>{error}</Errors></Response>".encode())


def test_keys_of_both_clouds_that_fail_freeze_them_until_one_is_right(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await on_another_cloud(rig)
        rig.light.keys.clear()
        for each in KEY_OF:
            await rig.until("Cloud", each, "Denied", seconds=SOON)
        rig.world.kill(rig.machine("shop-app-0").id)
        await rig.unchanged(120)
        rig.light.keys[KEY_OF["other"]] = "111111111111"
        await rig.until("Cloud", "other", "Ready", seconds=SOON)
        await rig.wait(rig.ready, 200)
        assert rig.said("Cloud", "sim")[1] == "Denied"

    play(tmp_path, main)


def test_the_keys_of_a_cloud_that_is_deleted_list_no_more(tmp_path: Path) -> None:
    async def main(rig: Ec2Rig) -> None:
        await on_another_cloud(rig)
        listed = Listed(rig)
        # Let it be the one that lists: whose Secret was changed last is asked next.
        await rig.patch("Secret", "more", {"stringData": {"AWS_SESSION_TOKEN": "new"}})
        await rig.let_pass(SOON)
        assert await listed.now() == "other"
        second = rig.obj("InstanceTemplate", "app")["spec"]["implementations"][1]
        await rig.patch("InstanceTemplate", "app", {"spec": {"implementations": [second]}})
        for number in range(3):
            await rig.delete("Instance", f"shop-app-{number}")
        await rig.wait(lambda: rig.ready() and {_cloud(each) for each in rig.instances()} == {"sim"}, 300)
        await rig.delete("Cloud", "other")
        await rig.wait(lambda: rig.find("Cloud", "other") is None, 60)
        listed.keys.clear()
        await rig.let_pass(300)
        assert set(listed.keys) == {"AKIDMAIN"}
        assert rig.ready()

    play(tmp_path, main)


def _cloud(instance: Obj) -> str:
    return instance["spec"]["implementation"]["cloudRef"]["name"]


def _since(rig: Ec2Rig, cloud: str) -> str:
    """Since when the Cloud is Ready."""
    return next(each["lastTransitionTime"] for each in rig.obj("Cloud", cloud)["status"]["conditions"] if each["type"] == "Ready")
