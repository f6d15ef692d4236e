"""Defects that were found and are not mended yet: each test fails until they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from controller import errors
from controller.api.template import Health, Probe, TcpProbe
from controller.engine.prober import Prober, Target
from controller.engine.queue import Lane, WorkQueue
from controller.ports import Key, ProbeResult
from tests.simulated import loop
from tests.unit.engine.test_inventory import watched


def test_a_key_that_moved_to_the_other_lane_still_counts_as_the_oldest() -> None:
    """`oldest_seconds` looks at the first of each lane; a key moved behind a younger one is overlooked."""

    async def main() -> float:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await asyncio.sleep(5)
        queue.add("b", Lane.USER)
        queue.add("a", Lane.USER)
        await asyncio.sleep(2)
        return queue.oldest_seconds()

    assert loop.run(main()) == pytest.approx(7)


def test_a_machine_that_is_forgotten_and_watched_again_is_probed_once_a_period() -> None:
    """`forget` and `watch` begin at generation 0 again, so the old chain of due checks goes on beside the new one."""
    checks = 0

    class Counting:
        at_once = 1

        async def check(self, probe: Mapping[str, Any], address: str, *, loopback: bool) -> ProbeResult:
            nonlocal checks
            checks += 1
            return ProbeResult(True, "")

    async def main() -> None:
        prober = Prober(Counting(), lambda key: None)
        task = asyncio.create_task(prober.run())
        health = Health(probes=(Probe(name="up", tcp=TcpProbe(port=80), period_seconds=10),))
        for _ in range(5):
            prober.watch("uid", Key("Instance", "default", "one"), Target("10.0.0.1", health, False, True, "web"))
            await asyncio.sleep(1)
            prober.forget("uid")
        prober.watch("uid", Key("Instance", "default", "one"), Target("10.0.0.1", health, False, True, "web"))
        await asyncio.sleep(100)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await prober.close()

    loop.run(main())
    assert checks <= 5 + 12, "six chains of checks for one machine"


def test_a_list_that_is_no_list_stops_nobody_else() -> None:
    """`cloud_call` turns what a driver raises into Transient; what it returns is used outside of it, and ends the process."""

    async def main() -> None:
        w = watched()
        w.world.falsify(lambda machines: None)  # pyright: ignore[reportArgumentType, reportReturnType] -- the garbage is the point
        await w.inventory.poll()
        assert isinstance(w.inventory.trouble, errors.Transient)

    loop.run(main())
