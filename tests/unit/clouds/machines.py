"""A local cloud in a directory of a test, and shorthands for what its tests ask."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

from controller.clouds.local import driver as local
from controller.clouds.local import processes, records
from controller.ports import CONTROLLER_TAG, CloudConfig, LaunchRequest, Machine, MachineId, MachineState

#: A guardian does all of a small user data within about 0.3 s; two busy cores take longer.
_PATIENCE_SECONDS = 30.0


def config(state: Path, **spec: object) -> CloudConfig:
    return CloudConfig(spec, {}, "ours", str(state), allow_local=True, ambient_credentials=False)


def request(user_data: str | bytes = b"", batch_id: str = "batch", count: int = 1, boot_seconds: int = 0) -> LaunchRequest:
    data = dedent(user_data).encode() if isinstance(user_data, str) else user_data
    names = tuple(f"web-{index}" for index in range(count))
    return LaunchRequest(batch_id, names, {CONTROLLER_TAG: "ours"}, {"bootSeconds": boot_seconds}, data)


def until(condition: Callable[[], object]) -> None:
    """Look every 10 ms until the condition holds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        select.select([], [], [], 0.01)


class Cloud:
    """A driver, the directory it has, and shorthands."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.driver = local.open(config(directory))

    def launch(self, user_data: str | bytes = b"") -> Machine:
        """A machine whose user data has been done."""
        (outcome,) = self.driver.create([request(user_data)])
        assert isinstance(outcome, tuple), outcome
        until(lambda: "user data done" in self.driver.console(outcome[0].id))
        return outcome[0]

    def place(self, id: str) -> Path:
        return self.directory / "machines" / id

    def root(self, id: str) -> Path:
        return self.place(id) / "root"

    def record(self, id: str) -> records.Record:
        return records.read(self.place(id))

    def state(self, id: str) -> MachineState:
        return self.driver.describe([MachineId(id)])[MachineId(id)].state

    def processes(self, id: str) -> list[int]:
        mark = records.mark(self.place(id))
        return [each.pid for each in processes.of_machines([mark])[mark]]
