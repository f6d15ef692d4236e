"""The operator as a process: one leader at a time, an engine over the API server's objects, an orderly end.

`python -m controller` runs it. It decides when to begin (the CRDs are fit, the Lease is ours) and how to end: by SIGTERM in order,
when the Lease is lost at once, when a part dies in order and with exit code 1 (crash-only: the next process lists everything anew), and
so when other namespaces may be served than are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from controller import assembly, controller_id, election, errors, operator, served, serving
from controller.api import kinds, meta
from controller.clouds import plugins
from controller.engine import metrics
from controller.engine.engine import Engine
from controller.engine.engine import Options as EngineOptions
from controller.engine.sweep import Policy
from controller.namespaces import Namespaces
from controller.ports import CloudPlugin
from controller.serving import Endpoints
from controller.stores import access as accesses
from controller.stores.access import Access
from controller.stores.kubernetes import KubernetesStore

log = logging.getLogger(__name__)
T = TypeVar("T")

#: The name of the Lease, and of the ConfigMap beside it.
LEASE = "occopus-controller"
#: Exit codes: a part died, the Lease was lost, or other namespaces may be served; the API server's CRDs do not fit.
DIED, UNFIT = 1, 3
#: The pause before the API server is asked again at the start.
_RETRY_SECONDS = 2.0
#: An API server that was started or given the CRDs a moment ago publishes their schemas late: it says 404 for so long at most.
_PUBLISHED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the flags say. No namespaces: all of them. `own_namespace` holds Lease and controller id; empty: the credentials' own."""

    kubeconfig: Path | None = None
    namespaces: tuple[str, ...] = ()
    own_namespace: str = ""
    lease: str = LEASE
    controller_id: str = ""
    bind_address: str = "127.0.0.1"
    health_port: int | None = None
    metrics_port: int | None = None
    local_clouds: bool = False
    state_directory: Path = Path()
    ambient_credentials: bool = False
    sweep: Policy = "Report"


def options(flags: dict[str, Any], default_state: Path) -> Options:
    """The flags of `python -m controller`, checked. Raises UsageError."""
    return Options(
        kubeconfig=flags["kubeconfig"],
        namespaces=tuple(dict.fromkeys(flags["namespaces"])),
        own_namespace=flags["own_namespace"] or "",
        lease=flags["lease"],
        controller_id=controller_id.check(flags["controller_id"]) if flags["controller_id"] else "",
        bind_address=flags["bind_address"],
        health_port=flags["health_port"] or None,
        metrics_port=flags["metrics_port"] or None,
        local_clouds=flags["local_clouds"],
        state_directory=flags["state_directory"] or default_state,
        ambient_credentials=flags["ambient_credentials"],
        sweep=flags["sweep"],
    )


async def run(options: Options) -> int:
    """Reconcile until SIGTERM or SIGINT; the exit code. Raises UsageError. Ends the process itself where the Lease is lost."""
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    access = accesses.find(options.kubeconfig, dict(os.environ))
    async with accesses.session(access) as session:
        process = _Process(options, access, session)
        ready = {"lists": process.lists_missing, "clouds": process.clouds_missing}
        endpoints = Endpoints(options.bind_address, options.metrics_port, options.health_port, ready=ready)
        metrics.leader.set_function(process.leads)
        async with serving.serve(endpoints, lambda: process.engine):
            return await _first(process.run(), stop) or 0


