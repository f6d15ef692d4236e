"""A home of the command's that shows one look after the other, and the Infrastructures in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from controller.api.meta import API_VERSION
from controller.engine.objects import Objects
from controller.ports import CloudPlugin, Obj, Snapshot
from controller.stores.sqlite import SqliteStore
from tests.api import samples

#: Long enough for each look; what waits for ever ends with it.
PATIENCE_SECONDS = 10.0


def infrastructure(name: str, *, ready: bool, uid: str = "first") -> Obj:
    said = {**samples.condition(), "status": "True" if ready else "False", "reason": "Ready" if ready else "Reconciling"}
    return {
        "apiVersion": API_VERSION,
        "kind": "Infrastructure",
        "metadata": {"name": name, "namespace": "default", "uid": f"{name}-{uid}", "resourceVersion": f"{uid}-{ready}", "generation": 1},
        "spec": {"services": []},
        "status": {"observedGeneration": 1, "conditions": [said]},
    }


class Looks:
    """Satisfies `controller.cli.home.Home`: shows one look after the other, the last one for good."""

    namespace = "default"
    plugins: tuple[CloudPlugin, ...] = ()
    state_directory: Path | None = None

    def __init__(self, store: SqliteStore, looks: tuple[tuple[Obj, ...], ...]) -> None:
        self.store = store
        self.objects = Objects(store)
        self._looks = looks

    async def synced(self) -> None:
        self.objects.take(Snapshot(self._looks[0]))

    async def changes(self) -> AsyncIterator[None]:
        for look in self._looks:
            self.objects.take(Snapshot(look))
            yield
        await asyncio.get_running_loop().create_future()

    async def scale(self, group: str, replicas: int) -> None:
        raise AssertionError(f"who looks scales nothing: {group}, {replicas}")
