"""An API server that is away, busy, or written to by others all the time: nothing is destroyed wrongly, and all comes right."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

from controller import process
from tests.cluster.fixtures import Cluster
from tests.cluster.operator import END_SECONDS, Place, Story, at_a_place
from tests.cluster.proxy import Proxy, proxied, status, stream_error
from tests.e2e.descriptions import CLOUD, infrastructure, service, template

PAIR = CLOUD + template() + infrastructure("pair", service("first"), service("second", "first", more=", replicas: 2"))
ONE = CLOUD + template() + infrastructure("one", service("only"))
EACH = {"first": 1, "second": 2}
#: A leader gives up 10 s after its last renewal; a read on its way may take as long as a busy machine makes it.
LOST_SECONDS = 20.0
#: What is gone is seen by the next list of the cloud, replaced, and the outcome rolled up; on a busy machine.
HEALED_SECONDS = 25.0


async def pair_is_ready(place: Place) -> None:
    await place.settled("pair", EACH)


async def replaced(place: Place, killed: str, others: set[str]) -> None:
    """What was killed is replaced within seconds, and nothing else."""
    await place.until(lambda: len(place.live()) == 3, "three machines live", HEALED_SECONDS)
    await pair_is_ready(place)
    live = {each["id"] for each in place.live()}
    assert others < live
    assert killed not in live


def kill_one(place: Place) -> tuple[str, set[str]]:
    """End a machine from outside; its id and those of the others."""
    one = next(each["id"] for each in place.live() if each["tags"]["occopus.io/service"] == "second")
    place.desk.kill(one)
    return one, {each["id"] for each in place.live()} - {one}


def test_it_ends_without_an_api_server_and_the_next_one_heals(cluster: Cluster, tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        leader = await place.lead()
        await place.apply(PAIR)
        await pair_is_ready(place)
        await asyncio.to_thread(cluster.plane.stop_api_server, True)
        try:
            killed, others = kill_one(place)
            assert await leader.ended(LOST_SECONDS) == process.DIED, leader.log()
            # As whoever supervises it does, again and again; it waits for the API server.
            waiting = await place.start()
            await place.until(lambda: "Cannot begin yet" in waiting.log(), "the next one waits")
        finally:
            await asyncio.to_thread(cluster.plane.start)
        assert {each["id"] for each in place.live()} - {killed} == others
        took = await place.until(lambda: place.verified(waiting), "the next one leads")
        print(f"the API server is back → verified: {took:.1f} s")
        await replaced(place, killed, others)
        await place.delete_all()

    at_a_place(cluster, tmp_path, story)


async def away_for_a_moment(place: Place, proxy: Proxy) -> None:
    leader = await place.lead(kubeconfig=proxy.kubeconfig(place.desk.directory / "kubeconfig"))
    await place.apply(PAIR)
    await pair_is_ready(place)
    proxy.go_away()
    killed, others = kill_one(place)
    await asyncio.sleep(5)
    assert {each["id"] for each in place.live()} - {killed} == others
    proxy.come_back()
    await replaced(place, killed, others)
    await proxy.stream("instances")
    assert leader.runs
    await place.delete_all()


async def watch_fails(place: Place, proxy: Proxy) -> None:
    """kopf ends on it, and so does the process: the next one leads at once."""
    kubeconfig = proxy.kubeconfig(place.desk.directory / "kubeconfig")
    leader = await place.lead(kubeconfig=kubeconfig)
    await place.apply(PAIR)
    await pair_is_ready(place)
    killed, others = kill_one(place)
    (await proxy.stream("instances")).end(stream_error(500))
    assert await leader.ended(END_SECONDS) == process.DIED, leader.log()
    following = await place.start(kubeconfig=kubeconfig)
    await place.until(lambda: place.verified(following), "the next one leads", HEALED_SECONDS)
    await replaced(place, killed, others)
    await place.delete_all()


async def crds_gone(place: Place, proxy: Proxy) -> None:
    """A 404 of the resource says nothing of any object."""
    kubeconfig = proxy.kubeconfig(place.desk.directory / "kubeconfig")
    leader = await place.lead(kubeconfig=kubeconfig)
    await place.apply(PAIR)
    await pair_is_ready(place)
    before = place.live()
    proxy.rule = lambda request: status(404, "NotFound") if "/occopus.io/v1alpha1/namespaces/" in request.path else None
    for stream in list(proxy.streams):
        stream.end()
    assert await leader.ended(END_SECONDS) == process.DIED, leader.log()
    again = await place.start(kubeconfig=kubeconfig)
    assert await again.ended() == process.DIED, again.log()
    assert place.live() == before
    proxy.rule = lambda request: None
    last = await place.start(kubeconfig=kubeconfig)
    await place.until(lambda: place.verified(last), "the last one leads", HEALED_SECONDS)
    await pair_is_ready(place)
    assert place.live() == before
    await place.delete_all()


async def busy(place: Place, proxy: Proxy) -> None:
    chance = random.Random(20)
    refused: list[str] = []
    in_a_row: Counter[tuple[str, str]] = Counter()

    def rule(request: web.Request) -> web.Response | None:
        # Who cannot renew its Lease for ten seconds ends, which other tests are about. A watch that is refused seven times in a row
        # stays away for two minutes, as the steps of the operator's patience grow, and what is deleted meanwhile is not seen.
        asked = (request.method, request.path)
        refuse = "/leases/" not in request.path and in_a_row[asked] < 4 and chance.random() < 0.3
        in_a_row[asked] = in_a_row[asked] + 1 if refuse else 0
        if refuse:
            refused.append(request.method)
            return status(429, "TooManyRequests", retry_after="1")
        return None

    proxy.rule = rule
    leader = await place.lead(kubeconfig=proxy.kubeconfig(place.desk.directory / "kubeconfig"))
    await place.apply(ONE)
    await place.settled("one", {"only": 1})
    await place.delete_all()
    assert leader.runs
    assert {"GET", "PATCH"} <= set(refused)
    assert len(place.machines()) == 1


async def stormed(place: Place) -> None:
    """Somebody else writes to every object all the time."""
    leader = await place.lead()
    written: Counter[str] = Counter()
    storms = [asyncio.create_task(storm(place, kind, written)) for kind in ("Cloud", "Infrastructure", "InstanceGroup", "Instance")]
    await place.apply(PAIR)
    await pair_is_ready(place)
    killed, others = kill_one(place)
    await replaced(place, killed, others)
    for each in storms:
        each.cancel()
    ended = await asyncio.gather(*storms, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
    assert min(written.values()) > 10, written
    assert len(place.machines()) == 4
    said = [line for line in leader.log().splitlines() if "WARNING" in line or "ERROR" in line]
    assert [line for line in said if "MachineEnded" not in line and "NotFound" not in line] == []
    await place.delete_all()


async def storm(place: Place, kind: str, written: Counter[str]) -> None:
    while True:
        for obj in await place.objects(kind):
            answer = await place.patch(kind, obj["metadata"]["name"], {"metadata": {"labels": {"storm": str(written[kind])}}})
            assert answer.code in (200, 404), answer
            written[kind] += 1


def through_a_proxy(cluster: Cluster, story: Any) -> Story:
    async def told(place: Place) -> None:
        async with proxied(cluster) as proxy:
            await story(place, proxy)

    return told


def test_away_for_a_moment_busy_or_written_to_by_others(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, through_a_proxy(cluster, away_for_a_moment), through_a_proxy(cluster, busy), stormed)


def test_watches_that_fail_and_crds_that_are_gone(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, through_a_proxy(cluster, watch_fails), through_a_proxy(cluster, crds_gone))
