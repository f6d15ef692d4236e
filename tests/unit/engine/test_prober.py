"""The prober: how often it asks, when the verdict turns, and whom it wakes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from controller.api.template import Health, Probe, TcpProbe
from controller.engine.prober import BEGUN_AT_ONCE, LONG_SECONDS, Prober, Target
from controller.ports import Key, ProbeResult
from controller.reconcilers.instance.observed import Health as Verdict
from tests.simulated import loop

KEY = Key("Instance", "default", "one")


class Answers:
    """A `Checker` whose answers are commanded: by address, and by port where one is named."""

    def __init__(self, sockets: int) -> None:
        self.at_once = sockets
        self.failing: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.hangs: set[str] = set()
        #: Addresses of which nobody can be asked, for want of something of the controller's.
        self.unasked: set[str] = set()
        #: Seconds until an address fails.
        self.takes: dict[str, float] = {}
        self.under_way, self.most = 0, 0
        self.loopback: set[bool] = set()

    async def check(self, probe: Mapping[str, Any], address: str, *, loopback: bool) -> ProbeResult:
        self.asked[address] += 1
        self.loopback.add(loopback)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if address in self.hangs:
                await asyncio.sleep(3600)
            if f"{address}:{probe['tcp']['port']}" in self.unasked:
                return ProbeResult(None, "not asked")
            why = self.failing.get(f"{address}:{probe['tcp']['port']}", self.failing.get(address))
            if why is not None and address in self.takes:
                await asyncio.sleep(self.takes[address])
            return ProbeResult(why is None, why or "")
        finally:
            self.under_way -= 1


class Fleet:
    """Machines of one group, which are all watched from now on; their period is 5 s."""

    def __init__(self, rig: Rig, group: int, size: int, *, was_ready: bool = False) -> None:
        self._rig = rig
        self.addresses = [f"10.{group}.{size // 250 + each // 250}.{each % 250}" for each in range(size)]
        health = Health(probes=(Probe(name="up", tcp=TcpProbe(port=80), period_seconds=5, failure_threshold=3),))
        for each in self.addresses:
            rig.prober.watch(each, KEY, Target(each, health, False, was_ready, f"group {group}"))

    def fall_silent(self, seconds: float = 3.0) -> None:
        """Each check fails after its whole time-out."""
        self._rig.answers.takes |= dict.fromkeys(self.addresses, seconds)
        self.refuse("no answer")

    def refuse(self, why: str = "refused") -> None:
        self._rig.answers.failing |= dict.fromkeys(self.addresses, why)

    def serve(self) -> None:
        for each in self.addresses:
            self._rig.answers.failing.pop(each, None)

    async def all(self, healthy: bool, within: float) -> None:
        """Let time pass until that is the verdict on each of them."""
        async with asyncio.timeout(within):
            while any(self._rig.prober.view(each).healthy is not healthy for each in self.addresses):
                await asyncio.sleep(0.05)


class Rig:
    def __init__(self, sockets: int) -> None:
        self.answers = Answers(sockets)
        self.woken: list[tuple[float, Key]] = []
        self.prober = Prober(self.answers, lambda key: self.woken.append((round(loop.clock(), 1), key)))

    def watch(self, *, was_ready: bool = False, address: str = "10.0.0.1", ports: tuple[int, ...] = (80,), threshold: int = 3) -> None:
        probes = tuple(Probe(name=f"p{port}", tcp=TcpProbe(port=port), period_seconds=10, failure_threshold=threshold) for port in ports)
        self.prober.watch("uid", KEY, Target(address, Health(probes=probes), False, was_ready, "web"))


def run(scenario: Callable[[Rig], Awaitable[None]], sockets: int = 64) -> Rig:
    async def main() -> Rig:
        rig = Rig(sockets)
        task = asyncio.create_task(rig.prober.run())
        await scenario(rig)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await rig.prober.close()
        return rig

    return loop.run(main())


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


def test_no_more_checks_are_begun_at_once_than_can_be_answered_in_time() -> None:
    """The sockets would be there."""

    async def scenario(rig: Rig) -> None:
        fleets = [Fleet(rig, number, 200) for number in range(5)]
        for each in fleets:
            each.fall_silent(LONG_SECONDS * 0.9)
        await asyncio.sleep(60)
        assert rig.answers.most == BEGUN_AT_ONCE
        for each in fleets:
            each.fall_silent(3.0)
        await asyncio.sleep(60)
        assert rig.answers.most > 4 * BEGUN_AT_ONCE

    run(scenario, 512)


def test_no_more_checks_are_under_way_than_there_are_sockets() -> None:
    async def scenario(rig: Rig) -> None:
        silent = [Fleet(rig, number, 100) for number in range(20)]
        for each in silent:
            each.fall_silent()
        await asyncio.sleep(60)
        assert rig.answers.most == rig.answers.at_once
        for each in silent:
            each.serve()
        for each in silent:
            await each.all(True, within=30)

    run(scenario)


@pytest.mark.parametrize("was_ready", [pytest.param(True, id="were healthy"), pytest.param(False, id="never were")])
@pytest.mark.parametrize("sockets", [pytest.param(512, id="512 sockets"), pytest.param(64, id="64 sockets")])
def test_five_hundred_that_never_answer_delay_no_other_group(sockets: int, was_ready: bool) -> None:
    """What answers or refuses at once is asked as often as if it were alone."""

    async def scenario(rig: Rig) -> None:
        Fleet(rig, 1, 500, was_ready=was_ready).fall_silent()
        steady = Fleet(rig, 2, 50)
        await steady.all(True, within=0.1)
        await asyncio.sleep(9.3)
        new = Fleet(rig, 3, 50)
        new.refuse()
        await asyncio.sleep(9.3)
        new.serve()
        await new.all(True, within=1.1)
        steady.refuse()
        await steady.all(False, within=3 * 5 * 1.05 + 0.1)

    run(scenario, sockets)


def test_five_hundred_that_come_and_never_answer_delay_others_by_half_a_second_at_most() -> None:
    """All of them may be answered at any moment, when they are begun."""

    async def scenario(rig: Rig) -> None:
        new = Fleet(rig, 1, 50)
        new.refuse()
        await asyncio.sleep(9.3)
        Fleet(rig, 2, 500).fall_silent()
        await asyncio.sleep(0.1)
        new.serve()
        await new.all(True, within=1.1 + LONG_SECONDS)

    run(scenario, 512)


def test_those_that_answer_are_not_delayed_by_those_of_their_group_that_never_do() -> None:
    async def scenario(rig: Rig) -> None:
        answers = Fleet(rig, 1, 50)
        Fleet(rig, 1, 500).fall_silent()
        answers.serve()
        await answers.all(True, within=0.1)
        await asyncio.sleep(20)
        answers.refuse()
        await answers.all(False, within=3 * 5 * 1.05 + 0.1)

    run(scenario)


def test_one_that_is_silent_until_it_serves_is_found_soon_beside_five_hundred_that_stay_so() -> None:
    """By the sockets that most systems allow: what its last check still takes, and a second."""

    async def scenario(rig: Rig) -> None:
        Fleet(rig, 1, 500).fall_silent()
        new = Fleet(rig, 2, 50)
        new.fall_silent()
        await asyncio.sleep(30)
        new.serve()
        await new.all(True, within=3 + 1 + 0.1)

    run(scenario, 512)


def test_of_five_hundred_that_are_silent_until_they_serve_all_are_found_soon() -> None:
    """They share half of the sockets: a round of them takes six seconds."""

    async def scenario(rig: Rig) -> None:
        new = Fleet(rig, 1, 500)
        new.fall_silent()
        await asyncio.sleep(30)
        new.serve()
        await new.all(True, within=7)

    run(scenario, 512)
