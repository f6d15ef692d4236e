"""Servers that answer as machines do, on loopback, for the time of one test."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

#: A certificate that a machine signed for itself, and its key. It guards nothing: a fixed text, so that no test needs openssl.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgOQJ1AOXFomhlzFy5
FlgzT91SByEJWdpabCDoEJUy4euhRANCAAQAZAH+KgiOqB/htimNRnAqGx+Pdl8b
J5aHesDD1NOFcu2yIi6+ZVsnoJAvNX4Ol0Z+YgBhKZw7OJogFTd8oCEG
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBfDCCASGgAwIBAgIURsvJrFd3SSUz/9y/FkXqqg6/rIswCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHbWFjaGluZTAgFw0yNjExMjQwNjM4NDVaGA8yMTI2MTAzMTA2
Mzg0NVowEjEQMA4GA1UEAwwHbWFjaGluZTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABABkAf4qCI6oH+G2KY1GcCobH492Xxsnlod6wMPU04Vy7bIiLr5lWyegkC81
fg6XRn5iAGEpnDs4miAVN3ygIQajUzBRMB0GA1UdDgQWBBS+FfqpvybMBupruQqw
j88gzY1lrDAfBgNVHSMEGDAWgBS+FfqpvybMBupruQqwj88gzY1lrDAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQCZgJ7DyF8DVoaNP/HYDCZgHKwd
54ckTTRkDdUI34XtWwIhAOezJksSmFM7SAp1cXP1uss/m91ISJI23eNAfpmJwe99
-----END CERTIFICATE-----
"""


class Server:
    """Where it listens, and the requests that it was sent, up to the empty line."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[bytes] = []
        self.connections: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    async def end(self) -> None:
        """Hang up on whoever is still connected, so that nothing outlives the test's loop."""
        for writer in self.connections:
            writer.transport.abort()
        await asyncio.gather(*(task for task in self.connections.values() if task))


@contextlib.asynccontextmanager
async def serving(answer: bytes | Handler, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Server]:
    """Send the answer to every request and close; or do what the handler does."""
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections[writer] = asyncio.current_task()
        try:
            if not isinstance(answer, bytes):
                await answer(reader, writer)
                return
            server.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            # The probe has seen enough and hung up.
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        for _ in range(10):
            # Accepting takes some rounds of the loop; asyncio loses a socket whose listener is closed before they are over.
            await asyncio.sleep(0)
        listener.close()
        await server.end()


def certificate(directory: Path) -> ssl.SSLContext:
    """The server's side of a TLS that nobody can verify."""
    file = directory / "machine.pem"
    file.write_text(CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
