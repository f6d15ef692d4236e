"""Many Instances on a real Kubernetes API: writes by the API server's own audit log, CPU, memory, and what a restart costs.

All parts are those of the operator (kopf's watches, the Kubernetes home) but two: the cloud is the simulated one, with boots of a
second, and health is asked of it. `measure` runs in a process of its own (`tests.bench.child`).
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from controller import assembly, operator
from controller.api import crd, kinds, meta
from controller.context.renderer import ChildRenderer
from controller.engine.engine import Engine, Options, Ports
from controller.ports import CloudPlugin, Key
from controller.reconcilers.cloud.reconcile import COUNT_SECONDS
from controller.stores import access
from controller.stores.kubernetes import KubernetesStore
from tests.bench import scale, shapes
from tests.bench.audit import Audit
from tests.bench.counting import TimedThreads
from tests.bench.idle import READING
from tests.bench.shapes import NAME
from tests.simulated.checker import SimulatedChecker
from tests.simulated.cloud import plugin
from tests.simulated.harness import put
from tests.simulated.world import Settings, World
from tools.control_plane import ControlPlane

_LIMIT_SECONDS = 1800.0
#: How long nothing is done when it is counted what an idle system writes.
IDLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Phase:
    """Writes by what was written (`instances`, `instances/status`…), as the audit log has them; CPU of the process."""

    writes: dict[str, int]
    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """One run. Memory in MiB; the restart is a new engine over the same API server, until all machines are verified."""

    instances: int
    up: Phase
    idle: Phase
    restart: Phase
    restart_mutating_calls: int
    down: Phase
    rss_before: float
    rss_after: float


def measure(services: int, replicas: int) -> dict[str, Any]:
    """So many services of so many machines; a `Kubernetes` as JSON."""
    with tempfile.TemporaryDirectory() as directory, ControlPlane(Path(directory)) as plane:
        return asdict(asyncio.run(_Bench(plane, World(time.time, settings=_settings())).run(shapes.flat(services, replicas))))


def _settings() -> Settings:
    return Settings(
        boot_seconds=lambda rng: rng.uniform(0.5, 1.5), health_seconds=lambda rng: rng.uniform(0.0, 0.5), terminating_seconds=0.5
    )


class _Bench:
    def __init__(self, plane: ControlPlane, world: World) -> None:
        self._audit = Audit(plane)
        self._world = world
        self._kind: CloudPlugin = plugin(world)
        self._access = access.from_kubeconfig(plane.kubeconfig)

    async def run(self, shape: shapes.Shape) -> Kubernetes:
        async with access.session(self._access) as session:
            await self._crds(session)
            async with self._running(session) as engine:
                before = scale.rss_mib()
                begun = self._begin()
                for document in shapes.documents(shape):
                    await put(engine.ports.store, document)
                await asyncio.wait_for(scale.until(engine, scale.is_ready).wait(), _LIMIT_SECONDS)
                up, after = self._since(*begun), scale.rss_mib()
                await asyncio.sleep(2 * COUNT_SECONDS)  # roll-ups that were under way
                begun = self._begin()
                await asyncio.sleep(IDLE_SECONDS)
                idle = self._since(*begun)
            begun, calls = self._begin(), self._world.counts()
            async with self._running(session) as engine:
                await engine.synced.wait()
                await engine.verified(NAME)
                restart = self._since(*begun)
                made = self._world.counts() - calls
                begun = self._begin()
                seen = await engine.ports.store.get(Key("Infrastructure", "default", NAME))
                over = scale.until(engine, scale.is_gone)
                await engine.ports.store.delete(Key("Infrastructure", "default", NAME), uid=seen["metadata"]["uid"])
                await asyncio.wait_for(over.wait(), _LIMIT_SECONDS)
                down = self._since(*begun)
        mutating = sum(number for action, number in made.items() if action not in READING)
        return Kubernetes(shape.machines, up, idle, restart, mutating, down, before, after)

    @contextlib.asynccontextmanager
    async def _running(self, session: aiohttp.ClientSession) -> AsyncGenerator[Engine]:
        store = KubernetesStore(self._access, session)
        pool, renderer = assembly.CallThreads(), ChildRenderer()
        ports = Ports(store, (self._kind,), renderer, SimulatedChecker(self._world), TimedThreads(pool), assembly.now)
        engine = assembly.engine(ports, Options("bench", ""))
        group, _, version = meta.API_VERSION.partition("/")
        source = operator.Source(self._access, [(group, version, each.plural) for each in kinds.KINDS], (), store.observe)
        try:
            async with assembly.beside(engine.run()), assembly.beside(source.run()):
                await engine.synced.wait()
                yield engine
        finally:
            await engine.close()
            pool.close()
            await renderer.close()

    async def _crds(self, session: aiohttp.ClientSession) -> None:
        place = f"{self._access.server}/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for name, document in crd.crds((self._kind,)).items():
            async with session.post(place, json=document) as answer:
                assert answer.status == 201, await answer.text()
            await self._served(session, f"{self._access.server}/apis/{meta.API_VERSION}/{name.removesuffix('.yaml')}")

    async def _served(self, session: aiohttp.ClientSession, url: str) -> None:
        async with asyncio.timeout(60):
            while True:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
                await asyncio.sleep(0.1)

    def _begin(self) -> tuple[float, float]:
        self._audit.begin()
        return time.process_time(), time.perf_counter()

    def _since(self, cpu: float, wall: float) -> Phase:
        return Phase(self._audit.writes(), time.process_time() - cpu, time.perf_counter() - wall)


__all__ = ["IDLE_SECONDS", "Kubernetes", "Phase", "measure"]
