"""Real SIGKILL of the `occopus` command at its calls to EC2: the next one comes to the same end, with no machine twice and none left.

The light EC2 is served by the test itself, whose World is the truth. `make test` kills at one call of each kind that changes something
in every scenario, one after the other, each command going on where the one before was killed; `make test-crash` (CRASH=all) at
every such call, each time from the beginning. `make test-long` compares the places in the code that the stories' calls come from with
those that its source has: a call that is added, and that no story comes to, fails there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.ports import Identity
from tests import faulty
from tests.crash import sites
from tests.crash.injector import MUTATING
from tests.crash.sites import Site
from tests.e2e import descriptions
from tests.e2e.desk import UP_SECONDS, Desk
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.world import Settings, World

ALL = os.environ.get("CRASH") == "all"
#: The tests of one story are split, so that they run side by side.
PARTS = 4
TIMEOUT = ("--timeout", str(UP_SECONDS))
FILE = """
apiVersion: occopus.io/v1alpha1
kind: InstanceTemplate
metadata: {name: plain}
spec:
  implementations: [{name: aws, cloudRef: {name: aws}, ec2: {image: {id: ami-0a000000000000001}, instanceType: t3.small}}]
  context: {cloudInit: {template: "#cloud-config\\nruncmd: [up]\\n"}}
---
apiVersion: occopus.io/v1alpha1
kind: Infrastructure
metadata: {name: pair}
spec:
  services:
  - {name: first, templateRef: {name: plain}}
  - {name: second, templateRef: {name: plain}, scaling: {min: 3, max: 6}, dependsOn: [{service: first}]}
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

    def remove(self, fault: str = "") -> int:
        """Take one machine away by name. Where that is done, or begun, what is left of it is `up`'s."""
        left = [each for each in self.desk.objects("instances") if each["metadata"]["name"] == REMOVED]
        if not left or "deletionTimestamp" in left[0]["metadata"]:
            return self.up(fault)
        return self._run(fault, "delete", "--instance", REMOVED, "--scale-in", *TIMEOUT)

    def scale(self, number: int) -> None:
        self.desk.occopus("scale", "pair", "second", str(number))

    def scaled(self, number: int) -> None:
        """Let so many of the second service be up."""
        self.up()
        self.scale(number)
        self.up()

    def _run(self, fault: str, *arguments: str) -> int:
        if fault:
            return self.desk.run(*arguments, module=("-m", "tests.faulty", "occopus", fault)).returncode
        self.desk.occopus(*arguments)
        return 0

    def finish(self, act: Callable[[Place, str], int], machines: int) -> None:
        """Do it without a fault, again until all that goes has gone; then judge."""
        act(self, "")
        for _ in range(GOING):
            if len(self.desk.objects("instances")) <= machines:
                break
            act(self, "")
        self.judge(machines)

    @property
    def calls(self) -> Path:
        """The file of the changes that commands with a fault came to."""
        return self.desk.directory / "calls"

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
        place = Place(desk, world, desk.write("pair.yaml", descriptions.on_ec2(endpoint) + FILE))
        desk.environment[faulty.CALLS_FILE] = str(place.calls)
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
#: So many commands at most see the end of what goes: it takes half a second, but their own.
GOING = 10
#: The one that is removed by name, which was made first.
REMOVED = "pair-second-0"
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
    place.scale(6)
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


def test_killed_while_it_scales_in(place: Place) -> None:
    place.scaled(5)
    place.scale(4)
    # `up` waits for what is Ready, not for what goes: what comes after the end of a machine it may leave to the next one.
    for call in ENDING[:-1]:
        assert place.up(f"{call}:die") == KILLED, call
    place.finish(Place.up, 5)
    assert len(place.world.machines) == 6


@pytest.mark.long
def test_killed_while_it_scales_in_by_name(place: Place) -> None:
    place.scaled(5)
    for call in ("after:store.patch", "after:delete"):
        assert place.remove(f"{call}:die") == KILLED, call
    place.finish(Place.remove, 5)
    assert len(place.world.machines) == 6
    assert REMOVED not in {each["metadata"]["name"] for each in place.desk.objects("instances")}


@dataclass(frozen=True, slots=True)
class Story:
    """What is done without a fault, what with one and again without; how many machines there are then, and how many were ever made."""

    name: str
    prepare: Callable[[Place], object]
    act: Callable[[Place, str], int]
    machines: int
    made: int

    def finish(self, place: Place) -> None:
        """Do it without a fault; then judge."""
        place.finish(self.act, self.machines)
        assert len(place.world.machines) == self.made


def _wants_more(place: Place) -> None:
    place.up()
    place.scale(6)


def _wants_fewer(place: Place) -> None:
    place.scaled(6)
    place.scale(3)


