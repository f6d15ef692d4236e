"""Real SIGKILL of the `occopus` command at its calls to EC2: the next one comes to the same end, with no machine twice and none left.

The light EC2 is served by the test itself, whose World is the truth. `make test` kills at one call of each kind that changes something
in every scenario, one after the other, each command going on where the one before was killed; `make test-crash` (CRASH=all) at
every such call, each time from the beginning.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.ports import Identity
from tests.e2e.desk import UP_SECONDS, Desk
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.world import Settings, World

ALL = os.environ.get("CRASH") == "all"
#: The tests of one story are split, so that they run side by side.
PARTS = 4
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


@contextlib.contextmanager
def _placed(path: Path) -> Generator[Place]:
    settings = Settings(boot_seconds=lambda rng: rng.uniform(0.2, 0.6), terminating_seconds=0.3, lag_seconds=0.2)
    world = World(time.time, epoch=datetime(1970, 1, 1, tzinfo=UTC), settings=settings)
    with serve(LightEc2(world)) as endpoint:
        path.mkdir(exist_ok=True)
        desk = Desk(path)
        place = Place(desk, world, desk.write("pair.yaml", FILE.format(endpoint=endpoint)))
        yield place
        if place.live():
            place.delete()
        assert place.live() == set()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with _placed(tmp_path) as place:
        yield place


KILLED = -signal.SIGKILL
#: One call of each kind, in the order in which they come while something is made; and while all goes.
MAKING = ("after:store.patch", "after:store.create", "after:prepare", "before:create", "after:create")
ENDING = ("after:store.patch", "after:store.delete", "before:delete", "after:delete", "after:close")
#: Of a machine that is lost: its Instance goes, and beside it another is made.
HEALING = (("after:store.patch", "after:store.delete", *MAKING[1:]), ("after:close",))
#: A batch that was not whole waits for 120 s, so all three of it are made.
BATCHING = ("after:store.patch", "after:store.create#3", *MAKING[2:])


def test_killed_while_it_creates(place: Place) -> None:
    for call in MAKING:
        assert place.up(f"{call}:die") == KILLED, call
        assert len(place.live()) == (1 if call == "after:create" else 0)
    place.up()
    place.judge(4)
    assert len(place.world.machines) == 4


def test_killed_while_it_makes_a_batch(place: Place) -> None:
    place.up()
    place.desk.occopus("scale", "pair", "second", "6")
    for call in BATCHING:
        assert place.up(f"{call}:die") == KILLED, call
        assert len(place.live()) == (7 if call == "after:create" else 4)
    place.up()
    place.judge(7)
    assert len(place.world.machines) == 7
    assert {each["spec"]["batch"]["size"] for each in place.desk.objects("instances")} == {1, 3}


def test_killed_while_it_heals(place: Place) -> None:
    place.up()
    for calls in HEALING:
        place.world.kill(min(place.live()))
        for call in calls:
            assert place.up(f"{call}:die") == KILLED, call
        place.up()
        place.judge(4)
    assert len(place.world.machines) == 6


def test_killed_while_it_deletes(place: Place) -> None:
    place.up()
    for call in ENDING:
        assert place.delete(f"{call}:die") == KILLED, call
    place.delete()
    assert place.desk.objects("instances") == []
    assert place.live() == set()
    assert len(place.world.machines) == 4


@dataclass(frozen=True, slots=True)
class Story:
    """What is done without a fault, what with one and again without; how many machines there are then, and how many changes at least."""

    name: str
    prepare: Callable[[Place], object]
    act: Callable[[Place, str], int]
    machines: int
    least: int


def _scaled(place: Place) -> None:
    place.up()
    place.desk.occopus("scale", "pair", "second", "6")


def _one_lost(place: Place) -> None:
    place.up()
    place.world.kill(min(place.live()))


STORIES = (
    Story("create", lambda place: None, Place.up, 4, 20),
    Story("batch", _scaled, Place.up, 7, 10),
    Story("heal", _one_lost, Place.up, 4, 8),
    Story("delete", Place.up, Place.delete, 0, 15),
)


@pytest.mark.skipif(not ALL, reason="an hour: `make test-crash`")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("story", [pytest.param(each, id=each.name) for each in STORIES])
def test_killed_at_every_change(tmp_path: Path, story: Story, part: int) -> None:
    """Before the first and after each; before any other is after the one before it."""
    met = 0
    for number in itertools.count(part, PARTS):
        with _placed(tmp_path / str(number)) as place:
            story.prepare(place)
            code = story.act(place, f"after:change#{number}:die" if number else "before:change#1:die")
            if code == 0:
                break
            assert code == KILLED, number
            met = number
            story.act(place, "")
            place.judge(story.machines)
    assert met >= story.least - PARTS
