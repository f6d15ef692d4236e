"""The election over a real socket: answers that are lost on their way."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from controller import election
from controller.stores import access
from tests.unit.election.fleet import LEASE
from tests.unit.election.server import Fate, Server, serving


def candidate(server: Server, session: aiohttp.ClientSession, name: str) -> election.Election:
    """One whose Lease lasts 3 s, of which it uses 2."""
    settings = election.Settings(
        "occopus", "leader", name, duration_seconds=3, renew_deadline_seconds=2, retry_seconds=0.2, margin_seconds=1
    )
    return election.Election(server.access, session, settings)


@pytest.mark.parametrize(
    "fate", [pytest.param("break", id="it breaks"), pytest.param("silence", id="silence"), pytest.param("page", id="a proxy")]
)
@pytest.mark.parametrize("method", [pytest.param("POST", id="the claim"), pytest.param("PATCH", id="a renewal")])
def test_a_write_whose_answer_is_lost_costs_nothing(method: str, fate: Fate) -> None:
    async def story() -> None:
        async with serving() as server, access.session(server.access) as session:
            first = candidate(server, session, "first")
            server.fates[method] = [fate]
            async with asyncio.timeout(5):
                await first.acquire()
            keeping = asyncio.create_task(first.keep())
            await asyncio.wait((keeping,), timeout=2.5)
            assert not keeping.done()
            assert first.holds()
            assert server.fates[method] == []
            assert server.objects.holders == ["first"]
            assert server.objects.stored[LEASE]["spec"]["leaseTransitions"] == 0
            keeping.cancel()
            await asyncio.wait((keeping,))
            await first.release()
            assert server.objects.stored[LEASE]["spec"]["holderIdentity"] == ""

    asyncio.run(story())


def test_a_release_never_raises_whatever_became_of_the_session() -> None:
    async def story() -> None:
        async with serving() as server:
            async with access.session(server.access) as session:
                first = candidate(server, session, "first")
                await first.acquire()
            await first.release()
            assert not first.holds()

    asyncio.run(story())


def test_the_clock_is_one_that_nobody_sets() -> None:
    before = election.boot_seconds()
    assert before >= time.monotonic() - 1
    assert election.boot_seconds() >= before
