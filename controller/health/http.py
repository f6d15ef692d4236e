"""The http check: one request, one answer. Called by `checker`, which bounds its time.

Streams and not an HTTP client: the peer has to be checked before a byte is sent, nothing may be followed or looked up (redirects,
proxies, cookies, names), and how much is read is bounded. Of the body only whether it contains the wanted text is told.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from dataclasses import dataclass

from controller.api.template import HttpProbe
from controller.health import connection
from controller.health.connection import Failed

#: The most of a body that is looked at (design section 8), and of the header before it (what most servers allow).
BODY_BYTES = 64 * 1024
HEADER_BYTES = 64 * 1024
#: The most that is read in all, with what frames a body in chunks: 40,000 chunks of a byte each held the loop for 0.1 s.
ANSWER_BYTES = HEADER_BYTES + BODY_BYTES + 64 * 1024
_READ_BYTES = 16 * 1024
#: How much of a path a message shows: conditions hold 1,024 characters.
_PATH_CHARACTERS = 200

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: |$)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")


@dataclass(frozen=True, slots=True)
class Head:
    """The part of an answer before its body. `length_bytes` is None where the body ends with the connection."""

    status: int
    chunked: bool
    length_bytes: int | None


async def check(probe: HttpProbe, address: str, *, loopback: bool) -> str:
    """What passed. Raises Failed, OSError."""
    reader, writer = await _open(probe, address, loopback)
    try:
        writer.write(request(probe, address))
        await writer.drain()
        source = _Source(reader)
        head = await _head(source)
        answered = f"answered {head.status}"
        if not probe.status_min <= head.status <= probe.status_max:
            raise Failed(f"{answered}, wanted {probe.status_min}–{probe.status_max}")  # noqa: RUF001 (a range of numbers)
        if probe.body_contains and not await _contains(_Body(source, head, probe.method), probe.body_contains.encode()):
            raise Failed(f"{answered}, but the first 64 KiB of the body lack the wanted text")
        return answered
    finally:
        # Not closed politely: a TLS shutdown would wait for the machine.
        writer.transport.abort()


def url(probe: HttpProbe, address: str) -> str:
    """What is asked for, for people."""
    path = probe.path if len(probe.path) <= _PATH_CHARACTERS else probe.path[:_PATH_CHARACTERS] + "…"
    return f"{probe.scheme.lower()}://{connection.target(address, probe.port)}{path}"


def request(probe: HttpProbe, address: str) -> bytes:
    """The request's bytes. Headers of the probe replace ours of the same name."""
    headers = {"host": connection.target(address, probe.port), "user-agent": "occopus-probe", "accept": "*/*"}
    headers |= {"accept-encoding": "identity", "connection": "close"}
    if probe.method == "POST":
        headers["content-length"] = "0"
    headers |= {header.name.lower(): header.value for header in probe.headers}
    if any(not value.isprintable() for value in headers.values()):
        raise Failed("not asked: a header of the probe contains a control character")
    lines = [f"{probe.method} {probe.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def parse_head(raw: bytes) -> Head:
    """The head of an answer, without the empty line that ends it. Raises Failed."""
    first, *lines = re.split(rb"\r?\n", raw)
    found = _STATUS.match(first)
    if not found:
        raise Failed("answered, but not with HTTP/1.1")
    fields = {name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in lines)}
    length = fields.get(b"content-length", b"")
    return Head(
        status=int(found[1]),
        chunked=fields.get(b"transfer-encoding", b"").endswith(b"chunked"),
        # A length of more digits is beyond what is read of any body.
        length_bytes=int(length[:12]) if length.isdigit() else None,
    )


class _Source:
    """Bytes as they come, by lines and by counts, `ANSWER_BYTES` at most. An end in the middle is `Failed`."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._rest = b""
        self._left = ANSWER_BYTES

    async def until(self, mark: re.Pattern[bytes], limit_bytes: int) -> bytes:
        """What comes before the mark, which is dropped."""
        searched = 0
        while True:
            # Four bytes are the longest mark; a machine that sends byte after byte costs no second look at the others.
            if found := mark.search(self._rest, max(0, searched - 4)):
                before, self._rest = self._rest[: found.start()], self._rest[found.end() :]
                return before
            if len(self._rest) > limit_bytes:
                raise Failed("answered with a header that is too long")
            searched = len(self._rest)
            more = await self._more()
            if not more:
                raise Failed(
                    "closed the connection before its answer was whole" if self._rest else "closed the connection without an answer"
                )
            self._rest += more

    async def some(self, most_bytes: int) -> bytes:
        """At least one byte and at most so many; nothing at the end."""
        if not self._rest:
            self._rest = await self._more()
        part, self._rest = self._rest[:most_bytes], self._rest[most_bytes:]
        return part

    async def _more(self) -> bytes:
        if not self._left:
            raise Failed("answered with more around its body than is read")
        more = await self._reader.read(min(_READ_BYTES, self._left))
        self._left -= len(more)
        return more


_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_END_OF_LINE = re.compile(rb"\r?\n")


async def _open(probe: HttpProbe, address: str, loopback: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    made = await connection.connect(address, probe.port, loopback=loopback)
    try:
        if probe.scheme == "HTTPS":
            return await asyncio.open_connection(sock=made, ssl=_tls(), server_hostname="")
        return await asyncio.open_connection(sock=made)
    except BaseException:
        made.close()
        raise


@functools.cache
def _tls() -> ssl.SSLContext:
    """Any certificate will do: machines sign their own, and what is wanted is a sign of life."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _head(source: _Source) -> Head:
    """The head of the answer itself, after any interim ones (100 Continue, 103 Early Hints)."""
    for _ in range(10):
        head = parse_head(await source.until(_END_OF_HEAD, HEADER_BYTES))
        if head.status >= 200:
            return head
    raise Failed("sent interim answers only")


class _Body:
    """The body of an answer, part by part, its chunks put together."""

    def __init__(self, source: _Source, head: Head, method: str) -> None:
        self._source = source
        self._chunked = head.chunked and method != "HEAD"
        self._begun = False
        left = BODY_BYTES if head.length_bytes is None else head.length_bytes
        self._left = 0 if self._chunked or method == "HEAD" else left

    async def part(self) -> bytes:
        """Some bytes; none at the end."""
        if self._chunked and not self._left:
            await self._next_chunk()
        part = await self._source.some(self._left) if self._left else b""
        self._left -= len(part)
        return part

    async def _next_chunk(self) -> None:
        if self._begun:
            await self._source.until(_END_OF_LINE, HEADER_BYTES)
        self._begun = True
        found = _CHUNK.fullmatch(await self._source.until(_END_OF_LINE, HEADER_BYTES))
        if not found:
            raise Failed("answered with a body that is not chunked as HTTP wants it")
        self._left = int(found[1], 16)
        self._chunked = self._left > 0


async def _contains(body: _Body, wanted: bytes) -> bool:
    """Whether the first `BODY_BYTES` contain it; reads no further than it has to."""
    seen = bytearray()
    while len(seen) < BODY_BYTES:
        part = (await body.part())[: BODY_BYTES - len(seen)]
        if not part:
            return False
        before = len(seen)
        seen += part
        if seen.find(wanted, max(0, before - len(wanted))) >= 0:
            return True
    return False


__all__ = ["ANSWER_BYTES", "BODY_BYTES", "Head", "check", "parse_head", "request", "url"]
