"""Puts the parts together: which reconciler serves which kind, and an engine over a store, whichever home that is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
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


class CallThreads:
    """Runs driver calls in a pool for each lane, so that a cloud that hangs stops no other."""

    def __init__(self) -> None:
        self._pools: dict[str, ThreadPoolExecutor] = {}

    async def __call__(self, call: Callable[[], T], lane: str, /) -> T:
        pool = self._pools.get(lane)
        if pool is None:
            pool = self._pools[lane] = ThreadPoolExecutor(CALL_THREADS, thread_name_prefix=f"cloud {lane}")
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    def close(self) -> None:
        """Take no more calls; those that are on their way end by their own time-outs."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


def now() -> datetime:
    """The wall clock, for what is written down."""
    return datetime.now(UTC)
