"""The quickstart with real processes on this computer: how long `occopus up` takes, and how long a killed machine is missed.

Times are of the wall clock. What a machine takes by itself, from its directory until its port accepts a connection, is
measured beside, so that it can be taken off.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller import desktop, view
from controller.desktop import Settings
from tests.e2e.desk import Desk

_EXAMPLE = "quickstart.yaml"
_INFRASTRUCTURE, _SERVICE, _PORT = "quickstart", "app", 8000
_LIMIT_SECONDS = 120.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Local:
    """Seconds: of `occopus up`; from the kill until the new machine's directory, until its port, until its Instance is Ready."""

    up: float
    made: float
    served: float
    ready: float

    @property
    def own(self) -> float:
        """What the new machine took by itself."""
        return self.served - self.made

    @property
    def beyond_boot(self) -> float:
        return self.ready - self.own


def measure() -> Local:
    with tempfile.TemporaryDirectory() as directory:
        desk = Desk(Path(directory))
        try:
            begun = time.perf_counter()
            desk.up(_EXAMPLE)
            up = time.perf_counter() - begun
            made, served, ready = _kill_one(desk)
        finally:
            desk.end()
    return Local(up, made, served, ready)


def _kill_one(desk: Desk) -> tuple[float, float, float]:
    running = desk.start_run()
    try:
        # Once this process has seen the machines itself, a loss is its to notice.
        desk.occopus("status", "--wait", "--timeout", str(_LIMIT_SECONDS))
        victim = next(each for each in desk.machines() if each["tags"]["occopus.io/service"] == _SERVICE and each["state"] == "running")
        return asyncio.run(asyncio.wait_for(_healed(desk, victim), _LIMIT_SECONDS))
    finally:
        running.terminate()
        with suppress(subprocess.TimeoutExpired):
            running.wait(_LIMIT_SECONDS)


async def _healed(desk: Desk, victim: dict[str, Any]) -> tuple[float, float, float]:
    known = {each["id"] for each in desk.machines()}
    async with desktop.open(Settings(desk.state)) as watching:
        killed = time.perf_counter()
        os.kill(victim["pid"], signal.SIGKILL)
        while not (new := [each for each in desk.machines() if each["id"] not in known]):
            await asyncio.sleep(_LOOK_SECONDS)
        made = time.perf_counter() - killed
        serving = asyncio.create_task(_accepts(new[0]["addresses"][0]))
        async for _ in watching.changes():
            if _is_ready(watching, new[0]["id"]) and view.settled(watching.objects, _INFRASTRUCTURE):
                break
        ready = time.perf_counter() - killed
        return made, await serving - killed, ready


def _is_ready(watching: desktop.Desktop, machine: str) -> bool:
    for each in watching.objects.list("Instance"):
        status = each.get("status", {})
        if status.get("machine", {}).get("id") == machine and "readyTime" in status:
            return True
    return False


async def _accepts(address: str) -> float:
    """When the port first accepted a connection."""
    while True:
        try:
            _, writer = await asyncio.open_connection(address, _PORT)
        except OSError:
            await asyncio.sleep(_LOOK_SECONDS)
            continue
        writer.close()
        return time.perf_counter()


__all__ = ["Local", "measure"]
