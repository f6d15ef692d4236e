"""The engine over a state file: what the `occopus` command and the library do on a desktop without any cluster.

One process holds the file's lock and reconciles; others write and watch. Used by `controller.cli` and by `import occopus`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from controller import asking, assembly, errors, view
from controller.api import meta
from controller.api.cloud import Cloud
from controller.api.infrastructure import Infrastructure
from controller.api.reasons import Reason
from controller.clouds import plugins
from controller.engine.engine import Engine, Options
from controller.engine.objects import Objects, key_of
from controller.engine.sweep import Policy
from controller.ports import Changed, CloudPlugin, Key, Obj, Snapshot
from controller.reconcilers import graph
from controller.stores import merge
from controller.stores.rules import Rules
from controller.stores.sqlite import SqliteStore

#: So often a write is tried again that met somebody else's.
_ATTEMPTS = 20
#: So often who follows another process looks whether it has ended: the kernel tells nobody that a lock is free.
_LOCK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Settings:
    """How the desktop is opened. On a desktop local clouds are on and the user's own credentials count."""

    path: Path
    moved: bool = False
    sweep: Policy = "Report"
    plugins: tuple[CloudPlugin, ...] | None = None


class Desktop:
    """An open state file. `engine` is None while another process holds the lock, or where none was asked for."""

    def __init__(self, store: SqliteStore, rules: Rules, installed: tuple[CloudPlugin, ...], settings: Settings) -> None:
        self.store = store
        self.rules = rules
        self.plugins = installed
        self.settings = settings
        self.engine: Engine | None = None
        self._seen: Objects | None = None
        self._changed = asyncio.Condition()
        self._version = 0

    @property
    def objects(self) -> Objects:
        """Everything in the file, kept current."""
        if self._seen is None:
            raise errors.UsageError("the desktop is not watching; open it by desktop.open or desktop.run")
        return self._seen

    @property
    def namespace(self) -> str:
        """The one that a state file has."""
        return "default"

    @property
    def state_directory(self) -> Path:
        """Where the machines of local clouds live that name no directory."""
        return self.settings.path.parent

    def find(self, kind: str, name: str) -> Obj | None:
        return self.objects.get(Key(kind, self.namespace, name))

    async def apply(self, documents: Iterable[Obj]) -> list[Key]:
        """Make spec, labels and annotations of each object what its document says. Raises Rejected or UsageError, having written none.

        A field that is dropped from the document is dropped from the object: there are no field managers here.
        """
        wanted = [_normal(each) for each in documents]
        await self.check(wanted)
        if going := self.going(wanted):
            raise errors.UsageError(f"{', '.join(map(str, going))} is being deleted: it can be made anew once it has gone")
        for document in wanted:
            await self._put(document)
        return [key_of(each) for each in wanted]

    async def check(self, documents: Iterable[Obj]) -> None:
        """Raises Rejected where one could not be applied."""
        for document in documents:
            await self._check(_normal(document))

    def going(self, documents: Iterable[Obj]) -> list[Key]:
        """Those that are being deleted, and will go whatever is written to them: what is applied to them would go with them."""
        keys = [key_of(_normal(each)) for each in documents]
        clouds = [each for each in self.objects.models("Cloud", Cloud) if not each.metadata.deleting]
        kept = {Key("Secret", self.namespace, each.spec.secret_name()) for each in clouds}
        return [key for key in keys if key not in kept and (seen := self.objects.get(key)) is not None and _deleting(seen)]

    async def _check(self, document: Obj) -> None:
        """By the rules, those of a change too, and for a ring: that can never be followed, whatever else there is."""
        checked = self.rules.check(document)
        with contextlib.suppress(errors.ObjectNotFound):
            seen = await self.store.get(key_of(document))
            if not _deleting(seen):
                self.rules.check(merge.apply(seen, _becoming(seen, document)), seen)
        if checked["kind"] == "Infrastructure":
            found = graph.problems(Infrastructure.model_validate(checked).spec, {}, {})
            rings = tuple(errors.Cause("spec.services", f"{each.reason}: {each.message}") for each in found if each.reason is Reason.CYCLE)
            if rings:
                raise errors.Rejected(f'Infrastructure "{checked["metadata"]["name"]}"', rings)

    async def _put(self, document: Obj) -> None:
        key = key_of(document)
        for _ in range(_ATTEMPTS):
            try:
                seen = await self.store.get(key)
            except errors.ObjectNotFound:
                with contextlib.suppress(errors.AlreadyExists):
                    self._take(await self.store.create(document))
                    return
                continue
            patch = _becoming(seen, document)
            with contextlib.suppress(errors.Conflict):
                if patch:
                    self._take(await self.store.patch(key, patch, version=seen["metadata"]["resourceVersion"]))
                return
        raise errors.Unavailable(f"{key} is changed by others all the time")

    def _take(self, obj: Obj) -> None:
        """What was written is seen at once, by the engine too, not when the watch brings it."""
        if self._seen is not None:
            self._seen.take(Changed(obj))
        if self.engine is not None:
            self.engine.objects.take(Changed(obj))

    async def ready(self, name: str) -> None:
        """Wait until the Infrastructure is Ready as it is described now, by what the process that reconciles has seen itself.

        Status alone may be what an earlier process left, or of an earlier description. Raises Stalled where waiting would lead to nothing.
        """
        key = Key("Infrastructure", self.namespace, name)
        if self.engine is None:
            with contextlib.suppress(errors.ObjectNotFound):
                self._take(await self.change(key, asking.question()))
        async for _ in self.changes():
            if self.engine is not None:
                await self.engine.verified(name)
            elif asking.asked(self.objects, key):
                continue  # another's later question is as good: what answers that answers this one
            if view.settled(self.objects, name):
                return
            if why := view.stalled(self.objects, name):
                raise errors.Stalled(f"{name} cannot be made as described: {why}")

    async def change(self, key: Key, patch: Obj) -> Obj:
        """Merge a patch into an object, whatever others do to it meanwhile. Raises ObjectNotFound, Rejected."""
        for _ in range(_ATTEMPTS):
            seen = await self.store.get(key)
            with contextlib.suppress(errors.Conflict):
                return await self.store.patch(key, patch, version=seen["metadata"]["resourceVersion"])
        raise errors.Unavailable(f"{key} is changed by others all the time")

    async def scale(self, group: str, replicas: int) -> None:
        """Set how many machines a group has. Raises ObjectNotFound, Rejected."""
        await self.change(Key("InstanceGroup", self.namespace, group), {"spec": {"replicas": replicas}})

    async def delete(self, key: Key) -> str:
        """Mark the object for deletion; the engine does the rest. Its UID: another may get the name. Raises ObjectNotFound."""
        seen = await self.store.get(key)
        await self.store.delete(key, uid=seen["metadata"]["uid"])
        return seen["metadata"]["uid"]

    async def changes(self) -> AsyncIterator[None]:
        """Yields at once, and again when any object has changed since; changes that come together are one."""
        seen = -1
        while True:
            async with self._changed:
                while self._version == seen:
                    await self._changed.wait()
                seen = self._version
            yield

    async def nudge(self) -> None:
        """Let those who follow `changes` look again."""
        async with self._changed:
            self._version += 1
            self._changed.notify_all()

    async def synced(self) -> None:
        """Wait until everything in the file was read once."""
        async for _ in self.changes():
            if self._seen is not None:
                return

    async def watch(self) -> None:
        """Keep `objects` current until cancelled."""
        seen = Objects(self.store)
        async for change in self.store.watch():
            seen.take(change)
            if isinstance(change, Snapshot):
                self._seen = seen
            await self.nudge()


