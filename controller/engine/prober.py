"""Probes all machines from one heap of due checks: a task for each that is under way; only a change of outcome wakes anybody.

The Instance's pass says what to probe (`watch`) and reads the verdict (`view`). Start-up and steady state differ: a machine
that was never healthy is asked every second; one that was, at the probe's period, and counts as unhealthy only after
`failureThreshold` failures in a row. Where more checks are due than there are sockets, they are shared out by groups, and in
each by how long the last check of a probe took (`shares.py`); a check's time runs from when it has its socket.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from controller.api.template import Health as HealthSpec
from controller.api.template import Probe
from controller.engine import metrics
from controller.engine.objects import dump
from controller.engine.shares import Shares
from controller.ports import Checker, Key, ProbeResult
from controller.reconcilers.instance.observed import Health

log = logging.getLogger(__name__)

#: Seconds between two checks of a machine that was never healthy (rules of the game, issue 7).
STARTUP_PERIOD_SECONDS = 1.0
#: A check that takes so long keeps its socket from hundreds that are answered at once, or refused.
LONG_SECONDS = 0.5
#: So many are begun at once, of those that may be answered at once: of more, answers would come late for want of processor time
#: (512 of https took 1.7 s, 64 took 0.3 s), and that is no fault of the machines.
BEGUN_AT_ONCE = 64
#: A check that ends so long after its time-out tells that this process stood still meanwhile, and nothing of the machine.
LATE_SECONDS = 1.0
#: By how much the next answer of a machine that starts may be late before its last one says nothing any more. Where five hundred that are
#: silent share 512 sockets it is late by two seconds.
FRESH_SECONDS = 5.0


#: Whoever runs the controller is told no more often that checks cannot be made.
WARN_SECONDS = 60.0
_RESULTS = {True: "passed", False: "failed", None: "not made"}


class Took(Enum):
    """How long the last check of a probe took."""

    UNKNOWN = "there was none yet"
    SHORT = "its answer came at once"
    LONG = "its answer was waited for, or did not come"


_Share = tuple[str, Took]


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed: the machine's address, with which probes, and whether it was healthy by now.

    `group` has its own shares of the sockets.
    """

    address: str
    health: HealthSpec
    loopback: bool
    was_ready: bool
    group: str


@dataclass(slots=True)
class _State:
    """One probe of one machine. `passing` is None until it is known; `failures` are those in a row, `failing_since` the first of them."""

    probe: Probe
    wire: dict[str, Any]
    passing: bool | None = None
    failures: int = 0
    failing_since: float = 0.0
    message: str = ""
    asked: bool = True
    told_at: float = 0.0
    took: Took = Took.UNKNOWN


@dataclass(frozen=True, slots=True)
class _Due:
    """A check of one probe of a machine, as it was watched then."""

    uid: str
    generation: int
    number: int


@dataclass(slots=True)
class _Watched:
    key: Key
    target: Target
    since: float
    states: list[_State] = field(default_factory=list[_State])
    generation: int = 0
    epoch: object = None


