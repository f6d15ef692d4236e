"""Puts the parts together: which reconciler serves which kind, and an engine over a store, whichever home that is."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.context.renderer import ChildRenderer
from controller.engine.engine import Engine, Options, Ports, Reconcile
from controller.health.checker import NetworkChecker
from controller.ports import CloudPlugin, Store, T
from controller.reconcilers.cloud import reconcile as cloud
from controller.reconcilers.infrastructure import reconcile as infrastructure
from controller.reconcilers.instance import reconcile as instance
from controller.reconcilers.instancegroup import reconcile as instancegroup
from controller.reconcilers.wakes import wakes

RECONCILERS: dict[str, Reconcile] = {
    "Cloud": cloud.reconcile,
    "Infrastructure": infrastructure.reconcile,
    "InstanceGroup": instancegroup.reconcile,
    "Instance": instance.reconcile,
}
#: Calls to one account at once: they wait for answers, and the buckets of a cloud allow few more.
CALL_THREADS = 16


def engine(ports: Ports, options: Options) -> Engine:
    """An engine with all reconcilers; must be called on the event loop that runs it."""
    return Engine(ports, options, RECONCILERS, wakes)


@contextlib.asynccontextmanager
async def running(store: Store, installed: tuple[CloudPlugin, ...], options: Options) -> AsyncGenerator[Engine]:
    """An engine at work until the block ends: then calls that are on their way are let end, for a while. What it dies of is raised."""
    renderer, checker, threads = ChildRenderer(), NetworkChecker(), CallThreads()
    made = engine(Ports(store, installed, renderer, checker, threads, now), options)
    try:
        async with beside(made.run()):
            yield made
    finally:
        await made.close()
        threads.close()
        await renderer.close()
        await checker.close()


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run `work` beside the block. If it dies the block is cancelled and its error raised; the block's end cancels it."""
    owner = asyncio.current_task()
    task = asyncio.get_running_loop().create_task(work)

    def ended(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is not None and owner is not None:
            owner.cancel()

    task.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if task.done() and not task.cancelled():
            task.result()
        raise
    finally:
        task.remove_done_callback(ended)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@dataclass(slots=True)
class _Pool:
    """The threads of one lane, and how many calls they have: those too that nobody waits for any more."""

    threads: ThreadPoolExecutor
    calls: int = 0


class CallThreads:
    """Runs driver calls in a pool for each lane, so that a cloud that hangs stops no other.

    A pool ends with the last of its calls: Clouds and accounts come and go as long as the process lives.
    """

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}
        self._lock = threading.Lock()

    async def __call__(self, call: Callable[[], T], lane: str, /) -> T:
        with self._lock:
            pool = self._pools.get(lane)
            if pool is None:
                pool = self._pools[lane] = _Pool(ThreadPoolExecutor(CALL_THREADS, thread_name_prefix=f"cloud {lane}"))
            future = pool.threads.submit(call)
            pool.calls += 1
        future.add_done_callback(lambda _: self._done(lane, pool))
        return await asyncio.wrap_future(future)

    def _done(self, lane: str, pool: _Pool) -> None:
        """Called by the thread that ran the call, or by whoever cancelled it."""
        with self._lock:
            pool.calls -= 1
            if not pool.calls and self._pools.get(lane) is pool:
                del self._pools[lane]
                pool.threads.shutdown(wait=False)

    def close(self) -> None:
        """Cancel what has not begun; calls that are on their way end by their own time-outs."""
        with self._lock:
            # Taken out: a call whose cancelling is the end of its pool must not shut down what is being shut down.
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.threads.shutdown(wait=False, cancel_futures=True)


def now() -> datetime:
    """The wall clock, for what is written down."""
    return datetime.now(UTC)
