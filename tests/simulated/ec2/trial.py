"""A light EC2 in virtual time with a boto3 client of it, and short words for what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, cast

from botocore.exceptions import ClientError

from tests.simulated.ec2.face import LightEc2
from tests.simulated.ec2.wire import ec2_client
from tests.simulated.loop import Clock
from tests.simulated.world import Settings, World

IMAGE = "ami-0a000000000000001"

#: An instance as boto3 shows it. Its own types say of each key that it may be missing.
Instance = dict[str, Any]


def _boot_seconds(_: Random) -> float:
    return 30.0


class Trial:
    """Machines boot in 30 s and end in 10 s; the settings are the World's."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.world = World(self.clock, settings=Settings(boot_seconds=_boot_seconds))
        for name, value in settings.items():
            setattr(self.world.settings, name, value)
        self.ec2 = LightEc2(self.world)
        self.client = ec2_client(self.ec2)

    def run(self, count: int = 1, token: str = "", **more: Any) -> list[Instance]:
        """Launch so many machines; `more` are parameters of RunInstances."""
        return cast("list[Instance]", self.client.run_instances(**asked(count, token, **more))["Instances"])

    def ids(self, count: int = 1, token: str = "", **more: Any) -> list[str]:
        """Launch, and the ids."""
        return [each["InstanceId"] for each in self.run(count, token, **more)]

    def listed(self, **asked: Any) -> list[Instance]:
        """DescribeInstances, without the reservations."""
        return instances(self.client.describe_instances(**asked))

    def pages(self, size: int) -> list[list[Instance]]:
        """DescribeInstances in pages of this size."""
        paginator = self.client.get_paginator("describe_instances")
        return [instances(page) for page in paginator.paginate(PaginationConfig={"PageSize": size})]

    def found(self, name: str, *values: str) -> list[str]:
        """The ids that one filter finds."""
        return [each["InstanceId"] for each in self.listed(Filters=[{"Name": name, "Values": values}])]

    def states(self) -> list[str]:
        return [each["State"]["Name"] for each in self.listed()]


def instances(answer: object) -> list[Instance]:
    """The instances of an answer or page of DescribeInstances."""
    reservations: list[dict[str, list[Instance]]] = cast("dict[str, Any]", answer)["Reservations"]
    return [each for one in reservations for each in one["Instances"]]


def asked(count: int = 1, token: str = "", **more: Any) -> dict[str, Any]:
    """Parameters of RunInstances."""
    least: dict[str, Any] = {"ImageId": IMAGE, "InstanceType": "t3.small", "MinCount": count, "MaxCount": count}
    return least | ({"ClientToken": token} if token else {}) | more


def tagged(**tags: str) -> list[dict[str, Any]]:
    """TagSpecifications for an instance."""
    return [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


def code(call: Callable[[], object]) -> str:
    """The error code that the call is answered with, or ""."""
    try:
        call()
    except ClientError as error:
        return error.response.get("Error", {}).get("Code", "")
    return ""
