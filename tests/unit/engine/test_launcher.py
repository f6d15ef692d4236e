"""The launcher: recorded before sent, sent once, repeated only as the very same call, and within the limit."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest

from controller import errors
from controller.api import meta
from controller.api.reasons import Reason
from controller.engine.launcher import Launcher
from controller.ports import Key
from controller.reconcilers.instance.observed import Attempt, Sent
from tests.simulated.world import Settings
from tests.unit.engine.launching import binding, creates, ready, recorded
from tests.unit.engine.rig import Rig, run, turns


def test_the_intent_is_in_the_store_before_the_cloud_is_called(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        stored = await rig.store.get(Key("Instance", "default", "shop-app-0"))
        assert stored["status"]["launch"]["digest"].startswith("sha256:")
        assert rig.launcher.attempt(rig.instance().metadata.uid).sent is Sent.IN_FLIGHT
        assert creates(rig) == [], "nothing was sent yet"
        await turns()
        made = rig.launcher.attempt(rig.instance().metadata.uid)
        assert made.machine is not None
        assert [each.token for each in creates(rig)] == ["batch-0"]
        assert rig.woken[-1] == Key("Instance", "default", "shop-app-0")

    run(tmp_path, scenario)


def test_a_conflict_at_the_record_sends_nothing(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        stale = rig.instance()
        seen = await rig.store.get(Key("Instance", "default", "shop-app-0"))
        await rig.store.patch(
            Key("Instance", "default", "shop-app-0"),
            {"metadata": {"labels": {"by": "another"}}},
            version=seen["metadata"]["resourceVersion"],
        )
        with pytest.raises(errors.Conflict):
            await rig.launcher.launch(stale, binding(rig), recorded(rig))
        await turns()
        assert creates(rig) == []

    run(tmp_path, scenario)


@pytest.mark.parametrize("kind", ["InstanceGroup", "Infrastructure", "Cloud"])
def test_nothing_is_launched_under_an_owner_that_goes(tmp_path: Path, kind: str) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        name = {"InstanceGroup": "shop-app", "Infrastructure": "shop", "Cloud": "sim"}[kind]
        going = await rig.store.get(Key(kind, "default", name))
        await rig.store.delete(Key(kind, "default", name), uid=going["metadata"]["uid"])
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await turns()
        assert creates(rig) == []
        held = rig.launcher.attempt(rig.instance().metadata.uid)
        assert (held.sent, held.reason) == (Sent.HELD, Reason.WAITING_FOR_CLOUD if kind == "Cloud" else Reason.WAITING_FOR_GROUP)
        assert rig.instance().status.launch is None

    run(tmp_path, scenario)


def test_a_store_that_is_not_ours_any_more_sends_nothing(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        (tmp_path / "state.db").rename(tmp_path / "moved.db")
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await turns()
        assert creates(rig) == []
        assert rig.launcher.attempt(rig.instance().metadata.uid).reason is Reason.FROZEN

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("error", "sent", "reason"),
    [
        pytest.param(errors.NoCapacity("full"), Sent.REFUSED, Reason.NO_CAPACITY, id="capacity"),
        pytest.param(errors.QuotaExceeded("quota"), Sent.REFUSED, Reason.QUOTA_EXCEEDED, id="quota"),
        pytest.param(errors.Invalid("image", "no"), Sent.REFUSED, Reason.CLOUD_INVALID, id="invalid"),
        pytest.param(errors.Throttled("slow"), Sent.UNKNOWN, Reason.THROTTLED, id="throttled"),
        pytest.param(errors.Denied("no"), Sent.UNKNOWN, Reason.DENIED, id="denied"),
        pytest.param(errors.Transient("reset"), Sent.UNKNOWN, Reason.CLOUD_UNREACHABLE, id="transient"),
        pytest.param(errors.TokenSpent("spent"), Sent.MISMATCH, Reason.LAUNCHING, id="token spent"),
    ],
)
@pytest.mark.parametrize("whole", [pytest.param(True, id="whole call"), pytest.param(False, id="one request")])
def test_what_each_answer_means(tmp_path: Path, error: errors.CloudError, sent: Sent, reason: Reason, whole: bool) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        rig.world.fail("create", error, whole=whole)
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await turns()
        attempt = rig.launcher.attempt(rig.instance().metadata.uid)
        assert (attempt.sent, attempt.reason, attempt.machine) == (sent, reason, None)

    run(tmp_path, scenario)


def test_a_lost_reply_is_repeated_with_the_same_token_and_makes_one_machine(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        rig.world.fail("create", errors.Transient("reset"), after=True)
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await turns()
        assert rig.launcher.attempt(rig.instance().metadata.uid).sent is Sent.UNKNOWN
        again: Launcher = rig.new_launcher()  # the process died as well
        await again.resend(rig.instance(), binding(rig))
        await turns()
        assert again.attempt(rig.instance().metadata.uid).machine is not None
        assert [each.token for each in creates(rig)] == ["batch-0", "batch-0"]
        assert len(rig.world.machines) == 1

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("before", "sent"),
    [
        pytest.param(errors.Throttled("slow"), Sent.REFUSED, id="throttled: an answer"),
        pytest.param(errors.Denied("no"), Sent.REFUSED, id="denied: an answer"),
        pytest.param(errors.Transient("reset"), Sent.DOUBTFUL, id="no answer"),
    ],
)
def test_a_refusal_proves_that_nothing_was_made_where_every_call_before_was_answered(
    tmp_path: Path, before: errors.CloudError, sent: Sent
) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        rig.world.fail("create", before)
        rig.world.fail("create", errors.Throttled("slow"))
        rig.world.fail("create", errors.NoCapacity("full"))
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        for _ in range(2):
            await turns()
            await rig.launcher.resend(rig.instance(), binding(rig))
        await turns()
        attempt = rig.launcher.attempt(rig.instance().metadata.uid)
        assert (attempt.sent, attempt.reason) == (sent, Reason.NO_CAPACITY)

    run(tmp_path, scenario)


def test_a_refusal_proves_nothing_of_the_call_of_an_earlier_process(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        rig.world.fail("create", errors.Throttled("slow"))
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await turns()
        rig.world.fail("create", errors.NoCapacity("full"))
        again = rig.new_launcher()
        await again.resend(rig.instance(), binding(rig))
        await turns()
        assert again.attempt(rig.instance().metadata.uid).sent is Sent.DOUBTFUL

    run(tmp_path, scenario)


def test_with_a_fence_the_recorded_one_is_used_again(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        rig.world.fail("create", errors.Transient("reset"), after=True)
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await turns()
        launch = rig.instance().status.launch
        assert launch is not None
        assert launch.fence
        await rig.new_launcher().resend(rig.instance(), binding(rig))
        await turns()
        assert len(rig.world.machines) == 1
        assert list(rig.world.fences) == [launch.fence], "no second fence was made"

    run(tmp_path, scenario, Settings(fences=True))


def test_a_request_that_cannot_be_made_the_same_is_never_sent_again(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.secret("keys", word=base64.b64encode(b"one").decode())
        await ready(rig, variables={}, secrets={"word": {"name": "keys", "key": "word"}})
        rig.world.fail("create", errors.Transient("reset"))
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await turns()
        secret = Key("Secret", "default", "keys")
        seen = await rig.store.get(secret)
        changed = {"data": {"word": base64.b64encode(b"another").decode()}}
        await rig.store.patch(secret, changed, version=seen["metadata"]["resourceVersion"])
        await rig.launcher.resend(rig.instance(), binding(rig))
        await turns()
        assert rig.launcher.attempt(rig.instance().metadata.uid).sent is Sent.MISMATCH
        seen = await rig.store.get(secret)
        await rig.store.delete(secret, uid=seen["metadata"]["uid"])
        await rig.new_launcher().resend(rig.instance(), binding(rig))
        await turns()
        assert len(creates(rig)) == 1
        assert rig.world.machines == {}

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "fails",
    [
        pytest.param(errors.RendererFailed("the renderer cannot be started"), id="renderer"),
        pytest.param(errors.TooCostly("t", 0, 0, "rendering took too long"), id="too costly"),
    ],
)
def test_a_machine_that_cannot_render_decides_nothing_about_a_recorded_launch(tmp_path: Path, fails: errors.OccopusError) -> None:
    """It was rendered once. Whatever keeps it from being so again says nothing of the request."""

    async def scenario(rig: Rig) -> None:
        await ready(rig)
        rig.world.fail("create", errors.Transient("reset"))
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await turns()
        launch, again = rig.instance().status.launch, rig.new_launcher()
        rig.renderer.fails = fails
        await again.resend(rig.instance(), binding(rig))
        await turns()
        waits = again.attempt(rig.instance().metadata.uid)
        assert (waits.sent, waits.reason) == (Sent.UNKNOWN, Reason.RENDERER_FAILED)
        assert waits.after > timedelta(0)
        assert len(creates(rig)) == 1
        rig.renderer.fails = None
        await again.resend(rig.instance(), binding(rig))
        await turns()
        assert again.attempt(rig.instance().metadata.uid).machine is not None
        assert len({each.token for each in creates(rig)}) == 1
        assert rig.instance().status.launch == launch

    run(tmp_path, scenario)


def test_the_answer_to_the_launch_of_an_instance_that_is_gone_is_not_kept(tmp_path: Path) -> None:
    """It was given up while the call was on its way: nobody would ever ask for what came of it."""

    async def scenario(rig: Rig) -> None:
        await ready(rig)
        instance = rig.instance()
        await rig.launcher.launch(instance, binding(rig), recorded(rig))
        await rig.objects.delete(Key("Instance", "default", "shop-app-0"))
        await rig.objects.refresh(Key("Instance", "default", "shop-app-0"))
        await rig.objects.set_finalizer(Key("Instance", "default", "shop-app-0"), meta.FINALIZER, wanted=False)
        await turns()
        assert len(creates(rig)) == 1
        assert rig.launcher.attempt(instance.metadata.uid) == Attempt()

    run(tmp_path, scenario)


def test_calls_on_their_way_are_waited_for_and_then_cut_off(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await rig.launcher.drain(8)
        assert rig.launcher.attempt(rig.instance().metadata.uid).machine is not None

    run(tmp_path, scenario)
