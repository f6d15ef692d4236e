"""Credentials that are wrong, change or answer for another account; the guards on a Cloud and on its Secret."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller import errors
from controller.ports import Key, Obj
from tests.simulated.harness import CONTROLLER
from tests.system.documents import Document, alone, cloud, secret
from tests.system.rig import Rig, ids, play, steady

FINALIZER = "occopus.io/controller"


def _locked(password: str, number: int = 1) -> list[Document]:
    return [secret("keys", password=password), cloud(secret="keys"), *alone(number)[1:]]


async def _finalizers(rig: Rig, kind: str, name: str) -> list[str]:
    found = next((each for each in await rig.store.list(kind) if each["metadata"]["name"] == name), None)
    return [] if found is None else found["metadata"].get("finalizers", [])


def test_denied_credentials_are_said_and_a_corrected_secret_is_taken_within_one_poll(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*_locked("wrong"))
        await rig.until("Cloud", "sim", "Denied")
        assert rig.said("Cloud", "sim", "Stalled")[0] == "True"
        assert "the password is wrong" in rig.said("Cloud", "sim")[2]
        await rig.until("InstanceGroup", "shop-app", "WaitingForCloud")
        await rig.let_pass(300)
        assert rig.made() == []
        assert await rig.told("Denied", "sim") == 1
        await rig.patch("Secret", "keys", {"stringData": {"password": "right"}})
        await rig.until("Cloud", "sim", "Ready", seconds=10)
        await rig.wait(rig.ready, 60)

    play(tmp_path, main)


def test_an_account_that_opens_again_is_found_within_one_poll(tmp_path: Path) -> None:
    """Nothing of ours changes here: the account's owner grants what was missing."""

    async def main(rig: Rig) -> None:
        fault = rig.world.fail("identity", errors.Denied("the account is suspended"), times=float("inf"))
        await rig.make(*alone(1))
        await rig.until("Cloud", "sim", "Denied")
        await rig.let_pass(300)
        rig.world.clear(fault)
        await rig.until("Cloud", "sim", "Ready", seconds=12)

    play(tmp_path, main)


def test_a_password_changed_at_the_cloud_freezes_and_the_new_secret_thaws(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*_locked("right", 2))
        rig.password = "newer"
        await rig.wait(lambda: rig.said("Cloud", "sim")[0] == "False", 60)
        sick = rig.live()[0].id
        rig.world.make_unhealthy(sick)
        await rig.let_pass(400)
        assert len(rig.made()) == 2
        await rig.patch("Secret", "keys", {"stringData": {"password": "newer"}})
        await rig.until("Cloud", "sim", "Ready", seconds=12)
        await rig.wait(lambda: rig.ready() and sick not in ids(rig.live()), 120)

    assert len(play(tmp_path, main).made()) == 3


def test_what_waits_to_be_replaced_while_credentials_are_denied_says_so(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*_locked("right"))
        fault = rig.world.fail("create", errors.NoCapacity("there is none"), times=float("inf"))
        rig.world.kill(rig.live()[0].id)
        await rig.until("InstanceGroup", "shop-app", "BackOff", "Progressing", seconds=60)
        await rig.let_pass(200)
        rig.password = "newer"
        await rig.until("Cloud", "sim", "Denied", seconds=60)
        await rig.until("InstanceGroup", "shop-app", "Frozen", "Progressing", seconds=10)
        said = "none is replaced while Cloud sim cannot be used: Denied: the password is wrong"
        assert said in rig.said("InstanceGroup", "shop-app", "Progressing")[2]
        rig.world.clear(fault)
        rig.password = "right"
        await rig.wait(rig.ready, 600)

    play(tmp_path, main)


def test_a_missing_secret_is_said_and_found_when_it_comes(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        documents = _locked("right")
        await rig.make(*documents[1:])
        await rig.until("Cloud", "sim", "SecretNotFound")
        await rig.let_pass(60)
        await rig.make(documents[0])
        await rig.until("Cloud", "sim", "Ready", seconds=10)
        await rig.wait(rig.ready, 60)

    play(tmp_path, main)


def test_credentials_of_another_account_freeze_everything(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        rig.world.settings.answers_for["a1"] = "a2"
        # The identity is asked every five minutes; until then the authentic empty list alone speaks.
        await rig.until("Cloud", "sim", "AccountChanged", seconds=330)
        message = rig.said("Cloud", "sim")[2]
        assert "a1" in message
        assert "a2" in message
        await rig.unchanged(600)
        await rig.delete("Instance", "shop-app-0")
        await rig.let_pass(300)
        assert rig.find("Instance", "shop-app-0") is not None, "no end is believed of another account"
        assert len(rig.world.live()) == 3
        assert rig.calls("delete") == 0
        del rig.world.settings.answers_for["a1"]
        await rig.until("Cloud", "sim", "Ready", seconds=330)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 3, 200)
        assert rig.obj("Cloud", "sim")["status"]["account"]["id"] == "a1"

    rig = play(tmp_path, main)
    assert len(rig.made()) == 4
    assert all(each.account == ("a1", "r1") for each in rig.made())


def test_a_launch_whose_answer_was_lost_is_not_given_up_by_another_accounts_list(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        rig.world.fail("create", errors.Transient("the answer was lost"), after=True, times=1)

        def other_account() -> None:
            if rig.world.counts()["create"] >= 2:
                rig.world.settings.answers_for["a1"] = "a2"

        rig.before["a1", "list"] = rig.before["a1", "create"] = other_account
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 2}})
        await rig.until("Cloud", "sim", "AccountChanged", seconds=330)
        await rig.let_pass(600)
        assert rig.why("Instance", "shop-app-1") != "LaunchLost"
        del rig.before["a1", "list"], rig.before["a1", "create"], rig.world.settings.answers_for["a1"]
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 2, 330)

    assert len(play(tmp_path, main).made()) == 2


