"""Some candidates for one Lease, each on a host of its own: clocks that differ, processes that are stopped, killed and started anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import cast

import aiohttp

from controller import election, errors
from controller.stores.access import Access
from tests.simulated import loop
from tests.unit.election.network import Faults, Wire
from tests.unit.election.objects import Objects

LEASE = "/apis/coordination.k8s.io/v1/namespaces/occopus/leases/leader"
ACCESS = Access("http://api", None, lambda: "")


def clock(rate: float, offset: float) -> Callable[[], float]:
    """A host's clock, which is `rate` as fast as time and was started some time ago."""
    return lambda: offset + rate * loop.clock()


@dataclass(slots=True)
class Host:
    """A host that starts the operator again whenever it ends. `now` is its clock; `term` ends the process in good order.

    To a stopped process no time passes, no answer comes, and none of its requests leaves: so its tasks do nothing, as if they
    did not run. Whoever asks `holds` asks what the process would find if it went on now.
    """

    name: str
    wire: Wire
    now: Callable[[], float]
    random: Random
    candidate: election.Election | None = None
    term: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped_at: float | None = None
    #: The identity of each life, and what ended those that lost the Lease.
    lives: list[str] = field(default_factory=list[str])
    losses: list[str] = field(default_factory=list[str])

    def holds(self) -> bool:
        stopped_at, self._stopped_at = self._stopped_at, None
        try:
            return self.candidate is not None and self.candidate.holds()
        finally:
            self._stopped_at = stopped_at

    def stop(self) -> None:
        """As SIGSTOP."""
        self.wire.running.clear()
        self._stopped_at = self.now()

    def resume(self) -> None:
        self._stopped_at = None
        self.wire.running.set()

    def _clock(self) -> float:
        return self.now() if self._stopped_at is None else self._stopped_at

    def begin(self) -> election.Election:
        self.lives.append(f"{self.name}_{len(self.lives)}")
        settings = election.Settings("occopus", "leader", self.lives[-1])
        self.candidate = election.Election(ACCESS, cast(aiohttp.ClientSession, self.wire), settings, self._clock)
        return self.candidate

    async def run(self) -> None:
        """Live, end, live again, until cancelled, which is a kill."""
        while True:
            self.term.clear()
            candidate = self.begin()
            life, ending = asyncio.create_task(_lead(candidate)), asyncio.create_task(self.term.wait())
            try:
                await asyncio.wait((life, ending), return_when=asyncio.FIRST_COMPLETED)
            finally:
                ending.cancel()
                life.cancel()
            await asyncio.wait((life,))
            if life.cancelled():
                await candidate.release()
            elif isinstance(lost := life.exception(), errors.LeadershipLost):
                self.losses.append(str(lost))
            else:
                life.result()
            self.candidate = None
            await asyncio.sleep(self.random.uniform(0.1, 3))


async def _lead(candidate: election.Election) -> None:
    await candidate.acquire()
    await candidate.keep()


@dataclass(slots=True)
class Fleet:
    """All hosts, and the one rule that nothing may break."""

    objects: Objects
    hosts: list[Host]
    faults: Faults
    random: Random
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, asyncio.Task[None]])
    #: Who held, in order, each change once.
    leaders: list[str] = field(default_factory=list[str])

    @staticmethod
    def of(hosts: int, random: Random, drift: float = 0.0, faults: Faults | None = None) -> Fleet:
        objects, faults = Objects(), faults or Faults()
        found = [
            Host(f"host{number}", Wire(objects, random, faults), _any_clock(random, drift), random, term=asyncio.Event())
            for number in range(hosts)
        ]
        return Fleet(objects, found, faults, random)

    def start(self, host: Host) -> None:
        self._tasks[host.name] = asyncio.create_task(host.run())

    async def kill(self, host: Host) -> None:
        """As SIGKILL: nothing is released."""
        task = self._tasks.pop(host.name, None)
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        host.candidate = None

    def holding(self) -> list[str]:
        return [host.lives[-1] for host in self.hosts if host.holds()]

    async def watch(self, seconds: float) -> None:
        """Let time pass; at no moment two hold."""
        until = loop.clock() + seconds
        while loop.clock() < until:
            holding = self.holding()
            assert len(holding) <= 1, f"at {loop.clock():.2f} s all of {holding} hold; {self.objects.log[-12:]}"
            if holding and self.leaders[-1:] != holding:
                self.leaders += holding
            await asyncio.sleep(0.1)

    async def end(self) -> None:
        for host in self.hosts:
            host.resume()
            await self.kill(host)
            await host.wire.close()


def _any_clock(random: Random, drift: float) -> Callable[[], float]:
    return clock(random.uniform(1 - drift, 1 + drift), random.uniform(0, 1e6))
