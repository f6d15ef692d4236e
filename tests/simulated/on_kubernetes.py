"""The whole system in virtual time with its objects on a real API server: the Kubernetes home, a namespace for each system.

Time stands still while the API server is asked, and until its watch has told of what was written, so that a run takes the same
time whatever the server and its machine take. What is told of several kinds at one moment may come in another order each time: a
roll-up more or less. The server dates objects by its own clock; what is read of them has the virtual one's.
Its garbage collector works in real time, and nothing here waits for it.
"""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from controller.ports import Changed, Gone, Obj
from controller.stores import access, resources
from controller.stores.kubernetes import KubernetesStore
from tests.cluster.fixtures import Cluster
from tests.cluster.namespace import InNamespace, Source
from tests.simulated import loop
from tests.simulated.harness import System
from tests.simulated.loop import Clock


def on_kubernetes(system: System, cluster: Cluster) -> None:
    """Let a system keep its objects on that API server, before it is started. Called outside of a loop."""
    home = _Home(cluster, system.clock)
    home.namespace = asyncio.run(home.new())
    system.open_store, system.lose_objects = home.open, home.lose


@dataclass(slots=True)
class _Home:
    """What outlives the processes: where their objects are, and when (virtual time) each was first seen, and seen to be deleted."""

    cluster: Cluster
    clock: Clock
    namespace: str = ""
    dates: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    async def new(self) -> str:
        async with access.session(self.cluster.access) as session:
            return await self.cluster.namespace(session)

    async def lose(self) -> None:
        with loop.outside():
            self.namespace = await self.new()

    def open(self) -> _Opened:
        return _Opened(self)

    def dated(self, obj: Obj) -> Obj:
        """The object with the virtual times of its making and deletion."""
        metadata: dict[str, Any] = dict(obj["metadata"])
        for name in ("creationTimestamp", "deletionTimestamp"):
            if metadata.get(name) is not None and "uid" in metadata:
                metadata[name] = self.dates.setdefault((metadata["uid"], name), f"{self.clock.now():%Y-%m-%dT%H:%M:%SZ}")
        return {**obj, "metadata": metadata}


class _Opened(InNamespace):
    """The store of one process."""

    def __init__(self, home: _Home) -> None:
        self._echoes = _Echoes()
        self._session = access.session(home.cluster.access, self._echoes.still)
        store = KubernetesStore(home.cluster.access, self._session, namespaces=(home.namespace,), now=home.clock.now)

        def observe(change: Changed | Gone) -> None:
            store.observe(change)
            self._echoes.seen(change)

        self._watches = Source(home.cluster, self._session, home.namespace, observe)
        super().__init__(store, home.namespace, self._watches, home.dated)

    async def close(self) -> None:
        await self._watches.stop()
        await self._session.close()
        self._echoes.forget()


class _Echoes:
    """Lets time stand still while something is asked, and from each write until the watch has told of it."""

    def __init__(self) -> None:
        #: Versions by UID, the end of an object the last of all; and what keeps time from moving.
        self._seen: dict[str, float] = {}
        self._awaited: dict[str, tuple[float, ExitStack]] = {}

    async def still(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """A middleware. Of a watch the beginning is awaited, of all else the whole answer."""
        with loop.outside():
            response = await handler(request)
            if "watch" in request.url.query:
                return response
            raw = await response.read()
        if request.method != "GET" and 200 <= response.status < 300:
            self._written(json.loads(raw))
        return response

    def _written(self, answer: Obj) -> None:
        if answer["kind"] == "Status":
            if answer["details"]["kind"] in {each.plural for each in resources.WATCHED}:
                self._await(answer["details"]["uid"], math.inf)
        elif resources.watched(answer):
            metadata = answer["metadata"]
            ended = "deletionTimestamp" in metadata and not metadata.get("finalizers")
            self._await(metadata["uid"], math.inf if ended else int(metadata["resourceVersion"]))

    def _await(self, uid: str, version: float) -> None:
        if self._seen.get(uid, 0) >= version:
            return
        awaited, stack = self._awaited.get(uid) or (0.0, ExitStack())
        if not awaited:
            stack.enter_context(loop.outside())
        self._awaited[uid] = max(version, awaited), stack

    def seen(self, change: Changed | Gone) -> None:
        """What a watch told."""
        metadata = change.object["metadata"]
        uid = metadata["uid"]
        self._seen[uid] = math.inf if isinstance(change, Gone) else int(metadata["resourceVersion"])
        awaited = self._awaited.get(uid)
        if awaited is not None and self._seen[uid] >= awaited[0]:
            self._awaited.pop(uid)[1].close()

    def forget(self) -> None:
        """Nothing is told any more."""
        for _, stack in self._awaited.values():
            stack.close()
        self._awaited.clear()


__all__ = ["on_kubernetes"]