class _Process:
    """One candidate, and the leader it becomes."""

    def __init__(self, options: Options, access: Access, session: aiohttp.ClientSession) -> None:
        self._options = options
        self._access = access
        self._session = session
        self._namespace = options.own_namespace or access.namespace
        settings = election.Settings(self._namespace, options.lease, election.new_identity(os.environ))
        self._election = election.Election(access, session, settings)
        self._store = self._opened(options.namespaces)
        self._namespaces = Namespaces(options.namespaces, self._store.forbidden)
        self.engine: Engine | None = None

    def leads(self) -> float:
        return float(self._election.leading)

    def lists_missing(self) -> str | None:
        """A standby is ready: to take over."""
        waiting = self._election.leading if self.engine is None else not self.engine.synced.is_set()
        return "the objects were not listed yet" if waiting else None

    def clouds_missing(self) -> str | None:
        """Each Cloud has to be asked once, whatever it answers: one that is away must not hold up the others."""
        if self.engine is None:
            return None
        clouds = self.engine.clouds
        unasked = [str(key) for key in self.engine.objects.keys("Cloud") if key not in clouds.contacts]
        unasked += [str(key) for key, each in clouds.bindings() if each.inventory.listed is None and each.inventory.trouble is None]
        return f"{unasked[0]} was not asked yet" if unasked else None

    async def run(self) -> int:
        installed = plugins.installed()
        if problem := await self._unfit(installed):
            log.error("%s", problem)
            return UNFIT
        kept = self._options.controller_id
        identifier = kept or await self._answered(lambda: controller_id.controller_id(self._store, self._namespace, self._options.lease))
        log.info("Controller id %s; waiting for the lease %s/%s", identifier, self._namespace, self._options.lease)
        await self._election.acquire()
        return await self._lead(installed, identifier)

    async def _unfit(self, installed: tuple[CloudPlugin, ...]) -> str:
        async def ask() -> dict[str, Any]:
            timeout = aiohttp.ClientTimeout(total=accesses.REQUEST_SECONDS)
            try:
                async with self._session.get(f"{self._access.server}{served.PATH}", timeout=timeout) as response:
                    if response.status == 404:
                        return {}
                    if response.status != 200:
                        raise errors.Unavailable(f"{served.PATH} was answered with status {response.status}")
                    return await response.json()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise errors.Unavailable(f"{self._access.server} gives no answer: {type(error).__name__}: {error}") from error

        clock = asyncio.get_running_loop().time
        deadline = clock() + _PUBLISHED_SECONDS
        while found := served.faults(await self._answered(ask), installed):
            if clock() > deadline:
                break
            await asyncio.sleep(_RETRY_SECONDS / 4)
        return "; ".join(found)

    async def _answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until the API server answers; why it does not is logged once for each reason."""
        said = ""
        while True:
            try:
                return await ask()
            except errors.StoreError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("Cannot begin yet, and try again: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _lead(self, installed: tuple[CloudPlugin, ...], identifier: str) -> int:
        keeping = asyncio.create_task(self._keep(), name="lease")
        try:
            await self._serve(installed, identifier, await self._answered(self._namespaces.allowed))
        except (errors.Unavailable, errors.NamespacesChanged) as error:
            log.error("%s", error)
            return DIED
        finally:
            self.engine = None
            # Nothing is mutated any more: the next leader may begin at once.
            keeping.cancel()
            await self._election.release()
        return 0

    async def _serve(self, installed: tuple[CloudPlugin, ...], identifier: str, serves: tuple[str, ...]) -> None:
        """Reconcile what is in these namespaces, until a part of it ends."""
        options = EngineOptions(
            controller_id=identifier,
            state_directory=str(self._options.state_directory),
            allow_local=self._options.local_clouds,
            ambient_credentials=self._options.ambient_credentials,
            sweep=self._options.sweep,
            namespaces=serves,
            unserved=tuple(each for each in self._options.namespaces if each not in serves),
        )
        group, _, version = meta.API_VERSION.partition("/")
        watched = [(group, version, each.plural) for each in kinds.KINDS]
        store = self._opened(serves)
        source = operator.Source(self._access, watched, serves, store.observe)
        async with assembly.running(store, installed, options) as self.engine, assembly.beside(self._namespaces.until_others_are(serves)):
            await source.run()

    def _opened(self, serves: tuple[str, ...]) -> KubernetesStore:
        return KubernetesStore(self._access, self._session, namespaces=serves, holds=self._election.holds)

    async def _keep(self) -> None:
        try:
            await self._election.keep()
        except errors.LeadershipLost as error:
            log.error("%s", error)
            end_now(DIED)
        except Exception:
            # A defect of ours: who lived on would launch nothing, and nobody would begin in its place.
            log.exception("The renewal of the lease has died")
            end_now(DIED)


async def _first(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """What `work` answers, or None where it was told to stop first, and has ended."""
    task, told = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        log.info("Told to stop: what is on its way is let end")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return None
    finally:
        told.cancel()


def end_now(code: int) -> None:
    """End the process without waiting for threads: a driver's call may hang in one, and nothing needs its answer."""
    logging.shutdown()
    os._exit(code)


__all__ = ["DIED", "LEASE", "UNFIT", "Options", "end_now", "run"]
