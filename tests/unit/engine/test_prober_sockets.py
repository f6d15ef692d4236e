"""The prober: machines that never answer delay nobody, though each of their checks takes its whole time."""

from __future__ import annotations

import asyncio

import pytest

from controller.engine.prober import BEGUN_AT_ONCE, LONG_SECONDS
from tests.unit.engine.probing import Fleet, Rig, run


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
