"""The prober: how often it asks, when the verdict turns, and whom it wakes."""

from __future__ import annotations

import asyncio

import pytest

from controller.api.template import Health, Probe, TcpProbe
from controller.engine.prober import Target
from controller.ports import Key
from tests.unit.engine.probing import KEY, Rig, run


def test_a_machine_that_was_never_healthy_is_asked_every_second() -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.failing["10.0.0.1"] = "refused"
        rig.watch()
        await asyncio.sleep(30.5)
        assert rig.prober.view("uid").healthy is None
        assert rig.prober.view("uid").message == "p80: refused"
        rig.answers.failing.clear()
        await asyncio.sleep(1.1)
        assert rig.prober.view("uid").healthy is True

    rig = run(scenario)
    assert rig.answers.asked["10.0.0.1"] == 32


def test_a_healthy_machine_is_asked_once_a_period() -> None:
    async def scenario(rig: Rig) -> None:
        rig.watch()
        await asyncio.sleep(300)

    rig = run(scenario)
    assert 29 <= rig.answers.asked["10.0.0.1"] <= 33


def test_only_changes_of_the_verdict_wake() -> None:
    async def scenario(rig: Rig) -> None:
        rig.watch()
        await asyncio.sleep(100)
        rig.answers.failing["10.0.0.1"] = "refused"
        await asyncio.sleep(200)
        rig.answers.failing.clear()
        await asyncio.sleep(100)

    rig = run(scenario)
    assert len(rig.woken) == 3, "healthy, unhealthy, healthy"
    assert rig.woken[0] == (0.0, KEY)


@pytest.mark.parametrize("threshold", [pytest.param(1, id="one"), pytest.param(3, id="three"), pytest.param(5, id="five")])
@pytest.mark.parametrize("was_ready", [pytest.param(True, id="known from before"), pytest.param(False, id="seen healthy")])
def test_only_failures_in_a_row_make_it_unhealthy(threshold: int, was_ready: bool) -> None:
    async def scenario(rig: Rig) -> None:
        rig.watch(was_ready=was_ready, threshold=threshold)
        await asyncio.sleep(5)
        assert rig.prober.view("uid").healthy is True
        for _ in range(4):
            rig.answers.failing["10.0.0.1"] = "refused"
            asked = rig.answers.asked["10.0.0.1"]
            while rig.answers.asked["10.0.0.1"] < asked + threshold - 1:
                await asyncio.sleep(0.5)
            assert rig.prober.view("uid").healthy is True
            rig.answers.failing.clear()
            await asyncio.sleep(11)
        rig.answers.failing["10.0.0.1"] = "refused"
        await asyncio.sleep(threshold * 11)
        assert rig.prober.view("uid").healthy is False
        assert rig.prober.view("uid").message == "p80: refused"

    run(scenario)


def test_all_probes_have_to_pass() -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.failing["10.0.0.1:81"] = "refused"
        rig.watch(ports=(80, 81))
        await asyncio.sleep(5)
        assert rig.prober.view("uid").healthy is None
        assert rig.prober.view("uid").message == "p81: refused"
        rig.answers.failing.clear()
        await asyncio.sleep(1.1)
        assert rig.prober.view("uid").healthy is True

    run(scenario)


def test_a_machine_that_recovers_is_healthy_at_its_first_success() -> None:
    async def scenario(rig: Rig) -> None:
        rig.watch()
        await asyncio.sleep(1)
        rig.answers.failing["10.0.0.1"] = "refused"
        await asyncio.sleep(60)
        assert rig.prober.view("uid").healthy is False
        rig.answers.failing.clear()
        await asyncio.sleep(11)
        assert rig.prober.view("uid").healthy is True

    run(scenario)


def test_one_that_was_healthy_is_asked_once_a_period_however_long_it_is_not() -> None:
    async def scenario(rig: Rig) -> None:
        rig.watch(ports=(80, 81))
        await asyncio.sleep(1.5)
        rig.answers.failing["10.0.0.1:81"] = "refused"
        await asyncio.sleep(300)

    rig = run(scenario)
    assert 2 * 29 <= rig.answers.asked["10.0.0.1"] <= 2 * 34


