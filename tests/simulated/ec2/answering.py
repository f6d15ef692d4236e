"""What the machines of the light EC2 answer themselves: a page at one port, each on a loopback address of its own.

For tests whose probes are real. A machine listens while it runs, from the moment at which the World says that it is healthy; one
that the World makes unhealthy later answers 500, and `Behaviour.pages` says otherwise of single machines. One thread serves them
all, and looks at the World again and again: time alone changes it. Every connection is noted: the truth about what was probed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address

from controller.ports import MachineState
from tests.simulated.ec2.asked import Page
from tests.simulated.ec2.face import LightEc2
from tests.simulated.world import SimulatedMachine
from tools.control_plane import ports

#: Below those of local machines (127.64.0.0/10).
_NETWORK = IPv4Address("127.32.0.0")
#: A few hundred machines take a fiftieth of a processor.
_LOOK_SECONDS = 0.02
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nup\n"
_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\nConnection: close\r\n\r\ndown\n"


@dataclass(frozen=True, slots=True)
class Knock:
    """A connection that a machine accepted: when, by the World's clock, whose, and what it was answered."""

    time: float
    machine: str
    page: Page


class Answering:
    """See the module. `knocks` grows while it is read."""

    def __init__(self, ec2: LightEc2, port: int) -> None:
        self.port = port
        self.knocks: list[Knock] = []
        self._ec2 = ec2
        self._listening: dict[str, asyncio.Server] = {}
        self._open: dict[asyncio.StreamWriter, str] = {}
        self._ended = threading.Event()

    def page(self, machine: SimulatedMachine) -> Page:
        """What it answers now."""
        now = self._ec2.world.clock()
        if machine.state(now) is not MachineState.RUNNING:
            return Page.REFUSES
        if commanded := self._ec2.behaviour.pages.get(machine.id):
            return commanded
        if now < machine.healthy:
            return Page.REFUSES
        return Page.SERVES if now < machine.unhealthy else Page.FAILS

    def of(self, machine: str) -> list[Page]:
        """What a machine has answered so far, in order."""
        return [each.page for each in self.knocks if each.machine == machine]

    def listens(self, machine: str) -> bool:
        """Whether connections to it are accepted at this moment."""
        return machine in self._listening

    def end(self) -> None:
        """Let `run` come to its end, from any thread."""
        self._ended.set()

    async def run(self) -> None:
        """Serve until `end`. Raises OSError where a machine's port is taken."""
        try:
            while not self._ended.is_set():
                await self._look()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for each in tuple(self._listening):
                self._close(each)
            # Those being accepted become those being answered, of whom `_open` does not know yet.
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)

    async def _look(self) -> None:
        with self._ec2.world.lock:
            wanted = {each.id: each for each in self._ec2.world.machines.values() if self.page(each) is not Page.REFUSES}
        for id in self._listening.keys() - wanted.keys():
            self._close(id)
        for id, machine in wanted.items():
            if id not in self._listening:
                answer = functools.partial(self._answer, machine)
                self._listening[id] = await asyncio.start_server(answer, machine.private_address, self.port)

    def _close(self, id: str) -> None:
        """Accept no more, and cut off whoever is connected."""
        self._listening.pop(id).close()
        for writer, machine in self._open.items():
            if machine == id:
                writer.transport.abort()

    async def _answer(self, machine: SimulatedMachine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.listens(machine.id):
            writer.transport.abort()
            return
        self._open[writer] = machine.id
        page = self.page(machine)
        self.knocks.append(Knock(self._ec2.world.clock(), machine.id, page))
        try:
            # A tcp probe goes without a word, and a connection may be cut off at any time.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await _say(page, reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            del self._open[writer]


async def _say(page: Page, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    if page is Page.HANGS:
        await reader.read()
        return
    writer.write(_OK if page is Page.SERVES else _ERROR)
    await writer.drain()


@contextlib.contextmanager
def answering(ec2: LightEc2, port: int = 0) -> Generator[Answering]:
    """Let the machines of this EC2 answer, on a free port unless one is given. To be entered before any machine is made."""
    ec2.world.network = _NETWORK
    made = Answering(ec2, port or ports.one())
    with ThreadPoolExecutor(1, "light-ec2-machines") as threads:
        running = threads.submit(asyncio.run, made.run())
        try:
            yield made
        finally:
            made.end()
            running.result()
