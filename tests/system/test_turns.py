"""Who may launch when: turns within a rate, places within a limit, and what becomes of both when their Instances do not take them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, cast

import pytest

from controller import errors
from controller.engine import metrics
from controller.ports import Key, Limit, Obj, Store
from controller.reconcilers.instance.observed import Attempt, Health
from tests.system.documents import Document, cloud, infrastructure, service, template
from tests.system.rig import Rig, play, steady
from tests.system.test_batches import READS_ITSELF, batching, many

BURST, A_SECOND = 5.0, 2.0
RATED = {"create": (Limit(BURST, A_SECOND),)}


class Losing:
    """A store that loses the right to act as soon as a launch is written, as a lease may run out; all else is passed on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._holds = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def holds(self) -> bool:
        return self._holds

    async def patch(self, key: Key, patch: Obj, **options: Any) -> Obj:
        answer = await self._store.patch(key, patch, **options)
        if "launch" in patch.get("status", {}):
            self._holds = False
        return answer


def _passes() -> float:
    """How many passes over Instances there were, since this interpreter began."""
    samples = itertools.chain.from_iterable(metric.samples for metric in metrics.reconciles.collect())
    return sum(each.value for each in samples if each.labels.get("kind") == "Instance" and each.name.endswith("_total"))


def _two(most: int, app: int, web: int) -> list[Document]:
    """Two Infrastructures, shop with app and other with web, on a Cloud that has room for the most."""
    return [
        *(cloud(maxInstances=most), template("app"), template("web")),
        infrastructure(service("app", scaling={"min": app})),
        infrastructure(service("web", scaling={"min": web}), name="other"),
    ]


async def _pause(rig: Rig, paused: bool) -> None:
    await rig.patch("Infrastructure", "shop", {"spec": {"paused": paused}})


# --- turns
def test_turns_that_passed_in_a_pause_are_not_all_taken_at_its_end(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(*many(50, READS_ITSELF))
        await rig.let_pass(3)
        await _pause(rig, True)
        await rig.let_pass(60)
        sent = rig.calls("create")
        await _pause(rig, False)
        await rig.wait(lambda: rig.calls("create") > sent, 20)
        await rig.let_pass(5)
        assert rig.calls("create") - sent <= BURST + 5 * A_SECOND + 1
        await rig.wait(rig.ready, 200)

    play(tmp_path, main, steady(limits=RATED))


def test_the_turns_of_instances_that_are_gone_are_free_again(tmp_path: Path) -> None:
    """A hundred turns at one in two seconds: those that nobody takes would keep the next for 200 s."""

    async def main(rig: Rig) -> None:
        await rig.make(*many(100, READS_ITSELF))
        await rig.wait(lambda: len(rig.instances()) == 100)
        await rig.let_pass(2)
        await rig.delete("Infrastructure", "shop")
        await rig.wait(rig.gone, 300)
        made = len(rig.made())
        await rig.make(infrastructure(service("app")))
        await rig.wait(lambda: len(rig.made()) > made, 10)

    play(tmp_path, main, steady(limits={"create": (Limit(2.0, 0.5),)}))


def test_instances_that_cannot_be_launched_yet_take_no_turn_from_others(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        app = template("app", "#cloud-config\nruncmd: ['{{ instance.index }} {{ variables.s }}']\n")
        absent = {"name": "s", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "k"}}}
        await rig.make(cloud(maxInstances=1000), app, template("web"))
        await rig.make(infrastructure(service("app", scaling={"min": 100}), variables=[absent]))
        await rig.wait(lambda: len(rig.instances()) == 100)
        await rig.let_pass(60)
        await rig.make(infrastructure(service("web"), name="other"))
        await rig.wait(lambda: bool(rig.live("web")), 10)
        await rig.delete("Infrastructure", "shop")

    play(tmp_path, main, steady(limits=RATED))


def test_a_service_that_comes_is_served_next_whatever_waits(tmp_path: Path) -> None:
    """A hundred different machines of one service take fifty seconds; one of another's is not behind them."""

    async def main(rig: Rig) -> None:
        await rig.make(cloud(maxInstances=1000), template("app", READS_ITSELF), template("web", READS_ITSELF))
        await rig.make(infrastructure(service("app", scaling={"min": 100})))
        await rig.wait(lambda: rig.calls("create") >= BURST)
        await rig.make(infrastructure(service("web", scaling={"min": 5}), name="other"))
        await rig.wait(lambda: bool(rig.live("web")), 4)
        await rig.wait(lambda: len(rig.live("web")) == 5, 7)
        assert len(rig.live()) < 30
        await rig.wait(lambda: len(rig.live()) == 100, 60)

    play(tmp_path, main, steady(limits=RATED))


