"""The homes of the objects that the contract suite runs over, and a clock for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from controller import errors
from controller.ports import Change, Key, Obj, Store
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore
from tests.api import samples
from tests.cluster.fixtures import Cluster
from tests.contract import kubernetes

T = TypeVar("T")
RULES = Rules(samples.PLUGINS)
#: Nothing that is waited for here takes near as long. The garbage collector looks for new kinds every 30 s.
PATIENCE_SECONDS = 90.0


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


#: Runs a test over a fresh store; a fixture in conftest.py.
OnStore = Callable[[Callable[[Store, Clock], Awaitable[None]]], None]


@dataclass(frozen=True, slots=True)
class Place:
    """What a store is opened on. Only homes that say so get a cluster: it takes seconds to start."""

    directory: Path
    clock: Clock
    cluster: Cluster | None


@dataclass(frozen=True, slots=True)
class Home:
    """How to open a store."""

    name: str
    open: Callable[[Place], AbstractAsyncContextManager[Store]]
    on_cluster: bool = False


def _sqlite(*, inline: bool) -> Callable[[Place], AbstractAsyncContextManager[Store]]:
    @asynccontextmanager
    async def opened(place: Place) -> AsyncGenerator[Store]:
        store = SqliteStore.open(place.directory / "state.db", RULES, lock=True, inline=inline, now=place.clock)
        try:
            yield store
        finally:
            await store.close()

    return opened


def _kubernetes(place: Place) -> AbstractAsyncContextManager[Store]:
    assert place.cluster is not None
    return kubernetes.opened(place.cluster, place.clock)


#: The state file alone keeps a settable clock, one order over all kinds, and answers whose effects are there at once.
FILE_HOMES = (Home("sqlite", _sqlite(inline=False)), Home("sqlite-inline", _sqlite(inline=True)))
HOMES = (*FILE_HOMES, Home("kubernetes", _kubernetes, on_cluster=True))


def key(obj: Obj) -> Key:
    return Key(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])


def version(obj: Obj) -> str:
    return obj["metadata"]["resourceVersion"]


async def patched(store: Store, obj: Obj, patch: Obj, **options: Any) -> Obj:
    """Patch the object at the version it was seen at."""
    return await store.patch(key(obj), patch, version=version(obj), **options)


class Watching:
    """A watch whose changes can be waited for."""

    def __init__(self, store: Store) -> None:
        self._changes = store.watch()

    async def next(self) -> Change:
        return await asyncio.wait_for(anext(self._changes), PATIENCE_SECONDS)

    async def close(self) -> None:
        await self._changes.aclose()  # type: ignore[attr-defined]  # the homes' watches are generators


def free(obj: Obj, name: str | None = None) -> Obj:
    """The object without finalizers, so that a deletion ends it."""
    obj["metadata"].pop("finalizers", None)
    if name:
        obj["metadata"]["name"] = name
    return obj


def owned(obj: Obj, *owners: Obj) -> Obj:
    obj["metadata"]["ownerReferences"] = [
        {"apiVersion": each["apiVersion"], "kind": each["kind"], "name": each["metadata"]["name"], "uid": each["metadata"]["uid"]}
        for each in owners
    ]
    return obj


async def exists(store: Store, obj: Obj) -> bool:
    try:
        await store.get(key(obj))
    except errors.ObjectNotFound:
        return False
    return True


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what a home does in its own time; the whole test is bounded by PATIENCE_SECONDS."""
    while not await holds():
        await asyncio.sleep(0.02)


def run(test: Awaitable[T]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(test, PATIENCE_SECONDS)

    return asyncio.run(bounded())
