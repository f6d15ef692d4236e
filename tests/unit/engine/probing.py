"""A prober in virtual time whose checker answers as it is told, for the tests of `prober.py`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from controller.api.template import Health, Probe, TcpProbe
from controller.engine.prober import Prober, Target
from controller.ports import Key, ProbeResult
from tests.simulated import loop

KEY = Key("Instance", "default", "one")


class Answers:
    """A `Checker` whose answers are commanded: by address, and by port where one is named."""

    def __init__(self, sockets: int) -> None:
        self.at_once = sockets
        self.failing: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.hangs: set[str] = set()
        #: Addresses of which nobody can be asked, for want of something of the controller's.
        self.unasked: set[str] = set()
        #: Seconds until an address fails.
        self.takes: dict[str, float] = {}
        self.under_way, self.most = 0, 0
        self.loopback: set[bool] = set()

    async def check(self, probe: Mapping[str, Any], address: str, *, loopback: bool) -> ProbeResult:
        self.asked[address] += 1
        self.loopback.add(loopback)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if address in self.hangs:
                await asyncio.sleep(3600)
            if f"{address}:{probe['tcp']['port']}" in self.unasked:
                return ProbeResult(None, "not asked")
            why = self.failing.get(f"{address}:{probe['tcp']['port']}", self.failing.get(address))
            if why is not None and address in self.takes:
                await asyncio.sleep(self.takes[address])
            return ProbeResult(why is None, why or "")
        finally:
            self.under_way -= 1


class Rig:
    """The prober, whom it has woken and when, and one machine to watch."""

    def __init__(self, sockets: int) -> None:
        self.answers = Answers(sockets)
        self.woken: list[tuple[float, Key]] = []
        self.prober = Prober(self.answers, lambda key: self.woken.append((round(loop.clock(), 1), key)))

    def watch(self, *, was_ready: bool = False, address: str = "10.0.0.1", ports: tuple[int, ...] = (80,), threshold: int = 3) -> None:
        probes = tuple(Probe(name=f"p{port}", tcp=TcpProbe(port=port), period_seconds=10, failure_threshold=threshold) for port in ports)
        self.prober.watch("uid", KEY, Target(address, Health(probes=probes), False, was_ready, "web"))


class Fleet:
    """Machines of one group, which are all watched from now on; their period is 5 s."""

    def __init__(self, rig: Rig, group: int, size: int, *, was_ready: bool = False) -> None:
        self._rig = rig
        self.addresses = [f"10.{group}.{size // 250 + each // 250}.{each % 250}" for each in range(size)]
        health = Health(probes=(Probe(name="up", tcp=TcpProbe(port=80), period_seconds=5, failure_threshold=3),))
        for each in self.addresses:
            rig.prober.watch(each, KEY, Target(each, health, False, was_ready, f"group {group}"))

    def fall_silent(self, seconds: float = 3.0) -> None:
        """Each check fails after its whole time-out."""
        self._rig.answers.takes |= dict.fromkeys(self.addresses, seconds)
        self.refuse("no answer")

    def refuse(self, why: str = "refused") -> None:
        self._rig.answers.failing |= dict.fromkeys(self.addresses, why)

    def serve(self) -> None:
        for each in self.addresses:
            self._rig.answers.failing.pop(each, None)

    async def all(self, healthy: bool, within: float) -> None:
        """Let time pass until that is the verdict on each of them."""
        async with asyncio.timeout(within):
            while any(self._rig.prober.view(each).healthy is not healthy for each in self.addresses):
                await asyncio.sleep(0.05)


def run(scenario: Callable[[Rig], Awaitable[None]], sockets: int = 64) -> Rig:
    """Play the scenario beside the running prober."""

    async def main() -> Rig:
        rig = Rig(sockets)
        task = asyncio.create_task(rig.prober.run())
        await scenario(rig)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await rig.prober.close()
        return rig

    return loop.run(main())
