"""The programs with drivers that do one thing wrong at one call: `python -m tests.faulty occopus|operator FAULT ARGUMENTS…`.

A fault is `before|after:CALL:die|stop|SECONDS`: at each such call of a driver the process is killed (SIGKILL: nothing is finished,
nothing is flushed) or stopped (SIGSTOP), or the call takes so much longer.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller import __main__ as operator
from controller import errors
from controller.cli import main as occopus
from controller.clouds import plugins
from controller.ports import Account, CloudConfig, CloudDriver, CloudPlugin, Launched, LaunchRequest, Machine, MachineId, T

#: Between the launch is recorded and it is sent; between the machine is made and it is recorded; between its end is begun and
#: anything is released.
INTENT, MADE, END = "before:create:die", "after:create:die", "after:delete:die"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens, before or after which call."""

    when: str
    call: str
    what: str

    @staticmethod
    def parse(text: str) -> Fault:
        when, call, what = text.split(":")
        assert when in ("before", "after")
        assert hasattr(FaultyDriver, call), call
        return Fault(when, call, what)

    def happen(self) -> None:
        match self.what:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case seconds:
                threading.Event().wait(float(seconds))


class FaultyDriver:
    """Another driver with a fault. Satisfies `controller.ports.CloudDriver`."""

    def __init__(self, driver: CloudDriver, fault: Fault) -> None:
        self._driver, self._fault = driver, fault
        self.settle_seconds = driver.settle_seconds
        self.most_per_call = driver.most_per_call
        self.limits = driver.limits
        self.user_data_limit_bytes = driver.user_data_limit_bytes

    def _do(self, call: str, done: Callable[[], T]) -> T:
        at = self._fault.when if self._fault.call == call else ""
        if at == "before":
            self._fault.happen()
        answer = done()
        if at == "after":
            self._fault.happen()
        return answer

    def identity(self) -> Account:
        return self._do("identity", self._driver.identity)

    def list(self) -> Sequence[Machine]:
        return self._do("list", self._driver.list)

    def resolve(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return self._do("resolve", lambda: self._driver.resolve(spec))

    def describe(self, ids: Sequence[MachineId]) -> dict[MachineId, Machine]:
        return self._do("describe", lambda: self._driver.describe(ids))

    def prepare(self, requests: Sequence[LaunchRequest]) -> Sequence[str | errors.CloudError]:
        return self._do("prepare", lambda: self._driver.prepare(requests))

    def create(self, requests: Sequence[LaunchRequest]) -> Sequence[Launched | errors.CloudError]:
        return self._do("create", lambda: self._driver.create(requests))

    def delete(self, ids: Sequence[MachineId]) -> Sequence[errors.CloudError | None]:
        return self._do("delete", lambda: self._driver.delete(ids))

    def close(self, batch_id: str, fence: str) -> None:
        self._do("close", lambda: self._driver.close(batch_id, fence))

    def console(self, id: MachineId) -> str:
        return self._do("console", lambda: self._driver.console(id))


def _with(fault: Fault, plugin: CloudPlugin) -> CloudPlugin:
    def opened(config: CloudConfig) -> CloudDriver:
        return FaultyDriver(plugin.open(config), fault)

    return replace(plugin, open=opened)


def _main() -> None:
    program, fault = sys.argv.pop(1), Fault.parse(sys.argv.pop(1))
    found = tuple(_with(fault, each) for each in plugins.installed())
    plugins.installed = lambda: found
    sys.exit({"operator": operator.main, "occopus": occopus.main}[program]())


if __name__ == "__main__":
    _main()
