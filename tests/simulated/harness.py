"""A whole system in one process and virtual time: the engine, a home of its objects, the simulated cloud.

`System` outlives engines: `crash` drops one with everything it remembers, `start` makes the next over the same objects and
world. The home is a state file, unless `on_kubernetes` put another there. Tests command the world, wait for conditions, and
ask the ledger for the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import yaml

from controller import assembly, errors
from controller.engine.engine import Engine, Options, Ports
from controller.ports import CloudConfig, CloudDriver, Key, Obj, Store, T, Threads
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore
from tests.simulated.checker import SimulatedChecker
from tests.simulated.cloud import plugin
from tests.simulated.loop import Clock
from tests.simulated.renderer import InlineRenderer
from tests.simulated.world import Settings, World

CONTROLLER = "simulated-controller"


async def inline(call: Callable[[], T], lane: str, /) -> T:
    """Driver calls take no time in virtual time, so they need no thread."""
    await asyncio.sleep(0)
    return call()


class OpenStore(Store, Protocol):
    """A home of the objects, opened by one process."""

    async def close(self) -> None: ...


class System:
    """One home of the objects, one world, and at most one engine at a time."""

    def __init__(self, path: Path, clock: Clock, settings: Settings | None = None, seed: int = 0) -> None:
        self.clock = clock
        self.world = World(clock, seed=seed, settings=settings)
        self.plugin = plugin(self.world)
        self.path = path
        #: What becomes of documents before they are applied: the same for another cloud.
        self.documents: Callable[[list[Obj]], list[Obj]] = lambda described: described
        self.wrap_store: Callable[[Store], Store] = lambda store: store
        self.wrap_driver: Callable[[CloudDriver], CloudDriver] = lambda driver: driver
        self.threads: Threads = inline
        self.renderer = InlineRenderer()
        self.options = Options(CONTROLLER, "", workers=16)
        #: Whether the state file may be at another place than it was made at.
        self.moved = False
        self.rules = _rules()
        self.open_store: Callable[[], OpenStore] = self._open_file
        #: What loses all objects, while nothing is started.
        self.lose_objects: Callable[[], Awaitable[None]] = self._lose_file
        self._store: OpenStore | None = None
        self._engine: Engine | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def store(self) -> OpenStore:
        assert self._store is not None, "not started"
        return self._store

    @property
    def engine(self) -> Engine:
        assert self._engine is not None, "not started"
        return self._engine

    @property
    def died(self) -> bool:
        return self._task is not None and self._task.done()

    def start(self) -> None:
        """A new process: nothing is remembered but what its home and the world hold."""
        self._store = self.open_store()

        def opened(config: CloudConfig) -> CloudDriver:
            return self.wrap_driver(self.plugin.open(config))

        ports = Ports(
            self.wrap_store(self._store),
            (replace(self.plugin, open=opened),),
            self.renderer,
            SimulatedChecker(self.world),
            self.threads,
            self.clock.now,
        )
        self._engine = assembly.engine(ports, self.options)
        self._task = asyncio.get_running_loop().create_task(self._engine.run(), name="engine")

    async def crash(self) -> None:
        """End the process: nothing of it runs any more, nothing is finished."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        engine, store = self.engine, self.store
        engine.queue.close()
        await engine.launcher.drain(0)
        await engine.terminator.drain(0)
        await engine.prober.close()
        await engine.clouds.close()
        await store.close()
        self._task = self._engine = self._store = None

    def _open_file(self) -> SqliteStore:
        return SqliteStore.open(self.path, self.rules, lock=True, moved=self.moved, inline=True, now=self.clock.now)

    async def _lose_file(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    async def apply(self, text: str) -> None:
        """Make the documents so, as `occopus up` does."""
        for document in self.documents(list(yaml.safe_load_all(text))):
            await put(self.store, document)

    async def wait(self, holds: Callable[[], bool], seconds: float = 3600.0, *, every: float = 0.5) -> None:
        """Let time pass until it holds; it is asked every so many seconds."""
        until = self.clock() + seconds
        while not holds():
            assert not self.died, self._task.exception() if self._task else None
            assert self.clock() < until, f"not within {seconds} s:\n{self.picture()}"
            await asyncio.sleep(every)

    def ready(self, name: str = "shop") -> bool:
        """Whether the newest spec of the Infrastructure is Ready."""
        obj = self.engine.objects.get(Key("Infrastructure", "default", name))
        return (
            obj is not None
            and obj["status"].get("observedGeneration") == obj["metadata"]["generation"]
            and condition(obj, "Ready") == "True"
        )

    def instances(self, service: str = "") -> list[Obj]:
        """Instances of a service (all), by name."""
        found = [each for each in self.engine.objects.list("Instance") if service in ("", each["spec"]["service"])]
        return sorted(found, key=lambda each: each["metadata"]["name"])

    def gone(self) -> bool:
        return not any(self.engine.objects.list(kind) for kind in ("Infrastructure", "InstanceGroup", "Instance"))

    def picture(self) -> str:
        """All objects and their conditions, for a failing test's reader."""
        lines = [f"at {self.clock():.1f} s, {len(self.world.live())} machines live"]
        for kind in ("Cloud", "Infrastructure", "InstanceGroup", "Instance"):
            for obj in self.engine.objects.list(kind):
                going = " (deleting)" if obj["metadata"].get("deletionTimestamp") else ""
                said = [
                    f"{each['type']}={each['status']} {each['reason']}: {each['message']}"
                    for each in obj.get("status", {}).get("conditions", [])
                ]
                lines.append(f"{kind} {obj['metadata']['name']}{going} " + "; ".join(said))
        return "\n".join(lines)


@functools.cache
def _rules() -> Rules:
    """The rules, emitted once: they are the same for every world, and a second of work."""
    return Rules((plugin(World(lambda: 0.0)),))


async def put(store: Store, document: dict[str, Any]) -> None:
    """Create the object, or make its spec, where it has one, what the document says, whoever else writes."""
    metadata = document["metadata"]
    key = Key(document["kind"], metadata.get("namespace", "default"), metadata["name"])
    while True:
        try:
            seen = await store.get(key)
        except errors.ObjectNotFound:
            await store.create(document)
            return
        with contextlib.suppress(errors.Conflict):
            if "spec" in document:
                await store.patch(key, {"spec": document["spec"]}, version=seen["metadata"]["resourceVersion"])
            return


def condition(obj: Obj, type: str) -> str:
    return next((each["status"] for each in obj.get("status", {}).get("conditions", []) if each["type"] == type), "")


def reason(obj: Obj, type: str = "Ready") -> str:
    return next((each["reason"] for each in obj.get("status", {}).get("conditions", []) if each["type"] == type), "")


SHOP = """
kind: Cloud
apiVersion: occopus.io/v1alpha1
metadata: {name: sim}
spec: {simulated: {account: a1, region: r1}}
---
kind: InstanceTemplate
apiVersion: occopus.io/v1alpha1
metadata: {name: db}
spec:
  implementations: [{name: one, cloudRef: {name: sim}, simulated: {image: debian}}]
  context: {cloudInit: {template: "#cloud-config\\nruncmd: [db]\\n"}}
  health: {probes: [{name: up, tcp: {port: 5432}}]}
---
kind: InstanceTemplate
apiVersion: occopus.io/v1alpha1
metadata: {name: app}
spec:
  implementations: [{name: one, cloudRef: {name: sim}, simulated: {image: debian}}]
  context: {cloudInit: {template: "#cloud-config\\nruncmd: [app, '{{ services.db.address }}']\\n"}}
  health: {probes: [{name: up, tcp: {port: 80}}]}
---
kind: InstanceTemplate
apiVersion: occopus.io/v1alpha1
metadata: {name: web}
spec:
  implementations: [{name: one, cloudRef: {name: sim}, simulated: {image: debian}}]
  context: {cloudInit: {template: "#cloud-config\\nruncmd: [web, '{{ services.app.addresses | join(\\",\\") }}']\\n"}}
  health: {probes: [{name: up, http: {port: 80}}]}
---
kind: Infrastructure
apiVersion: occopus.io/v1alpha1
metadata: {name: shop}
spec:
  services:
  - {name: db, templateRef: {name: db}}
  - {name: app, templateRef: {name: app}, scaling: {min: 2, max: 5}, dependsOn: [{service: db}]}
  - {name: web, templateRef: {name: web}, dependsOn: [{service: app}]}
"""
