"""The `occopus` command with a driver that kills its process at one point: `python -m tests.e2e.dying POINT ARGUMENTS…`.

The points: `intent` when the launch is recorded and not sent, `made` when the machine is made and not recorded, `end` when
its end was begun and nothing released. The signal is SIGKILL: nothing is finished, nothing is flushed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller import errors
from controller.cli import main
from controller.clouds import local, plugins
from controller.ports import Account, CloudConfig, CloudDriver, CloudPlugin, Launched, LaunchRequest, Machine, MachineId


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingDriver:
    """The local driver; its process dies at the point."""

    def __init__(self, driver: CloudDriver, point: str) -> None:
        self._driver, self._point = driver, point
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
        if self._point == "intent":
            die()
        made = self._driver.create(requests)
        if self._point == "made":
            die()
        return made

    def delete(self, ids: Sequence[MachineId]) -> Sequence[errors.CloudError | None]:
        done = self._driver.delete(ids)
        if self._point == "end":
            die()
        return done

    def close(self, batch_id: str, fence: str) -> None:
        self._driver.close(batch_id, fence)

    def console(self, id: MachineId) -> str:
        return self._driver.console(id)


def with_dying_driver(point: str) -> None:
    def opened(config: CloudConfig) -> CloudDriver:
        return DyingDriver(local.PLUGIN.open(config), point)

    dying: CloudPlugin = replace(local.PLUGIN, open=opened)
    plugins.installed = lambda: (dying,)


if __name__ == "__main__":
    with_dying_driver(sys.argv.pop(1))
    main.main()
