"""What renders were found to cost: what costs too much is not tried again for a while, and what may take long does not keep all waiting.

Asked by the renderer before each render and told after it. It keeps what it knows of so many in memory, and reads no clock: `now` is
any that is never set back, in seconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TypeVar

from controller import errors
from controller.ports import RenderRequest

T = TypeVar("T")

#: After how long what cost too much is tried again, doubling to the most: a machine that was short of time or memory may have had its part.
COSTLY_FIRST_SECONDS, COSTLY_MOST_SECONDS = 300.0, 4 * 3600.0
#: A render takes 5 ms, and 0.2 s where the child has to be started, on a busy machine some times that; one that takes longer keeps
#: others waiting.
SLOW_SECONDS = 1.5
#: For so long after a slow render no more than so many wait: each of them has a worker, of which there are 32.
SLOW_FOR_SECONDS = 60.0
WAITING_MOST = 4
#: So many are remembered of what was too costly, and of what was quick.
_REMEMBERED = 1000

CROWDED = "templates that take long are being rendered, and enough others wait for them"


@dataclass(frozen=True, slots=True)
class What:
    """What is rendered, as digests: the template, and all that its cost depends on; whoever asks for it."""

    template: str
    whole: str


@dataclass(frozen=True, slots=True)
class _Costly:
    """Why it cost too much, until when it is not tried again, and how long that is."""

    why: str
    until: float
    seconds: float


class Costs:
    """See the module."""

    def __init__(self) -> None:
        self._costly: dict[str, _Costly] = {}
        self._quick: dict[str, None] = {}
        self._slow_until = 0.0

    def check(self, what: What, name: str, waiting: int, now: float) -> None:
        """Raises TooCostly, by what was found before, and RendererFailed where more wait than may; a template that was quick always may."""
        costly = self._costly.get(what.whole)
        crowded = waiting > WAITING_MOST and now < self._slow_until and what.template not in self._quick
        if costly is not None and (crowded or now < costly.until):
            raise errors.TooCostly(name, 0, 0, costly.why)
        if crowded:
            raise errors.RendererFailed(CROWDED)

    def learn(self, what: What, costly: str | None, seconds: float, now: float) -> None:
        """It took so long, and was too costly for that reason, if for one."""
        before = self._costly.pop(what.whole, None)
        if seconds >= SLOW_SECONDS:
            self._slow_until = now + SLOW_FOR_SECONDS
        if costly is not None:
            pause = min(2 * before.seconds, COSTLY_MOST_SECONDS) if before is not None else COSTLY_FIRST_SECONDS
            self._quick.pop(what.template, None)
            _keep(self._costly, what.whole, _Costly(costly, now + pause, pause))
        elif seconds < SLOW_SECONDS:
            self._quick.pop(what.template, None)
            _keep(self._quick, what.template, None)


def of(request: RenderRequest) -> What:
    """Without the names of the group and its machine: what differs in these alone costs the same."""
    whole = [request.template, request.values.get("variables"), request.values.get("services"), request.limit_bytes]
    return What(_digest(request.template), _digest(json.dumps(whole, sort_keys=True)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _keep(kept: dict[str, T], digest: str, value: T) -> None:
    kept[digest] = value
    if len(kept) > _REMEMBERED:
        del kept[next(iter(kept))]


__all__ = ["COSTLY_FIRST_SECONDS", "COSTLY_MOST_SECONDS", "CROWDED", "WAITING_MOST", "Costs", "What", "of"]
