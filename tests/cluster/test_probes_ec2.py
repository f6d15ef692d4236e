"""The operator probes machines on EC2 at real sockets: services wait for pages, by the ledger, and a bad page is replaced."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from tests.cluster.fixtures import Cluster
from tests.cluster.operator import Place, at_a_place
from tests.e2e import descriptions
from tests.e2e.test_probes_ec2 import FILE, THRESHOLD
from tests.simulated.ec2 import Answering, LightEc2, Page, answering, serve
from tests.simulated.world import NEVER, Settings, SimulatedMachine, World


def _of(world: World, service: str) -> list[SimulatedMachine]:
    """The machines of a service that were ever made, in order."""
    return [each for each in tuple(world.machines.values()) if each.tags["occopus.io/service"] == service]


async def _said(place: Place, service: str) -> str:
    """What the Healthy conditions of a service's Instances say."""
    mine = [each for each in await place.objects("Instance") if each["spec"]["service"] == service]
    found = [said for each in mine for said in each.get("status", {}).get("conditions", ()) if said["type"] == "Healthy"]
    return "\n".join(each["message"] for each in found)


async def _waits_for_pages(place: Place, ec2: LightEc2, served: Answering) -> SimulatedMachine:
    """Bring the pair up page by page; its web."""
    ec2.world.never_healthy = lambda machine: True

    async def says(service: str, words: str) -> bool:
        return words in await _said(place, service)

    await place.until(lambda: says("db", "connection refused"), "db is probed")
    (db,) = _of(ec2.world, "db")
    assert _of(ec2.world, "web") == []
    ec2.world.make_healthy(db.id)
    await place.until(lambda: _of(ec2.world, "web"), "web is launched")
    (web,) = _of(ec2.world, "web")
    launches = [each for each in ec2.world.ledger if each.action == "RunInstances"]
    assert [each.ids for each in launches] == [(db.id,), (web.id,)]
    assert db.healthy < launches[1].time
    ec2.behaviour.pages[web.id] = Page.FAILS
    await place.until(lambda: says("web", "answered 500"), "web is probed")
    assert not await place.is_ready("pair")
    ec2.behaviour.pages[web.id] = Page.SERVES
    await place.until(lambda: place.is_ready("pair"), "pair is Ready")
    assert served.of(db.id)[0] is served.of(web.id)[-1] is Page.SERVES
    ec2.world.never_healthy = lambda machine: False
    return web


async def probed(place: Place) -> None:
    settings = Settings(boot_seconds=lambda rng: 0.3, health_seconds=lambda rng: 0.3, terminating_seconds=0.3)
    ec2 = LightEc2(World(time.time, epoch=datetime(1970, 1, 1, tzinfo=UTC), settings=settings))
    with answering(ec2) as served, serve(ec2) as endpoint:
        await place.lead()
        await place.apply(descriptions.on_ec2(endpoint) + FILE.format(port=served.port, threshold=THRESHOLD))
        web = await _waits_for_pages(place, ec2, served)
        asked = len(served.of(web.id))
        ec2.behaviour.pages[web.id] = Page.HANGS
        await place.until(lambda: len(_of(ec2.world, "web")) == 2, "web is replaced")
        assert served.of(web.id)[asked:].count(Page.HANGS) >= THRESHOLD
        await place.until(lambda: web.ended <= time.time(), "the old one has ended")
        await place.until(lambda: place.is_ready("pair"), "pair is Ready")
        assert [each.ending for each in _of(ec2.world, "db")] == [NEVER]
        await place.delete_all()
    assert len(ec2.world.machines) == 3
    assert ec2.world.live() == []
    assert ec2.world.duplicates() == []


def test_services_wait_for_pages_and_a_bad_page_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    at_a_place(cluster, tmp_path, probed)
