"""Parts of the engine around a simulated cloud and a state file, without the passes: each test drives the part it is about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from controller.api import meta
from controller.api.instance import Instance
from controller.engine.clouds import Clouds
from controller.engine.launcher import Launcher
from controller.engine.launcher import Parts as LauncherParts
from controller.engine.objects import Objects, dump
from controller.engine.sweep import Parts as SweepParts
from controller.engine.sweep import Policy, Sweep
from controller.ports import CONTROLLER_TAG, Account, CloudConfig, Identity, Key, MachineId, Obj, T, Threads
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore
from tests.properties import build
from tests.simulated import loop
from tests.simulated.cloud import SimulatedCloud, SimulatedCloudFields, plugin
from tests.simulated.harness import CONTROLLER, inline
from tests.simulated.renderer import InlineRenderer
from tests.simulated.world import Settings, World

ACCOUNT = Account("simulated", "a1", "r1", "")
CLOUD = Key("Cloud", "default", "sim")
TEMPLATE = "#cloud-config\nruncmd: [serve, '{{ variables.word }}']\n"


class Rig:
    """A store, a world, and the parts between them. Objects are written as the reconcilers would."""

    def __init__(self, path: Path, settings: Settings | None = None, policy: Policy = "Report") -> None:
        self.world = World(loop.clock, settings=settings)
        self.plugin = plugin(self.world)
        self.store = SqliteStore.open(path / "state.db", Rules((self.plugin,)), lock=True, inline=True, now=loop.now)
        self.objects = Objects(self.store)
        self.woken: list[Key] = []
        self.groups_woken = 0
        self.threads: Threads = inline
        self.renderer = InlineRenderer()
        self.clouds = Clouds(self.objects, self._call, loop.now, self.woken.append)
        self.clouds.wake_groups = self._wake_groups
        self.launcher = self.new_launcher()
        self.sweep = Sweep(SweepParts(self.objects, self.clouds, loop.now, policy, self._wake_groups))

    def _wake_groups(self) -> None:
        self.groups_woken += 1

    async def _call(self, call: Callable[[], T], lane: str, /) -> T:
        return await self.threads(call, lane)

    def new_launcher(self) -> Launcher:
        """As a new process has it: it remembers nothing."""
        parts = LauncherParts(self.objects, self.clouds, self.renderer, loop.now, CONTROLLER, self.woken.append)
        return Launcher(parts)

    def driver(self) -> SimulatedCloud:
        fields = SimulatedCloudFields(account="a1", region="r1")
        config = CloudConfig(fields.model_dump(), {}, CONTROLLER, "", allow_local=False, ambient_credentials=False)
        opened = self.plugin.open(config)
        assert isinstance(opened, SimulatedCloud)
        return opened

    def bind(self, key: Key = CLOUD) -> None:
        self.clouds.bind(key, self.plugin, self.driver(), ACCOUNT)

    @property
    def inventory(self) -> Any:
        return self.clouds.inventories()[ACCOUNT]

    def insert(self, batch: str, **tags: str) -> MachineId:
        """A machine of ours that no Instance asked for."""
        return self.world.insert(("a1", "r1"), Identity(batch, 0), {CONTROLLER_TAG: CONTROLLER, **tags}, {"image": "image-1"})

    async def put(self, kind: str, obj: Obj | BaseModel) -> Obj:
        """Create an object, from a model or as it is."""
        document: Obj = dump(obj) if isinstance(obj, BaseModel) else obj
        metadata = {name: value for name, value in document["metadata"].items() if name in _KEPT and value}
        made: Obj = {"apiVersion": meta.API_VERSION, "kind": kind, **document, "metadata": metadata}
        made.pop("status", None)
        return await self.objects.create(made)

    async def world_of_one(self, **inputs: Any) -> Instance:
        """All that one Instance needs to be launched; the Instance."""
        await self.put("Cloud", {"metadata": {"name": "sim"}, "spec": {"simulated": {"account": "a1", "region": "r1"}}})
        await self.put("Infrastructure", build.infrastructure(build.service("app")))
        group = await self.put("InstanceGroup", build.group(owner_references=()))
        revision = {
            "apiVersion": "apps/v1",
            "metadata": {"name": "shop-app-1"},
            "data": {"spec": {"context": {"cloudInit": {"template": TEMPLATE}}}},
            "revision": 1,
        }
        await self.put("ControllerRevision", revision)
        owner = build.owner("InstanceGroup", "shop-app").model_copy(update={"uid": group["metadata"]["uid"]})
        told = {"variables": {"word": "hello"}, "secrets": {}, "services": {}, **inputs}
        await self.put("Instance", build.instance(spec={"inputs": told}, owner_references=(owner,)))
        return self.instance()

    def instance(self) -> Instance:
        found = self.objects.model(Key("Instance", "default", "shop-app-0"), Instance)
        assert found is not None
        return found

    async def secret(self, name: str, **data: str) -> None:
        await self.put("Secret", {"apiVersion": "v1", "metadata": {"name": name}, "data": data})


_KEPT = ("name", "namespace", "labels", "annotations", "finalizers", "ownerReferences")


def run(path: Path, scenario: Callable[[Rig], Awaitable[None]], settings: Settings | None = None, policy: Policy = "Report") -> Rig:
    """Run the scenario in virtual time."""

    async def main() -> Rig:
        rig = Rig(path, settings, policy)
        try:
            await scenario(rig)
        finally:
            await rig.launcher.drain(0)
            await rig.clouds.close()
            await rig.store.close()
        return rig

    return loop.run(main())


async def turns() -> None:
    """Let what is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)
