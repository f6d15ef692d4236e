"""Whose launch comes next within an account's rate: groups take turns, so that none waits behind all of another's.

The launcher asks before it commits a launch. The group that was served longest ago is next, within it who asked first; what is
next waits until there are tokens for it, and takes none before. So a service that comes is served next, whatever waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from controller.engine.limiter import Limiter

#: For how long a turn that has come is kept for its asker; then it is given back.
KEPT_SECONDS = 10.0
#: Waits that are no longer than this are rounding.
_NONE_SECONDS = 1e-3
_ACTION = "create"
#: Of so many groups it is remembered when they were served; others are taken for new ones.
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody's wish to launch so many machines; `tell` is called when the turn has come and nobody asks at that moment."""

    uid: str
    group: str
    machines: int
    tell: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Come:
    """A turn that has come, and is not taken yet."""

    at: float
    machines: int


class Turns:
    """Those of one account; to be used on the event loop. `waited` is told the seconds that each turn was waited for."""

    def __init__(self, limiter: Limiter, waited: Callable[[float], None]) -> None:
        self._limiter = limiter
        self._waited = waited
        #: By group, in the order of asking, with when it was asked.
        self._waiting: dict[str, dict[str, tuple[Wish, float]]] = {}
        self._groups: dict[str, str] = {}
        #: How many machines those that wait ask for.
        self._machines = 0
        self._come: dict[str, _Come] = {}
        #: Which groups were served, the last one last.
        self._served: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, wish: Wish) -> float:
        """0 if the turn has come, which is then taken; else about how many seconds it is away, if nobody else comes."""
        now = _now()
        come = self._come.pop(wish.uid, None)
        if come is not None and come.machines == wish.machines and now - come.at <= KEPT_SECONDS:
            return 0.0
        if come is not None:
            self._limiter.give_back(_ACTION, machines=come.machines)
        if wish.uid not in self._groups:
            self._groups[wish.uid] = wish.group
            self._waiting.setdefault(wish.group, {})[wish.uid] = (wish, now)
            self._machines += wish.machines
        self._serve(asks=wish.uid)
        if self._come.pop(wish.uid, None) is not None:
            return 0.0
        return max(_NONE_SECONDS, self._limiter.backlog(_ACTION, now, calls=len(self._groups), machines=self._machines))

    def forget(self, uid: str) -> None:
        """Who asked wants no turn any more."""
        self._leave(uid)
        come = self._come.pop(uid, None)
        if come is not None:
            self._limiter.give_back(_ACTION, machines=come.machines)
        self._serve()

    def give_back(self, *, calls: float = 1.0, machines: int = 1) -> None:
        """Of a turn that was taken so much is not used; who waits may have it."""
        self._limiter.give_back(_ACTION, calls=calls, machines=machines)
        self._serve()

    def _leave(self, uid: str) -> None:
        group = self._groups.pop(uid, None)
        if group is not None:
            wish, _ = self._waiting[group].pop(uid)
            self._machines -= wish.machines
            if not self._waiting[group]:
                del self._waiting[group]

    def _serve(self, asks: str = "") -> None:
        now = _now()
        self._drop_missed(now)
        while self._waiting:
            group = self._next()
            wish, since = next(iter(self._waiting[group].values()))
            wait = self._limiter.wait(_ACTION, now, machines=wish.machines)
            if wait > _NONE_SECONDS:
                self._arm(min([wait, *(KEPT_SECONDS + _NONE_SECONDS - (now - each.at) for each in self._come.values())]))
                return
            self._limiter.reserve(_ACTION, now, machines=wish.machines)
            self._waited(now - since)
            self._leave(wish.uid)
            self._served.pop(group, None)
            self._served[group] = None
            if len(self._served) > _REMEMBERED:
                del self._served[next(iter(self._served))]
            self._come[wish.uid] = _Come(now, wish.machines)
            if wish.uid != asks:
                wish.tell()

    def _next(self) -> str:
        """The group that was served longest ago, if ever."""
        never = next((each for each in self._waiting if each not in self._served), None)
        return never if never is not None else next(each for each in self._served if each in self._waiting)

    def _drop_missed(self, now: float) -> None:
        """A turn that was missed is gone: those of a fleet that was held back would all be taken at once."""
        for uid in [uid for uid, each in self._come.items() if now - each.at > KEPT_SECONDS]:
            self._limiter.give_back(_ACTION, machines=self._come.pop(uid).machines)

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(_NONE_SECONDS, seconds), self._serve)


def _now() -> float:
    return asyncio.get_running_loop().time()


__all__ = ["KEPT_SECONDS", "Turns", "Wish"]
