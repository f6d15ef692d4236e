"""What holds a launch back: the limit, a batch that is not whole, what cannot be rendered; and what it takes of the account's rate."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller import errors
from controller.api.instance import Batch
from controller.api.reasons import Reason
from controller.engine.turns import Wish
from controller.ports import Key, Limit
from controller.reconcilers.instance.observed import Sent
from tests.properties import build
from tests.simulated.world import Settings
from tests.unit.engine.launching import binding, creates, ready, recorded
from tests.unit.engine.rig import Rig, run, turns


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
