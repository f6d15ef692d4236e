"""Moto beside the light EC2: two servers that boto3 asks the same, with equal things in place.

For tests that hold one against the other. Moto is told to check names, and to spare us its thousand images; each pair of
sides has an account of its own, so that no test sees what another left.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest
from moto import settings
from moto.server import ThreadedMotoServer

from tests.simulated.ec2.catalogue import Catalogue, Group, Image, KeyPair, Subnet
from tests.simulated.ec2.face import LightEc2
from tests.simulated.ec2.server import serve
from tests.simulated.ec2.wire import ec2_client, sts_client
from tests.simulated.loop import Clock
from tests.simulated.world import Settings, World

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_sts import STSClient

_ACCOUNTS = itertools.count(700_000_000_001)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two; `settle` lets what is pending or shutting down come to its end."""

    client: EC2Client
    sts: STSClient
    catalogue: Catalogue
    settle: Callable[[], None]

    def run(self, count: int = 1, **more: Any) -> dict[str, Any]:
        """RunInstances."""
        least: dict[str, Any] = {"ImageId": self.catalogue.images[0].id, "InstanceType": "t3.small", "MinCount": count, "MaxCount": count}
        return cast("dict[str, Any]", self.client.run_instances(**(least | more)))

    def ids(self, count: int = 1, **more: Any) -> list[str]:
        """Run, let them come up, and give their ids."""
        ids = [each["InstanceId"] for each in self.run(count, **more)["Instances"]]
        self.settle()
        return ids

    def listed(self, **asked: Any) -> list[dict[str, Any]]:
        """DescribeInstances, without the reservations."""
        answer = cast("dict[str, Any]", self.client.describe_instances(**asked))
        return [each for one in answer["Reservations"] for each in one["Instances"]]

    def filtered(self, name: str, *values: str) -> list[str]:
        """The ids that one filter finds."""
        return [each["InstanceId"] for each in self.listed(Filters=[{"Name": name, "Values": list(values)}])]

    def states(self) -> list[object]:
        return [each["State"] for each in self.listed()]

    def end(self, *ids: str) -> list[object]:
        """TerminateInstances; each id with its states before and after."""
        answer = cast("dict[str, Any]", self.client.terminate_instances(InstanceIds=list(ids)))
        self.settle()
        return [(each["InstanceId"], each["PreviousState"], each["CurrentState"]) for each in answer["TerminatingInstances"]]


@dataclass(slots=True)
class Pair:
    """Both servers with clients of theirs, for many tests: making them takes longer than all that is asked."""

    moto: tuple[EC2Client, STSClient]
    light: tuple[EC2Client, STSClient]
    ec2: LightEc2
    clock: Clock
    account: str = ""

    def sides(self) -> tuple[Side, Side]:
        """Both with a new account, in which equal things are in place."""
        self.account = self.ec2.keys["AKIDMAIN"] = str(next(_ACCOUNTS))
        _furnish(self.moto[0], self.ec2.catalogue, self.account)
        return Side(*self.moto, self.ec2.catalogue, lambda: None), Side(*self.light, self.ec2.catalogue, self._settle)

    def name_account(self, request: Any, **_: Any) -> None:
        """Tell moto whose the request is, which it would know by none of our keys."""
        request.headers["x-moto-account-id"] = self.account

    def _settle(self) -> None:
        self.clock.seconds += 1


@contextlib.contextmanager
def pair() -> Generator[Pair]:
    """Serve both."""
    clock = Clock()
    ec2 = LightEc2(World(clock, settings=Settings(boot_seconds=lambda _: 1, terminating_seconds=1)))
    with moto() as its, serve(ec2) as ours:
        made = Pair((ec2_client(its), sts_client(its)), (ec2_client(ours), sts_client(ours)), ec2, clock)
        for each in made.moto:
            each.meta.events.register("before-sign", made.name_account)
        yield made


@contextlib.contextmanager
def moto() -> Generator[str]:
    """Moto's server; gives its URL. Its accounts begin with no image."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        for each in ("ENABLE_AMI_VALIDATION", "ENABLE_KEYPAIR_VALIDATION", "EC2_ENABLE_INSTANCE_TYPE_VALIDATION"):
            patch.setattr(settings, each, True)
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()


def _furnish(client: EC2Client, catalogue: Catalogue, account: str) -> None:
    """Put things in place in moto, and make the catalogue say the same."""
    catalogue.images = [_image(client, name, account) for name in ("debian-12", "debian-13")]
    pair = client.create_key_pair(KeyName="admin", KeyType="ed25519")
    catalogue.key_pairs = [KeyPair(pair["KeyPairId"], pair["KeyName"])]
    subnets = cast("list[dict[str, Any]]", client.describe_subnets()["Subnets"])
    catalogue.subnets = [
        Subnet(each["SubnetId"], each["AvailabilityZone"][-1], each["CidrBlock"], each["VpcId"], default=True)
        for each in sorted(subnets, key=lambda each: each["AvailabilityZone"])
    ]
    first = catalogue.subnets[0]
    first.tags = {"Name": "front"}
    client.create_tags(Resources=[first.id], Tags=[{"Key": "Name", "Value": "front"}])
    client.create_security_group(GroupName="web", Description="web", VpcId=first.vpc)
    groups = cast("list[dict[str, Any]]", client.describe_security_groups()["SecurityGroups"])
    catalogue.groups = [Group(each["GroupId"], each["GroupName"], each["VpcId"], each["Description"]) for each in groups]


def _image(client: EC2Client, name: str, account: str) -> Image:
    id = client.register_image(Name=name, RootDeviceName="/dev/sda1", Architecture="x86_64")["ImageId"]
    client.create_tags(Resources=[id], Tags=[{"Key": "os", "Value": name}])
    return Image(id, name, account, root_device="/dev/sda1", tags={"os": name})