@contextlib.asynccontextmanager
async def open(settings: Settings) -> AsyncGenerator[Desktop]:
    """The file, opened and watched; nothing is reconciled. Raises StoreUnusable."""
    desktop = _opened(settings, lock=False)
    async with _watched(desktop):
        yield desktop


@contextlib.asynccontextmanager
async def run(settings: Settings, *, join: bool = False) -> AsyncGenerator[Desktop]:
    """The file, reconciled until the block ends. With `join`, only watched while another process reconciles it.

    Raises StoreUnusable. What an engine dies of is raised in the block.
    """
    try:
        desktop, work = _opened(settings, lock=True), _engine
    except errors.StoreLocked:
        if not join:
            raise
        desktop, work = _opened(settings, lock=False), _successor
    async with _watched(desktop), work(desktop):
        yield desktop


def _opened(settings: Settings, *, lock: bool) -> Desktop:
    installed = settings.plugins if settings.plugins is not None else plugins.installed()
    rules = Rules(installed)
    store = SqliteStore.open(settings.path, rules, lock=lock, moved=settings.moved)
    return Desktop(store, rules, installed, settings)


@contextlib.asynccontextmanager
async def _watched(desktop: Desktop) -> AsyncGenerator[None]:
    try:
        async with assembly.beside(desktop.watch()):
            await desktop.synced()
            yield
    finally:
        await desktop.store.close()


