"""Launches whose outcome is unknown: lag, lost replies, spent tokens, changed secrets. Never two machines, never a leak."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller import errors
from tests.simulated.world import Settings
from tests.system.documents import Document, alone, cloud, infrastructure, secret, service, template
from tests.system.rig import MUTATING, Rig, play, steady

INF = float("inf")


def _tokens(rig: Rig, *outcomes: str) -> list[str]:
    """Tokens of the create calls with these outcomes (any)."""
    return [each.token for each in rig.world.ledger if each.action == "create" and (not outcomes or each.outcome in outcomes)]


def test_a_machine_that_no_list_shows_for_a_minute_is_known_by_its_id(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(lambda: len(rig.made()) == 3)
        await rig.let_pass(30)
        # The list is still empty; the ids stay recorded and nothing is made again.
        assert all(each["status"]["machine"]["id"] for each in rig.instances())
        await rig.wait(rig.ready, 200)
        await rig.unchanged(100)

    rig = play(tmp_path, main, steady(lag_seconds=60))
    assert len(rig.made()) == 3
    assert len(_tokens(rig)) == 3


@pytest.mark.parametrize("closes", [pytest.param(True, id="certain close"), pytest.param(False, id="time alone tells")])
def test_a_deletion_right_after_the_launch_under_lag_leaks_nothing(tmp_path: Path, closes: bool) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*alone(2))
        await rig.wait(lambda: len(rig.made()) == 2)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 600)
        assert rig.world.live() == []

    play(tmp_path, main, steady(lag_seconds=60, closes=closes))


@pytest.mark.parametrize("closes", [pytest.param(True, id="certain close"), pytest.param(False, id="time alone tells")])
@pytest.mark.parametrize("lag", [pytest.param(0, id="no lag"), pytest.param(60, id="lag"), pytest.param(110, id="long lag")])
def test_a_deletion_after_a_lost_reply_leaks_nothing(tmp_path: Path, lag: float, closes: bool) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail("create", errors.Transient("the line broke"), after=True, times=INF)
        await rig.make(*alone(1))
        await rig.wait(lambda: len(rig.made()) == 1)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 900)
        assert rig.world.live() == []

    play(tmp_path, main, steady(lag_seconds=lag, closes=closes))


@pytest.mark.parametrize(
    "settings", [pytest.param(steady(lag_seconds=60), id="token"), pytest.param(steady(lag_seconds=60, fences=True), id="fence")]
)
def test_a_lost_reply_under_lag_is_asked_for_again_by_the_same_token(tmp_path: Path, settings: Settings) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail("create", errors.Transient("the line broke"), after=True, times=3)
        await rig.make(*alone(1))
        await rig.until("Instance", "shop-app-0", "CloudUnreachable")
        assert "the line broke" in rig.said("Instance", "shop-app-0")[2]
        await rig.wait(rig.ready, 300)

    rig = play(tmp_path, main, settings)
    assert len(rig.made()) == 1
    assert len(set(_tokens(rig))) == 1
    assert len(_tokens(rig)) == 4


def test_a_reply_that_is_lost_for_ever_is_found_by_tag(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail("create", errors.Transient("the line broke"), after=True, times=INF)
        await rig.up(*alone(1))

    rig = play(tmp_path, main, steady(lag_seconds=20))
    assert len(rig.made()) == 1
    assert len(set(_tokens(rig))) == 1


def test_a_token_that_is_spent_is_never_sent_again(tmp_path: Path) -> None:
    """TokenSpent says only that some machine of this token ended: looked for by tag, then given up, and made anew."""

    async def main(rig: Rig) -> None:
        rig.world.fail("create", errors.TokenSpent("the token names a machine that has ended"))
        await rig.make(*alone(1))
        await rig.wait(lambda: len(_tokens(rig)) == 1)
        refused_at = next(call.time for call in rig.world.ledger if call.action == "create")
        await rig.hear("LaunchLost", "shop-app-0", 300)
        assert rig.clock() - refused_at >= 120
        await rig.wait(rig.ready, 200)

    rig = play(tmp_path, main)
    assert len(_tokens(rig)) == len(set(_tokens(rig))) == 2


def test_a_launch_is_sent_again_however_long_the_renderer_fails_after_a_restart(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        fault = rig.world.fail("create", errors.Transient("the line broke"), times=INF)
        await rig.make(*alone(1))
        await rig.wait(lambda: len(_tokens(rig)) == 1)
        await rig.crash()
        rig.world.clear(fault)
        rig.renderer.fails = errors.RendererFailed("the renderer gave no answer within 30 s")
        rig.start()
        await rig.until("Instance", "shop-app-0", "RendererFailed")
        launch = rig.obj("Instance", "shop-app-0")["status"]["launch"]
        await rig.unchanged(900)
        assert rig.obj("Instance", "shop-app-0")["status"]["launch"] == launch
        rig.renderer.fails = None
        await rig.wait(rig.ready, 120)

    rig = play(tmp_path, main)
    assert len(rig.made()) == 1
    assert len(set(_tokens(rig))) == 1


def _secretive() -> list[Document]:
    variables = [{"name": "password", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]
    text = "#cloud-config\nruncmd: ['{{ variables.password }}']\n"
    return [secret("db", password="old"), cloud(), template("app", text), infrastructure(service("app", variables=variables))]


@pytest.mark.parametrize("made", [pytest.param(True, id="it was made"), pytest.param(False, id="it was not")])
def test_a_secret_that_changed_between_launch_and_restart_never_repeats_the_call(tmp_path: Path, made: bool) -> None:
    async def main(rig: Rig) -> None:
        fault = rig.world.fail("create", errors.Transient("the line broke"), after=made, times=INF)
        await rig.make(*_secretive())
        await rig.wait(lambda: len(_tokens(rig)) == 1)
        await rig.crash()
        rig.world.clear(fault)
        rig.start()
        # The same moment: the user's change and the new process.
        await rig.patch("Secret", "db", {"stringData": {"password": "new"}})
        if not made:
            await rig.hear("LaunchLost", "shop-app-0", 300)
            # The launch may have been sent again until the crash; the cloud needs so long to show it.
            assert rig.clock() >= 120
        await rig.wait(rig.ready, 400)

    rig = play(tmp_path, main, steady(lag_seconds=40))
    assert len(rig.made()) == 1
    machine = rig.made()[0]
    assert (b"old" in machine.user_data) is made
    first = _tokens(rig)[0]
    assert _tokens(rig).count(first) == 1
    assert len(set(_tokens(rig))) == (1 if made else 2)


def test_no_secret_reaches_an_object_or_an_event(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        documents = _secretive()
        documents[0]["stringData"]["password"] = "hunter2-very-secret"
        await rig.up(*documents)
        rig.world.kill(rig.live()[0].id)
        await rig.wait(lambda: not rig.ready())
        await rig.wait(rig.ready)
        await rig.let_pass(1)
        assert b"hunter2-very-secret" in rig.live()[0].user_data
        for kind in ("Cloud", "InstanceTemplate", "Infrastructure", "InstanceGroup", "Instance", "ControllerRevision", "Event"):
            assert "hunter2" not in str(await rig.store.list(kind))

    play(tmp_path, main)


def test_a_secret_that_is_missing_launches_nothing_until_it_is_there(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*_secretive()[1:])
        await rig.until("Instance", "shop-app-0", "SecretNotFound")
        assert "db" in rig.said("Instance", "shop-app-0")[2]
        await rig.let_pass(120)
        assert rig.calls(*MUTATING) == 0 or rig.calls("create") == 0
        await rig.make(_secretive()[0])
        await rig.wait(rig.ready, 60)

    assert len(play(tmp_path, main).made()) == 1


def test_a_crash_right_after_the_call_finds_the_machine_again(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*alone(3))
        await rig.wait(lambda: bool(rig.made()))
        for _ in range(5):
            await rig.restart()
        await rig.wait(rig.ready, 300)

    assert len(play(tmp_path, main, steady(lag_seconds=60)).made()) == 3


@pytest.mark.parametrize(
    "error", [pytest.param(errors.Transient("no answer"), id="transient"), pytest.param(errors.Throttled("slow down"), id="throttled")]
)
def test_a_fence_that_cannot_be_made_launches_nothing_and_is_tried_again(tmp_path: Path, error: errors.CloudError) -> None:
    async def main(rig: Rig) -> None:
        fault = rig.world.fail("prepare", error, times=INF)
        await rig.make(*alone(1))
        await rig.until("Instance", "shop-app-0", "Throttled" if isinstance(error, errors.Throttled) else "CloudUnreachable")
        await rig.let_pass(60)
        assert rig.calls("create") == 0
        assert "launch" not in rig.obj("Instance", "shop-app-0")["status"]
        rig.world.clear(fault)
        await rig.wait(rig.ready, 60)

    assert len(play(tmp_path, main, steady(fences=True)).made()) == 1


def test_fences_of_launches_that_were_never_sent_go_with_their_instance(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail("prepare", errors.Transient("the reply was lost"), after=True, times=INF)
        await rig.make(*alone(2))
        await rig.wait(lambda: len(rig.world.fences) == 2)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 300)
        assert rig.world.fences == {}

    assert play(tmp_path, main, steady(fences=True)).made() == []
