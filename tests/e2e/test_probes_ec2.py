"""Health of machines on EC2 by real probes to real sockets: what waits for a page, what a bad page leads to, and who is asked no more.

The light EC2 and its machines are served by the test itself, whose World and whose list of knocks are the truth.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e import descriptions
from tests.e2e.desk import COMMAND_SECONDS, UP_SECONDS, Desk
from tests.simulated.ec2 import Answering, LightEc2, Page, answering, serve
from tests.simulated.world import NEVER, Settings, SimulatedMachine, World

TIMEOUT = ("--timeout", str(UP_SECONDS))
THRESHOLD = 3
#: `db` is asked for a connection, `web` for a page and for a connection.
FILE = """
apiVersion: occopus.io/v1alpha1
kind: InstanceTemplate
metadata: {{name: db}}
spec:
  implementations: [{{name: aws, cloudRef: {{name: aws}}, ec2: {{image: {{id: ami-0a000000000000001}}, instanceType: t3.small}}}}]
  health:
    probes: [{{name: port, tcp: {{port: {port}}}, periodSeconds: 1, timeoutSeconds: 1, failureThreshold: {threshold}}}]
---
apiVersion: occopus.io/v1alpha1
kind: InstanceTemplate
metadata: {{name: web}}
spec:
  implementations: [{{name: aws, cloudRef: {{name: aws}}, ec2: {{image: {{id: ami-0a000000000000001}}, instanceType: t3.small}}}}]
  health:
    probes:
    - {{name: page, http: {{port: {port}, path: /}}, periodSeconds: 1, timeoutSeconds: 1, failureThreshold: {threshold}}}
---
apiVersion: occopus.io/v1alpha1
kind: Infrastructure
metadata: {{name: pair}}
spec:
  services:
  - {{name: db, templateRef: {{name: db}}}}
  - {{name: web, templateRef: {{name: web}}, dependsOn: [{{service: db}}]}}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A desk, and an EC2 whose machines answer at real sockets."""

    desk: Desk
    ec2: LightEc2
    answering: Answering
    file: str

    @property
    def world(self) -> World:
        return self.ec2.world

    def of(self, service: str) -> list[SimulatedMachine]:
        """The machines of a service that were ever made, in order."""
        return [each for each in tuple(self.world.machines.values()) if each.tags["occopus.io/service"] == service]

    def said(self, service: str) -> str:
        """What the Healthy conditions of a service's Instances say."""
        mine = [each for each in self.desk.objects("instances") if each["spec"]["service"] == service]
        found = [said for each in mine for said in each.get("status", {}).get("conditions", ()) if said["type"] == "Healthy"]
        return "\n".join(f"{each['status']} {each['message']}" for each in found)

    def is_ready(self) -> bool:
        return all(each["ready"] for each in self.desk.services().values())

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Generator[subprocess.Popen[str]]:
        """`occopus run`, until the block ends."""
        process = self.desk.start_run(*arguments)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(COMMAND_SECONDS) == 0, self.desk.started()
        finally:
            process.kill()
            process.wait(COMMAND_SECONDS)

    def healed(self, process: subprocess.Popen[str], old: SimulatedMachine) -> SimulatedMachine:
        """Wait until one machine has come in place of the old one; that."""
        service = old.tags["occopus.io/service"]
        self.desk.until(process, lambda: len(self.of(service)) == 2 and old.ended <= time.time() and self.is_ready())
        (_, other) = self.of(service)
        assert self.answering.of(other.id)[-1] is Page.SERVES
        assert len(self.world.machines) == 3
        return other

    def up(self) -> None:
        self.desk.occopus("up", "-f", self.file, "-q", *TIMEOUT)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    settings = Settings(boot_seconds=lambda rng: 0.3, health_seconds=lambda rng: 0.3, terminating_seconds=0.3)
    ec2 = LightEc2(World(time.time, epoch=datetime(1970, 1, 1, tzinfo=UTC), settings=settings))
    with answering(ec2) as served, serve(ec2) as endpoint:
        desk = Desk(tmp_path)
        text = descriptions.on_ec2(endpoint) + FILE.format(port=served.port, threshold=THRESHOLD)
        place = Place(desk, ec2, served, desk.write("pair.yaml", text))
        yield place
        desk.occopus("delete", "--all", *TIMEOUT)
    assert ec2.world.live() == []
    assert ec2.world.duplicates() == []


