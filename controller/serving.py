"""Serves what is asked from outside over HTTP: whether the process lives and is ready, and its metrics.

`occopus run` serves metrics alone, on loopback; the operator all of it. What makes a process alive or ready is its caller's to say:
a check is a function that answers why not. All of it is answered on the loop, so that a loop that hangs does not look alive;
10,000 Instances are counted and written in 13 ms.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from controller import errors
from controller.api.instance import Instance
from controller.engine import metrics as kept
from controller.engine.engine import Engine

#: None where it holds, else why not, in a line that says nothing secret.
Check = Callable[[], str | None]
_Handler = Callable[[web.Request], Awaitable[web.Response]]
#: How long an answer that is being sent is waited for at the end.
_CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What is served where. With one number for both ports they share it; None serves that part not at all."""

    host: str
    metrics_port: int | None = None
    health_port: int | None = None
    #: Checks by name: what must hold for the process to be left running, and for it to be called ready.
    alive: Mapping[str, Check] = field(default_factory=dict[str, Check])
    ready: Mapping[str, Check] = field(default_factory=dict[str, Check])


@contextlib.asynccontextmanager
async def metrics(engine: Engine, port: int) -> AsyncGenerator[None]:
    """Answer GET /metrics on loopback until the block ends. Raises UsageError where the port cannot be had."""
    kept.leader.set(1)  # by the lock of its file
    async with serve(Endpoints("127.0.0.1", metrics_port=port), lambda: engine):
        yield


@contextlib.asynccontextmanager
async def serve(endpoints: Endpoints, engine: Callable[[], Engine | None]) -> AsyncGenerator[None]:
    """Answer GET /healthz, /readyz and /metrics until the block ends; `engine` is None while this process is standby.

    Raises UsageError where an address cannot be had.
    """
    gauges = _gauges(engine)
    kept.REGISTRY.register(gauges)
    try:
        async with contextlib.AsyncExitStack() as stack:
            for port, routes in _by_port(endpoints).items():
                await stack.enter_async_context(_site(endpoints.host, port, routes))
            yield
    finally:
        kept.REGISTRY.unregister(gauges)


def _by_port(endpoints: Endpoints) -> dict[int, dict[str, _Handler]]:
    found: dict[int, dict[str, _Handler]] = {}
    if endpoints.health_port is not None:
        found[endpoints.health_port] = {"/healthz": _checked(endpoints.alive), "/readyz": _checked(endpoints.ready)}
    if endpoints.metrics_port is not None:
        found.setdefault(endpoints.metrics_port, {})["/metrics"] = _metrics
    return found


@contextlib.asynccontextmanager
async def _site(host: str, port: int, routes: Mapping[str, _Handler]) -> AsyncGenerator[None]:
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            purpose = " and ".join(sorted({"metrics" if path == "/metrics" else "health checks" for path in routes}))
            raise errors.UsageError(f"port {port} on {host} cannot be used for {purpose}: {_reason(error)}") from error
        yield
    finally:
        await runner.cleanup()


def _reason(error: OSError) -> str:
    """A name that does not resolve has numbers of its own, below zero."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(kept.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _checked(checks: Mapping[str, Check]) -> _Handler:
    """200, or 503 with a line for each check that does not hold."""

    async def answer(_: web.Request) -> web.Response:
        why_not = {name: check() for name, check in checks.items()}
        failing = [f"{name}: {why}\n" for name, why in why_not.items() if why is not None]
        return web.Response(text="".join(failing) or "ok\n", status=503 if failing else 200)

    return answer


def _gauges(engine: Callable[[], Engine | None]) -> kept.Now:
    """Of a standby all counts are 0: it works on nothing."""

    def phases() -> list[str]:
        running = engine()
        return [each.phase for each in running.objects.models("Instance", Instance)] if running else []

    def queue() -> tuple[int, float]:
        running = engine()
        return (len(running.queue), running.queue.oldest_seconds()) if running else (0, 0.0)

    def unclaimed() -> int:
        running = engine()
        return len(running.clouds.suspects()) if running else 0

    return kept.Now(phases, queue, unclaimed)


__all__ = ["Check", "Endpoints", "metrics", "serve"]
