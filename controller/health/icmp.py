"""The icmp check: an echo request is answered (ping). Called by `checker`, which bounds its time.

An unprivileged datagram socket where the system allows it (Linux: `net.ipv4.ping_group_range`), else a raw one (CAP_NET_RAW),
else it is said that nobody was asked.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct

from controller.health import connection, guard
from controller.health.connection import Failed, NotMade

#: Types of the request and of the reply, by family (RFC 792, RFC 4443), and the protocol's number.
_TYPES = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
_PROTOCOLS = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_TOKEN_BYTES = 16
#: How many packets are looked at. `sock_recvfrom` does not give way while there are some: a flood would hold the loop.
_PACKETS = 100


async def check(address: str) -> str:
    """What passed. Raises Failed, NotMade, OSError."""
    family = connection.family(address)
    token = os.urandom(_TOKEN_BYTES)
    with _socket(family) as pinger:
        # A connected socket is given what comes from that address alone; without a port it cannot name its peer.
        pinger.connect((address, 0))
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(pinger, request(family, token))
        for _ in range(_PACKETS):
            packet, sender = await loop.sock_recvfrom(pinger, 2048)
            if guard.same(str(sender[0]), address) and is_reply(packet, family, token):
                return "answered"
    raise Failed("answered with other packets only")


def request(family: socket.AddressFamily, token: bytes) -> bytes:
    """An echo request. Datagram sockets and ICMPv6 get identifier and checksum from the kernel."""
    kind, _ = _TYPES[family]
    unsummed = struct.pack("!BBHHH", kind, 0, 0, os.getpid() & 0xFFFF, 1) + token
    total = checksum(unsummed) if family is socket.AF_INET else 0
    return unsummed[:2] + struct.pack("!H", total) + unsummed[4:]


def is_reply(packet: bytes, family: socket.AddressFamily, token: bytes) -> bool:
    """Whether this is the reply to the request with this token. A raw IPv4 socket gives the IP header too."""
    if family is socket.AF_INET and packet and packet[0] >> 4 == 4:
        packet = packet[(packet[0] & 0x0F) * 4 :]
    return len(packet) >= 8 + len(token) and packet[0] == _TYPES[family][1] and packet[8 : 8 + len(token)] == token


def checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _socket(family: socket.AddressFamily) -> socket.socket:
    protocol = _PROTOCOLS[family]
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            made = socket.socket(family, kind, protocol)
        except PermissionError:
            continue
        except OSError as error:
            if kind is socket.SOCK_RAW:
                raise NotMade(f"not asked: no ICMP socket ({connection.words(error)})") from None
            continue
        made.setblocking(False)
        return made
    raise NotMade("not asked: this process may open no ICMP socket (allow its group in net.ipv4.ping_group_range, or give it CAP_NET_RAW)")


__all__ = ["check", "checksum", "is_reply", "request"]
