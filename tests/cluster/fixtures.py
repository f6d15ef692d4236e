"""A kube-apiserver for the tests that ask one: one control plane a test process, started when the first test wants it.

It serves the CRDs of the drivers in `tests/api/samples.py`, of the simulated cloud, and of those installed, which an operator insists
on. Each test takes a namespace of its own, so nothing is cleaned up.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import signal
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from controller.api import crd
from controller.clouds import plugins
from controller.ports import Obj
from controller.stores import access, resources
from tests.api import samples
from tests.simulated.cloud import plugin
from tests.simulated.world import World
from tools.control_plane import ControlPlane, components, processes

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
#: A CRD is served within a second; a busy machine takes its time.
ESTABLISHED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What an API server answered."""

    code: int
    raw: bytes
    warnings: tuple[str, ...]

    @property
    def body(self) -> Obj:
        return json.loads(self.raw)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The control plane, who we are there, and namespaces that nobody had before."""

    plane: ControlPlane
    access: access.Access
    _numbers: Iterable[int] = field(default_factory=itertools.count)

    async def namespace(self, session: aiohttp.ClientSession) -> str:
        name = f"test-{next(iter(self._numbers))}"
        made = await self.ask(session, "POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        assert made.code == 201, made
        return name

    async def ask(self, session: aiohttp.ClientSession, method: str, path: str, body: Obj | None = None, **options: Any) -> Answer:
        """One request; a body goes as JSON unless `headers` say otherwise."""
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        async with session.request(method, f"{self.access.server}{path}", data=data, headers=headers, **options) as response:
            return Answer(response.status, await response.read(), tuple(response.headers.getall("Warning", ())))

    async def apply(self, session: aiohttp.ClientSession, document: Obj) -> Answer:
        """Make a CRD and wait until it is served; the answer is its last state, the warnings all there were."""
        made = await self.ask(session, "POST", CRDS, document)
        assert made.code == 201, made
        deadline = time.monotonic() + ESTABLISHED_SECONDS
        while True:
            seen = await self.ask(session, "GET", f"{CRDS}/{made.body['metadata']['name']}")
            if conditions(seen.body).get("Established") == "True":
                return Answer(seen.code, seen.raw, made.warnings + seen.warnings)
            assert time.monotonic() < deadline, seen
            await asyncio.sleep(0.05)


def conditions(obj: Obj) -> dict[str, str]:
    """Status by type."""
    return {each["type"]: each["status"] for each in obj.get("status", {}).get("conditions") or ()}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    """Started once a test process; nothing of it is left after the last test."""
    with ControlPlane(tmp_path_factory.mktemp("cluster")) as plane:
        found = Cluster(plane, access.from_kubeconfig(plane.kubeconfig))
        asyncio.run(with_crds(found))
        # Its garbage collector looks for new kinds when it starts, and then after half a minute.
        manager = plane.identity(components.CONTROLLER_MANAGER)
        assert manager is not None
        processes.end(manager, signal.SIGKILL, 5)
        plane.start()
        yield found


async def with_crds(cluster: Cluster) -> None:
    """Let it serve the CRDs."""
    async with access.session(cluster.access) as session:
        served = (*samples.PLUGINS, plugin(World(time.monotonic)), *plugins.installed())
        await asyncio.gather(*(cluster.apply(session, document) for document in crd.crds(served).values()))
        await asyncio.gather(*(_watchable(cluster, session, resource) for resource in resources.WATCHED))


def cut(response: aiohttp.ClientResponse) -> None:
    """End an answer that goes on: its polite end would outlive the event loop."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()


async def _watchable(cluster: Cluster, session: aiohttp.ClientSession, resource: resources.Resource) -> None:
    """Of a CRD that was made a moment ago watches are refused (429) while its storage is being initialised."""
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    while True:
        async with session.get(f"{cluster.access.server}{resource.path('default')}?watch=1&timeoutSeconds=1") as response:
            if response.status == 200:
                cut(response)
                return
        assert response.status == 429, response.status
        assert time.monotonic() < deadline, resource
        await asyncio.sleep(0.05)
