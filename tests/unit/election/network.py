"""A network between candidates and the objects, in virtual time: it delays, loses, and delivers what its sender has given up.

A `Wire` stands in for one candidate's aiohttp session. While its process is stopped neither requests leave nor answers arrive,
which is all that a stopped process can be told by.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from tests.unit.election.objects import Objects


@dataclass(slots=True)
class Faults:
    """How bad the network is: chances of each request with one of these methods, and the longest that either way takes."""

    lose_request: float = 0.0
    lose_answer: float = 0.0
    delay_seconds: float = 0.0
    methods: tuple[str, ...] = ("GET", "POST", "PATCH")


class Response:
    """What a session's answer is asked for."""

    def __init__(self, status: int, body: object) -> None:
        self.status = status
        self.headers = CIMultiDict[str]()
        self._data = json.dumps(body).encode()

    async def read(self) -> bytes:
        return self._data


@dataclass(slots=True)
class Wire:
    """One candidate's way to the objects."""

    objects: Objects
    random: Random
    faults: Faults
    #: Set while the process runs.
    running: asyncio.Event = field(default_factory=asyncio.Event)
    _late: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    def __post_init__(self) -> None:
        self.running.set()

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, url: URL, *, data: io.BytesIO | None, headers: dict[str, str], timeout: aiohttp.ClientTimeout
    ) -> AsyncGenerator[Response]:
        del headers
        await self.running.wait()
        answered: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()
        # Not this request's own task: what is on its way arrives, though nobody waits for it any more.
        travel = asyncio.create_task(self._travel(method, url.path, data.read() if data else None, answered))
        self._late.add(travel)
        travel.add_done_callback(self._late.discard)
        async with asyncio.timeout(timeout.total):
            status, body = await answered
        await self.running.wait()
        yield Response(status, body)

    async def _travel(self, method: str, path: str, data: bytes | None, answered: asyncio.Future[tuple[int, Any]]) -> None:
        await asyncio.sleep(self.random.uniform(0, self.faults.delay_seconds))
        if self._loses(method, self.faults.lose_request):
            return self._break(answered)
        try:
            answer = self.objects.answer(method, path, data)
        except AssertionError as error:
            answered.set_exception(error)
            raise
        await asyncio.sleep(self.random.uniform(0, self.faults.delay_seconds))
        if self._loses(method, self.faults.lose_answer):
            return self._break(answered)
        if not answered.done():
            answered.set_result(answer)

    def _loses(self, method: str, chance: float) -> bool:
        return method in self.faults.methods and self.random.random() < chance

    def _break(self, answered: asyncio.Future[tuple[int, Any]]) -> None:
        """The connection breaks, or nothing is heard any more."""
        if self.random.random() < 0.5 and not answered.done():
            answered.set_exception(aiohttp.ServerDisconnectedError())

    async def close(self) -> None:
        """Let what travels arrive."""
        await asyncio.gather(*self._late)
