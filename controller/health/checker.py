"""The `Checker` port over the network: which check a probe is, within what time, and what its result says.

Made and closed by the shell, called by the prober, which decides when and keeps to `at_once`. No threads. It refuses to know what
a result leads to.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from controller.api.template import Probe
from controller.health import connection, guard, http, icmp, tcp
from controller.ports import ProbeResult

#: A check a second of a thousand machines of which none answers within 3 s takes 750.
SOCKETS = 1024


class NetworkChecker:
    """Implements `Checker`."""

    def __init__(self) -> None:
        self.at_once = sockets(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._running: set[asyncio.Timeout] = set()
        self._closed = False

    async def check(self, probe: Mapping[str, Any], address: str, *, loopback: bool) -> ProbeResult:
        """See the port. `probe` is the JSON of an `api.template.Probe`; validating it takes 3 µs, so none is kept."""
        try:
            parsed = Probe.model_validate(probe)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            return ProbeResult(False, f"the probe is not valid: {where or 'its fields'}")
        if why := guard.refusal(address, loopback=loopback):
            return ProbeResult(False, f"{_subject(parsed, address)}: not probed: the address {why}")
        return await self._checked(parsed, address, loopback)

    async def close(self) -> None:
        """End the checks that are running, and make no more: their results say that they were not made."""
        self._closed = True
        for running in self._running:
            if not running.expired():
                running.reschedule(0)
        while self._running:
            # Each ends as soon as the loop comes round to it.
            await asyncio.sleep(0)

    async def _checked(self, probe: Probe, address: str, loopback: bool) -> ProbeResult:
        subject = f"{_subject(probe, address)} from {connection.source(address)}"
        try:
            return ProbeResult(True, f"{subject}: {await self._timed(probe, address, loopback)}")
        except TimeoutError:
            if self._closed:
                return ProbeResult(None, f"{subject}: not made: the checker is closed")
            why = f"no answer within {probe.timeout_seconds} s"
        except connection.NotMade as error:
            return ProbeResult(None, f"{subject}: {error}")
        except connection.Failed as error:
            why = str(error)
        except OSError as error:
            why = connection.words(error)
            if error.errno in connection.LACKING:
                return ProbeResult(None, f"{subject}: not asked: {why}")
        return ProbeResult(False, f"{subject}: {why}")

    async def _timed(self, probe: Probe, address: str, loopback: bool) -> str:
        async with asyncio.timeout(0 if self._closed else probe.timeout_seconds) as running:
            self._running.add(running)
            try:
                return await _run(probe, address, loopback)
            finally:
                self._running.discard(running)


def sockets(files: int) -> int:
    """How many sockets are for checks where the process may have so many files open: half, as the API, clouds and children need some."""
    return SOCKETS if files == resource.RLIM_INFINITY else max(1, min(SOCKETS, files // 2))


async def _run(probe: Probe, address: str, loopback: bool) -> str:
    if probe.tcp:
        return await tcp.check(probe.tcp, address, loopback=loopback)
    if probe.http:
        return await http.check(probe.http, address, loopback=loopback)
    if probe.icmp:
        return await icmp.check(address)
    raise connection.Failed("the probe names nothing to check")


def _subject(probe: Probe, address: str) -> str:
    if probe.tcp:
        return f"tcp {connection.target(address, probe.tcp.port)}"
    if probe.http:
        return f"http {http.url(probe.http, address)}"
    return f"icmp {address}"


__all__ = ["SOCKETS", "NetworkChecker", "sockets"]
