"""A fleet on EC2 as it publishes itself: the `ec2` driver and boto3 against the light EC2, its token buckets and its lag, in virtual time.

`measure` runs in a process of its own. The driver's calls are made in the loop's thread and the light EC2 answers in others, so the
processor's time of the loop's thread is the controller's whole, boto3 included, and nothing of the cloud's.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from controller.engine import metrics
from controller.ports import Key, MachineId
from tests.bench import scale, shapes
from tests.bench.counting import CountingStore
from tests.bench.makespan import BOOT_SECONDS, Makespan, bring_up
from tests.bench.shapes import NAME, Shape
from tests.simulated import loop, on_ec2
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.harness import System, condition, put
from tests.simulated.loop import Clock
from tests.simulated.world import NEVER, Settings, World

#: After so long without a change the lists come at their slowest (design section 6); then so long is watched.
QUIET_SECONDS, IDLE_SECONDS = 660.0, 900.0
#: By then an earlier loss is forgotten: the back-off begins anew (ten minutes and the time a machine has to start).
FORGOTTEN_SECONDS = 1260.0
HEALTH_SECONDS = (5.0, 15.0)
TERMINATING_SECONDS = 30.0
#: EC2's published buckets (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html): requests of RunInstances.
_RUN_CAPACITY, _RUN_PER_SECOND = 5.0, 2.0
_LIMIT_SECONDS = 7200.0
#: How many machines are lost in each way, one after the other: of a few, and of many, as half an hour of these takes minutes.
_LOSSES, _LOSSES_OF_MANY = 3, 1
#: How the title of what is brought up here ends.
ON_EC2 = "on EC2"
_READING = ("Describe", "Get")
_ALIKE = "#cloud-config\nwrite_files:\n- {path: /etc/name, content: alike}\n"


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was done in a stretch of virtual time. A list counts once, `pages` are its calls, and those of questions by id."""

    calls: dict[str, int]
    lists: int
    described: int
    throttled: int
    writes: int
    events: int
    cpu_seconds: float
    seconds: float

    @property
    def mutating(self) -> int:
        return sum(number for action, number in self.calls.items() if not action.startswith(_READING))

    @property
    def pages(self) -> int:
        return self.calls.get("DescribeInstances", 0)


@dataclass(frozen=True, slots=True)
class Fleet:
    """One run. `longest` is the longest time of a machine from its making until it serves, `launched` when the last was made."""

    instances: int
    alike: bool
    up: Stretch
    longest: float
    launched: float
    #: When how many were Ready, in seconds since the documents were applied.
    ready: list[tuple[float, int]]
    idle: Stretch
    restart: Stretch
    down: Stretch
    rss_before: float
    rss_after: float
    #: Seconds from each loss to its condition and to the call for another: of those terminated, stopped, merely absent.
    lost: list[tuple[float, float]]
    stopped: list[tuple[float, float]]
    absent: list[tuple[float, float]]

    @property
    def bound(self) -> float:
        """The seconds that EC2's own bucket of requests makes so many launches take."""
        return max(0.0, (self.instances - _RUN_CAPACITY) / _RUN_PER_SECOND) if not self.alike else 0.0


def measure(number: int, alike: int) -> dict[str, Any]:
    """One service of so many machines, alike or each told its own name; a `Fleet` as JSON."""
    with tempfile.TemporaryDirectory() as directory, standing(Path(directory)) as system:
        return asdict(loop.run(_Bench(system, shapes.flat(1, number), alike=bool(alike)).run(), clock=system.clock))


def makespan(shape: Shape, seed: int) -> Makespan:
    """Bring the shape up once, each machine by a launch of its own."""
    with tempfile.TemporaryDirectory() as directory, standing(Path(directory), seed) as system:
        return loop.run(bring_up(shape, system), clock=system.clock)


@contextmanager
def standing(directory: Path, seed: int = 0) -> Generator[System]:
    """A system on a light EC2 as EC2 publishes itself."""
    settings = Settings(
        boot_seconds=lambda rng: rng.uniform(*BOOT_SECONDS),
        health_seconds=lambda rng: rng.uniform(*HEALTH_SECONDS),
        terminating_seconds=TERMINATING_SECONDS,
        lag_seconds=2.0,
    )
    clock = Clock()
    light = LightEc2(World(clock, seed=seed, settings=settings))
    light.behaviour.throttles = True
    system = System(directory / "state.db", clock)
    with serve(light) as endpoint:
        on_ec2.on_ec2(system, light, endpoint)
        yield system


def documents(shape: Shape, *, alike: bool) -> list[Any]:
    """The shape's, for machines that are told the same, or each its own name."""
    found = shapes.documents(shape)
    found[1]["spec"]["health"]["startupSeconds"] = 600
    if alike:
        found[1]["spec"]["context"]["cloudInit"]["template"] = _ALIKE
    return found


