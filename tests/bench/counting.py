"""Counts what the engine asks of its store, and what calls to the cloud cost: wrappers around two ports.

A write counts when it is asked for, whatever comes of it. They decide nothing and change nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Literal

from controller.ports import Change, Event, Key, Obj, Store, T, Threads


class CountingStore:
    """A store that counts. `writes` is by kind and verb, `events` how many were recorded."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writes: Counter[str] = Counter()
        self.events = 0

    async def get(self, key: Key) -> Obj:
        return await self._store.get(key)

    async def list(self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Obj]:
        return await self._store.list(kind, namespace, labels)

    async def create(self, obj: Obj) -> Obj:
        self.writes[f"{obj['kind']} create"] += 1
        return await self._store.create(obj)

    async def patch(self, key: Key, patch: Obj, *, version: str, subresource: Literal["", "status"] = "") -> Obj:
        self.writes[f"{key.kind} {subresource or 'patch'}"] += 1
        return await self._store.patch(key, patch, version=version, subresource=subresource)

    async def delete(self, key: Key, *, uid: str, version: str | None = None) -> Obj | None:
        self.writes[f"{key.kind} delete"] += 1
        return await self._store.delete(key, uid=uid, version=version)

    def watch(self) -> AsyncIterator[Change]:
        return self._store.watch()

    async def record(self, event: Event) -> None:
        self.events += 1
        await self._store.record(event)

    async def holds(self) -> bool:
        return await self._store.holds()

    def of(self, kind: str) -> int:
        """The writes to objects of one kind."""
        return sum(number for what, number in self.writes.items() if what.split()[0] == kind)

    def reset(self) -> None:
        self.writes.clear()
        self.events = 0


class TimedThreads:
    """Runs calls by other threads; `cpu_seconds` is what the calls themselves used."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self.cpu_seconds = 0.0

    async def __call__(self, call: Callable[[], T], lane: str, /) -> T:
        return await self._threads(lambda: self._timed(call), lane)

    def _timed(self, call: Callable[[], T]) -> T:
        begun = time.thread_time()
        try:
            return call()
        finally:
            with self._lock:
                self.cpu_seconds += time.thread_time() - begun


__all__ = ["CountingStore", "TimedThreads"]
