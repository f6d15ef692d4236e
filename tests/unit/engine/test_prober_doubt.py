"""The prober: what says nothing of a machine, as this process was cut off, stood still, has just begun, or could not ask."""

from __future__ import annotations

import asyncio

import pytest

from controller.reconcilers.instance.observed import Health as Verdict
from tests.simulated import loop
from tests.unit.engine.probing import Rig, run


@pytest.mark.parametrize("was_ready", [pytest.param(True, id="known from before"), pytest.param(False, id="seen healthy")])
def test_with_a_new_epoch_failures_of_the_time_that_was_cut_off_count_from_none(was_ready: bool) -> None:
    async def scenario(rig: Rig) -> None:
        rig.watch(was_ready=was_ready)
        rig.prober.renew("uid", 1, loop.clock())
        await asyncio.sleep(5)
        since = loop.clock()
        rig.answers.failing["10.0.0.1"] = "refused"
        await asyncio.sleep(40)
        rig.prober.renew("uid", 1, since)
        assert rig.prober.view("uid").healthy is False, "the same epoch"
        rig.prober.renew("uid", 2, since)
        assert rig.prober.view("uid").healthy is None
        await asyncio.sleep(15)
        assert rig.prober.view("uid").healthy is None, "twice is not three times"
        await asyncio.sleep(20)
        assert rig.prober.view("uid").healthy is False
        rig.prober.renew("uid", 3, loop.clock() - 1)
        assert rig.prober.view("uid").healthy is False, "it failed before"
        rig.prober.renew("uid", 4, since)
        rig.answers.failing.clear()
        await asyncio.sleep(11)
        assert rig.prober.view("uid").healthy is True

    run(scenario)


def test_with_a_new_epoch_what_one_that_was_never_healthy_was_told_before_is_forgotten() -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.failing["10.0.0.1"] = "refused"
        rig.watch()
        await asyncio.sleep(10.5)
        assert rig.prober.view("uid").message == "p80: refused"
        rig.prober.renew("uid", 1, loop.clock() - 1)
        assert rig.prober.view("uid") == Verdict()
        await asyncio.sleep(1)
        assert rig.prober.view("uid").message == "p80: refused"

    run(scenario)


def test_what_one_that_starts_was_told_before_the_process_stood_still_is_not_held_against_it() -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.failing["10.0.0.1"] = "refused"
        rig.watch()
        await asyncio.sleep(10.5)
        asked, woken = rig.answers.asked["10.0.0.1"], len(rig.woken)
        loop.stand_still(60)
        assert rig.prober.view("uid") == Verdict()
        await asyncio.sleep(0.1)
        assert rig.answers.asked["10.0.0.1"] == asked + 1
        assert rig.prober.view("uid") == Verdict(None, "p80: refused")
        assert len(rig.woken) == woken + 1, "whoever looked meanwhile has seen nothing"

    run(scenario)


def test_what_one_that_starts_was_told_counts_until_its_next_answer_though_that_takes_its_whole_time() -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.failing["10.0.0.1"] = "no answer"
        rig.answers.takes["10.0.0.1"] = 3.0
        rig.watch()
        await asyncio.sleep(3.1)
        for _ in range(1000):
            await asyncio.sleep(0.1)
            assert rig.prober.view("uid") == Verdict(None, "p80: no answer")

    run(scenario)


@pytest.mark.parametrize("was_ready", [pytest.param(True, id="known from before"), pytest.param(False, id="never healthy")])
def test_a_check_during_which_the_process_stood_still_fails_nobody(was_ready: bool) -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.failing["10.0.0.1"] = "no answer"
        rig.answers.takes["10.0.0.1"] = 3.0
        rig.watch(was_ready=was_ready, threshold=1)
        await asyncio.sleep(1)
        loop.stand_still(60)
        await asyncio.sleep(0.1)
        assert rig.prober.view("uid").healthy is None
        assert not rig.prober.view("uid").asked
        await asyncio.sleep(15)
        assert rig.prober.view("uid") == Verdict(False if was_ready else None, "p80: no answer")

    run(scenario)


