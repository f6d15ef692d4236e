"""Many Instances in one process and one state file, in real time: CPU, memory and writes from nothing to Ready and back.

All parts are those of the `occopus` command but two: the cloud is the simulated one, with boots of a second, and health is
asked of it, not of sockets. `measure` runs in a process of its own (`tests.bench.child`), so that memory is this run's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controller import assembly
from controller.context.renderer import ChildRenderer
from controller.engine.engine import Engine, Options, Ports
from controller.ports import Key, Obj
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore
from tests.bench import shapes
from tests.bench.counting import CountingStore, TimedThreads
from tests.bench.shapes import NAME, Shape
from tests.simulated.checker import SimulatedChecker
from tests.simulated.cloud import plugin
from tests.simulated.harness import condition, put
from tests.simulated.world import Settings, World

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIMIT_SECONDS = 1800.0
_PAGE_BYTES = resource.getpagesize()
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What a phase took; `cpu_seconds` of the process without the simulated cloud, whose calls are `cloud_cpu_seconds`."""

    cpu_seconds: float
    cloud_cpu_seconds: float
    wall_seconds: float
    instance_writes: int
    other_writes: int
    events: int
    lists: int
    cloud_calls: int


@dataclass(frozen=True, slots=True)
class Scale:
    """One run. Memory in MiB: of the process before the documents, with all Ready, and at its peak."""

    instances: int
    up: Cost
    down: Cost
    render_cpu_seconds: float
    rss_before: float
    rss_after: float
    rss_peak: float


@dataclass(slots=True)
class _Run:
    engine: Engine
    store: CountingStore
    threads: TimedThreads
    world: World


def measure(services: int, replicas: int) -> dict[str, Any]:
    """Bring so many services of so many machines up and take them down; a `Scale` as JSON."""
    return asdict(asyncio.run(_measure(shapes.flat(services, replicas))))


async def _measure(shape: Shape) -> Scale:
    with tempfile.TemporaryDirectory() as directory:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        async with _running(Path(directory) / "state.db") as run:
            rss_before = rss_mib()
            up = await _phase(run, lambda: _apply(run, shape), until(run.engine, is_ready))
            rss_after = rss_mib()
            down = await _phase(run, lambda: _delete(run), until(run.engine, is_gone))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Scale(
        instances=shape.machines,
        up=up,
        down=down,
        render_cpu_seconds=(after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime),
        rss_before=rss_before,
        rss_after=rss_after,
        rss_peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


@contextlib.asynccontextmanager
async def _running(path: Path) -> AsyncGenerator[_Run]:
    settings = Settings(
        boot_seconds=lambda rng: rng.uniform(0.5, 1.5), health_seconds=lambda rng: rng.uniform(0.0, 0.5), terminating_seconds=0.5
    )
    world = World(time.time, epoch=_UNIX_EPOCH, settings=settings)
    kind = plugin(world)
    store = SqliteStore.open(path, Rules((kind,)), lock=True)
    pool, renderer = assembly.CallThreads(), ChildRenderer()
    counting, threads = CountingStore(store), TimedThreads(pool)
    ports = Ports(counting, (kind,), renderer, SimulatedChecker(world), threads, assembly.now)
    engine = assembly.engine(ports, Options(store.controller_id, str(path.parent)))
    task = asyncio.get_running_loop().create_task(engine.run())
    try:
        await engine.synced.wait()
        yield _Run(engine, counting, threads, world)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.close()
        pool.close()
        await renderer.close()
        await store.close()


async def _apply(run: _Run, shape: Shape) -> None:
    for document in shapes.documents(shape):
        await put(run.store, document)


async def _delete(run: _Run) -> None:
    seen = await run.store.get(Key("Infrastructure", "default", NAME))
    await run.store.delete(Key("Infrastructure", "default", NAME), uid=seen["metadata"]["uid"])


async def _phase(run: _Run, begin: Callable[[], Any], over: asyncio.Event) -> Cost:
    run.store.reset()
    calls, cpu, cloud, wall = run.world.counts(), time.process_time(), run.threads.cpu_seconds, time.perf_counter()
    await begin()
    await asyncio.wait_for(over.wait(), _LIMIT_SECONDS)
    cloud = run.threads.cpu_seconds - cloud
    made = run.world.counts() - calls
    return Cost(
        cpu_seconds=time.process_time() - cpu - cloud,
        cloud_cpu_seconds=cloud,
        wall_seconds=time.perf_counter() - wall,
        instance_writes=run.store.of("Instance"),
        other_writes=run.store.writes.total() - run.store.of("Instance"),
        events=run.store.events,
        lists=made["list"],
        cloud_calls=made.total(),
    )


def until(engine: Engine, holds: Callable[[Obj | None], bool]) -> asyncio.Event:
    """Set when the Infrastructure, as it changes, is first so."""
    over = asyncio.Event()

    def look(_: Obj | None, new: Obj | None) -> None:
        if (new is None or new["kind"] == "Infrastructure") and holds(engine.objects.get(Key("Infrastructure", "default", NAME))):
            over.set()

    engine.objects.listen(look)
    return over


def is_ready(obj: Obj | None) -> bool:
    return obj is not None and condition(obj, "Ready") == "True"


def is_gone(obj: Obj | None) -> bool:
    return obj is None


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES / _MIB


__all__ = ["Cost", "Scale", "is_gone", "is_ready", "measure", "rss_mib", "until"]