class Prober:
    """Runs until cancelled; all calls are made on the event loop."""

    def __init__(self, checker: Checker, wake: Callable[[Key], None]) -> None:
        self._checker = checker
        self._wake = wake
        self._watched: dict[str, _Watched] = {}
        self._heap: list[tuple[float, int, _Due]] = []
        self._shares: Shares[_Share, _Due] = Shares(checker.at_once)
        self._changed = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        #: Checks that have just begun and may be answered at any moment.
        self._young: set[_Due] = set()
        self._warned = -WARN_SECONDS
        self._sequence = 0
        #: Never used twice, so that checks due for a machine that was forgotten are not taken for the next one's.
        self._generations = 0

    def watch(self, uid: str, key: Key, target: Target, epoch: object = None) -> None:
        """Probe this machine from now on; the same call again changes nothing. For `epoch` see `renew`."""
        watched = self._watched.get(uid)
        if watched is not None and (watched.target.address, watched.target.health) == (target.address, target.health):
            return
        self._generations += 1
        generation = self._generations
        states = [_State(each, dump(each)) for each in target.health.probes]
        self._watched[uid] = _Watched(key, target, asyncio.get_running_loop().time(), states, generation, epoch)
        for number in range(len(states)):
            self._schedule(0.0, _Due(uid, generation, number))

    def renew(self, uid: str, epoch: object, cut_off_since: float) -> None:
        """With each new epoch failures that began at that time of the loop, or later, count from none.

        They may have been the controller's own, cut off from all. What failed before goes on failing. A machine that was never
        healthy may have become so meanwhile: what it was told before is no word on it.
        """
        watched = self._watched.get(uid)
        if watched is None or watched.epoch == epoch:
            return
        watched.epoch = epoch
        for each in watched.states:
            starts = each.passing is None and not watched.target.was_ready
            if not starts and (each.failures == 0 or each.failing_since < cut_off_since):
                continue
            each.passing = each.passing or None
            each.failures, each.message = 0, ""

    def forget(self, uid: str) -> None:
        """Probe it no more."""
        self._watched.pop(uid, None)

    def view(self, uid: str) -> Health:
        """The verdict so far: healthy only when all probes pass, None while nothing can be said."""
        watched = self._watched.get(uid)
        if watched is None:
            return Health()
        failing = [each for each in watched.states if each.passing is False]
        if failing:
            return Health(False, f"{failing[0].probe.name}: {failing[0].message}")
        waiting = [each for each in watched.states if each.passing is None]
        if not waiting:
            return Health(True)
        # One that was asked and did not pass says more of the machine than one that cannot be asked.
        told = (each for each in waiting if each.message and (watched.target.was_ready or _is_fresh(each)))
        tried = sorted(told, key=lambda each: not each.asked)
        return Health(None, f"{tried[0].probe.name}: {tried[0].message}", tried[0].asked) if tried else Health()

    def probed_seconds(self, uid: str) -> float | None:
        """For how long this machine is probed, if it is."""
        watched = self._watched.get(uid)
        return asyncio.get_running_loop().time() - watched.since if watched is not None else None

    def known(self, uid: str) -> bool:
        """Whether each probe has answered at least once; of a machine that is not probed, nothing is awaited."""
        watched = self._watched.get(uid)
        return watched is None or all(each.passing is not None or each.message for each in watched.states)

    async def run(self) -> None:
        """Check what is due, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            while self._heap and self._heap[0][0] <= loop.time():
                self._line_up(heapq.heappop(self._heap)[2])
            while (turn := self._shares.take(self._may_begin)) is not None:
                self._begin(*turn)
            try:
                async with asyncio.timeout_at(self._heap[0][0] if self._heap else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Cut off the checks that are under way."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _still_watched(self, due: _Due) -> _Watched | None:
        watched = self._watched.get(due.uid)
        return watched if watched is not None and watched.generation == due.generation else None

    def _line_up(self, due: _Due) -> None:
        watched = self._still_watched(due)
        if watched is not None:
            self._shares.wait((watched.target.group, watched.states[due.number].took), due)

    def _may_begin(self, share: _Share) -> bool:
        return share[1] is Took.LONG or len(self._young) < BEGUN_AT_ONCE

    def _begin(self, share: _Share, due: _Due) -> None:
        watched = self._still_watched(due)
        if watched is None:
            self._shares.give_back(share)
            return
        if share[1] is not Took.LONG:
            self._young.add(due)
        task = asyncio.get_running_loop().create_task(self._check(watched, due, share))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # A checker that raises breaks its contract; the loop's handler logs it with its traceback.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a health check failed", "exception": task.exception(), "task": task}
            )

    async def _check(self, watched: _Watched, due: _Due, share: _Share) -> None:
        state, epoch = watched.states[due.number], watched.epoch
        try:
            result = await self._ask(watched.target, state, due)
        finally:
            self._shares.give_back(share)
            # Whatever a checker does, its machine is probed again.
            self._schedule(self._period(watched, state), due)
        if self._watched.get(due.uid) is not watched:
            return
        if not result.passed and state.failures == 0 and watched.epoch != epoch:
            # It began while the controller may have been cut off.
            return
        before = self.view(due.uid)
        _judge(state, result, asyncio.get_running_loop().time(), steady=watched.target.was_ready)
        after = self.view(due.uid)
        if after == before:
            return
        if after.healthy:
            # From now on it is one that was healthy, whatever becomes of it.
            watched.target = replace(watched.target, was_ready=True)
        self._wake(watched.key)

    async def _ask(self, target: Target, state: _State, due: _Due) -> ProbeResult:
        """Make the check, and note how long it takes."""
        loop = asyncio.get_running_loop()
        begun, aging = loop.time(), loop.call_later(LONG_SECONDS, self._age, due)
        try:
            result = await self._checker.check(state.wire, target.address, loopback=target.loopback)
        finally:
            aging.cancel()
            self._age(due)
            took = loop.time() - begun
            state.took = Took.LONG if took >= LONG_SECONDS else Took.SHORT
        if result.passed is False and took > state.probe.timeout_seconds + LATE_SECONDS:
            result = ProbeResult(None, "not judged: the controller was held up")
        if result.passed is None:
            self._warn(result.message)
        metrics.probes.labels(_RESULTS[result.passed]).inc()
        return result

    def _warn(self, message: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned >= WARN_SECONDS:
            self._warned = now
            log.warning("Health checks cannot be made, and are held against no machine: %s", message)

    def _age(self, due: _Due) -> None:
        self._young.discard(due)
        self._changed.set()

    def _period(self, watched: _Watched, state: _State) -> float:
        if state.passing or watched.target.was_ready:
            return state.probe.period_seconds * random.uniform(0.95, 1.05)
        return STARTUP_PERIOD_SECONDS

    def _schedule(self, seconds: float, due: _Due) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (asyncio.get_running_loop().time() + seconds, self._sequence, due))
        self._changed.set()


def _is_fresh(state: _State) -> bool:
    age = asyncio.get_running_loop().time() - state.told_at
    return age <= STARTUP_PERIOD_SECONDS + state.probe.timeout_seconds + FRESH_SECONDS


def _judge(state: _State, result: ProbeResult, now: float, *, steady: bool) -> None:
    """Take in one result. Before the first success nothing but the message changes; the start-up deadline judges then."""
    state.told_at = now
    if result.passed is None:
        if state.passing is None:
            state.message, state.asked = result.message, False
        return
    state.asked = True
    if result.passed:
        state.passing, state.failures, state.message = True, 0, ""
        return
    state.failing_since = state.failing_since if state.failures else now
    state.failures += 1
    state.message = result.message
    if (state.passing or steady) and state.failures >= state.probe.failure_threshold:
        state.passing = False