@pytest.mark.parametrize("was_ready", [pytest.param(True, id="known from before"), pytest.param(False, id="never healthy")])
def test_a_check_that_began_before_a_new_epoch_fails_nobody(was_ready: bool) -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.failing["10.0.0.1"] = "no answer"
        rig.answers.takes["10.0.0.1"] = 3.0
        rig.watch(was_ready=was_ready, threshold=1)
        await asyncio.sleep(1)
        rig.prober.renew("uid", 1, 0.0)
        await asyncio.sleep(2.5)
        assert rig.prober.view("uid") == Verdict()
        await asyncio.sleep(15)
        assert rig.prober.view("uid") == Verdict(False if was_ready else None, "p80: no answer")

    run(scenario)


def test_one_that_fails_is_found_though_a_list_fails_now_and_then() -> None:
    """Less far apart than the failures that it takes."""

    async def scenario(rig: Rig) -> None:
        rig.watch()
        await asyncio.sleep(5)
        rig.answers.failing["10.0.0.1"] = "refused"
        for epoch in range(5):
            await asyncio.sleep(13)
            good = loop.clock()
            await asyncio.sleep(4)
            rig.prober.renew("uid", epoch, good)
        assert rig.prober.view("uid").healthy is False

    run(scenario)


def test_a_new_process_knows_nothing_until_the_first_answer_of_each_probe() -> None:
    async def scenario(rig: Rig) -> None:
        assert rig.prober.known("uid"), "what is not probed is not waited for"
        rig.answers.failing["10.0.0.1:81"] = "refused"
        rig.watch(was_ready=True, ports=(80, 81))
        assert not rig.prober.known("uid")
        assert rig.prober.view("uid").healthy is None
        await asyncio.sleep(0.1)
        assert rig.prober.known("uid")
        assert rig.prober.view("uid").healthy is None, "one failure is not three"

    run(scenario)


@pytest.mark.parametrize("was_ready", [pytest.param(True, id="known from before"), pytest.param(False, id="seen healthy")])
def test_a_check_that_could_not_be_made_fails_nobody(was_ready: bool) -> None:
    async def scenario(rig: Rig) -> None:
        rig.watch(was_ready=was_ready)
        await asyncio.sleep(5)
        rig.answers.unasked.add("10.0.0.1:80")
        await asyncio.sleep(300)
        assert rig.prober.view("uid").healthy is True
        rig.answers.unasked.clear()
        rig.answers.failing["10.0.0.1"] = "refused"
        await asyncio.sleep(40)
        assert rig.prober.view("uid").healthy is False
        rig.answers.unasked.add("10.0.0.1:80")
        await asyncio.sleep(40)
        assert rig.prober.view("uid") == Verdict(False, "p80: refused"), "nor makes it healthy"

    run(scenario)


def test_who_runs_the_controller_is_warned_that_checks_cannot_be_made_and_not_more_than_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(rig: Rig) -> None:
        rig.watch(was_ready=True, ports=(80, 81))
        await asyncio.sleep(1)
        rig.answers.unasked |= {"10.0.0.1:80", "10.0.0.1:81"}
        await asyncio.sleep(10 * 60)

    run(scenario)
    assert 8 <= len(caplog.messages) <= 10
    assert "not asked" in caplog.text


def test_of_one_that_could_not_be_asked_it_is_told_why() -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.unasked.add("10.0.0.1:80")
        rig.watch(ports=(80, 81))
        await asyncio.sleep(5)
        assert rig.prober.known("uid")
        assert rig.prober.view("uid") == Verdict(None, "p80: not asked", asked=False)
        rig.answers.failing["10.0.0.1:81"] = "refused"
        await asyncio.sleep(11)
        assert rig.prober.view("uid") == Verdict(None, "p80: not asked", asked=False), "healthy but for it"
        rig.answers.unasked.clear()
        await asyncio.sleep(1)
        assert rig.prober.view("uid").healthy is True

    run(scenario)


def test_one_probe_that_cannot_be_asked_hides_no_other_that_fails() -> None:
    async def scenario(rig: Rig) -> None:
        rig.answers.unasked.add("10.0.0.1:80")
        rig.answers.failing["10.0.0.1:81"] = "refused"
        rig.watch(ports=(80, 81))
        await asyncio.sleep(5)
        assert rig.prober.view("uid") == Verdict(None, "p81: refused")

    run(scenario)