def _one_lost(place: Place) -> None:
    place.up()
    place.world.kill(min(place.live()))


STORIES = (
    Story("create", lambda place: None, Place.up, machines=4, made=4),
    Story("batch", _wants_more, Place.up, machines=7, made=7),
    Story("heal", _one_lost, Place.up, machines=4, made=5),
    Story("scale-in", _wants_fewer, Place.up, machines=4, made=7),
    Story("scale-in-one", lambda place: place.scaled(4), Place.remove, machines=4, made=5),
    Story("delete", Place.up, Place.delete, machines=0, made=4),
)


@pytest.mark.skipif(not ALL, reason="an hour: `make test-crash`")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("story", [pytest.param(each, id=each.name) for each in STORIES])
def test_killed_at_every_change(tmp_path: Path, story: Story, part: int) -> None:
    """Before the first and after each; before any other is after the one before it."""
    for number in itertools.count(part, PARTS):
        with _placed(tmp_path / str(number)) as place:
            story.prepare(place)
            code = story.act(place, f"after:change#{number}:die" if number else "before:change#1:die")
            came = len(faulty.noted(place.calls))
            if code == 0:
                assert 0 < came < number
                return
            assert code == KILLED, number
            # Another thread may come to one more while this one is killed.
            assert came >= max(number, 1)
            story.finish(place)


# --- whether the stories come to every change -----------------------------------------------------------------------
#: What changes something, among the calls that `sites` finds: those at which `change` kills, and what the engine puts before them.
CHANGES = {each.replace("cloud.", "driver.") for each in MUTATING} | {
    f"objects.{each}" for each in sites.METHODS["objects"] - {"refresh", "event"}
}
_SELDOM = "edits by other hands, a restore, the sweep, the end of a Cloud: seldom scenarios, in one process (tests/crash/seldom.py)"
_ASKED = "what the user asks for by the command; after a kill it is asked for again, as each story's step is"
_OPERATORS = "the operator's; the state file has one from its beginning"
#: What no story comes to, and why: a call in a function of a file below `controller/`.
UNREACHED: dict[str, str] = {
    "asking.py _answer store.patch": "the answer to another process that waits; no story has two",
    "desktop.py _put store.create": _ASKED,
    "desktop.py _put store.patch": _ASKED,
    "desktop.py change store.patch": _ASKED,
    "desktop.py delete store.delete": _ASKED,
    "controller_id.py _kept store.create": _OPERATORS,
    "controller_id.py _kept store.patch": _OPERATORS,
    "engine/engine.py _refused objects.say_trouble": "only where the API refuses a write: a condition, which each pass writes again",
} | dict.fromkeys(
    (
        "engine/sweep.py _end driver.delete",
        "reconcilers/cloud/reconcile.py _free objects.guard",
        "reconcilers/cloud/reconcile.py _release objects.set_finalizer",
        "reconcilers/infrastructure/reconcile.py _act objects.disown",
        "reconcilers/infrastructure/reconcile.py _act objects.write",
        "reconcilers/infrastructure/reconcile.py _update objects.write",
        "reconcilers/instance/reconcile.py _act objects.set_finalizer",
        "reconcilers/instance/reconcile.py _act objects.write_launch",
        "reconcilers/instancegroup/reconcile.py _act objects.disown",
        "reconcilers/instancegroup/reconcile.py _act objects.set_finalizer",
        "reconcilers/instancegroup/creation.py adopt objects.write",
        "reconcilers/instancegroup/creation.py _claimed objects.create",
        "reconcilers/instancegroup/snapshots.py prune objects.delete",
        "reconcilers/instancegroup/reconcile.py _release objects.set_finalizer",
        "reconcilers/instancegroup/snapshots.py ensure objects.delete",
    ),
    _SELDOM,
)


def changes(found: Iterable[Site]) -> set[Site]:
    return {each for each in found if each.call in CHANGES}


def _name(site: Site) -> str:
    return f"{site.path} {site.function} {site.call}"


@pytest.mark.long
def test_the_stories_come_to_every_change_in_the_source(tmp_path: Path) -> None:
    met: set[Site] = set()
    for story in STORIES:
        with _placed(tmp_path / story.name) as place:
            story.prepare(place)
            # There is no change of this number.
            assert story.act(place, "after:change#1000000:die") == 0
            story.finish(place)
            for each in faulty.noted(place.calls):
                found = sites.at(each.call, each.places)
                assert found, f"a call that the search of the source does not see: {each}"
                met |= found
    unreached = changes(sites.found()) - met
    assert [str(each) for each in sorted(unreached) if _name(each) not in UNREACHED] == []
    assert set(UNREACHED) - {_name(each) for each in unreached} == set(), "excuses that nothing needs"