def test_a_restart_with_another_accounts_credentials_remakes_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        await rig.restart(lambda: rig.world.settings.answers_for.update(a1="a2"))
        await rig.until("Cloud", "sim", "AccountChanged", seconds=30)
        await rig.unchanged(900)
        assert all(each["status"]["machine"]["id"] for each in rig.instances())
        rig.world.settings.answers_for.clear()
        await rig.wait(lambda: rig.said("Cloud", "sim")[0] == "True" and rig.ready(), 330)

    assert len(play(tmp_path, main).made()) == 3


def test_a_controller_with_another_id_makes_nothing_anew(tmp_path: Path) -> None:
    """By the tags of its own id it sees none of the machines: an honest empty list."""

    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        ours = rig.options
        await rig.restart(lambda: setattr(rig, "options", replace(ours, controller_id="another")))
        await rig.until("Cloud", "sim", "ControllerChanged", seconds=30)
        assert CONTROLLER in rig.said("Cloud", "sim")[2]
        await rig.unchanged(900)
        await rig.restart(lambda: setattr(rig, "options", ours))
        await rig.wait(rig.ready, 330)

    assert len(play(tmp_path, main).made()) == 3


def test_a_secret_that_a_cloud_names_keeps_our_finalizer_while_it_is_needed(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*_locked("right", 2))
        assert FINALIZER in await _finalizers(rig, "Secret", "keys")
        await rig.delete("Cloud", "sim")
        await rig.delete("Secret", "keys")
        await rig.let_pass(60)
        # Both wait for the machines, which still can be ended.
        assert FINALIZER in await _finalizers(rig, "Secret", "keys")
        assert FINALIZER in await _finalizers(rig, "Cloud", "sim")
        assert len(rig.live()) == 2
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)
        await rig.wait(lambda: rig.find("Cloud", "sim") is None, 30)
        await rig.let_pass(1)
        assert await rig.store.list("Secret") == []
        assert rig.world.live() == []

    play(tmp_path, main)


async def _gone(rig: Rig, name: str) -> bool:
    return all(each["metadata"]["name"] != name for each in await rig.store.list("Secret"))


@pytest.mark.parametrize("shared", [False, True], ids=["its own", "another Cloud's too"])
def test_a_secret_that_is_named_no_more_is_let_go(tmp_path: Path, shared: bool) -> None:
    """Keys are changed by another Secret, as kustomize's hashed names do."""

    async def main(rig: Rig) -> None:
        both = (cloud(secret="old"), cloud("other", secret="old")) if shared else (cloud(secret="old"),)
        await rig.make(secret("old", password="right"), secret("new", password="right"), *both)
        for each in both:
            await rig.until("Cloud", each["metadata"]["name"], "Ready")
        await rig.delete("Secret", "old")
        await rig.let_pass(30)
        assert await _finalizers(rig, "Secret", "old") == [FINALIZER]
        await rig.make(cloud(secret="new"))
        await rig.let_pass(30)
        assert await _finalizers(rig, "Secret", "new") == [FINALIZER]
        assert await _gone(rig, "old") == (not shared)
        assert rig.said("Cloud", "sim")[0] == "True"
        for each in both:
            await rig.delete("Cloud", each["metadata"]["name"])
        await rig.wait(lambda: rig.find("Cloud", "sim") is None and rig.find("Cloud", "other") is None, 60)
        await rig.let_pass(5)
        assert await _finalizers(rig, "Secret", "new") == []
        assert await _gone(rig, "old")

    play(tmp_path, main)


