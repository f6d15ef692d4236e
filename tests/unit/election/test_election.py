"""One of several leads, whatever the network, the clocks and the processes do, and one always will."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import errors
from controller.election import Election
from tests.simulated import loop
from tests.unit.election.fleet import LEASE, Fleet, Host
from tests.unit.election.network import Faults
from tests.unit.election.objects import refused

#: Within this after the last trouble somebody leads: the Lease runs out (15 s by a slow clock), and is looked at each 2.5 s.
SETTLED_SECONDS = 25.0


async def led(fleet: Fleet, *hosts: Host) -> None:
    """Start these hosts, and wait until the first of them leads."""
    for host in hosts:
        fleet.start(host)
        await fleet.watch(2)
    assert fleet.holding() == [hosts[0].lives[-1]]


async def leading(host: Host) -> Election:
    """A candidate that leads and does not renew."""
    candidate = host.begin()
    await asyncio.wait_for(candidate.acquire(), 10)
    return candidate


def in_time(story: Coroutine[object, object, None]) -> None:
    loop.run(story)


# --- whatever happens -----------------------------------------------------------------------------------------------
async def _trouble(fleet: Fleet) -> None:
    """One thing that happens to a host or to the Lease."""
    random, host = fleet.random, fleet.random.choice(fleet.hosts)
    match random.choice(("stop", "stop", "kill", "term", "storm", "calm")):
        case "stop":
            host.stop()
            asyncio.get_running_loop().call_later(random.uniform(1, 40), host.resume)
        case "kill":
            await fleet.kill(host)
            await fleet.watch(random.uniform(0, 3))
            fleet.start(host)
        case "term":
            host.term.set()
        case "storm":
            for number in range(100):
                asyncio.get_running_loop().call_later(number * random.uniform(0.01, 0.2), fleet.objects.touch, LEASE)
        case _:
            await fleet.watch(10)


async def _anything(seed: int, hosts: int) -> None:
    random = Random(seed)
    faults = Faults(random.uniform(0, 0.4), random.uniform(0, 0.4), random.uniform(0, 2))
    fleet = Fleet.of(hosts, random, drift=0.15, faults=faults)
    for host in fleet.hosts:
        fleet.start(host)
    for _ in range(12):
        await _trouble(fleet)
        await fleet.watch(random.uniform(0, 15))
    faults.lose_request = faults.lose_answer = faults.delay_seconds = 0
    await fleet.watch(45)
    await fleet.watch(SETTLED_SECONDS)
    settled = fleet.holding()
    assert len(settled) == 1, fleet.objects.log[-12:]
    await fleet.watch(60)
    assert fleet.holding() == settled
    assert fleet.objects.stored[LEASE]["spec"]["holderIdentity"] == settled[0]
    assert fleet.objects.stored[LEASE]["spec"]["leaseTransitions"] == len(fleet.objects.holders) - 1
    await fleet.end()


@settings(max_examples=settings().max_examples // 5)  # each one is some minutes of many requests
@given(seed=st.integers(0, 2**32), hosts=st.integers(2, 3))
def test_never_two_hold_and_in_the_end_one_leads(seed: int, hosts: int) -> None:
    in_time(_anything(seed, hosts))


# --- one thing at a time --------------------------------------------------------------------------------------------
def test_a_dead_leader_is_followed_after_the_whole_duration() -> None:
    async def story() -> None:
        fleet = Fleet.of(2, Random(1))
        first, second = fleet.hosts
        await led(fleet, first, second)
        await fleet.kill(first)
        await fleet.watch(10)
        assert fleet.holding() == []
        await fleet.watch(10)
        assert fleet.leaders == ["host0_0", "host1_0"]
        assert fleet.objects.stored[LEASE]["spec"]["leaseTransitions"] == 1
        assert second.losses == []
        await fleet.end()

    in_time(story())


def test_a_leader_that_ends_in_good_order_is_followed_at_once() -> None:
    async def story() -> None:
        fleet = Fleet.of(2, Random(1))
        first, second = fleet.hosts
        await led(fleet, first, second)
        first.term.set()
        # No time passes: the other would try again within two seconds, and perhaps at once.
        while fleet.objects.stored[LEASE]["spec"]["holderIdentity"] == first.lives[-1]:
            await asyncio.sleep(0)
        assert fleet.objects.stored[LEASE]["spec"]["holderIdentity"] == ""
        assert fleet.objects.stored[LEASE]["spec"]["leaseDurationSeconds"] == 1
        await fleet.watch(2.6)
        assert len(fleet.holding()) == 1
        assert len(fleet.leaders) == 2
        assert fleet.objects.stored[LEASE]["spec"]["leaseDurationSeconds"] == 15
        await fleet.end()

    in_time(story())


def test_a_leader_that_was_stopped_finds_itself_not_leading_before_it_asks_anybody() -> None:
    async def story() -> None:
        fleet = Fleet.of(2, Random(1))
        first, second = fleet.hosts
        await led(fleet, first, second)
        first.stop()
        await fleet.watch(0.1)
        asked = len(fleet.objects.log)
        await fleet.watch(10)
        assert not first.holds()
        assert all("GET" in each for each in fleet.objects.log[asked:]), "only the standby was looking"
        await fleet.watch(10)
        assert fleet.holding() == ["host1_0"]
        first.resume()
        await fleet.watch(10)
        assert fleet.holding() == ["host1_0"]
        assert len(first.losses) == 1
        await fleet.end()

    in_time(story())


def test_a_lease_is_held_from_when_its_renewal_began_not_from_when_it_was_answered() -> None:
    async def story() -> None:
        fleet = Fleet.of(1, Random(1))
        (first,) = fleet.hosts
        candidate = first.begin()
        acquiring = asyncio.create_task(candidate.acquire())
        while not any(each.startswith("POST") for each in fleet.objects.log):
            await asyncio.sleep(0)
        began = loop.clock()
        first.stop()
        await asyncio.sleep(4)
        first.resume()
        await acquiring
        assert candidate.holds()
        await asyncio.sleep(began + 10 - loop.clock())
        assert not candidate.holds()
        await fleet.end()

    in_time(story())


def test_a_claim_during_which_the_machine_slept_is_renewed_before_anything_begins() -> None:
    async def story() -> None:
        fleet = Fleet.of(1, Random(1))
        (first,) = fleet.hosts
        awake, slept = first.now, [0.0]
        first.now = lambda: awake() + slept[0]
        candidate = first.begin()
        acquiring = asyncio.create_task(candidate.acquire())
        while not any(each.startswith("POST") for each in fleet.objects.log):
            await asyncio.sleep(0)
        slept[0] = 100
        await acquiring
        assert candidate.holds()
        assert [each.split()[0] for each in fleet.objects.log] == ["GET", "POST", "PATCH"]
        await fleet.end()

    in_time(story())


def test_a_leader_that_cannot_renew_gives_up_at_the_deadline_and_not_before() -> None:
    async def story() -> None:
        fleet = Fleet.of(1, Random(1))
        (first,) = fleet.hosts
        await led(fleet, first)
        renewed = loop.clock()
        fleet.objects.refuse = lambda method, path: refused(500, "InternalError", path, "etcd is away") if method == "PATCH" else None
        await fleet.watch(7.5)
        assert first.holds()
        await fleet.watch(3)
        assert not first.holds()
        assert first.losses
        assert "etcd is away" in first.losses[0]
        assert loop.clock() - renewed < 11
        await fleet.end()

    in_time(story())


def test_an_outage_shorter_than_the_deadline_changes_nothing() -> None:
    async def story() -> None:
        fleet = Fleet.of(2, Random(1))
        first, second = fleet.hosts
        await led(fleet, first, second)
        fleet.objects.refuse = lambda method, path: refused(503, "ServiceUnavailable", path)
        await fleet.watch(5)
        fleet.objects.refuse = lambda method, path: None
        await fleet.watch(60)
        assert fleet.leaders == ["host0_0"]
        await fleet.end()

    in_time(story())


def test_a_server_that_refuses_a_third_of_all_requests_costs_nobody_the_lease() -> None:
    async def story() -> None:
        random = Random(1)
        fleet = Fleet.of(1, Random(1))
        await led(fleet, fleet.hosts[0])
        fleet.objects.refuse = lambda method, path: refused(429, "TooManyRequests", path) if random.random() < 0.33 else None
        await fleet.watch(1200)
        assert fleet.leaders == ["host0_0"]
        await fleet.end()

    in_time(story())


def test_a_claim_whose_answer_was_lost_is_ours_once_we_see_it() -> None:
    async def story() -> None:
        fleet = Fleet.of(2, Random(3))
        first, second = fleet.hosts
        fleet.faults.lose_answer, fleet.faults.methods = 1, ("POST",)
        fleet.start(first)
        await fleet.watch(0.1)
        assert LEASE in fleet.objects.stored
        assert fleet.holding() == []
        fleet.faults.lose_answer = 0
        fleet.start(second)
        await fleet.watch(12)
        assert fleet.leaders == ["host0_0"]
        assert fleet.objects.stored[LEASE]["spec"]["leaseTransitions"] == 0
        await fleet.end()

    in_time(story())


@pytest.mark.parametrize("holder", [pytest.param("somebody", id="another holder"), pytest.param("", id="nobody")])
def test_a_leader_whose_lease_was_given_away_ends(holder: str) -> None:
    async def story() -> None:
        fleet = Fleet.of(1, Random(1))
        (first,) = fleet.hosts
        await led(fleet, first)
        spec = fleet.objects.stored[LEASE]["spec"]
        fleet.objects.put(LEASE, {**fleet.objects.stored[LEASE], "spec": {**spec, "holderIdentity": holder}})
        await fleet.watch(3)
        (why,) = first.losses
        assert f"is held by {holder or 'nobody'}" in why
        await fleet.end()

    in_time(story())


def test_a_lease_deleted_by_hand_is_put_back_by_its_holder() -> None:
    async def story() -> None:
        fleet = Fleet.of(2, Random(1))
        first, second = fleet.hosts
        await led(fleet, first, second)
        await fleet.watch(5)
        del fleet.objects.stored[LEASE]
        await fleet.watch(40)
        assert fleet.leaders == ["host0_0"]
        assert fleet.objects.stored[LEASE]["spec"]["holderIdentity"] == "host0_0"
        await fleet.end()

    in_time(story())


def test_an_idle_leader_renews_with_one_request_each_two_seconds() -> None:
    async def story() -> None:
        fleet = Fleet.of(1, Random(1))
        await led(fleet, fleet.hosts[0])
        asked = len(fleet.objects.log)
        await fleet.watch(60)
        since = fleet.objects.log[asked:]
        assert 28 <= len(since) <= 31
        assert {each.split()[0] for each in since} == {"PATCH"}
        await fleet.end()

    in_time(story())


# --- what is said ---------------------------------------------------------------------------------------------------
def test_missing_rights_are_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        fleet = Fleet.of(1, Random(1))
        (first,) = fleet.hosts
        fleet.objects.refuse = lambda method, path: refused(403, "Forbidden", path) if method == "POST" else None
        fleet.start(first)
        await fleet.watch(30)
        assert len([each for each in fleet.objects.log if each.startswith("POST")]) > 5
        fleet.objects.refuse = lambda method, path: None
        await fleet.watch(5)
        assert fleet.holding() == ["host0_0"]
        await fleet.end()

    with caplog.at_level(logging.INFO):
        in_time(story())
    (warning,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert "create leases.coordination.k8s.io occopus/leader" in warning


def test_who_leads_is_said_once_a_change(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        fleet = Fleet.of(2, Random(1))
        first, second = fleet.hosts
        await led(fleet, first, second)
        await fleet.watch(30)
        await fleet.kill(first)
        await fleet.watch(40)
        await fleet.end()

    with caplog.at_level(logging.INFO):
        in_time(story())
    assert [(each.getMessage().split(":")[0], "host0_0" in each.getMessage()) for each in caplog.records] == [
        ("This process leads", True),
        ("This process is standby", True),
        ("This process leads", False),
    ]


# --- the end --------------------------------------------------------------------------------------------------------
def test_a_release_that_finds_no_answer_ends_within_two_seconds(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        fleet = Fleet.of(1, Random(1))
        (first,) = fleet.hosts
        candidate = await leading(first)
        assert candidate.leading
        first.wire.running.clear()
        began = loop.clock()
        await candidate.release()
        assert loop.clock() - began <= 2.001
        assert not candidate.leading
        await fleet.end()

    in_time(story())
    assert [each.levelno for each in caplog.records] == [logging.WARNING]


def test_a_release_leaves_the_lease_of_another_alone() -> None:
    async def story() -> None:
        fleet = Fleet.of(2, Random(1))
        first, second = fleet.hosts
        stopped = await leading(first)
        fleet.start(second)
        await fleet.watch(20)
        assert fleet.holding() == ["host1_0"]
        await stopped.release()
        await fleet.watch(20)
        assert fleet.objects.stored[LEASE]["spec"]["holderIdentity"] == "host1_0"
        await fleet.end()

    in_time(story())


def test_a_standby_that_never_led_releases_nothing() -> None:
    async def story() -> None:
        fleet = Fleet.of(2, Random(1))
        first, second = fleet.hosts
        await led(fleet, first)
        standby = second.begin()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(standby.acquire(), 5)
        asked = len(fleet.objects.log)
        await standby.release()
        assert len(fleet.objects.log) == asked
        await fleet.end()

    in_time(story())


def test_the_loss_is_no_error_of_the_store() -> None:
    """What backs off from a store's errors must not go on after this one."""
    assert not issubclass(errors.LeadershipLost, errors.StoreError)