def test_a_launch_is_not_sent_if_the_right_to_act_is_lost_while_it_is_written(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.crash()
        rig.wrap_store = lambda store: cast(Store, Losing(store))
        rig.start()
        await rig.make(*many(4))
        await rig.wait(lambda: any("launch" in each["status"] for each in rig.instances()), 30)
        await rig.let_pass(20)
        assert rig.calls("create") == 0

    play(tmp_path, main, batching())


# --- passes
def test_what_awaits_a_list_that_does_not_come_is_not_busy(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail("create", errors.TokenSpent("another request"))
        await rig.make(*many(20))
        await rig.wait(lambda: rig.calls("create") == 1, 30)
        await rig.let_pass(1)
        fault = rig.world.fail("list", errors.Transient("away"), times=1e9)
        await rig.let_pass(150)
        before = _passes()
        await rig.let_pass(60)
        # About one a second for each that waits.
        assert _passes() - before < 60 * 25
        rig.world.clear(fault)
        await rig.wait(rig.ready, 500)

    play(tmp_path, main, batching())


# --- places
@pytest.mark.parametrize("lag", [pytest.param(0.0, id="seen at once"), pytest.param(20.0, id="seen late")])
def test_two_batches_of_one_moment_fill_the_limit_and_no_more(tmp_path: Path, lag: float) -> None:
    async def main(rig: Rig) -> None:
        rig.hold("create", 2)
        await rig.make(*_two(10, 8, 8))
        await rig.wait(lambda: len(rig.world.live()) >= 10, 1000)
        await rig.let_pass(100)
        assert len(rig.world.live()) == 10

    play(tmp_path, main, batching(lag_seconds=lag))


def test_machines_of_a_lost_reply_count_against_the_limit(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.world.fail("create", errors.Transient("lost"), after=True)
        *documents, other = _two(10, 8, 8)
        await rig.make(*documents)
        await rig.wait(lambda: rig.calls("create") == 1, 30)
        await rig.make(other)
        await rig.let_pass(100)
        assert 8 <= len(rig.world.live()) <= 10

    play(tmp_path, main, batching(lag_seconds=20.0))


def test_machines_of_a_launch_before_a_crash_count_against_the_limit(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        rig.hold("create", 1000)
        *documents, other = _two(10, 8, 8)
        await rig.make(*documents)
        await rig.wait(lambda: any("launch" in each["status"] for each in rig.instances()), 30)
        await rig.crash()
        rig.hold("create", 10)
        rig.start()
        await rig.make(other)
        await rig.let_pass(100)
        assert 8 <= len(rig.world.live()) <= 10

    play(tmp_path, main, batching(lag_seconds=20.0))


def test_a_batch_that_waits_for_places_takes_those_that_come_one_by_one(tmp_path: Path) -> None:
    """A machine takes 10 s to end: whose place comes is heard of, not found out at some later look."""

    async def main(rig: Rig) -> None:
        *documents, other = _two(40, 40, 4)
        await rig.up(*documents)
        await rig.make(other)
        await rig.until("Instance", "other-web-0", "LimitReached", seconds=60)
        await rig.let_pass(60)
        await rig.patch("Infrastructure", "shop", {"spec": {"services": [service("app", scaling={"min": 1})]}})
        for left in (39, 38, 37, 36):
            await rig.patch("InstanceGroup", "shop-app", {"spec": {"replicas": left}})
            await rig.let_pass(20)
            assert (len(rig.live("app")), len(rig.live("web"))) == (left, 40 - left)

    play(tmp_path, main, batching())


# --- what is remembered
def test_nothing_is_remembered_of_instances_that_were_removed_by_hand(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*many(3))
        engine, removed = rig.engine, [each["metadata"] for each in rig.instances()[:2]]
        assert all(engine.prober.view(each["uid"]) == Health(True) for each in removed)
        for each in removed:
            await rig.delete("Instance", each["name"])
            await rig.patch("Instance", each["name"], {"metadata": {"finalizers": None}})
        gone = {each["uid"] for each in removed}
        await rig.wait(lambda: gone.isdisjoint(each["metadata"]["uid"] for each in rig.instances()) and rig.ready(), 400)
        for each in removed:
            assert engine.prober.view(each["uid"]) == Health()
            assert engine.launcher.attempt(each["uid"]) == Attempt()
            assert each["uid"] not in engine.memory.acts

    play(tmp_path, main, batching())
