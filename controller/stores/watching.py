"""One watch of the Kubernetes home: lists first, then what the event source saw, and what no watch reports evicted in between.

Made by `controller.stores.kubernetes`, one for each caller of `watch`. It decides which changes are news: one that a list held
already is not. It knows no watch of the API server: whoever hosts the process (kopf) has those and puts in what they report.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from controller import errors
from controller.ports import Change, Changed, Gone, Key, Obj, Snapshot
from controller.stores import resources
from controller.stores.requests import Listed

log = logging.getLogger(__name__)

#: How often, ± 20 %, the objects that are known are compared with a list. kopf reports no deletion that fell into a gap of its
#: watch (design section 4).
EVICT_SECONDS = 600.0
#: The pauses between attempts at the first lists grow up to this.
FIRST_LISTS_LIMIT_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5

#: The lists of a kind, one for each namespace (None: of all), in full or metadata alone.
Lists = Callable[[resources.Resource, bool], Awaitable[Sequence[tuple[str | None, Listed]]]]


class Watch:
    """What one caller of `watch` is told. `offer` and `note` never wait."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists
        self._queue: asyncio.Queue[Change | BaseException] = asyncio.Queue()
        self._known: dict[Key, str] = {}
        self._floors: dict[tuple[str, str | None], int] = {}

    def offer(self, change: Changed | Gone) -> None:
        """What a watch of the API server reported."""
        self._queue.put_nowait(change)

    def note(self, obj: Obj) -> None:
        """An object that was returned to a caller, who may keep it: its end has to be told, though no watch ever showed it."""
        self._known[resources.key(obj)] = obj["metadata"]["uid"]

    async def changes(self) -> AsyncGenerator[Change]:
        """A Snapshot, then the changes; ends when it is closed."""
        yield await self._snapshot()
        evicting = asyncio.create_task(self._evict_again_and_again(), name="evict")
        evicting.add_done_callback(self._ended)
        try:
            while True:
                change = await self._queue.get()
                if isinstance(change, BaseException):
                    raise change
                if self._take(change):
                    yield change
        finally:
            evicting.cancel()

    # --- the first lists
    async def _snapshot(self) -> Snapshot:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._listed()
            except errors.StoreError as error:
                log.warning("The first lists are not made, and tried again within %.0f s: %s", pause, error)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(FIRST_LISTS_LIMIT_SECONDS, pause * 2)

    async def _listed(self) -> Snapshot:
        objects: list[Obj] = []
        floors: dict[tuple[str, str | None], int] = {}
        for resource in resources.WATCHED:
            for namespace, listed in await self._lists(resource, False):
                objects += listed.objects
                floors[resource.kind, namespace] = int(listed.version) if listed.version.isdecimal() else 0
        self._floors = floors
        for obj in objects:
            self.note(obj)
        return Snapshot(tuple(objects))

    # --- what is news
    def _take(self, change: Change) -> bool:
        """Whether the change is news; then what is known follows it."""
        if isinstance(change, Snapshot):
            return True
        obj = change.object
        key, uid = resources.key(obj), obj["metadata"]["uid"]
        if isinstance(change, Gone):
            if self._known.get(key) == uid:
                del self._known[key]
                return True
            return not self._listed_before(key, obj)
        if self._listed_before(key, obj):
            return False
        self._known[key] = uid
        return True

    def _listed_before(self, key: Key, obj: Obj) -> bool:
        """Whether the first lists held that change already: versions of one kind are comparable (KEP-5504)."""
        version = str(obj["metadata"].get("resourceVersion", ""))
        floor = max(self._floors.get((key.kind, namespace), 0) for namespace in (key.namespace, None))
        return version.isdecimal() and int(version) <= floor

    # --- what no watch reports
    async def _evict_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(EVICT_SECONDS * random.uniform(0.8, 1.2))
            for resource in resources.WATCHED:
                await self._evict(resource)

    def _ended(self, evicting: asyncio.Task[None]) -> None:
        """A defect ends the watch, and with it the process."""
        if not evicting.cancelled() and (defect := evicting.exception()) is not None:
            self._queue.put_nowait(defect)

    async def _evict(self, resource: resources.Resource) -> None:
        """Tell the end of objects known since before the list began that it lacks; a list that fails tells nothing."""
        before = {key: uid for key, uid in self._known.items() if key.kind == resource.kind}
        if not before:
            return
        try:
            found = await self._lists(resource, True)
        except errors.StoreError as error:
            log.warning("What has gone unseen is not looked for this time: %s", error)
            return
        listed = {resources.key(obj): obj["metadata"]["uid"] for _, part in found for obj in part.objects}
        for key, uid in before.items():
            if listed.get(key) != uid and self._known.get(key) == uid:
                metadata = {"name": key.name, "namespace": key.namespace, "uid": uid}
                self._queue.put_nowait(Gone({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}))


__all__ = ["EVICT_SECONDS", "FIRST_LISTS_LIMIT_SECONDS", "Watch"]
