"""An API server that fails as a test commands: a proxy on loopback before the real one, in the clear.

It decides what is answered in place of the real server, and cuts, silences and falsifies watches. What it lets through it does not
understand: tokens, bodies and answers pass as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from controller.ports import Obj
from controller.stores import access
from tests.cluster.fixtures import Cluster

_HOP_BY_HOP = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}
#: Puts an answer in the place of the server's, waits before that is asked, or lets the request through (None).
Rule = Callable[[web.Request], "asyncio.Future[web.Response | None] | web.Response | None"]


@dataclass(slots=True, eq=False)
class Stream:
    """A watch that is open: a line can be put in its server's mouth, which ends it; or the server says nothing more."""

    plural: str
    silent: bool = False
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _last: bytes = b""

    def end(self, last: Obj | None = None) -> None:
        """End it, after this event; without one it is cut."""
        self._last = b"" if last is None else json.dumps(last).encode() + b"\n"
        self._told.set()

    async def ended(self) -> bytes:
        await self._told.wait()
        return self._last


class Proxy:
    """See the module. `rule` is asked about each request; `refusing` closes each connection without a word."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self._cluster = cluster
        self._session = session
        self.url = ""
        self.rule: Rule = lambda request: None
        self.refusing = False
        self.requests: list[tuple[str, str]] = []
        self.streams: list[Stream] = []

    def access(self) -> access.Access:
        """The administrator's, by this way."""
        return access.Access(self.url, None, self._cluster.access.token)

    def kubeconfig(self, path: Path, user: str = "admin") -> Path:
        """The plane's kubeconfig of that user, by this way."""
        self._cluster.plane.write_kubeconfig(path, user)
        config = yaml.safe_load(path.read_text())
        config["clusters"][0]["cluster"] = {"server": self.url}
        path.write_text(yaml.safe_dump(config))
        return path

    def go_away(self) -> None:
        """As a server whose process has died: every connection breaks, and none is served until `come_back`."""
        self.refusing = True
        for stream in list(self.streams):
            stream.end()

    def come_back(self) -> None:
        self.refusing = False

    async def stream(self, plural: str) -> Stream:
        """The watch of that kind which is open, once there is one."""
        async with asyncio.timeout(20):
            while True:
                found = [each for each in self.streams if each.plural == plural]
                if found:
                    return found[-1]
                await asyncio.sleep(0.01)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        if self.refusing:
            return _broken(request)
        answer = self.rule(request)
        if isinstance(answer, asyncio.Future):
            answer = await answer
        if answer is not None:
            return answer
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        url = f"{self._cluster.access.server}{request.raw_path}"
        try:
            async with self._session.request(request.method, url, data=await request.read() or None, headers=headers) as given:
                return await self._pass_on(request, given)
        except aiohttp.ClientError:
            return _broken(request)

    async def _pass_on(self, request: web.Request, given: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=given.status)
        response.headers.extend((name, value) for name, value in given.headers.items() if name.lower() not in _HOP_BY_HOP)
        await response.prepare(request)
        if request.query.get("watch") not in ("1", "true") or given.status != 200:
            await response.write(await given.read())
            return response
        stream = Stream(request.path.rpartition("/")[2])
        self.streams.append(stream)
        try:
            await self._follow(stream, given, response)
        finally:
            self.streams.remove(stream)
            if given.connection is not None and given.connection.transport is not None:
                given.connection.transport.abort()
        return _broken(request) if self.refusing else response

    async def _follow(self, stream: Stream, given: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        copying = asyncio.create_task(_copy(stream, given, response))
        ended = asyncio.create_task(stream.ended())
        try:
            await asyncio.wait((copying, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                await response.write(ended.result())
        finally:
            for task in (copying, ended):
                task.cancel()
            await asyncio.gather(copying, ended, return_exceptions=True)


async def _copy(stream: Stream, given: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
    """Until the server ends the watch."""
    while chunk := await given.content.readany():
        if not stream.silent:
            await response.write(chunk)


def _broken(request: web.Request) -> web.Response:
    """No answer: the connection ends."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


@contextlib.asynccontextmanager
async def proxied(cluster: Cluster) -> AsyncGenerator[Proxy]:
    # As the client of the tests but for the credentials, which are those of whoever asks, and for what is compressed, which stays so.
    connector = aiohttp.TCPConnector(limit=0, ssl=cluster.access.tls or True)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)) as session:
        proxy = Proxy(cluster, session)
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield proxy
        finally:
            await runner.cleanup()


def status(code: int, reason: str = "", retry_after: str = "") -> web.Response:
    """What an API server answers when it refuses."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": f"commanded {code}"}
    return web.json_response(body, status=code, headers={"Retry-After": retry_after} if retry_after else {})


def stream_error(code: int) -> Obj:
    """The last event of a watch that fails."""
    return {"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "commanded"}}


__all__ = ["Proxy", "Rule", "Stream", "proxied", "status", "stream_error"]
