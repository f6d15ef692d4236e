"""The programs with a store and drivers that do one thing wrong: `python -m tests.faulty occopus|operator FAULT ARGUMENTS…`.

A fault is `before|after:CALL[#NUMBER]:die|stop|SECONDS`: at each such call, or at that one of them, the process is killed (SIGKILL:
nothing is finished, nothing is flushed) or stopped (SIGSTOP), or the call takes so much longer. CALL is one of a driver (`create`), of
the store (`store.patch`), or `change`: any that changes something. To the file that the environment names by CALLS_FILE each such call
is appended, and where in the code it came from, before anything happens at it: `noted` reads it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

from controller import __main__ as operator
from controller import assembly
from controller.cli import main as occopus
from controller.clouds import plugins
from controller.engine.engine import Engine, Options, Ports
from controller.ports import CloudConfig, CloudDriver, CloudPlugin, T
from tests.crash import sites
from tests.crash.injector import MUTATING, FaultyDriver, FaultyStore

#: Between the launch is recorded and it is sent; between the machine is made and it is recorded; between its end is begun and
#: anything is released.
INTENT, MADE, END = "before:create:die", "after:create:die", "after:delete:die"
#: The environment's name of a file for the calls that are met.
CALLS_FILE = "OCCOPUS_FAULTY_CALLS"


@dataclass(frozen=True, slots=True)
class Noted:
    """A call that was met, and where in the code it came from, innermost first."""

    call: str
    places: tuple[sites.Place, ...]


def noted(file: Path) -> list[Noted]:
    """What was met, in order; nothing where no program was started."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [Noted(call, tuple(sites.Place(*each) for each in places)) for call, places in map(json.loads, lines)]


@dataclass(slots=True)
class Fault:
    """What happens, before or after which calls; of these at the one of that number, or at each."""

    when: str
    calls: frozenset[str]
    number: int
    what: str
    file: str = field(default_factory=lambda: os.environ.get(CALLS_FILE, ""))
    met: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def parse(text: str) -> Fault:
        when, call, what = text.split(":")
        call, _, number = call.partition("#")
        assert when in ("before", "after")
        assert call == "change" or hasattr(FaultyDriver, call) or hasattr(FaultyStore, call.removeprefix("store.")), call
        calls = MUTATING if call == "change" else frozenset({call if "." in call else f"cloud.{call}"})
        return Fault(when, calls, int(number or 0), what)

    async def call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        """One call of the store."""
        self._at("before", name)
        answer = await do()
        self._at("after", name)
        return answer

    def blocking(self, name: str, do: Callable[[], T]) -> T:
        """One call of a driver."""
        self._at("before", name)
        answer = do()
        self._at("after", name)
        return answer

    def _at(self, when: str, name: str) -> None:
        if when != self.when or name not in self.calls:
            return
        with self.lock:
            self.met += 1
            if self.file:
                self._note(name, sites.here())
            meant = self.number in (0, self.met)
        if meant:
            self._happen()

    def _note(self, name: str, places: tuple[sites.Place, ...]) -> None:
        with Path(self.file).open("a") as file:
            file.write(json.dumps([name, [astuple(each) for each in places]]) + "\n")

    def _happen(self) -> None:
        match self.what:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                # To this thread: one that is sent to the process is taken by another thread, and this one makes its call meanwhile.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            case seconds:
                threading.Event().wait(float(seconds))


def _with(fault: Fault, plugin: CloudPlugin) -> CloudPlugin:
    def opened(config: CloudConfig) -> CloudDriver:
        return FaultyDriver(plugin.open(config), fault)

    return replace(plugin, open=opened)


def _main() -> None:
    program, fault = sys.argv.pop(1), Fault.parse(sys.argv.pop(1))
    found = tuple(_with(fault, each) for each in plugins.installed())
    plugins.installed = lambda: found
    whole = assembly.engine

    def engine(ports: Ports, options: Options) -> Engine:
        asyncio.get_running_loop().set_task_factory(sites.traced)
        return whole(replace(ports, store=FaultyStore(ports.store, fault)), options)

    assembly.engine = engine
    sys.exit({"operator": operator.main, "occopus": occopus.main}[program]())


if __name__ == "__main__":
    _main()
