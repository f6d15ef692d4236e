"""The tcp check: a connection to a port is accepted. Called by `checker`; nothing is sent."""

from __future__ import annotations

from controller.api.template import TcpProbe
from controller.health import connection


async def check(probe: TcpProbe, address: str, *, loopback: bool) -> str:
    """What passed. Raises Failed, OSError; the caller bounds the time."""
    (await connection.connect(address, probe.port, loopback=loopback)).close()
    return "connected"


__all__ = ["check"]
