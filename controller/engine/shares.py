"""Which check has a socket next, so that machines that never answer keep none from those that do. Pure; the prober asks.

A machine that silently drops packets holds a socket for the whole time-out of its check; hundreds of them would hold them all. So
checks wait in shares, and a share has one more only while it holds fewer than are free: one alone comes to half of all, two to a
third each, and who comes anew finds some free (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking, 1998).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Shares(Generic[S, T]):
    """So many sockets, and what waits for them by shares, in the order in which it came."""

    def __init__(self, sockets: int) -> None:
        self._free = sockets
        self._held: dict[S, int] = {}
        #: The share that was served longest ago is first.
        self._waiting: dict[S, deque[T]] = {}

    def wait(self, share: S, item: T) -> None:
        """Let it be taken when its turn has come."""
        self._waiting.setdefault(share, deque()).append(item)

    def take(self, may: Callable[[S], bool]) -> tuple[S, T] | None:
        """What has a socket from now on, until the share gives it back; None while nothing can, or of the shares that can none may."""
        share = self._next(may)
        if share is None or self._held.get(share, 0) >= self._free:
            return None
        waiting = self._waiting.pop(share)
        item = waiting.popleft()
        if waiting:
            self._waiting[share] = waiting
        self._held[share] = self._held.get(share, 0) + 1
        self._free -= 1
        return share, item

    def give_back(self, share: S) -> None:
        """One of the sockets that the share has taken is free again."""
        self._free += 1
        self._held[share] -= 1
        if not self._held[share]:
            del self._held[share]

    def _next(self, may: Callable[[S], bool]) -> S | None:
        """Of those that wait and may have one the one that holds the fewest, first the one that was served longest ago."""
        found: tuple[int, S] | None = None
        for share in self._waiting:
            if not may(share):
                continue
            held = self._held.get(share, 0)
            if not held:
                return share
            if found is None or held < found[0]:
                found = (held, share)
        return found[1] if found is not None else None


__all__ = ["Shares"]