def test_a_secret_that_is_changed_for_another_in_the_moment_of_its_finalizer_is_let_go(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        patch, once = rig.store.patch, [1]

        async def overtaken(key: Key, body: Obj, **more: Any) -> Obj:
            done = await patch(key, body, **more)
            if key == Key("Secret", "default", "old") and once:
                once.clear()
                await rig.make(cloud(secret="new"))
                raise errors.Unavailable("the answer was lost")
            return done

        rig.engine.objects.store.patch = overtaken  # type: ignore[method-assign]
        await rig.make(*(secret(each, password="right") for each in ("first", "old", "new")), cloud(secret="first"))
        await rig.until("Cloud", "sim", "Ready")
        await rig.make(cloud(secret="old"))
        await rig.wait(lambda: not once, 30)
        await rig.let_pass(30)
        assert await _finalizers(rig, "Secret", "new") == [FINALIZER]
        assert await _finalizers(rig, "Secret", "first") == []
        assert await _finalizers(rig, "Secret", "old") == []

    play(tmp_path, main)


def test_a_secret_of_two_clouds_that_go_at_once_goes_with_them(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(secret("keys", password="right"), cloud("one", secret="keys"), cloud("two", secret="keys"))
        for name in ("one", "two"):
            await rig.until("Cloud", name, "Ready")
        set_finalizer = rig.engine.objects.set_finalizer

        async def later(key: Key, finalizer: str, *, wanted: bool) -> None:
            await asyncio.sleep(1.0)
            await set_finalizer(key, finalizer, wanted=wanted)

        rig.engine.objects.set_finalizer = later  # type: ignore[method-assign]
        await rig.delete("Cloud", "one")
        await rig.delete("Cloud", "two")
        await rig.wait(lambda: rig.find("Cloud", "one") is None and rig.find("Cloud", "two") is None, 30)
        await rig.let_pass(5)
        assert await _finalizers(rig, "Secret", "keys") == []

    play(tmp_path, main)


def test_a_secret_goes_though_an_answer_is_lost_while_its_cloud_does(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(secret("keys", password="right"), cloud(secret="keys"))
        await rig.until("Cloud", "sim", "Ready")
        patch, lost = rig.store.patch, [1]

        async def once(key: Key, body: Obj, **more: Any) -> Obj:
            if key.kind == "Secret" and lost:
                lost.clear()
                raise errors.Unavailable("no answer")
            return await patch(key, body, **more)

        rig.engine.objects.store.patch = once  # type: ignore[method-assign]
        await rig.delete("Cloud", "sim")
        await rig.wait(lambda: rig.find("Cloud", "sim") is None, 60)
        assert not lost
        assert await _finalizers(rig, "Secret", "keys") == []

    play(tmp_path, main)


def test_a_cloud_made_again_at_once_is_asked_at_once(tmp_path: Path) -> None:
    """The next one of its name is there before anybody has missed the first."""

    async def main(rig: Rig) -> None:
        await rig.make(cloud())
        await rig.until("Cloud", "sim", "Ready")
        await rig.let_pass(30)
        objects = rig.engine.objects
        set_finalizer = objects.set_finalizer

        async def and_made_again(key: Key, finalizer: str, *, wanted: bool) -> None:
            await set_finalizer(key, finalizer, wanted=wanted)
            if not wanted:
                objects.set_finalizer = set_finalizer  # type: ignore[method-assign]
                await rig.make(cloud())
                await rig.wait(lambda: rig.find("Cloud", "sim") is not None, 5)

        objects.set_finalizer = and_made_again  # type: ignore[method-assign]
        first = rig.obj("Cloud", "sim")["metadata"]["uid"]

        def another() -> bool:
            found = rig.find("Cloud", "sim")
            return found is not None and found["metadata"]["uid"] != first

        await rig.delete("Cloud", "sim")
        await rig.wait(lambda: another() and rig.said("Cloud", "sim")[0] == "True", 15)

    play(tmp_path, main)


def test_a_secret_of_two_clouds_is_kept_for_the_second(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(secret("keys", password="right"), cloud("one", secret="keys"), cloud("two", secret="keys"))
        await rig.until("Cloud", "two", "Ready")
        await rig.until("Cloud", "one", "Ready")
        await rig.delete("Cloud", "one")
        await rig.wait(lambda: rig.find("Cloud", "one") is None, 30)
        assert FINALIZER in await _finalizers(rig, "Secret", "keys")
        await rig.delete("Cloud", "two")
        await rig.wait(lambda: rig.find("Cloud", "two") is None, 30)
        await rig.let_pass(1)
        assert await _finalizers(rig, "Secret", "keys") == []

    play(tmp_path, main)


def test_a_cloud_deleted_while_machines_live_stays_and_makes_no_more(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(2))
        await rig.delete("Cloud", "sim")
        await rig.let_pass(60)
        assert rig.find("Cloud", "sim") is not None
        await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": 3}})
        await rig.until("InstanceGroup", "shop-app", "WaitingForCloud", seconds=30)
        await rig.unchanged(300)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(lambda: rig.gone() and rig.find("Cloud", "sim") is None, 120)
        assert rig.world.live() == []

    play(tmp_path, main, steady())