def test_each_service_waits_for_the_pages_of_those_before_it(place: Place) -> None:
    place.world.never_healthy = lambda machine: True
    up = place.desk.start("up", "-f", place.file, "-q", *TIMEOUT)
    try:
        place.desk.until(up, lambda: bool(place.of("db")))
        (db,) = place.of("db")
        place.desk.until(up, lambda: place.desk.state.exists() and "connection refused" in place.said("db"))
        assert db.private_address in place.said("db")
        assert place.of("web") == []
        place.world.make_healthy(db.id)
        place.desk.until(up, lambda: bool(place.of("web")))
        (web,) = place.of("web")
        assert db.healthy < web.created
        assert place.answering.of(db.id)[0] is Page.SERVES
        # A machine that runs and accepts connections has no page yet.
        place.ec2.behaviour.pages[web.id] = Page.FAILS
        place.desk.until(up, lambda: "answered 500" in place.said("web"))
        assert not place.is_ready()
        place.ec2.behaviour.pages[web.id] = Page.SERVES
        assert up.wait(COMMAND_SECONDS) == 0, place.desk.started()
        assert place.answering.of(web.id)[-1] is Page.SERVES
        assert place.is_ready()
        assert len(place.world.machines) == 2
    finally:
        up.kill()
        up.wait(COMMAND_SECONDS)


@pytest.mark.long
@pytest.mark.parametrize("page", [pytest.param(each, id=each.value) for each in (Page.FAILS, Page.HANGS, Page.REFUSES)])
def test_a_page_that_turns_bad_is_replaced_after_the_threshold(place: Place, page: Page) -> None:
    with place.running() as process:
        place.up()
        (db,), (web,) = place.of("db"), place.of("web")
        # Less failures in a row than the threshold are borne.
        place.ec2.behaviour.pages[web.id] = Page.FAILS
        place.desk.until(process, lambda: Page.FAILS in place.answering.of(web.id))
        del place.ec2.behaviour.pages[web.id]
        place.desk.until(process, lambda: place.answering.of(web.id)[-THRESHOLD:] == [Page.SERVES] * THRESHOLD)
        borne = len(place.answering.of(web.id))
        assert web.ending == NEVER
        turned = time.time()
        place.ec2.behaviour.pages[web.id] = page
        place.desk.until(process, lambda: web.ending != NEVER)
        # Two periods lie between three failures, each 5 % shorter at most.
        assert web.ending - turned >= (THRESHOLD - 1) * 0.95
        if page is not Page.REFUSES:
            assert place.answering.of(web.id)[borne:].count(page) >= THRESHOLD
        place.healed(process, web)
        assert db.ending == NEVER


@pytest.mark.long
def test_a_page_that_turned_bad_while_nobody_looked_is_replaced_too(place: Place) -> None:
    place.up()
    (web,) = place.of("web")
    place.ec2.behaviour.pages[web.id] = Page.FAILS
    before = len(place.answering.of(web.id))
    with place.running() as process:
        place.desk.until(process, lambda: web.ending != NEVER)
        assert place.answering.of(web.id)[before:].count(Page.FAILS) >= THRESHOLD
        place.healed(process, web)


@pytest.mark.long
@pytest.mark.parametrize("end", [pytest.param(World.kill, id="terminated"), pytest.param(World.stop, id="stopped")])
def test_a_machine_that_has_ended_is_asked_no_more(place: Place, end: Callable[[World, str], None]) -> None:
    with place.running() as process:
        place.up()
        (web,) = place.of("web")
        end(place.world, web.id)
        other = place.healed(process, web)
        place.desk.until(process, lambda: not place.answering.listens(web.id))
        with socket.create_server((web.private_address, place.answering.port)) as grave:
            grave.setblocking(False)
            before = len(place.answering.of(other.id))
            # A period is a second, for this one as it was for the other.
            place.desk.until(process, lambda: len(place.answering.of(other.id)) >= before + 3)
            with pytest.raises(BlockingIOError):
                grave.accept()
