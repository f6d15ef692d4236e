"""Free ports on loopback, and whether one is still free.

plane.py asks. A port is free at the moment of asking: who is late with listening on it may find it taken.
"""

from __future__ import annotations

import dataclasses
import socket
from contextlib import ExitStack
from dataclasses import dataclass

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
        # All are held until the last is chosen: the kernel would give a port that was closed a second time.
        chosen = {field.name: stack.enter_context(_bound(0)).getsockname()[1] for field in dataclasses.fields(Ports)}
    return Ports(**chosen)


def one() -> int:
    """A port that nobody has."""
    with _bound(0) as server:
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
