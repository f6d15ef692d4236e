"""Machines that run and do not serve: the deadline, the threshold, what was said before, the latch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from controller import errors
from controller.api.group import InstanceGroup
from controller.engine.engine import Engine
from controller.ports import MachineId, T
from controller.reconcilers.instancegroup import gather as gathering
from controller.reconcilers.instancegroup import reconcile
from controller.reconcilers.instancegroup.makings import Makings
from controller.reconcilers.instancegroup.observed import Observed, failed
from tests.crash.injector import FaultyStore
from tests.simulated import loop
from tests.simulated.checker import SimulatedChecker
from tests.system.documents import STARTUP, alone, chain, cloud, ill, infrastructure, service, template
from tests.system.rig import Rig, ids, play, steady

INF = float("inf")


@pytest.mark.parametrize("restarted", [pytest.param(True, id="restarted meanwhile"), pytest.param(False, id="lived on")])
def test_nothing_is_replaced_for_what_was_said_while_the_controller_was_cut_off(tmp_path: Path, restarted: bool) -> None:
    """It reached neither the cloud nor the machines, which were well all the time."""

    async def main(rig: Rig) -> None:
        await rig.up(*alone(5))
        five = ids(rig.live())
        cut_off = rig.world.fail("list", errors.Transient("no route to host"), times=INF)
        for each in five:
            rig.world.make_unhealthy(each)
        await rig.wait(lambda: {rig.why("Instance", each["metadata"]["name"]) for each in rig.instances()} == {"ProbeFailed"}, 120)
        await rig.until("InstanceGroup", "shop-app", "Frozen")

        def mend() -> None:
            for each in five:
                rig.world.make_healthy(each)
            rig.world.clear(cut_off)

        if restarted:
            await rig.restart(mend)
        else:
            mend()
        await rig.wait(rig.ready, 60)
        await rig.unchanged(120)

    assert len(play(tmp_path, main).made()) == 5


def test_one_that_got_healthy_while_the_controller_was_cut_off_is_kept_though_its_deadline_is_over(tmp_path: Path) -> None:
    """What its last probe was told before is no word on it."""

    async def main(rig: Rig) -> None:
        rig.world.never_healthy = lambda machine: True
        await rig.make(*ill(5))
        await rig.until("Instance", "shop-app-0", "Starting")
        cut_off = rig.world.fail("list", errors.Transient("no route to host"), times=INF)
        await rig.let_pass(STARTUP + 60)

        def mend() -> None:
            # Between its last probe and the first list that is good.
            rig.before.clear()
            for each in rig.live():
                rig.world.make_healthy(each.id)

        rig.before["a1", "list"] = mend
        rig.world.clear(cut_off)
        await rig.wait(rig.ready, 60)
        await rig.unchanged(120)

    assert len(play(tmp_path, main).made()) == 5


@pytest.mark.parametrize("stage", [pytest.param("Booting", id="it booted"), pytest.param("Starting", id="it started")])
def test_one_that_got_healthy_while_the_process_stood_still_is_kept_though_its_deadline_is_over(tmp_path: Path, stage: str) -> None:
    """As one that is stopped, or whose own machine is moved: all that was due meanwhile is due at once."""

    async def main(rig: Rig) -> None:
        await rig.make(*ill(5))
        await rig.until("Instance", "shop-app-0", stage)
        await rig.let_pass(10.3)
        assert rig.why("Instance", "shop-app-0") == stage
        loop.stand_still(STARTUP)
        await rig.wait(rig.ready, 60)
        await rig.unchanged(120)

    assert len(play(tmp_path, main, steady(boot=30, health=30)).made()) == 5


@pytest.mark.parametrize("harm", [pytest.param("ill", id="ill"), pytest.param("stopped", id="stopped")])
def test_what_failed_while_nobody_looked_is_replaced_once_it_was_looked_at(tmp_path: Path, harm: str) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(5))
        await rig.let_pass(900)
        await rig.crash()
        victim = rig.live()[0]
        (rig.world.make_unhealthy if harm == "ill" else rig.world.stop)(victim.id)
        rig.start()
        await rig.wait(lambda: len(rig.made()) == 6, 60)
        await rig.wait(lambda: rig.ready() and victim.id not in ids(rig.live()), 120)
        # And again, by what the process before had said and could not do.
        await rig.let_pass(900)
        cut_off = rig.world.fail("delete", errors.Transient("no route to host"), times=INF)
        other = rig.live()[0]
        (rig.world.make_unhealthy if harm == "ill" else rig.world.stop)(other.id)
        await rig.wait(lambda: len(rig.made()) == 7, 120)
        await rig.restart()
        rig.world.clear(cut_off)
        await rig.wait(lambda: rig.ready() and other.id not in ids(rig.live()), 120)

    assert len(play(tmp_path, main).made()) == 7


def test_one_that_was_ill_before_a_start_and_is_well_by_then_is_kept(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": True}})
        (only,) = rig.live()
        rig.world.make_unhealthy(only.id)
        await rig.until("Instance", "shop-app-0", "ProbeFailed", seconds=120)
        await rig.crash()
        rig.world.make_healthy(only.id)
        rig.start()
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": False}})
        await rig.wait(rig.ready, 60)
        await rig.unchanged(60)

    assert len(play(tmp_path, main).made()) == 1


class _SlowEvents:
    """A gate of the store behind which an event takes half a second: other passes run meanwhile."""

    async def call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        if name == "store.record":
            await asyncio.sleep(0.5)
        return await do()

    def blocking(self, name: str, do: Callable[[], T]) -> T:
        return do()


def test_one_that_is_ill_right_after_a_start_is_replaced_soon(tmp_path: Path) -> None:
    """The first verdict of a process is the failure itself."""

    async def main(rig: Rig) -> None:
        await rig.up(*alone(3))
        await rig.let_pass(900)
        rig.wrap_store = lambda store: FaultyStore(store, _SlowEvents())
        await rig.restart(lambda: rig.world.make_unhealthy(rig.live()[0].id))
        await rig.wait(lambda: len(rig.made()) == 4, 60)
        await rig.wait(rig.ready, 120)

    play(tmp_path, main)


def test_one_that_is_missing_at_a_start_by_what_was_said_is_replaced_soon(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*alone(1))
        await rig.let_pass(900)
        # While it is paused nothing is replaced, and what is missing stays so.
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": True}})
        rig.world.forget(rig.live()[0].id)
        await rig.until("Instance", "shop-app-0", "MachineMissing", seconds=90)
        await rig.restart()
        await rig.patch("Infrastructure", "shop", {"spec": {"paused": False}})
        await rig.wait(lambda: len(rig.made()) == 2, 90)
        await rig.wait(rig.ready, 120)

    play(tmp_path, main)


def test_unhealthy_after_ready_needs_the_threshold_and_is_replaced(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*ill(2))
        sick = rig.machine("shop-app-1")
        rig.world.make_unhealthy(sick.id)
        sick_at = rig.clock()
        assert "does not serve" in await rig.hear("ProbeFailed", "shop-app-1", 60)
        # Four failures in a row, 5 s apart, ± 5 %; the first within a period.
        assert 3 * 5 * 0.9 <= rig.clock() - sick_at <= 4 * 5 * 1.1 + 2
        await rig.wait(lambda: rig.ready() and sick.id not in ids(rig.live()), 120)
        assert await rig.told("ProbeFailed", "shop-app-1") >= 1

    assert len(play(tmp_path, main).made()) == 3


def test_failures_below_the_threshold_replace_nothing(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*ill(2))
        flapping = rig.machine("shop-app-0").id
        for _ in range(20):
            rig.world.make_unhealthy(flapping)
            await rig.let_pass(12)
            rig.world.make_healthy(flapping)
            await rig.let_pass(12)
        assert await rig.told("ProbeFailed") == 0

    assert len(play(tmp_path, main).made()) == 2


def test_a_machine_that_recovers_within_the_back_off_is_kept(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*ill(1))
        for _ in range(4):
            rig.world.make_unhealthy(rig.live()[0].id)
            await rig.wait(lambda: not rig.ready())
            await rig.wait(lambda: rig.ready() and len(rig.live()) == 1)
        # The fifth within ten minutes waits until 80 s after the fourth; it is well again before.
        (last,) = rig.live()
        rig.world.make_unhealthy(last.id)
        await rig.until("InstanceGroup", "shop-app", "BackOff", seconds=60)
        rig.world.make_healthy(last.id)
        await rig.wait(rig.ready, 30)
        await rig.unchanged(400)
        assert ids(rig.live()) == {last.id}

    play(tmp_path, main, steady(boot=5, health=5))


def test_one_that_is_well_again_while_its_group_is_looked_at_is_kept_and_no_other_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud or the renderer may take its time between the look at the Instances and what follows from it."""
    looked: list[float] = []

    async def main(rig: Rig) -> None:
        await rig.up(*ill(1))
        rig.world.make_unhealthy(rig.live()[0].id)

        async def gather(engine: Engine, group: InstanceGroup) -> tuple[Observed, Makings | None]:
            observed, made = await gathering.gather(engine, group)
            if not looked and any(failed(each) is not None and each.metadata.name not in observed.unjudged for each in observed.instances):
                looked.append(rig.clock())
                rig.world.make_healthy(rig.live()[0].id)
                await rig.until("Instance", "shop-app-0", "Ready", seconds=60)
            return observed, made

        monkeypatch.setattr(reconcile, "gather", gather)
        await rig.wait(lambda: bool(looked), 60)
        await rig.wait(rig.ready, 60)
        await rig.unchanged(60)
        assert await rig.told("ProbeFailed", "shop-app") == 0
        assert await rig.told("Created", "shop-app") == 1
        assert rig.obj("InstanceGroup", "shop-app")["status"].get("replacement") is None

    assert len(play(tmp_path, main).made()) == 1