def test_one_of_which_one_probe_never_passed_is_asked_for_it_every_second() -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.failing["10.0.0.1:81"] = "refused"
        rig.watch(ports=(80, 81))
        await asyncio.sleep(30.5)

    rig = run(scenario)
    assert rig.answers.asked["10.0.0.1"] in (31 + 4, 31 + 5)


def test_another_address_begins_anew() -> None:
    async def scenario(rig: Rig) -> None:
        rig.watch()
        await asyncio.sleep(1)
        assert rig.prober.view("uid").healthy is True
        rig.answers.failing["10.0.0.2"] = "refused"
        rig.watch(address="10.0.0.2")
        await asyncio.sleep(20)
        assert rig.prober.view("uid").healthy is None

    rig = run(scenario)
    assert rig.answers.asked["10.0.0.1"] == 1, "the old address is asked no more"
    assert 19 <= rig.answers.asked["10.0.0.2"] <= 22


def test_the_same_target_again_changes_nothing() -> None:
    async def scenario(rig: Rig) -> None:
        for _ in range(50):
            rig.watch()
            await asyncio.sleep(0.2)
        assert rig.prober.view("uid").healthy is True

    rig = run(scenario)
    assert rig.answers.asked["10.0.0.1"] <= 2
    assert len(rig.woken) == 1


def test_what_is_forgotten_is_asked_no_more_and_wakes_nobody() -> None:
    async def scenario(rig: Rig) -> None:
        rig.watch()
        await asyncio.sleep(1)
        rig.answers.failing["10.0.0.1"] = "refused"
        rig.prober.forget("uid")
        await asyncio.sleep(100)
        assert rig.prober.view("uid").healthy is None

    rig = run(scenario)
    assert rig.answers.asked["10.0.0.1"] == 1
    assert len(rig.woken) == 1


def test_one_that_is_forgotten_and_watched_again_is_asked_once_a_period() -> None:
    async def scenario(rig: Rig) -> None:
        for _ in range(5):
            rig.watch(was_ready=True)
            await asyncio.sleep(1)
            rig.prober.forget("uid")
        rig.watch(was_ready=True)
        await asyncio.sleep(100)

    assert run(scenario).answers.asked["10.0.0.1"] <= 5 + 12, "six chains of checks for one machine"


def test_an_answer_that_comes_after_the_machine_was_forgotten_is_dropped() -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.hangs.add("10.0.0.1")
        rig.watch()
        await asyncio.sleep(1)
        rig.prober.forget("uid")
        await asyncio.sleep(4000)

    assert run(scenario).woken == []


def test_a_check_that_hangs_keeps_no_other_machine() -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.hangs.add("10.0.0.1")
        rig.watch()
        other = Key("Instance", "default", "two")
        target = Target("10.0.0.2", Health(probes=(Probe(name="up", tcp=TcpProbe(port=80)),)), True, False, "db")
        rig.prober.watch("other", other, target)
        await asyncio.sleep(100)
        assert rig.prober.view("other").healthy is True

    rig = run(scenario)
    assert rig.answers.asked["10.0.0.1"] == 1, "one check at a time"
    assert rig.answers.loopback == {True, False}, "each target says for itself whether loopback is allowed"


def test_a_thousand_machines_take_no_task_each() -> None:
    async def scenario(rig: Rig) -> None:
        health = Health(probes=(Probe(name="up", tcp=TcpProbe(port=80), period_seconds=60),))
        for number in range(1000):
            rig.prober.watch(f"uid-{number}", KEY, Target(f"10.1.{number // 250}.{number % 250}", health, False, False, "web"))
        await asyncio.sleep(30)
        assert len(asyncio.all_tasks()) <= 3

    assert max(run(scenario).answers.asked.values()) <= 2, "the first success is looked at once more, then the period counts"
