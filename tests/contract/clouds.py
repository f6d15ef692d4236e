"""What the contract suite needs of a kind of cloud: one entry a driver, in `KINDS`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.clouds.ec2 import driver as ec2
from controller.clouds.local import driver as local
from controller.ports import CONTROLLER_TAG, CloudConfig, CloudDriver, CloudPlugin, LaunchRequest, Machine, MachineId, MachineState
from tests.contract import moto
from tests.simulated.cloud import plugin
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.loop import Clock
from tests.simulated.world import Settings, World

#: A #cloud-config that a machine of any kind takes.
USER_DATA = b"#cloud-config\nruncmd: []\n"


@dataclass(frozen=True, slots=True)
class CloudUnderTest:
    """One cloud, and how its time is let pass."""

    plugin: CloudPlugin
    directory: Path
    #: Called between two looks while a test waits for a state.
    tick: Callable[[], None]
    #: A spec that resolves, and one that does not.
    spec: Mapping[str, Any]
    bad_spec: Mapping[str, Any]
    #: Whether `close` is certain.
    closes: bool = True
    #: Machines of one request, at most.
    batch: int = 3
    #: Whether the machines of one request share their tags, and so their name.
    shares_tags: bool = False
    #: The fields of the Cloud, and its Secret.
    account: Mapping[str, Any] = field(default_factory=dict[str, Any])
    secret: Mapping[str, str] = field(default_factory=dict[str, str])
    #: Ends with the test.
    resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    drivers: list[CloudDriver] = field(default_factory=list[CloudDriver])

    def open(self, controller_id: str = "ours") -> CloudDriver:
        """A driver of its own, as after a restart."""
        config = CloudConfig(self.account, self.secret, controller_id, str(self.directory), allow_local=True, ambient_credentials=False)
        self.drivers.append(self.plugin.open(config))
        return self.drivers[-1]

    def request(self, driver: CloudDriver, batch_id: str = "batch-1", count: int = 1, controller_id: str = "ours") -> LaunchRequest:
        """A launch request whose fence is made."""
        spec = driver.resolve(self.spec)
        names = tuple(f"web-{index}" for index in range(count))
        request = LaunchRequest(batch_id, names, {CONTROLLER_TAG: controller_id, "color": "red"}, spec, USER_DATA)
        (fence,) = driver.prepare([request])
        assert isinstance(fence, str)
        return LaunchRequest(batch_id, names, request.tags, spec, USER_DATA, fence)

    def launch(self, driver: CloudDriver, batch_id: str = "batch-1", count: int = 1, controller_id: str = "ours") -> tuple[Machine, ...]:
        """Launch, and expect that it worked."""
        (outcome,) = driver.create([self.request(driver, batch_id, count, controller_id)])
        assert isinstance(outcome, tuple), outcome
        return outcome

    def wait_for(self, driver: CloudDriver, ids: Sequence[MachineId], state: MachineState) -> None:
        """Look until all of these machines are listed in this state; a thousand looks at most."""
        for _ in range(1000):
            if {each.id for each in driver.list() if each.state is state} >= set(ids):
                return
            self.tick()
        raise AssertionError(f"{ids} did not become {state}: {driver.list()}")

    def end_all(self) -> None:
        """Leave nothing running."""
        for driver in self.drivers:
            driver.delete([each.id for each in driver.list()])
        self.resources.close()


def _local(directory: Path, tick: Callable[[], None]) -> CloudUnderTest:
    return CloudUnderTest(local.PLUGIN, directory, tick, {}, {"bootSeconds": -1})


def _simulated(directory: Path, settings: Settings, batch: int) -> CloudUnderTest:
    clock = Clock()

    def tick() -> None:
        clock.seconds += 1

    return CloudUnderTest(
        plugin(World(clock, settings=settings)), directory, tick, {"image": "debian"}, {"image": "none"}, settings.closes, batch
    )


def _ec2(directory: Path, tick: Callable[[], None], endpoint: str, image: str) -> CloudUnderTest:
    machine = {"image": {"id": image}, "instanceType": "t3.small"}
    return CloudUnderTest(
        *(ec2.PLUGIN, directory, tick, machine, {**machine, "image": {"id": "ami-0123456789abcdef0"}}),
        closes=False,
        shares_tags=True,
        account={"region": "eu-west-1", "endpoint": endpoint, "credentials": {"secretRef": {"name": "aws"}}},
        secret={"AWS_ACCESS_KEY_ID": "AKIDMAIN", "AWS_SECRET_ACCESS_KEY": "secret"},
    )


def _light_ec2(directory: Path, first_end_spends_token: bool) -> CloudUnderTest:
    clock = Clock()

    def tick() -> None:
        clock.seconds += 1

    light = LightEc2(World(clock))
    light.behaviour.first_end_spends_token = first_end_spends_token
    resources = contextlib.ExitStack()
    each = _ec2(directory, tick, resources.enter_context(serve(light)), light.catalogue.images[0].id)
    each.resources.push(resources)
    return each


def _moto(directory: Path, tick: Callable[[], None]) -> CloudUnderTest:
    endpoint = moto.fresh()
    return _ec2(directory, tick, endpoint, moto.image(endpoint))


KINDS: dict[str, Callable[[Path, Callable[[], None]], CloudUnderTest]] = {
    "local": _local,
    "simulated": lambda directory, _: _simulated(directory, Settings(), 3),
    "simulated, certain only in time": lambda directory, _: _simulated(directory, Settings(closes=False), 3),
    "simulated, with fences": lambda directory, _: _simulated(directory, Settings(fences=True), 1),
    "ec2 on the light EC2": lambda directory, _: _light_ec2(directory, first_end_spends_token=False),
    "ec2 on the light EC2, tokens spent early": lambda directory, _: _light_ec2(directory, first_end_spends_token=True),
    "ec2 on moto": _moto,
}
#: moto keeps the client token of a launch and does not look at it: the same call again makes other machines
#: (https://github.com/getmoto/moto/issues/10215).
WITHOUT_TOKENS = frozenset(("ec2 on moto",))
