"""The simulated cloud with credentials, and a driver before whose calls a test can put what it likes.

`tests.simulated.cloud` answers as a driver should; what a defective, a slow or a locked one does is put before it here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from controller import errors
from controller.api.meta import LocalReference, Model
from controller.ports import Account, CloudConfig, CloudDriver, CloudPlugin, Launched, LaunchRequest, Machine, MachineId
from controller.stores.rules import Rules
from tests.simulated.cloud import SimulatedCloudFields, plugin
from tests.simulated.world import World


class Credentials(Model):
    secret_ref: LocalReference = Field(description="The Secret with the password.")


class FieldsWithCredentials(SimulatedCloudFields):
    """An account on the simulated cloud, with its Secret."""

    credentials: Credentials | None = Field(default=None, description="Who asks.")


class Before:
    """A driver before whose every call something is done, which may raise."""

    def __init__(self, driver: CloudDriver, do: Callable[[str], None]) -> None:
        self._driver = driver
        self._do = do
        self.settle_seconds: float = driver.settle_seconds
        self.limits = driver.limits
        self.user_data_limit_bytes: int = driver.user_data_limit_bytes

    def most_per_call(self, spec: Mapping[str, Any]) -> int:
        return self._driver.most_per_call(spec)

    def identity(self) -> Account:
        self._do("identity")
        return self._driver.identity()

    def list(self, *, running: bool = True) -> Sequence[Machine]:
        self._do("list")
        return self._driver.list(running=running)

    def resolve(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        self._do("resolve")
        return self._driver.resolve(spec)

    def describe(self, ids: Sequence[MachineId]) -> dict[MachineId, Machine]:
        self._do("describe")
        return self._driver.describe(ids)

    def prepare(self, requests: Sequence[LaunchRequest]) -> Sequence[str | errors.CloudError]:
        self._do("prepare")
        return self._driver.prepare(requests)

    def create(self, requests: Sequence[LaunchRequest]) -> Sequence[Launched | errors.CloudError]:
        self._do("create")
        return self._driver.create(requests)

    def delete(self, ids: Sequence[MachineId]) -> Sequence[errors.CloudError | None]:
        self._do("delete")
        return self._driver.delete(ids)

    def close(self, batch_id: str, fence: str) -> None:
        self._do("close")
        self._driver.close(batch_id, fence)

    def console(self, id: MachineId) -> str:
        self._do("console")
        return self._driver.console(id)


class Held(BaseException):
    """Raised before a call that is to take `seconds` first; `Rig` waits and calls again. Never, where they are infinite."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Strayed(BaseException):
    """Raised before a call that the network delivers once more so much later; with `lost` that is the only time, and the caller hears
    nothing. `Rig` does it."""

    def __init__(self, seconds: float, *, lost: bool) -> None:
        super().__init__(seconds, lost)
        self.seconds, self.lost = seconds, lost


def guarded(plain: CloudPlugin, before: Callable[[CloudConfig, str], None]) -> CloudPlugin:
    """The plugin, its Clouds with credentials, `before` done before every call of its drivers."""

    def opened(config: CloudConfig) -> CloudDriver:
        return Before(plain.open(config), lambda action: before(config, action))

    return replace(plain, cloud_model=FieldsWithCredentials, open=opened)


@functools.cache
def rules() -> Rules:
    """The rules of the API with this plugin, emitted once: they are the same for every world, and a second of work."""
    return Rules((guarded(plugin(World(lambda: 0.0)), lambda config, action: None),))


__all__ = ["Before", "Held", "Strayed", "guarded", "rules"]
