"""The http check, against servers that answer in every way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.template import HttpProbe
from controller.health import connection, http
from controller.health.checker import NetworkChecker
from controller.ports import ProbeResult
from tests.unit.health.servers import Handler, answer, certificate, serving


def _check(reply: bytes | Handler, tls: Path | None = None, **fields: Any) -> tuple[ProbeResult, list[bytes], int]:
    """The result, the requests seen, the port."""

    async def run() -> tuple[ProbeResult, list[bytes], int]:
        async with serving(reply, certificate(tls) if tls else None) as server:
            probe = {"name": "page", "http": {"port": server.port, **fields}, "timeoutSeconds": 1}
            result = await NetworkChecker().check(probe, "127.0.0.1", loopback=True)
            return result, server.requests, server.port

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "fields", "passed"),
    [
        pytest.param(200, {}, True, id="ok"),
        pytest.param(302, {}, True, id="redirect-is-an-answer"),
        pytest.param(399, {}, True, id="last-that-passes"),
        pytest.param(400, {}, False, id="bad-request"),
        pytest.param(503, {}, False, id="unavailable"),
        pytest.param(503, {"statusMax": 599}, True, id="wider"),
        pytest.param(200, {"statusMin": 201}, False, id="narrower"),
        pytest.param(404, {"statusMin": 404, "statusMax": 404}, True, id="exactly"),
    ],
)
def test_status(status: int, fields: dict[str, Any], passed: bool) -> None:
    result, _, port = _check(answer(status), **fields)
    assert result.passed is passed
    wanted = "" if passed else f", wanted {fields.get('statusMin', 200)}–{fields.get('statusMax', 399)}"  # noqa: RUF001 (a range of numbers)
    assert result.message == f"http http://127.0.0.1:{port}/ from 127.0.0.1: answered {status}{wanted}"


def test_request() -> None:
    headers = [{"name": "X-Probe", "value": "yes"}, {"name": "HOST", "value": "shop"}]
    result, requests, _ = _check(answer(200), path="/a?b=%20", method="POST", headers=headers)
    assert result.passed
    lines = requests[0].decode().split("\r\n")
    assert lines[0] == "POST /a?b=%20 HTTP/1.1"
    assert {"x-probe: yes", "host: shop", "content-length: 0", "connection: close"} <= set(lines)
    assert sum(line.startswith("host:") for line in lines) == 1


def test_redirect_is_not_followed() -> None:
    async def run() -> None:
        async with serving(answer(200)) as other, serving(answer(302, b"", f"Location: http://127.0.0.1:{other.port}/")) as server:
            probe = {"name": "page", "http": {"port": server.port, "statusMax": 299}}
            result = await NetworkChecker().check(probe, "127.0.0.1", loopback=True)
            assert not result.passed
            assert len(server.requests) == 1
            assert other.requests == []

    asyncio.run(run())


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nHEALT\r\n1\r\nH\r\n2\r\nY!\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "passed"),
    [
        pytest.param(answer(200, b"it is HEALTHY!"), True, id="counted"),
        pytest.param(answer(200, b"it is ill"), False, id="absent"),
        pytest.param(answer(200, b"HEALTHY"), False, id="part-of-it"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nHEALTHY!", True, id="until-the-end"),
        pytest.param(b"HTTP/1.0 200 OK\n\nHEALTHY!", True, id="bare-newlines"),
        pytest.param(b"HTTP/1.1 200\r\n\r\nHEALTHY!", True, id="no-reason"),
        pytest.param(CHUNKS, True, id="chunked"),
        pytest.param(CHUNKS.replace(b"\r\n1\r\n", b"\r\nzz\r\n"), False, id="badly-chunked"),
        pytest.param(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + answer(200, b"HEALTHY!"), True, id="interim"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 20, False, id="interim-only"),
        pytest.param(answer(200, b"x" * (http.BODY_BYTES - 8) + b"HEALTHY!"), True, id="last-of-64-KiB"),
        pytest.param(answer(200, b"x" * (http.BODY_BYTES - 7) + b"HEALTHY!"), False, id="over-64-KiB"),
        pytest.param(answer(200, b"x" * 10 * http.BODY_BYTES + b"HEALTHY!"), False, id="far-over-64-KiB"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nHEALTHY!", True, id="found-before-the-end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nHEAL", False, id="cut-short"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nHEALTHY!", False, id="beyond-its-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nHEALTHY!", True, id="absurd-length"),
    ],
)
def test_body(reply: bytes, passed: bool) -> None:
    result, _, _ = _check(reply, bodyContains="HEALTHY!")
    assert result.passed is passed
    assert "HEAL" not in result.message


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"1\r\nx\r\n", id="a byte a chunk"),
        pytest.param(b"1;" + b"x" * 50_000 + b"\r\nx\r\n", id="more around chunks than in them"),
    ],
)
def test_what_frames_the_body_is_bounded_too(part: bytes) -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        parts = part * (1 + 10_000 // len(part))
        # Fifty times what may be read: a check that reads on is told by its message, not by its time.
        while sent < 50 * http.ANSWER_BYTES:
            writer.write(parts)
            sent += len(parts)
            await writer.drain()

    result, _, _ = _check(endless, bodyContains="HEALTHY!")
    assert result.passed is False
    assert result.message.endswith("answered with more around its body than is read")


def test_no_body_after_head() -> None:
    result, requests, _ = _check(answer(200, b"HEALTHY!"), method="HEAD", bodyContains="HEALTHY!")
    assert not result.passed
    assert requests[0].startswith(b"HEAD ")


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="ssh"),
        pytest.param(b"HTTP/2 200\r\n\r\n", id="http-2"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="four-digits"),
        pytest.param(b"HTTP/1.1 020 OK\r\n\r\n", id="zero-first"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", id="half-a-header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, id="endless-header"),
        pytest.param(b"\0" * 1000 + b"\r\n\r\n", id="binary"),
    ],
)
def test_not_http(reply: bytes) -> None:
    result, _, _ = _check(reply)
    assert not result.passed
    assert "\n" not in result.message


def test_slow_answer() -> None:
    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.2)

    begun = asyncio.run(_now())
    result, _, port = _check(dribble)
    assert not result.passed
    assert result.message == f"http http://127.0.0.1:{port}/ from 127.0.0.1: no answer within 1 s"
    assert asyncio.run(_now()) - begun < 3


async def _now() -> float:
    return asyncio.get_running_loop().time()


def test_tls_that_nobody_can_verify(tmp_path: Path) -> None:
    result, _, port = _check(answer(200, b"HEALTHY!"), tls=tmp_path, scheme="HTTPS", bodyContains="HEALTHY!")
    assert result == ProbeResult(True, f"http https://127.0.0.1:{port}/ from 127.0.0.1: answered 200")


def test_plain_where_tls_is_spoken(tmp_path: Path) -> None:
    result, _, _ = _check(answer(200), tls=tmp_path)
    assert not result.passed


def test_tls_where_plain_is_spoken() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer(400))

    result, _, _ = _check(refuse, scheme="HTTPS")
    assert not result.passed
    assert "TLS" in result.message


def test_the_environments_proxy_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert _check(answer(200))[0].passed


@pytest.mark.parametrize("value", [pytest.param("a\r\nX: y", id="line-break"), pytest.param("a\0", id="null")])
def test_header_that_would_be_two_is_not_sent(value: str) -> None:
    result, requests, _ = _check(answer(200), headers=[{"name": "X", "value": value}])
    assert not result.passed
    assert requests == []


def test_a_long_path_is_shown_in_part() -> None:
    result, requests, _ = _check(answer(200), path="/" + "a" * 1000)
    assert len(result.message) < 300
    assert b"/" + b"a" * 1000 + b" " in requests[0]


def test_ipv6_is_in_brackets() -> None:
    probe = HttpProbe(port=80)
    assert http.url(probe, "fd00::1") == "http://[fd00::1]:80/"
    assert b"host: [fd00::1]:80\r\n" in http.request(probe, "fd00::1")


@given(st.binary())
def test_any_bytes_are_a_head_or_a_failure(raw: bytes) -> None:
    for text in (raw, b"HTTP/1.1 200 OK\r\n" + raw):
        try:
            head = http.parse_head(text)
        except connection.Failed:
            continue
        assert 100 <= head.status <= 999
        assert head.length_bytes is None or head.length_bytes >= 0
