"""How fast an account may be asked: token buckets below the cloud's own, and slower where it complains all the same.

`Pace` is one bucket, pure: time comes in as seconds of any clock that only goes on. `Limiter` keeps those of one account;
`controller.engine.calls` asks it before each call, the launcher before it commits a launch. It knows no cloud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from controller.ports import Limit

#: Part of the published rate that is used: the cloud's clock and ours differ, and others may use the account too.
SAFE = 0.95
#: Where the cloud throttles all the same the rate is halved, to no less than this part of it …
SLOWEST = 1 / 16
#: … and gets back this part of the published rate after each so many seconds without a complaint (AIMD).
REGAINED, REGAIN_SECONDS = 0.05, 10.0


@dataclass(slots=True)
class Pace:
    """One bucket. It may be in debt: who comes later waits longer, in the order of coming."""

    limit: Limit
    tokens: float = field(init=False)
    at: float | None = None
    factor: float = 1.0
    complained: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self._capacity

    def take(self, number: float, now: float) -> float:
        """Take so many tokens; the seconds until that many are there."""
        self._refill(now)
        self.tokens -= number
        return max(0.0, -self.tokens / self._rate)

    def wait(self, number: float, now: float) -> float:
        """The seconds until so many tokens are there, of which none is taken."""
        self._refill(now)
        return max(0.0, (number - self.tokens) / self._rate)

    def turn(self, number: float, now: float) -> float:
        """The seconds until so many may be taken: what the bucket never holds is taken when it is full."""
        return self.wait(min(number, self._capacity), now)

    def give_back(self, number: float) -> None:
        """What was taken is not used."""
        self.tokens = min(self._capacity, self.tokens + number)

    def slow_down(self, now: float) -> None:
        """The cloud complained: its bucket is emptier than we thought. Calls sent together complain together, once."""
        self._refill(now)
        if now - self.complained >= 1.0 or self.factor == 1.0:
            self.factor = max(SLOWEST, self.factor / 2)
        self.tokens = min(self.tokens, 0.0)
        self.complained = now

    def _refill(self, now: float) -> None:
        if self.at is not None:
            self._regain(now)
            self.tokens = min(self._capacity, self.tokens + (now - self.at) * self._rate)
        self.at = now

    def _regain(self, now: float) -> None:
        while self.factor < 1.0 and now - self.complained >= REGAIN_SECONDS:
            self.factor = min(1.0, self.factor + REGAINED)
            self.complained += REGAIN_SECONDS

    @property
    def _capacity(self) -> float:
        return max(1.0, self.limit.capacity - 1.0)

    @property
    def _rate(self) -> float:
        return self.limit.per_second * SAFE * self.factor


class Limiter:
    """The buckets of one account."""

    def __init__(self, limits: Mapping[str, Sequence[Limit]]) -> None:
        self._paces = {action: tuple(Pace(each) for each in several) for action, several in limits.items()}

    def reserve(self, action: str, now: float, *, calls: float = 1.0, machines: int = 1) -> float:
        """Take a turn; the seconds until it has come. What has no limit has its turn at once."""
        return max((each.take(machines if each.limit.per_machine else calls, now) for each in self._paces.get(action, ())), default=0.0)

    def wait(self, action: str, now: float, *, calls: float = 1.0, machines: int = 1) -> float:
        """The seconds until a turn could be taken; it is not."""
        return max((each.turn(machines if each.limit.per_machine else calls, now) for each in self._paces.get(action, ())), default=0.0)

    def backlog(self, action: str, now: float, *, calls: float, machines: int) -> float:
        """The seconds until so much as waits could all be done."""
        return max((each.wait(machines if each.limit.per_machine else calls, now) for each in self._paces.get(action, ())), default=0.0)

    def give_back(self, action: str, *, calls: float = 1.0, machines: int = 1) -> None:
        """A turn that was taken is not used."""
        for each in self._paces.get(action, ()):
            each.give_back(machines if each.limit.per_machine else calls)

    def throttled(self, action: str, now: float) -> None:
        """The cloud asked to slow down, and of which count it did not say: fewer calls, where those are counted, are fewer machines too."""
        paces = self._paces.get(action, ())
        for each in [each for each in paces if not each.limit.per_machine] or paces:
            each.slow_down(now)


__all__ = ["Limiter", "Pace"]