class _Bench:
    def __init__(self, system: System, shape: Shape, *, alike: bool) -> None:
        self._system = system
        self._shape = shape
        self._alike = alike
        self._store: CountingStore | None = None
        system.wrap_store = self._counted

    def _counted(self, store: Any) -> CountingStore:
        self._store = CountingStore(store)
        return self._store

    async def run(self) -> Fleet:
        system = self._system
        system.start()
        await asyncio.sleep(5.0)
        before = scale.rss_mib()
        begun, ready = self._begin(), list[tuple[float, int]]()
        for document in system.documents(documents(self._shape, alike=self._alike)):
            await put(system.store, document)
        applied = system.clock()
        while not system.ready():
            assert system.clock() < applied + _LIMIT_SECONDS, system.picture()
            await asyncio.sleep(0.5)
            now = sum(1 for each in system.engine.objects.list("Instance") if "readyTime" in each.get("status", {}))
            if not ready or ready[-1][1] != now:
                ready.append((round(system.clock() - applied, 1), now))
        up, after = self._since(begun), scale.rss_mib()
        await asyncio.sleep(QUIET_SECONDS)
        begun = self._begin()
        await asyncio.sleep(IDLE_SECONDS)
        idle = self._since(begun)
        losses = range(_LOSSES if self._shape.machines <= 100 else _LOSSES_OF_MANY)
        lost = [await self._lose(system.world.kill) for _ in losses]
        stopped = [await self._lose(system.world.stop) for _ in losses]
        absent = [await self._lose(system.world.forget) for _ in losses]
        await system.crash()
        system.start()
        begun = self._begin()
        await system.engine.synced.wait()
        await system.engine.verified(NAME)
        seconds = system.clock() - begun.at
        await asyncio.sleep(60.0)  # what a restart would change it may change later too
        restart = self._since(begun, seconds)
        machines = list(system.world.machines.values())[: self._shape.machines]
        begun = self._begin()
        key = Key("Infrastructure", "default", NAME)
        await system.store.delete(key, uid=(await system.store.get(key))["metadata"]["uid"])
        await system.wait(system.gone, _LIMIT_SECONDS)
        down = self._since(begun)
        assert all(each.ended < NEVER for each in system.world.machines.values())
        await system.crash()
        return Fleet(
            instances=self._shape.machines,
            alike=self._alike,
            up=up,
            longest=max(each.healthy - each.created for each in machines),
            launched=max(each.created for each in machines) - applied,
            ready=ready,
            idle=idle,
            restart=restart,
            down=down,
            rss_before=before,
            rss_after=after,
            lost=lost,
            stopped=stopped,
            absent=absent,
        )

    async def _lose(self, how: Callable[[MachineId], None]) -> tuple[float, float]:
        """Lose one; seconds until its Instance says so and until another is made. Then all is quiet, and forgotten."""
        system = self._system
        await asyncio.sleep(30.0 * system.world.random.random())
        victim, made, at = system.instances()[0], len(system.world.machines), system.clock()
        key = Key("Instance", "default", victim["metadata"]["name"])
        how(victim["status"]["machine"]["id"])
        await system.wait(lambda: condition(system.engine.objects.get(key) or {}, "Ready") != "True", _LIMIT_SECONDS, every=0.1)
        said = system.clock() - at
        await system.wait(lambda: len(system.world.machines) > made, _LIMIT_SECONDS, every=0.1)
        called = system.clock() - at
        await system.wait(system.ready, _LIMIT_SECONDS)
        await asyncio.sleep(FORGOTTEN_SECONDS)
        return said, called

    def _begin(self) -> _Begun:
        assert self._store is not None
        self._store.reset()
        return _Begun(
            self._system.world.counts(),
            _asked("list"),
            _asked("describe"),
            _throttled(self._system),
            time.thread_time(),
            self._system.clock(),
        )

    def _since(self, begun: _Begun, seconds: float | None = None) -> Stretch:
        store, system = self._store, self._system
        assert store is not None
        return Stretch(
            calls=dict(sorted((system.world.counts() - begun.calls).items())),
            lists=_asked("list") - begun.lists,
            described=_asked("describe") - begun.described,
            throttled=_throttled(system) - begun.throttled,
            writes=store.writes.total(),
            events=store.events,
            cpu_seconds=time.thread_time() - begun.cpu,
            seconds=system.clock() - begun.at if seconds is None else seconds,
        )


@dataclass(frozen=True, slots=True)
class _Begun:
    calls: Counter[str]
    lists: int
    described: int
    throttled: int
    cpu: float
    at: float


def _asked(action: str) -> int:
    labels = {"kind": "ec2", "action": action, "result": "ok"}
    return int(metrics.REGISTRY.get_sample_value("occopus_cloud_calls_total", labels) or 0)


def _throttled(system: System) -> int:
    return sum(1 for each in system.world.ledger if each.outcome == "RequestLimitExceeded")


__all__ = [
    "IDLE_SECONDS",
    "ON_EC2",
    "QUIET_SECONDS",
    "TERMINATING_SECONDS",
    "Fleet",
    "Stretch",
    "documents",
    "makespan",
    "measure",
    "standing",
]
