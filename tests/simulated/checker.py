"""Health checks against the simulated cloud: answers from the World whether the machine at an address is healthy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from controller.ports import ProbeResult
from tests.simulated.world import World


class SimulatedChecker:
    """Satisfies `controller.ports.Checker`; counts its checks, and keeps of which addresses loopback was allowed."""

    at_once = 512
    #: How long a machine that does not serve lets a check wait.
    silent_seconds = 0.0

    def __init__(self, world: World) -> None:
        self._world = world
        self.checks = 0
        self.loopback: set[tuple[str, bool]] = set()

    async def check(self, probe: Mapping[str, Any], address: str, *, loopback: bool) -> ProbeResult:
        self.checks += 1
        self.loopback.add((address, loopback))
        machine = self._world.at_address(address)
        if machine is None:
            return ProbeResult(False, f"nothing answers at {address}")
        if not machine.is_healthy(self._world.clock()):
            await asyncio.sleep(self.silent_seconds)
            return ProbeResult(False, f"{address} does not serve")
        return ProbeResult(True, f"{address} serves")
