"""A Kubernetes home in a namespace that nobody had before, which its user knows as `default`; and an event source for it.

The source is a plain watch of each kind, since a watch tells what it tells and no more; the operator's is kopf.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, cast

import aiohttp

from controller.ports import Change, Changed, Event, Gone, Key, Obj, Snapshot, Store
from controller.stores import resources
from tests.cluster.fixtures import Cluster, cut

_KNOWN_AS = "default"
#: A line of a watch holds an object.
_LINE_LIMIT_BYTES = 4 * 1024 * 1024


class InNamespace:
    """A store as its user sees it: namespace `default` stands for another one."""

    def __init__(self, store: Store, namespace: str, source: Source, shown: Callable[[Obj], Obj] = lambda obj: obj) -> None:
        """`shown` is what becomes of an object before it is returned or told."""
        self._store = store
        self._namespace = namespace
        self._source = source
        self._shown = shown

    async def get(self, key: Key) -> Obj:
        return self._back(await self._store.get(self._key(key)))

    async def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Obj]:
        place = self._namespace if namespace == _KNOWN_AS else namespace
        return [self._back(each) for each in await self._store.list(kind, place, labels)]

    async def create(self, obj: Obj) -> Obj:
        return self._back(await self._store.create(_moved(_placed(obj), _KNOWN_AS, self._namespace)))

    async def patch(self, key: Key, patch: Obj, *, version: str, subresource: Literal["", "status"] = "") -> Obj:
        return self._back(await self._store.patch(self._key(key), patch, version=version, subresource=subresource))

    async def delete(self, key: Key, *, uid: str, version: str | None = None) -> Obj | None:
        marked = await self._store.delete(self._key(key), uid=uid, version=version)
        return None if marked is None else self._back(marked)

    async def watch(self) -> AsyncIterator[Change]:
        await self._source.start()
        async for change in self._store.watch():
            match change:
                case Snapshot(objects):
                    yield Snapshot(tuple(map(self._back, objects)))
                case Changed(obj):
                    yield Changed(self._back(obj))
                case Gone(obj):
                    yield Gone(self._back(obj))

    async def record(self, event: Event) -> None:
        await self._store.record(replace(event, regarding=self._key(event.regarding)))

    async def holds(self) -> bool:
        return await self._store.holds()

    def _key(self, key: Key) -> Key:
        return replace(key, namespace=self._namespace) if key.namespace == _KNOWN_AS else key

    def _back(self, obj: Obj) -> Obj:
        moved = _moved(obj, self._namespace, _KNOWN_AS)
        if "involvedObject" in moved:
            moved["involvedObject"] = {**moved["involvedObject"], "namespace": _KNOWN_AS}
        return self._shown(moved)


def _placed(obj: Obj) -> Obj:
    """An object that names no namespace goes where its store's user stands."""
    metadata: Any = obj.get("metadata")
    return {**obj, "metadata": {"namespace": _KNOWN_AS, **cast(Obj, metadata)}} if isinstance(metadata, dict) else obj


def _moved(obj: Obj, here: str, there: str) -> Obj:
    metadata: Any = obj.get("metadata")
    if not isinstance(metadata, dict) or cast(Obj, metadata).get("namespace") != here:
        return obj
    return {**obj, "metadata": {**cast(Obj, metadata), "namespace": there}}


class Source:
    """Watches each kind in one namespace and tells a store what it sees, from the first object on."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession, namespace: str, observe: Callable[[Changed | Gone], None]) -> None:
        self._cluster = cluster
        self._session = session
        self._namespace = namespace
        self._observe = observe
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Once; returns when all watches are there."""
        if self._tasks:
            return
        started = [asyncio.Event() for _ in resources.WATCHED]
        pairs = zip(resources.WATCHED, started, strict=True)
        self._tasks = [asyncio.create_task(self._watch(resource, event)) for resource, event in pairs]
        await asyncio.gather(*(each.wait() for each in started))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended

    async def _watch(self, resource: resources.Resource, started: asyncio.Event) -> None:
        url, version = f"{self._cluster.access.server}{resource.path(self._namespace)}?watch=1", ""
        while True:
            since = f"&resourceVersion={version}" if version else ""
            async with self._session.get(url + since, read_bufsize=_LINE_LIMIT_BYTES) as response:
                assert response.status == 200, response.status
                started.set()
                version = await self._follow(response) or version

    async def _follow(self, response: aiohttp.ClientResponse) -> str:
        """Until it is cancelled, or the server ends it, as it does where we are slow to read; the last version that was told."""
        version = ""
        try:
            async for line in response.content:
                told = json.loads(line)
                assert told["type"] != "ERROR", told
                version = told["object"]["metadata"]["resourceVersion"]
                self._observe(Gone(told["object"]) if told["type"] == "DELETED" else Changed(told["object"]))
        finally:
            cut(response)
        return version
