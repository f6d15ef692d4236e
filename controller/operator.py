"""kopf as the event source of the Kubernetes home, and nothing else of it: each change it reports goes into the store's watch.

Only here is kopf imported. Of all its handlers login, cleanup and `on.event` are used: the others keep state in the objects, write
to them, or cost tasks and memory for each (reference of kopf, sections 1 and 5; an import contract forbids them). It runs in a
thread with an event loop of its own, because it takes the signals of the main thread and, as it ends, cancels every task of its
loop. It ends by itself on some answers of an API server; then the process ends, and the next one lists everything anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import aiohttp
import kopf

from controller import errors
from controller.ports import Changed, Gone, Obj
from controller.stores import access as accesses
from controller.stores.access import Access

log = logging.getLogger(__name__)

#: Pauses between attempts of kopf while the API server answers with errors: about ten minutes before it gives up (reference of
#: kopf, section 1.5).
_ERROR_BACKOFFS = (1, 2, 4, 8, 15, *(30,) * 20)
#: Objects in a page of a list (reference of kopf, section 1.6).
_CHUNK = 500
#: How long the thread may take to end once it was asked to.
_END_SECONDS = 3.0
#: Within so long all watches must have been begun. kopf asks once what the API server serves, which may be late with kinds that
#: were made a moment ago, and watches the rest silently never.
_BEGUN_SECONDS = 30.0

#: Where a change goes. Called on the loop of whoever runs the source; must not wait.
Observe = Callable[[Changed | Gone], None]


class Source:
    """The watches of some kinds: (API group, version, plural) each."""

    def __init__(self, access: Access, resources: Sequence[tuple[str, str, str]], namespaces: tuple[str, ...], observe: Observe) -> None:
        self._access = access
        self._resources = resources
        self._namespaces = namespaces
        self._observe = observe
        self._stop = threading.Event()
        self._missing = {
            f"/apis/{group}/{version}/{f'namespaces/{place}/' if place else ''}{plural}"
            for group, version, plural in resources
            for place in namespaces or ("",)
        }

    async def run(self) -> None:
        """Watch until cancelled. Raises Unavailable where kopf has ended by itself."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def tell(why: str) -> None:
            def end() -> None:
                if not ended.done():
                    ended.set_exception(errors.Unavailable(f"the watches of the API server ended: {why}"))

            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(end)

        thread = threading.Thread(target=self._host, args=(loop, tell), name="kopf", daemon=True)
        thread.start()
        late = loop.call_later(_BEGUN_SECONDS, self._check, tell)
        try:
            await ended
        finally:
            late.cancel()
            self._stop.set()
            await loop.run_in_executor(None, thread.join, _END_SECONDS)

    def _check(self, tell: Callable[[str], None]) -> None:
        if self._missing:
            tell(f"after {_BEGUN_SECONDS:g} s kopf had not begun to watch {', '.join(sorted(self._missing))}")

    def _host(self, loop: asyncio.AbstractEventLoop, tell: Callable[[str], None]) -> None:
        """The thread: all of kopf happens here."""
        # It says at info what it does for each event.
        logging.getLogger("kopf").setLevel(logging.ERROR)
        try:
            asyncio.run(self._operate(loop, tell))
            tell("kopf ended by itself")
        except Exception as error:
            log.exception("kopf has failed")
            tell(f"{type(error).__name__}: {error}")

    async def _operate(self, loop: asyncio.AbstractEventLoop, tell: Callable[[str], None]) -> None:
        await kopf.operator(
            registry=self._registry(loop, tell),
            settings=_settings(),
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            standalone=True,
            stop_flag=self._stop,
        )

    def _registry(self, loop: asyncio.AbstractEventLoop, tell: Callable[[str], None]) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        async def note(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            if "watch" in request.url.query:
                self._missing.discard(request.url.path)
            return await handler(request)

        async def login(**_: Any) -> kopf.AiohttpSession:
            # Made anew each time: kopf closes a session whose credentials were refused.
            return kopf.AiohttpSession(server=self._access.server, aiohttp_session=accesses.session(self._access, note))

        async def seen(event: kopf.RawEvent, **_: Any) -> None:
            obj = cast(Obj, event["object"])
            loop.call_soon_threadsafe(self._observe, Gone(obj) if event["type"] == "DELETED" else Changed(obj))

        async def ending(**_: Any) -> None:
            # kopf ends, for what it has said in its log. Seconds go by until it has ended, and without the flag it never would:
            # a thread of its loop waits for that.
            self._stop.set()
            tell("kopf ends by itself")

        kopf.on.login(registry=registry)(login)
        kopf.on.cleanup(registry=registry)(ending)
        for group, version, plural in self._resources:
            kopf.on.event(group, version, plural, registry=registry)(seen)
        return registry


class _NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no copy of what was handled: nothing of ours is told by differences."""

    def fetch(self, *, body: kopf.Body) -> None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Keeps no progress of handlers: the one there is never fails and is never repeated."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        return None

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        return None

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        return None

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        return None

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.persistence.finalizer = "occopus.io/kopf-unused"  # never ours: kopf removes what it takes for its own
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    settings.watching.chunk_size = _CHUNK
    settings.queueing.idle_timeout = 0.05
    settings.networking.error_backoffs = _ERROR_BACKOFFS
    # It would end the whole process by SIGKILL ten minutes after it has failed. The process ends by itself, and long before.
    settings.process.ultimate_exiting_timeout = None
    return settings


__all__ = ["Observe", "Source"]
