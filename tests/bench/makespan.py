"""Makespan against the longest path, in virtual time on the simulated cloud, and where the difference goes.

The longest path is computed from what the world knows: of each service's machine the time from its creation until it serves.
The makespan is from the moment at which the documents are applied until the Infrastructure is Ready.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.ports import Obj
from tests.bench import paths, shapes
from tests.bench.shapes import NAME, Shape
from tests.simulated import loop
from tests.simulated.harness import System, condition, put
from tests.simulated.loop import Clock
from tests.simulated.world import Settings

#: The boots of the goal (issue 5, "Figures"), in seconds.
BOOT_SECONDS = (20.0, 60.0)
_LIMIT_SECONDS = 7200.0
#: What happens between two machines of a path, in order; each step ends at the moment its name says.
STEPS = ("served → Instance Ready", "→ group Available", "→ Instance made", "→ launch recorded", "→ machine made")


@dataclass(frozen=True, slots=True)
class Makespan:
    """One run. `steps` are the mean seconds of each of STEPS over the hops of the longest path, `last` those after its end."""

    makespan: float
    longest: float
    hops: int
    first: float
    steps: tuple[float, ...]
    last: float

    @property
    def ratio(self) -> float:
        return self.makespan / self.longest


class Times:
    """When each thing was first so, by what and of which service."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.first: dict[tuple[str, str], float] = {}
        self.ready = asyncio.Event()

    def __call__(self, _: Obj | None, new: Obj | None) -> None:
        if new is None:
            return
        match new["kind"]:
            case "Instance":
                self._instance(new)
            case "InstanceGroup" if condition(new, "Available") == "True":
                self._note("available", new["spec"]["service"])
            case "Infrastructure" if condition(new, "Ready") == "True":
                self._note("ready", NAME)
                self.ready.set()
            case _:
                return

    def _instance(self, new: Obj) -> None:
        service, status = new["spec"]["service"], new.get("status", {})
        self._note("made", service)
        if "launch" in status:
            self._note("launch", service)
        if condition(new, "Ready") == "True":
            self._note("ready", service)

    def _note(self, what: str, whose: str) -> None:
        self.first.setdefault((what, whose), self._clock())


def measure(shape: Shape, seed: int, health_seconds: tuple[float, float]) -> Makespan:
    """Bring the shape up once. `health_seconds` are the bounds of the time from running until serving."""
    settings = Settings(boot_seconds=lambda rng: rng.uniform(*BOOT_SECONDS), health_seconds=lambda rng: rng.uniform(*health_seconds))
    with tempfile.TemporaryDirectory() as directory:
        clock = Clock()
        return loop.run(bring_up(shape, System(Path(directory) / "state.db", clock, settings, seed)), clock=clock)


async def bring_up(shape: Shape, system: System) -> Makespan:
    """Bring the shape up once on that system, which was not started yet."""
    system.start()
    times = Times(system.clock)
    system.engine.objects.listen(times)
    # The documents come while the process is up, at no particular moment of its second.
    await asyncio.sleep(5.0 + system.world.random.random())
    applied = system.clock()
    for document in system.documents(shapes.documents(shape)):
        await put(system.store, document)
    await asyncio.wait_for(times.ready.wait(), _LIMIT_SECONDS)
    found = _evaluate(shape, system, times, applied)
    await system.crash()
    return found


def _evaluate(shape: Shape, system: System, times: Times, applied: float) -> Makespan:
    machines = {each.tags["occopus.io/service"]: each for each in system.world.machines.values()}
    if len(machines) != len(system.world.machines):
        raise AssertionError("a service had more than one machine: its path cannot be told")
    weights = {name: each.healthy - each.created for name, each in machines.items()}
    path = paths.longest(shape.needs, weights)
    ready = times.first["ready", NAME]
    hops = [_hop(before, after, times, machines[before].healthy, machines[after].created) for before, after in itertools.pairwise(path)]
    return Makespan(
        makespan=ready - applied,
        longest=paths.length(path, weights),
        hops=len(hops),
        first=machines[path[0]].created - applied,
        steps=tuple(statistics.fmean(each) for each in zip(*hops, strict=True)),
        last=ready - machines[path[-1]].healthy,
    )


def _hop(before: str, after: str, times: Times, served: float, made: float) -> Sequence[float]:
    first = times.first
    moments = (served, first["ready", before], first["available", before], first["made", after], first["launch", after], made)
    return [end - begin for begin, end in itertools.pairwise(moments)]


__all__ = ["BOOT_SECONDS", "STEPS", "Makespan", "bring_up", "measure"]