@contextlib.asynccontextmanager
async def _engine(desktop: Desktop) -> AsyncGenerator[None]:
    options = Options(
        controller_id=desktop.store.controller_id,
        state_directory=str(desktop.state_directory),
        allow_local=True,
        ambient_credentials=True,
        sweep=desktop.settings.sweep,
        namespaces=(desktop.namespace,),
    )
    async with assembly.running(desktop.store, desktop.plugins, options) as desktop.engine:
        try:
            async with assembly.beside(asking.answer(desktop.engine, desktop.objects, desktop.changes(), desktop.store)):
                yield
        finally:
            desktop.engine = None


@contextlib.asynccontextmanager
async def _successor(desktop: Desktop) -> AsyncGenerator[None]:
    async with assembly.beside(_succeed(desktop)):
        yield


async def _succeed(desktop: Desktop) -> None:
    """Reconcile from the moment that nobody else does, until cancelled: who waits for another's work must not wait for nobody."""
    while not desktop.store.take_lock(moved=desktop.settings.moved):
        await asyncio.sleep(_LOCK_SECONDS)
    async with _engine(desktop):
        await desktop.nudge()
        await asyncio.get_running_loop().create_future()


def _normal(document: Obj) -> Obj:
    """The document with its namespace filled in."""
    metadata = {"namespace": "default", **document.get("metadata", {})}
    return {**document, "metadata": metadata}


def _deleting(obj: Obj) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def _becoming(seen: Obj, document: Obj) -> Obj:
    """The merge patch that makes the object what its document says, over the parts that a user owns."""
    patch: Obj = {}
    for part in ("spec", "data", "stringData", "type"):
        if part in document or part in seen:
            old, new = seen.get(part), document.get(part)
            if isinstance(old, dict) and isinstance(new, dict):
                changed = merge.difference(cast(Obj, old), _without_null(cast(Obj, new)))
                if changed:
                    patch[part] = changed
            elif old != new and part != "stringData":
                patch[part] = new
    if "stringData" in document:
        patch["stringData"] = document["stringData"]
        patch.pop("data", None)
    metadata = {
        part: changed
        for part in ("labels", "annotations")
        if (changed := merge.difference(_owned(seen["metadata"].get(part, {})), _owned(document["metadata"].get(part, {}))))
    }
    return {**patch, **({"metadata": metadata} if metadata else {})}


def _owned(values: dict[str, str]) -> dict[str, str]:
    """Labels and annotations of users; ours stay as they are."""
    return {name: value for name, value in values.items() if not name.startswith(f"{meta.GROUP}/")}


def _without_null(value: dict[str, Any]) -> dict[str, Any]:
    return {name: _without_null(cast(Obj, each)) if isinstance(each, dict) else each for name, each in value.items() if each is not None}
