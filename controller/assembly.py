"""Puts the parts together: which reconciler serves which kind, and an engine from ports and options."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from controller.engine.engine import Engine, Options, Ports, Reconcile
from controller.ports import T
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
