"""The operator with a driver that does one thing wrong at one call: `python -m tests.cluster.faulty FAULT ARGUMENTS…`.

The faults: `die:intent` when the launch is recorded and not sent, `die:made` when the machine is made and not recorded, `die:end`
when its end was begun and nothing released, each by SIGKILL; `stop` stops the process (SIGSTOP) before its first create;
`slow:SECONDS` lets each create take so long, which is then done.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller import __main__ as command
from controller import errors
from controller.clouds import local, plugins
from controller.ports import Account, CloudConfig, CloudDriver, CloudPlugin, Launched, LaunchRequest, Machine, MachineId


class Faulty:
    """The local driver; `before` and `after` are done at each call of that name."""

    def __init__(self, driver: CloudDriver, before: Mapping[str, Callable[[], None]], after: Mapping[str, Callable[[], None]]) -> None:
        self._driver, self._before, self._after = driver, before, after
        self.settle_seconds = driver.settle_seconds
        self.user_data_limit_bytes = driver.user_data_limit_bytes

    def identity(self) -> Account:
        return self._driver.identity()

    def list(self) -> Sequence[Machine]:
        return self._driver.list()

    def resolve(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return self._driver.resolve(spec)

    def describe(self, ids: Sequence[MachineId]) -> dict[MachineId, Machine]:
        return self._driver.describe(ids)

    def prepare(self, requests: Sequence[LaunchRequest]) -> Sequence[str | errors.CloudError]:
        return self._driver.prepare(requests)

    def create(self, requests: Sequence[LaunchRequest]) -> Sequence[Launched | errors.CloudError]:
        self._before.get("create", _nothing)()
        made = self._driver.create(requests)
        self._after.get("create", _nothing)()
        return made

    def delete(self, ids: Sequence[MachineId]) -> Sequence[errors.CloudError | None]:
        done = self._driver.delete(ids)
        self._after.get("delete", _nothing)()
        return done

    def close(self, batch_id: str, fence: str) -> None:
        self._driver.close(batch_id, fence)

    def console(self, id: MachineId) -> str:
        return self._driver.console(id)


def _nothing() -> None:
    pass


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def plugin(fault: str) -> CloudPlugin:
    """The local cloud with that fault."""
    what, _, which = fault.partition(":")
    before: dict[str, Callable[[], None]] = {}
    after: dict[str, Callable[[], None]] = {}
    match what, which:
        case "die", "intent":
            before["create"] = _die
        case "die", "made":
            after["create"] = _die
        case "die", "end":
            after["delete"] = _die
        case "stop", "":
            before["create"] = _stop
        case "slow", seconds:
            before["create"] = lambda: _take(float(seconds))
        case _:
            raise ValueError(fault)

    def opened(config: CloudConfig) -> CloudDriver:
        return Faulty(local.PLUGIN.open(config), before, after)

    return replace(local.PLUGIN, open=opened)


def _take(seconds: float) -> None:
    threading.Event().wait(seconds)


if __name__ == "__main__":
    faulty = plugin(sys.argv.pop(1))
    plugins.installed = lambda: (faulty,)
    sys.exit(command.main())
