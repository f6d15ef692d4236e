"""A fleet that has converged, in virtual time on the simulated cloud: what an hour of it costs, and what a restart costs.

`measure` runs in a process of its own (`tests.bench.child`), so that the processor's time is this run's alone.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench import shapes
from tests.bench.counting import CountingStore
from tests.bench.shapes import NAME, Shape
from tests.simulated import loop
from tests.simulated.harness import System, put
from tests.simulated.loop import Clock

#: After so long without a change the lists come at their slowest (design section 6).
QUIET_SECONDS = 660.0
HOUR_SECONDS = 3600.0
_LIMIT_SECONDS = 7200.0
#: Calls that change nothing at a cloud.
READING = frozenset({"list", "identity", "resolve", "describe", "console"})


@dataclass(frozen=True, slots=True)
class Quiet:
    """What was done in a stretch of virtual time."""

    writes: int
    events: int
    mutating_calls: int
    lists: int
    cpu_seconds: float
    #: Virtual seconds.
    seconds: float


@dataclass(frozen=True, slots=True)
class Idle:
    instances: int
    hour: Quiet
    restart: Quiet


def measure(services: int, replicas: int) -> dict[str, Any]:
    """So many services of so many machines; an `Idle` as JSON."""
    with tempfile.TemporaryDirectory() as directory:
        clock = Clock()
        found = loop.run(_measure(shapes.flat(services, replicas), System(Path(directory) / "state.db", clock)), clock=clock)
    return asdict(found)


async def _measure(shape: Shape, system: System) -> Idle:
    stores: list[CountingStore] = []

    def counted(store: Any) -> CountingStore:
        stores.append(CountingStore(store))
        return stores[-1]

    system.wrap_store = counted
    system.start()
    for document in shapes.documents(shape):
        await put(system.store, document)
    await system.wait(system.ready, _LIMIT_SECONDS)
    await asyncio.sleep(QUIET_SECONDS)
    stores[-1].reset()
    begun = _Begun(system)
    await asyncio.sleep(HOUR_SECONDS)
    hour = begun.until_now(stores[-1])
    await system.crash()
    begun = _Begun(system)
    system.start()
    await system.engine.synced.wait()
    await system.engine.verified(NAME)
    restart = begun.until_now(stores[-1])
    # What a restart would change it may change later too.
    await asyncio.sleep(60.0)
    late = begun.until_now(stores[-1])
    await system.crash()
    return Idle(
        shape.machines, hour, Quiet(late.writes, late.events, late.mutating_calls, restart.lists, restart.cpu_seconds, restart.seconds)
    )


class _Begun:
    """The beginning of a stretch."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._calls: Counter[str] = system.world.counts()
        self._at = system.clock()
        self._cpu = time.process_time()

    def until_now(self, store: CountingStore) -> Quiet:
        cpu = time.process_time() - self._cpu
        calls = self._system.world.counts() - self._calls
        return Quiet(
            writes=store.writes.total(),
            events=store.events,
            mutating_calls=sum(number for action, number in calls.items() if action not in READING),
            lists=calls["list"],
            cpu_seconds=cpu,
            seconds=self._system.clock() - self._at,
        )


__all__ = ["HOUR_SECONDS", "QUIET_SECONDS", "READING", "Idle", "Quiet", "measure"]
