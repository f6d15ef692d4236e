"""All calls to one account: in threads, timed and counted, and within the rates that the cloud allows it.

The inventory of the account holds one of these; whoever asks the account asks through it. What a call does is its caller's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from controller import errors
from controller.engine import metrics
from controller.engine.limiter import Limiter
from controller.engine.turns import Turns
from controller.ports import Account, Limit, T, Threads

#: What changes something has a bucket of its own; all reads of a cloud share one.
_OWN = frozenset({"create", "delete", "prepare", "close"})
_READ = "read"


class Calls:
    """See the module. Launches take their turn before they are committed: `turns`."""

    def __init__(self, account: Account, threads: Threads, limits: Mapping[str, Sequence[Limit]]) -> None:
        self._account = account
        self._threads = threads
        self._limiter = Limiter(limits)
        self.turns = Turns(self._limiter, metrics.limiter_seconds.labels(account.kind, "create").observe)

    async def __call__(self, action: str, call: Callable[[], T], *, weight: float = 1.0, machines: int = 1) -> T:
        """Wait for the turn, then make one call that counts as `weight` calls for so many machines. Raises CloudError and nothing else."""
        wait = self._limiter.reserve(_bucket(action), _now(), calls=weight, machines=machines)
        metrics.limiter_seconds.labels(self._account.kind, action).observe(wait)
        if wait > 0:
            await asyncio.sleep(wait)
        return await self.admitted(action, call)

    async def admitted(self, action: str, call: Callable[[], T]) -> T:
        """Make a call whose turn has come. Raises CloudError and nothing else."""
        try:
            return await metrics.cloud_call(self._threads, self._account, action, call)
        except errors.Throttled:
            self.throttled(action)
            raise

    def throttled(self, action: str) -> None:
        """The cloud asked to slow down, in the answer to one of several requests."""
        self._limiter.throttled(_bucket(action), _now())


def _bucket(action: str) -> str:
    return action if action in _OWN else _READ


def _now() -> float:
    return asyncio.get_running_loop().time()


__all__ = ["Calls"]
