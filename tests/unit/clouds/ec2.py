"""Drivers of the `ec2` cloud on a light EC2 of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.clouds.ec2 import driver as ec2
from controller.clouds.ec2.driver import Ec2Driver
from controller.ports import CONTROLLER_TAG, CloudConfig, Identity, Launched, LaunchRequest, MachineId
from tests.simulated.ec2 import LightEc2, serve
from tests.simulated.loop import Clock
from tests.simulated.world import Call, World

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDMAIN", "AWS_SECRET_ACCESS_KEY": "c4n4ry-53cr37"}
ACCOUNT = ("111111111111", "eu-west-1")
SPEC: Mapping[str, Any] = {"image": {"id": "ami-0a000000000000001"}, "instanceType": "t3.small"}


@dataclass(frozen=True, slots=True)
class Cloud:
    """A light EC2 that is served, and who asks it."""

    endpoint: str
    light: LightEc2
    clock: Clock

    @property
    def world(self) -> World:
        return self.light.world

    def open(self, controller_id: str = "ours", secret: Mapping[str, str] = KEYS) -> Ec2Driver:
        spec = {"region": "eu-west-1", "endpoint": self.endpoint, "credentials": {"secretRef": {"name": "aws"}}}
        return ec2.open(CloudConfig(spec, secret, controller_id, "", allow_local=True, ambient_credentials=False))

    def insert(self, count: int, controller_id: str = "ours") -> list[MachineId]:
        """So many machines, each a batch of its own, as if a driver had made them."""
        place = len(self.world.machines)
        tags = [{CONTROLLER_TAG: controller_id, "occopus.io/batch": f"b-{place + number}"} for number in range(count)]
        return [self.world.insert(ACCOUNT, Identity(each["occopus.io/batch"], 0), each) for each in tags]

    def calls(self, action: str) -> list[Call]:
        """Of that action, in order."""
        return [each for each in self.world.ledger if each.action == action]


@contextlib.contextmanager
def served() -> Generator[Cloud]:
    clock = Clock()
    light = LightEc2(World(clock))
    with serve(light) as endpoint:
        yield Cloud(endpoint, light, clock)


def request(spec: Mapping[str, Any], batch_id: str = "batch-1", count: int = 1) -> LaunchRequest:
    names = tuple(f"shop-web-{index}" for index in range(count))
    return LaunchRequest(batch_id, names, {CONTROLLER_TAG: "ours", "occopus.io/service": "web"}, spec, b"#cloud-config\n{}\n")


def launch(driver: Ec2Driver, batch_id: str = "batch-1", count: int = 1) -> Launched:
    (outcome,) = driver.create([request(driver.resolve(SPEC), batch_id, count)])
    assert isinstance(outcome, tuple), outcome
    return outcome


__all__ = ["ACCOUNT", "KEYS", "SPEC", "Cloud", "launch", "request", "served"]
