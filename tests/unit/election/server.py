"""The objects behind a real socket on loopback, whose answers can be lost: done, and then the connection breaks or nothing comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from controller.stores.access import Access
from tests.unit.election.objects import Objects

Fate = Literal["answer", "break", "silence", "page"]


@dataclass(slots=True)
class Server:
    """`fates` are those of the next requests of a method, in order; after them all are answered."""

    objects: Objects
    access: Access
    fates: dict[str, list[Fate]] = field(default_factory=dict[str, list[Fate]])


@contextlib.asynccontextmanager
async def serving() -> AsyncGenerator[Server]:
    server = Server(Objects(), Access("", None, lambda: "secret"))

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer secret"
        status, body = server.objects.answer(request.method, request.path, await request.read())
        waiting = server.fates.get(request.method, [])
        match waiting.pop(0) if waiting else "answer":
            case "break":
                assert request.transport is not None
                request.transport.abort()
            case "silence":
                await asyncio.Event().wait()
            case "page":
                return web.Response(text="<html>a proxy's page</html>", content_type="text/html")
            case _:
                pass
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.access = Access(f"http://127.0.0.1:{runner.addresses[0][1]}", None, lambda: "secret")
        yield server
    finally:
        await runner.cleanup()
