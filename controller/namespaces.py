"""Which of the namespaces that the flags name are served: those whose objects may be listed.

Called by `controller.process`. One that may not be listed, as one that is being deleted and has lost its RoleBinding before its objects,
is left out: it must not keep the others from being served. Its Instances are not known then, so none of its machines is taken for one
that no Instance claims (design section 5, rule 7).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping

from controller import errors
from controller.engine import metrics

log = logging.getLogger(__name__)

#: How often, ± 20 %, is asked which may be served now. A watch that is opened anew and forbidden ends the process after ten minutes.
ASK_SECONDS = 60.0


def allowed(named: tuple[str, ...], forbidden: Mapping[str, str]) -> tuple[str, ...]:
    """Those of `named` that may be served. Raises Forbidden where none may: no namespaces at all would be the whole cluster."""
    found = tuple(each for each in named if each not in forbidden)
    if named and not found:
        raise errors.Forbidden("none of the namespaces may be served: " + "; ".join(forbidden.values()))
    return found


class Namespaces:
    """Those that the flags name, or all there are. `ask` answers which of those named may not be listed, and why."""

    def __init__(self, named: tuple[str, ...], ask: Callable[[], Awaitable[Mapping[str, str]]]) -> None:
        self._named = named
        self._ask = ask
        self._forbidden: Mapping[str, str] = {}

    async def allowed(self) -> tuple[str, ...]:
        """Those that may be served now; empty where that is the whole cluster. Raises StoreError where none may, or it is not known."""
        forbidden = await self._ask()
        for each in self._named:
            metrics.namespace_served.labels(each).set(each not in forbidden)
            if each in forbidden and forbidden[each] != self._forbidden.get(each):
                log.error("Namespace %s is not served, and its machines run on: %s", each, forbidden[each])
        self._forbidden = forbidden
        return allowed(self._named, forbidden)

    async def until_others_are(self, served: tuple[str, ...]) -> None:
        """Raises NamespacesChanged once others than these may be served. What is in doubt, or none at all, changes nothing."""
        while self._named:
            await asyncio.sleep(ASK_SECONDS * random.uniform(0.8, 1.2))
            try:
                found = await self.allowed()
            except errors.StoreError as error:
                log.warning("The same namespaces are served on: %s", error)
                continue
            if found != served:
                raise errors.NamespacesChanged(f"other namespaces may be served now: {', '.join(found)}; the next process serves those")


__all__ = ["ASK_SECONDS", "Namespaces", "allowed"]
