"""Alike machines made by one call: who commits it, who gives it up, what a refusal and a crash mean for its members."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from controller import errors
from controller.ports import Key, Limit
from tests.simulated.harness import reason
from tests.simulated.world import Settings
from tests.system.documents import Document, cloud, implementation, infrastructure, service, template
from tests.system.rig import Rig, ids, play, steady

READS_ITSELF = "#cloud-config\nruncmd: ['{{ instance.index }}']\n"


def batching(most: int = 100, **settings: Any) -> Settings:
    return steady(most_per_call=most, **settings)


def many(number: int, text: str = "", **spec: Any) -> list[Document]:
    made = template("app", text) if text else template("app")
    return [cloud(maxInstances=1000, **spec), made, infrastructure(service("app", scaling={"min": number}))]


def whole_calls(rig: Rig, action: str) -> int:
    return rig.world.counts()[action]


def test_alike_machines_are_made_by_a_call_for_each_hundred(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*many(250))
        assert whole_calls(rig, "create") == 3
        sizes = sorted({each["spec"]["batch"]["id"]: each["spec"]["batch"]["size"] for each in rig.instances()}.values())
        assert sizes == [50, 100, 100]
        assert len(ids(rig.live())) == 250
        await rig.unchanged(400)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 120)
        assert whole_calls(rig, "delete") <= 5

    assert len(play(tmp_path, main, batching()).made()) == 250


def test_machines_whose_template_reads_which_they_are_are_made_singly(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*many(5, READS_ITSELF))
        assert whole_calls(rig, "create") == 5

    play(tmp_path, main, batching())


def test_a_batch_that_the_cloud_has_no_room_for_is_halved_and_then_another_implementation_is_taken(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        two = template("app", implementations=[implementation("one"), implementation("two", size="large")])
        await rig.make(cloud(maxInstances=1000), two, infrastructure(service("app", scaling={"min": 60})))
        await rig.wait(rig.ready, 200)
        sizes = [each.spec["size"] for each in rig.live()]
        assert (sizes.count("small"), sizes.count("large")) == (37, 23)
        # Each size is asked for a few times at most: half of what was refused, until it fits.
        assert whole_calls(rig, "create") <= 60

    play(tmp_path, main, batching(capacity={"small": 37}))


def test_without_another_implementation_what_fits_is_made_and_the_rest_waits(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*many(20))
        await rig.wait(lambda: sum(1 for each in rig.instances() if reason(each) == "Ready") == 13, 300)
        rig.world.settings.quota = None
        await rig.wait(rig.ready, 1000)

    assert len(play(tmp_path, main, batching(quota=13)).made()) == 20


@pytest.mark.parametrize("member", [pytest.param(0, id="the first"), pytest.param(2, id="a later one")])
def test_a_member_deleted_before_the_launch_gives_the_batch_up(tmp_path: Path, member: int) -> None:
    async def main(rig: Rig) -> None:
        rig.hold("prepare", 5)
        await rig.make(*many(4))
        await rig.wait(lambda: len(rig.instances()) == 4, 30)
        (batch,) = {each["spec"]["batch"]["id"] for each in rig.instances()}
        (name,) = [each["metadata"]["name"] for each in rig.instances() if each["spec"]["batch"]["index"] == member]
        await rig.delete("Instance", name)
        rig.before.clear()
        await rig.wait(rig.ready, 120)
        assert batch not in {each.identity.batch_id for each in rig.made()}, "no machine of it was made"
        assert batch not in {each["spec"]["batch"]["id"] for each in rig.instances()}

    assert len(play(tmp_path, main, batching()).made()) == 4


@pytest.mark.parametrize("member", [pytest.param(0, id="the first"), pytest.param(2, id="a later one")])
@pytest.mark.parametrize("lost", [pytest.param(False, id="answered"), pytest.param(True, id="reply lost")])
def test_a_member_deleted_while_the_launch_is_on_its_way_takes_its_own_machine_alone(tmp_path: Path, member: int, lost: bool) -> None:
    async def main(rig: Rig) -> None:
        if lost:
            rig.world.fail("create", errors.Transient("lost"), after=True)
        rig.hold("create", 5)
        await rig.make(*many(4))
        await rig.wait(lambda: any("launch" in each["status"] for each in rig.instances()), 30)
        (name,) = [each["metadata"]["name"] for each in rig.instances() if each["spec"]["batch"]["index"] == member]
        await rig.delete("Instance", name)
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 4, 600)
        assert len(rig.made()) == 5, "its own was replaced, no other"
        assert await rig.told("Claimed") == 0, "it let go only once its machine was known to have ended"

    play(tmp_path, main, batching(lag_seconds=1.0))


def test_a_lost_reply_makes_no_second_machine_of_any_member(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail("create", errors.Transient("lost"), after=True)
        await rig.up(*many(30))

    assert len(play(tmp_path, main, batching(lag_seconds=10.0)).made()) == 30


@pytest.mark.parametrize("after", [pytest.param(False, id="before the call"), pytest.param(True, id="after it")])
def test_a_crash_at_the_call_makes_no_second_machine_of_any_member(tmp_path: Path, after: bool) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail("create", errors.Transient("lost"), after=after)
        await rig.make(*many(30))
        await rig.wait(lambda: rig.calls("create") == 1, 30)
        await rig.restart()
        # By the same call again: what only shows by its tag is waited for longer.
        await rig.wait(rig.ready, 100)

    assert len(play(tmp_path, main, batching(lag_seconds=10.0)).made()) == 30


def test_members_of_a_batch_are_replaced_and_scaled_in_singly(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*many(10))
        dead = rig.machine("shop-app-0").id
        rig.world.kill(dead)
        await rig.wait(lambda: rig.ready() and dead not in ids(rig.live()), 120)
        await rig.patch("Infrastructure", "shop", {"spec": {"services": [service("app", replicas=4)]}})
        await rig.wait(lambda: rig.ready() and len(rig.live()) == 4, 120)
        assert whole_calls(rig, "create") == 2

    assert len(play(tmp_path, main, batching()).made()) == 11


def test_the_most_instances_of_a_cloud_hold_for_batches(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(cloud(maxInstances=12), template("app"), infrastructure(service("app", scaling={"min": 20})))
        await rig.wait(lambda: sum(1 for each in rig.instances() if reason(each) == "Ready") == 12, 120)
        await rig.let_pass(60)
        assert len(rig.live()) == 12
        assert {reason(each) for each in rig.instances()} == {"Ready", "LimitReached"}
        assert whole_calls(rig, "create") == 1
        await rig.patch("Cloud", "sim", {"spec": {"maxInstances": 100}})
        await rig.wait(rig.ready, 120)

    assert len(play(tmp_path, main, batching()).made()) == 20


def test_a_restore_without_status_claims_the_machines_of_a_batch(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*many(6))
        machines = ids(rig.live())
        kept = [await rig.store.get(_key(each)) for each in rig.instances()]
        await rig.crash()
        rig.start()
        for each in kept:
            metadata = {"finalizers": None}
            seen = await rig.store.patch(
                _key(each), {"metadata": metadata}, version=(await rig.store.get(_key(each)))["metadata"]["resourceVersion"]
            )
            await rig.store.delete(_key(each), uid=seen["metadata"]["uid"])
        for each in kept[1:]:
            copy = {
                **each,
                "metadata": {name: each["metadata"][name] for name in ("name", "namespace", "labels", "ownerReferences", "finalizers")},
            }
            copy.pop("status")
            await rig.store.create(copy)
        await rig.wait(lambda: rig.ready() and len(rig.instances()) == 6, 600)
        assert ids(rig.live()) == machines

    assert len(play(tmp_path, main, batching()).made()) == 6


def test_launches_keep_to_the_published_rate_and_none_is_throttled(tmp_path: Path) -> None:
    """Five at once and two a second: fifty take (50 - 5) / 2 seconds at the least."""
    rate = {"create": (Limit(5.0, 2.0),)}
    bound = (50 - 5) / 2

    async def main(rig: Rig) -> None:
        await rig.make(*many(50, READS_ITSELF))
        await rig.wait(lambda: rig.calls("create") == 50, 100)
        sent = [each.time for each in rig.world.ledger if each.action == "create"]
        assert bound <= max(sent) - min(sent) <= 1.15 * bound + 2
        for each in sent:
            assert sum(1 for other in sent if each <= other < each + 5.0) <= math.ceil(5 + 2 * 5.0), "more than the bucket holds"
        await rig.wait(rig.ready, 200)

    play(tmp_path, main, steady(limits=rate))


def _key(obj: Document) -> Key:
    return Key("Instance", "default", obj["metadata"]["name"])
