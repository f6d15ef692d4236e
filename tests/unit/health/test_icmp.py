"""The icmp check: real pings of loopback where this machine allows them, and the packets themselves everywhere."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.health import icmp
from controller.health.checker import NetworkChecker
from controller.ports import ProbeResult

TOKEN = bytes(range(16))
V4, V6 = socket.AF_INET, socket.AF_INET6


def _reply(request: bytes, kind: int) -> bytes:
    return bytes([kind]) + request[1:]


def _ping(address: str) -> ProbeResult:
    return asyncio.run(NetworkChecker().check({"name": "p", "icmp": {}, "timeoutSeconds": 1}, address, loopback=True))


def _allowed() -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(V4, kind, socket.IPPROTO_ICMP).close()
        except OSError:
            continue
        return True
    return False


def test_ping() -> None:
    """Answered where an ICMP socket can be had; else it is said what is lacking."""
    result = _ping("127.0.0.1")
    assert result.passed is (True if _allowed() else None)
    assert result.message.startswith("icmp 127.0.0.1 from 127.0.0.1: ")
    assert result.passed or "CAP_NET_RAW" in result.message


@pytest.mark.parametrize("error", [pytest.param(PermissionError(1, "no"), id="denied"), pytest.param(OSError(93, "no"), id="unsupported")])
def test_no_icmp_socket(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def denied(family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> socket.socket:
        if proto in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6):
            raise error
        return real(family, type, proto, fileno)

    monkeypatch.setattr(socket, "socket", denied)
    result = _ping("127.0.0.1")
    assert result.passed is None, "no fault of the machine"
    assert "not asked" in result.message


def test_many_pings_at_once_do_not_take_each_others_replies() -> None:
    async def run() -> list[ProbeResult]:
        checker = NetworkChecker()
        return await asyncio.gather(*(checker.check({"name": "p", "icmp": {}}, "127.0.0.1", loopback=True) for _ in range(10)))

    assert [result.passed for result in asyncio.run(run())] == [True if _allowed() else None] * 10


@pytest.mark.parametrize(
    ("packet", "family", "expected"),
    [
        pytest.param(_reply(icmp.request(V4, TOKEN), 0), V4, True, id="reply"),
        pytest.param(b"\x45" + bytes(19) + _reply(icmp.request(V4, TOKEN), 0), V4, True, id="with-ip-header"),
        pytest.param(b"\x46" + bytes(23) + _reply(icmp.request(V4, TOKEN), 0), V4, True, id="with-ip-options"),
        pytest.param(_reply(icmp.request(V6, TOKEN), 129), V6, True, id="reply-6"),
        pytest.param(icmp.request(V4, TOKEN), V4, False, id="own-request"),
        pytest.param(icmp.request(V6, TOKEN), V6, False, id="own-request-6"),
        pytest.param(_reply(icmp.request(V4, TOKEN[::-1]), 0), V4, False, id="another-ping"),
        pytest.param(_reply(icmp.request(V4, TOKEN), 3), V4, False, id="unreachable"),
        pytest.param(b"", V4, False, id="empty"),
        pytest.param(b"\x45", V4, False, id="cut-short"),
    ],
)
def test_is_reply(packet: bytes, family: socket.AddressFamily, expected: bool) -> None:
    assert icmp.is_reply(packet, family, TOKEN) is expected


@given(st.binary(max_size=64))
def test_checksum_makes_the_sum_whole(data: bytes) -> None:
    """RFC 1071: over data and its checksum the sum is zero."""
    padded = data + b"\0" * (len(data) % 2)
    assert icmp.checksum(padded + struct.pack("!H", icmp.checksum(padded))) == 0
