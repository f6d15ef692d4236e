"""Serves metrics over HTTP on loopback, for `occopus run --metrics-port`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from controller import errors
from controller.api.instance import Instance
from controller.engine import metrics as kept
from controller.engine.engine import Engine


@contextlib.asynccontextmanager
async def metrics(engine: Engine, port: int) -> AsyncGenerator[None]:
    """Answer GET /metrics until the block ends. Raises UsageError where the port cannot be had."""
    gauges = kept.Now(
        phases=lambda: (each.status.phase for each in engine.objects.models("Instance", Instance)),
        queue=lambda: (len(engine.queue), engine.queue.oldest_seconds()),
        unclaimed=lambda: len(engine.clouds.suspects()),
    )

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(kept.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    kept.REGISTRY.register(gauges)
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except OSError as error:
            raise errors.UsageError(f"port {port} on 127.0.0.1 cannot be used for metrics: {os.strerror(error.errno or 0)}") from error
        yield
    finally:
        kept.REGISTRY.unregister(gauges)
        await runner.cleanup()
