"""Free ports on loopback, and whether one is still free.

plane.py asks. A port is free at the moment of asking: who is late with listening on it may find it taken. So they are chosen below
those that the kernel gives to outgoing connections, any of which would take one in between.
"""

from __future__ import annotations

import dataclasses
import random
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Services with a fixed port lie below for the most part.
_FROM = 10_000
_TRIES = 100

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one control plane; they stay the same over restarts."""

    etcd: int
    etcd_peer: int
    api_server: int
    controller_manager: int
    second_api_server: int


def choose() -> Ports:
    """Ports that nobody has."""
    with ExitStack() as stack:
        # All are held until the last is chosen: none is given twice.
        chosen = {field.name: stack.enter_context(_any()).getsockname()[1] for field in dataclasses.fields(Ports)}
    return Ports(**chosen)


def one() -> int:
    """A port that nobody has."""
    with _any() as server:
        return server.getsockname()[1]


def replace_taken(old: Ports) -> Ports:
    """The same ports, but for those that another program has taken meanwhile."""
    new = dataclasses.asdict(choose())
    return Ports(**{name: port if free(port) else new[name] for name, port in dataclasses.asdict(old).items()})


def free(port: int) -> bool:
    """Whether a server could listen on it now."""
    try:
        _bound(port).close()
    except OSError:
        return False
    return True


def _any() -> socket.socket:
    """A server on a port that nobody has; on one that the kernel gives where no other is found."""
    below = range(_FROM, int(_OUTGOING.read_text().split()[0]) if _OUTGOING.exists() else _FROM)
    for port in random.sample(below, min(_TRIES, len(below))):
        try:
            return _bound(port)
        except OSError:
            continue
    return _bound(0)


def _bound(port: int) -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers do: a connection that was closed a moment ago does not hold the port.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((HOST, port))
        server.listen(1)
    except OSError:
        server.close()
        raise
    return server
