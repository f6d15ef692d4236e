"""Real SIGKILL of the `occopus` command at its calls to EC2: the next one comes to the same end, with no machine twice and none left.

The light EC2 is served by the test itself, whose World is the truth. `make test` kills at one call of each kind that changes something
in every scenario; `make test-crash` (CRASH=all) at each kind of call there is.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.ports import Identity
from tests.e2e.desk import UP_SECONDS, Desk
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.world import Settings, World

ALL = os.environ.get("CRASH") == "all"
TIMEOUT = ("--timeout", str(UP_SECONDS))
FILE = """
apiVersion: v1
kind: Secret
metadata: {{name: aws}}
stringData: {{AWS_ACCESS_KEY_ID: AKIDMAIN, AWS_SECRET_ACCESS_KEY: c4n4ry}}
---
apiVersion: occopus.io/v1alpha1
kind: Cloud
metadata: {{name: aws}}
spec: {{ec2: {{region: eu-west-1, endpoint: "{endpoint}", credentials: {{secretRef: {{name: aws}}}}}}}}
---
apiVersion: occopus.io/v1alpha1
kind: InstanceTemplate
metadata: {{name: plain}}
spec:
  implementations: [{{name: aws, cloudRef: {{name: aws}}, ec2: {{image: {{id: ami-0a000000000000001}}, instanceType: t3.small}}}}]
  context: {{cloudInit: {{template: "#cloud-config\\nruncmd: [up]\\n"}}}}
---
apiVersion: occopus.io/v1alpha1
kind: Infrastructure
metadata: {{name: pair}}
spec:
  services:
  - {{name: first, templateRef: {{name: plain}}}}
  - {{name: second, templateRef: {{name: plain}}, scaling: {{min: 3, max: 6}}, dependsOn: [{{service: first}}]}}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A desk, its file, and the truth of its cloud."""

    desk: Desk
    world: World
    file: str

    def up(self, fault: str = "") -> int:
        return self._run(fault, "up", "-f", self.file, *TIMEOUT)

    def delete(self, fault: str = "") -> int:
        return self._run(fault, "delete", "--all", *TIMEOUT)

    def _run(self, fault: str, *arguments: str) -> int:
        if fault:
            return self.desk.run(*arguments, module=("-m", "tests.faulty", "occopus", fault)).returncode
        self.desk.occopus(*arguments)
        return 0

    def live(self) -> set[str]:
        return {each.id for each in self.world.live()}

    def judge(self, machines: int) -> None:
        """Each Instance has its machine, there is no other, and never were two of one identity."""
        instances = self.desk.objects("instances")
        assert {each["status"]["machine"]["id"] for each in instances} == self.live()
        assert len(instances) == machines
        assert self.world.duplicates() == []
        known = {Identity(each["spec"]["batch"]["id"], each["spec"]["batch"]["index"]) for each in instances}
        assert {each.identity for each in self.world.live()} == known


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    settings = Settings(boot_seconds=lambda rng: rng.uniform(0.2, 0.6), terminating_seconds=0.3, lag_seconds=0.2)
    world = World(time.time, epoch=datetime(1970, 1, 1, tzinfo=UTC), settings=settings)
    with serve(LightEc2(world)) as endpoint:
        desk = Desk(tmp_path)
        place = Place(desk, world, desk.write("pair.yaml", FILE.format(endpoint=endpoint)))
        yield place
        if desk.state.exists():
            place.delete()
        assert place.live() == set()


MUTATING = ("before:create:die", "after:create:die")
CREATING = (*MUTATING, "after:identity:die", "after:list:die", "after:resolve:die", "after:prepare:die") if ALL else MUTATING
ENDING = ("before:delete:die", "after:delete:die", *(("after:list:die", "after:close:die") if ALL else ()))
KILLED = -signal.SIGKILL


@pytest.mark.parametrize("fault", CREATING)
def test_killed_while_it_creates(place: Place, fault: str) -> None:
    assert place.up(fault) == KILLED
    assert len(place.live()) == (1 if fault == "after:create:die" else 0)
    place.up()
    place.judge(4)
    assert len(place.world.machines) == 4


@pytest.mark.parametrize("fault", CREATING)
def test_killed_while_it_makes_a_batch(place: Place, fault: str) -> None:
    place.up()
    place.desk.occopus("scale", "pair", "second", "6")
    assert place.up(fault) == KILLED
    assert len(place.live()) == (7 if fault == "after:create:die" else 4)
    place.up()
    place.judge(7)
    assert len(place.world.machines) == 7
    assert {each["spec"]["batch"]["size"] for each in place.desk.objects("instances")} == {1, 3}


@pytest.mark.parametrize("fault", CREATING)
def test_killed_while_it_heals(place: Place, fault: str) -> None:
    place.up()
    place.world.kill(min(place.live()))
    assert place.up(fault) == KILLED
    place.up()
    place.judge(4)
    assert len(place.world.machines) == 5


@pytest.mark.parametrize("fault", ENDING)
def test_killed_while_it_deletes(place: Place, fault: str) -> None:
    place.up()
    assert place.delete(fault) == KILLED
    place.delete()
    assert place.desk.objects("instances") == []
    assert place.live() == set()
    assert len(place.world.machines) == 4
