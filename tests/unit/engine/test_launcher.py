"""The launcher: recorded before sent, sent once, repeated only as the very same call, and within the limit."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller import errors
from controller.api import meta
from controller.api.instance import Batch, Instance, InstanceStatus, Launch
from controller.api.reasons import Reason
from controller.engine.clouds import Binding
from controller.engine.launcher import Launcher
from controller.engine.turns import Wish
from controller.ports import Key, Limit
from controller.reconcilers.instance import status
from controller.reconcilers.instance.observed import Attempt, Sent
from tests.properties import build
from tests.simulated.world import Call, Settings
from tests.unit.engine.rig import CLOUD, Rig, run, turns


async def ready(rig: Rig, **inputs: object) -> None:
    await rig.world_of_one(**inputs)
    rig.bind()
    await turns()


def creates(rig: Rig) -> list[Call]:
    return [each for each in rig.world.ledger if each.action == "create"]


def binding(rig: Rig) -> Binding:
    found = rig.clouds.binding(CLOUD)
    assert found is not None
    return found


def recorded(rig: Rig, instance: Instance | None = None) -> Callable[[Launch], InstanceStatus]:
    """The status that holds a launch, as the reconciler makes it."""
    of = instance or rig.instance()
    return lambda launch: status.sent(of, launch, launch.time)


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


async def _never(*_: object) -> Any:
    """Calls to a cloud that does not answer."""
    await asyncio.Event().wait()


def test_launches_prepared_at_once_do_not_pass_the_limit_together(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        rig.threads, launcher = _never, rig.new_launcher()
        tasks: list[asyncio.Task[None]] = []
        first = rig.instance()
        for index in range(5):
            batch = first.spec.batch.model_copy(update={"id": f"batch-{index}"})
            metadata = first.metadata.model_copy(update={"uid": f"uid-{index}"})
            each = first.model_copy(update={"spec": first.spec.model_copy(update={"batch": batch}), "metadata": metadata})
            if launcher.has_room(each, binding(rig), 3):
                tasks.append(asyncio.create_task(launcher.launch(each, binding(rig), recorded(rig, each))))
                await asyncio.sleep(0)  # begun, and not at its end
        assert len(tasks) == 3
        assert launcher.has_room(first, binding(rig), 3), "one that counts already may go on"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(tmp_path, scenario)


def test_what_is_held_back_does_not_count_against_the_limit(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig, variables={}, secrets={"word": {"name": "none", "key": "word"}})
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        held = rig.launcher.attempt(rig.instance().metadata.uid)
        assert (held.sent, held.reason) == (Sent.HELD, Reason.SECRET_NOT_FOUND)
        other = build.instance(7)
        assert rig.launcher.has_room(other, binding(rig), 1)
        assert not rig.launcher.has_room(other, binding(rig), 0)

    run(tmp_path, scenario)


def test_a_launch_that_costs_too_much_to_render_is_not_tried_again_soon(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        rig.renderer.fails = errors.TooCostly("t", 0, 0, "rendering took too long")
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        held = rig.launcher.attempt(rig.instance().metadata.uid)
        assert (held.sent, held.reason) == (Sent.HELD, Reason.TEMPLATE_INVALID)
        assert held.after >= timedelta(minutes=1)
        rig.renderer.fails = errors.RendererFailed("the renderer cannot be started")
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        held = rig.launcher.attempt(rig.instance().metadata.uid)
        assert (held.sent, held.reason, held.after) == (Sent.HELD, Reason.RENDERER_FAILED, timedelta(0))

    run(tmp_path, scenario)


def test_calls_on_their_way_are_waited_for_and_then_cut_off(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await rig.launcher.drain(8)
        assert rig.launcher.attempt(rig.instance().metadata.uid).machine is not None

    run(tmp_path, scenario)


def member(rig: Rig, index: int) -> dict[str, Any]:
    """Another member of the batch of shop-app-0, which is of two."""
    spec = {"index": index, "batch": Batch(id="batch-0", index=index, size=2)}
    made = build.instance(index, spec=spec, owner_references=rig.instance().metadata.owner_references)
    return made.model_dump(by_alias=True, exclude_unset=True, mode="json")


@pytest.mark.parametrize("there", ["stays", "goes", "was never made"])
def test_a_batch_is_launched_only_while_all_its_members_are_there(tmp_path: Path, there: str) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        first = rig.instance()
        whole = first.model_copy(update={"spec": first.spec.model_copy(update={"batch": Batch(id="batch-0", index=0, size=2)})})
        if there != "was never made":
            await rig.put("Instance", member(rig, 1))
        if there == "goes":
            # Behind the cache's back, as another replica of the API server would have it.
            key = Key("Instance", "default", "shop-app-1")
            await rig.store.delete(key, uid=(await rig.store.get(key))["metadata"]["uid"])
        await rig.launcher.launch(whole, binding(rig), recorded(rig, whole))
        await turns()
        assert len(creates(rig)) == (1 if there == "stays" else 0)
        assert len(rig.world.machines) == (2 if there == "stays" else 0)
        assert rig.launcher.attempt(first.metadata.uid).sent is (Sent.NO if there == "stays" else Sent.HELD)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        pytest.param(None, False, id="made"),
        pytest.param(errors.NoCapacity("full"), True, id="no capacity"),
        pytest.param(errors.QuotaExceeded("quota"), True, id="quota"),
        pytest.param(errors.Invalid("image", "no"), True, id="invalid"),
        pytest.param(errors.Denied("no"), True, id="denied"),
        pytest.param(errors.Transient("reset"), False, id="not known"),
    ],
)
def test_what_made_no_machine_uses_up_none_of_the_accounts_rate_of_machines(
    tmp_path: Path, answer: errors.CloudError | None, left: bool
) -> None:
    async def scenario(rig: Rig) -> None:
        await ready(rig)
        if answer is not None:
            rig.world.fail("create", answer)
        await rig.launcher.launch(rig.instance(), binding(rig), recorded(rig))
        await turns()
        assert len(creates(rig)) == 1
        wait = binding(rig).inventory.calls.turns.ask(Wish("another", "another", 1, lambda: None))
        assert (wait == 0) is left

    run(tmp_path, scenario, Settings(limits={"create": (Limit(100.0, 1.0), Limit(2.0, 0.01, per_machine=True))}))