def test_a_flapping_dependency_does_not_freeze_its_dependents(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.up(*chain())
        rig.world.never_healthy = lambda machine: machine.tags["occopus.io/service"] == "db"
        rig.world.kill(rig.live("db")[0].id)
        await rig.wait(lambda: rig.why("InstanceGroup", "shop-db", "Available") == "Unhealthy", 60)
        # Web was released once: it grows and heals while db is away. App reads db's address, so it waits for that alone.
        await rig.patch("InstanceGroup", "shop-web", {"spec": {"replicas": 2}})
        rig.world.kill(rig.live("web")[0].id)
        await rig.wait(lambda: rig.why("InstanceGroup", "shop-web") == "Ready" and len(rig.live("web")) == 2, 200)
        rig.world.kill(rig.live("app")[0].id)
        await rig.until("InstanceGroup", "shop-app", "NoAddress", seconds=60)
        assert len(rig.live("app")) == 1
        rig.world.never_healthy = lambda machine: False
        await rig.wait(rig.ready, 2000)

    play(tmp_path, main)


def test_health_is_asked_of_the_address_that_the_template_names(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        await rig.make(cloud(), template("app", health={"address": "Public", "startupSeconds": STARTUP}), *alone()[2:])
        await rig.until("Instance", "shop-app-0", "Starting")
        assert rig.machine("shop-app-0").public_address in rig.said("Instance", "shop-app-0")[2]
        await rig.wait(rig.ready)

    play(tmp_path, main, steady(health=20))


def test_a_service_that_is_silent_delays_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it were of many more machines and sockets."""
    monkeypatch.setattr(SimulatedChecker, "at_once", 16)
    monkeypatch.setattr(SimulatedChecker, "silent_seconds", 3.0)

    async def main(rig: Rig) -> None:
        rig.world.never_healthy = lambda machine: machine.tags["occopus.io/service"] == "db"
        services = (service("db", scaling={"min": 60}), service("app", scaling={"min": 2}))
        await rig.make(cloud(), template("db"), template("app"), infrastructure(*services))
        await rig.wait(lambda: rig.why("InstanceGroup", "shop-app") == "Ready", 200)
        served = max(each.healthy for each in rig.live("app"))
        # The time-out of the check that was under way, a second until the next, and the group's roll-up.
        assert rig.clock() - served <= 3 + 1 + 2

    play(tmp_path, main, steady(boot=30, health=40))


def test_a_machine_that_boots_for_ever_is_replaced_at_its_deadline(tmp_path: Path) -> None:
    settings = steady(boot=100_000)

    async def main(rig: Rig) -> None:
        await rig.make(*ill())
        await rig.hear("StartupTimeout", "shop-app-0", STARTUP + 5)
        first = rig.made()[0].id
        settings.boot_seconds = lambda rng: 5.0
        await rig.wait(rig.ready, 200)
        await rig.wait(lambda: first not in ids(rig.world.live()), 60)
        assert rig.world.machines[MachineId(first)].created <= 5

    play(tmp_path, main, settings)
