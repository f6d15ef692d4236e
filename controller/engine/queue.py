"""The level-triggered queue of keys, with client-go's semantics.

A key that is added while it waits is there once; while it is worked on it is kept and comes back when that is done; so a key
has one worker at most, and nothing that happened is lost. Two lanes: what a user did comes before what time did.
Due times stand on one heap. Back-off has full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import OrderedDict
from enum import Enum
from typing import Generic, TypeVar

K = TypeVar("K")

#: First and longest back-off of a key whose pass failed, in seconds.
RETRY_FIRST_SECONDS = 0.5
RETRY_MOST_SECONDS = 60.0
#: So many entries of the heap beyond twice the keys may be of keys that were woken earlier; then these are cleared away.
_SPARE = 64


class Lane(Enum):
    USER = 0
    BACKGROUND = 1


class WorkQueue(Generic[K]):
    """Keys in, keys out. All calls are made on the event loop."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._ready: tuple[OrderedDict[K, float], OrderedDict[K, float]] = (OrderedDict(), OrderedDict())
        self._busy: set[K] = set()
        self._again: dict[K, Lane] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._failures: dict[K, int] = {}
        self._sequence = 0
        self._timer: asyncio.TimerHandle | None = None
        self._wakeup = asyncio.Event()
        self._rng = rng or random.Random()

    def __len__(self) -> int:
        """Keys that are ready and wait for a worker."""
        return len(self._ready[0]) + len(self._ready[1])

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is worked on; due times may be ahead."""
        return not len(self) and not self._busy

    def oldest_seconds(self) -> float:
        """For how long the key that waits longest has waited."""
        since = [each for lane in self._ready for each in lane.values()]
        return asyncio.get_running_loop().time() - min(since) if since else 0.0

    def add(self, key: K, lane: Lane = Lane.BACKGROUND) -> None:
        """Let the key be worked on as soon as a worker is free."""
        if key in self._busy:
            if self._again.get(key) is not Lane.USER:
                self._again[key] = lane
            return
        self._due.pop(key, None)
        if lane is Lane.USER:
            since = self._ready[1].pop(key, None)
            self._ready[0].setdefault(key, since if since is not None else asyncio.get_running_loop().time())
        elif key not in self._ready[0]:
            self._ready[1].setdefault(key, asyncio.get_running_loop().time())
        self._wakeup.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Let the key be worked on after that time, or earlier if something else wakes it. The earliest due time counts."""
        due = asyncio.get_running_loop().time() + max(0.0, seconds)
        if key in self._ready[0] or key in self._ready[1] or self._due.get(key, float("inf")) <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))
        if len(self._heap) > 2 * len(self._due) + _SPARE:
            self._heap = [each for each in self._heap if self._due.get(each[2]) == each[0]]
            heapq.heapify(self._heap)
        self._arm()

    def retry(self, key: K, limit_seconds: float = RETRY_MOST_SECONDS) -> None:
        """Let the key be worked on after a back-off that grows with each retry, up to the limit, until `forget`."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        most = min(limit_seconds, RETRY_FIRST_SECONDS * 2 ** min(failures, 16))
        self.add_after(key, self._rng.uniform(most / 10, most))

    def forget(self, key: K) -> None:
        """The key's last pass went well."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key; the caller owns it until `done`."""
        while True:
            for lane in self._ready:
                if lane:
                    key, _ = lane.popitem(last=False)
                    self._busy.add(key)
                    return key
            self._wakeup.clear()
            await self._wakeup.wait()

    def done(self, key: K) -> None:
        """The pass over the key has ended."""
        self._busy.discard(key)
        lane = self._again.pop(key, None)
        if lane is not None:
            self.add(key, lane)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._ring)

    def _ring(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        self._arm()

    def close(self) -> None:
        """Forget all due times."""
        if self._timer is not None:
            self._timer.cancel()
        self._heap.clear()
