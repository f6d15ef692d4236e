"""A TCP connection to one address, whose peer is checked before a byte is sent. Used by the checks of this package alone."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl

from controller.health import guard

#: What this process or its system has no more of.
LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Failed(Exception):
    """The check did not pass; the text says what came of it: one line that is the same each time."""


class NotMade(Exception):
    """The check could not be made, for want of something of the controller's; the text says of what."""


def target(address: str, port: int) -> str:
    """`10.0.0.1:80`, `[fd00::1]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def family(address: str) -> socket.AddressFamily:
    """The family of a literal."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def source(address: str) -> str:
    """The local address that packets to `address` leave from, or "no route". Sends nothing.

    A connection that fails does not tell its own end reliably; a datagram socket does.
    """
    try:
        with socket.socket(family(address), socket.SOCK_DGRAM) as unsent:
            unsent.connect((address, 9))
            return str(unsent.getsockname()[0])
    except OSError:
        return "no route"


async def connect(address: str, port: int, *, loopback: bool) -> socket.socket:
    """A connected socket, the caller's to close. Raises Failed, OSError."""
    connection = socket.socket(family(address), socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
        check_peer(connection, address, loopback=loopback)
    except BaseException:
        connection.close()
        raise
    return connection


def check_peer(connection: socket.socket, address: str, *, loopback: bool) -> None:
    """Raises Failed where the connection leads elsewhere than to `address`, or where probes may not go."""
    peer = str(connection.getpeername()[0])
    if not guard.same(peer, address):
        raise Failed("the connection led to another address")
    if why := guard.refusal(peer, loopback=loopback):
        raise Failed(f"not probed: the peer {why}")


def words(error: OSError) -> str:
    """What went wrong on the way, without what asyncio adds to it."""
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no reason given'})"
    if error.errno is None:
        return "the connection was closed"
    return os.strerror(error.errno).lower()


__all__ = ["LACKING", "Failed", "NotMade", "check_peer", "connect", "family", "source", "target", "words"]
