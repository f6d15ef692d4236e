"""The election and the controller id on a real API server: what it does with our writes is not left to our own fakes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from controller import controller_id, election, errors
from controller.ports import Obj
from controller.stores import access
from controller.stores.access import Access
from controller.stores.kubernetes import KubernetesStore
from tests.cluster.fixtures import Cluster

#: Short, that a test need not wait; on a busy machine a renewal may take its time.
DURATION, DEADLINE, RETRY, MARGIN = 4, 3.0, 0.3, 1.0


class Place:
    """A namespace of its own, and candidates for the Lease in it."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession, namespace: str) -> None:
        self.cluster, self.session, self.namespace = cluster, session, namespace
        self.path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/leader"

    def candidate(self, name: str, namespace: str = "") -> election.Election:
        settings = election.Settings(namespace or self.namespace, "leader", name, DURATION, DEADLINE, RETRY, MARGIN)
        return election.Election(self.cluster.access, self.session, settings)

    async def lease(self) -> Obj:
        return (await self.cluster.ask(self.session, "GET", self.path)).body

    async def spec(self) -> Obj:
        return (await self.lease())["spec"]


def at_a_place(cluster: Cluster, story: Callable[[Place], Awaitable[None]]) -> None:
    async def run() -> None:
        async with access.session(cluster.access) as session:
            await story(Place(cluster, session, await cluster.namespace(session)))

    asyncio.run(run())


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


def test_a_leader_that_renews_no_more_is_followed_after_its_duration(cluster: Cluster) -> None:
    async def story(place: Place) -> None:
        first, second = place.candidate("first"), place.candidate("second")
        await first.acquire()
        keeping, following = asyncio.create_task(first.keep()), asyncio.create_task(second.acquire())
        await asyncio.wait((following,), timeout=DURATION + 2)
        assert first.holds()
        assert not following.done()
        await ended(keeping)
        began = time.monotonic()
        async with asyncio.timeout(30):
            await following
        # The last renewal may have been a retry ago; the rest is the duration.
        assert time.monotonic() - began > DURATION - 2 * RETRY - 1
        assert (first.holds(), second.holds()) == (False, True)
        spec = await place.spec()
        assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == ("second", 1, DURATION)
        with pytest.raises(errors.LeadershipLost):
            await first.keep()

    at_a_place(cluster, story)


def test_a_leader_that_releases_is_followed_at_once(cluster: Cluster) -> None:
    async def story(place: Place) -> None:
        first, second = place.candidate("first"), place.candidate("second")
        await first.acquire()
        following = asyncio.create_task(second.acquire())
        await asyncio.wait((following,), timeout=1)
        await first.release()
        began = time.monotonic()
        async with asyncio.timeout(30):
            await following
        assert time.monotonic() - began < DURATION - MARGIN
        assert second.holds()
        assert (await place.spec())["leaseTransitions"] == 1

    at_a_place(cluster, story)


def test_of_several_that_begin_together_one_leads(cluster: Cluster) -> None:
    async def story(place: Place) -> None:
        candidates = [place.candidate(f"candidate-{number}") for number in range(5)]
        tasks = [asyncio.create_task(each.acquire()) for each in candidates]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(tasks, timeout=1)
        (leader,) = [number for number, each in enumerate(candidates) if each.holds()]
        assert (await place.spec())["holderIdentity"] == f"candidate-{leader}"
        await asyncio.gather(*map(ended, tasks))

    at_a_place(cluster, story)


def test_what_others_wrote_on_the_lease_stays(cluster: Cluster) -> None:
    async def story(place: Place) -> None:
        first = place.candidate("first")
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        labels = {"metadata": {"labels": {"team": "ours"}}}
        await place.cluster.ask(place.session, "PATCH", place.path, labels, headers={"Content-Type": "application/merge-patch+json"})
        before = await place.spec()
        await asyncio.wait((keeping,), timeout=DEADLINE + 1)
        after = await place.lease()
        assert first.holds()
        assert after["metadata"]["labels"] == {"team": "ours"}
        assert after["spec"]["renewTime"] > before["renewTime"]
        assert after["spec"]["acquireTime"] == before["acquireTime"]
        assert {each["manager"] for each in after["metadata"]["managedFields"] if "f:spec" in each["fieldsV1"]} == {"occopus"}
        await ended(keeping)

    at_a_place(cluster, story)


def test_missing_rights_and_a_missing_namespace_are_told_and_waited_for(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def story(place: Place) -> None:
        nobody = Access(cluster.access.server, cluster.access.tls, lambda: cluster.plane.tokens["nobody"])
        async with access.session(nobody) as session:
            settings = election.Settings(place.namespace, "leader", "nobody", DURATION, DEADLINE, RETRY, MARGIN)
            refused = asyncio.create_task(election.Election(nobody, session, settings).acquire())
            late = asyncio.create_task(place.candidate("late", f"{place.namespace}-late").acquire())
            await asyncio.wait((refused, late), timeout=2)
            assert not refused.done()
            await ended(refused)
            made = await cluster.ask(place.session, "POST", "/api/v1/namespaces", {"metadata": {"name": f"{place.namespace}-late"}})
            assert made.code == 201
            async with asyncio.timeout(20):
                await late

    with caplog.at_level(logging.WARNING):
        at_a_place(cluster, story)
    told = sorted(each.getMessage() for each in caplog.records)
    assert len(told) == 2
    assert any("get leases.coordination.k8s.io" in each and "forbidden" in each for each in told)
    assert any("not found" in each and "namespaces" in each for each in told)


def test_the_controller_id_is_made_once_and_cannot_be_changed(cluster: Cluster) -> None:
    async def story(place: Place) -> None:
        store = KubernetesStore(cluster.access, place.session)
        found = await asyncio.gather(*(controller_id.controller_id(store, place.namespace) for _ in range(4)))
        assert len(set(found)) == 1
        path = f"/api/v1/namespaces/{place.namespace}/configmaps/occopus-controller"
        changed = {"data": {controller_id.DATA_KEY: "another"}}
        patched = await cluster.ask(place.session, "PATCH", path, changed, headers={"Content-Type": "application/merge-patch+json"})
        assert patched.code == 422
        assert await controller_id.controller_id(store, place.namespace) == found[0]

    at_a_place(cluster, story)
