"""What an account finds on the light EC2 before it makes anything: zones, subnets, groups, images, key pairs.

Tests change the lists at will. The same catalogue shows in every region and account; a zone is named by its letter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.simulated.ec2.refusals import Refusal, invalid, not_found

_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")


@dataclass(slots=True)
class Image:
    """`owner` is an account id; `alias` is amazon or aws-marketplace, or empty. Without a `root_device` it boots from no volume.

    `keeps_root`: the volume that it boots from outlives the machine, unless the launch says otherwise.
    """

    id: str
    name: str
    owner: str = "099720109477"
    created: str = "2029-06-01T00:00:00.000Z"
    alias: str = ""
    description: str = ""
    architecture: str = "x86_64"
    state: str = "available"
    root_device: str = "/dev/xvda"
    root_gib: int = 8
    keeps_root: bool = False
    #: Shown to others than its owner only where deprecated ones are asked for; it is launched all the same.
    deprecated: bool = False
    tags: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class Subnet:
    """`public`: whether a machine in it gets a public address unasked (MapPublicIpOnLaunch)."""

    id: str
    letter: str
    cidr: str
    vpc: str = "vpc-0a000000000000001"
    public: bool = True
    default: bool = False
    tags: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class Group:
    id: str
    name: str
    vpc: str = "vpc-0a000000000000001"
    description: str = "a security group"
    tags: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class KeyPair:
    id: str
    name: str
    tags: dict[str, str] = field(default_factory=dict[str, str])


def _images() -> list[Image]:
    return [
        Image("ami-0a000000000000001", "debian-12-amd64-20290101", created="2029-01-01T00:00:00.000Z"),
        Image("ami-0a000000000000002", "debian-12-amd64-20290601", tags={"role": "base"}),
        Image("ami-0a000000000000003", "al2023-ami-2029.0-x86_64", owner="137112412989", alias="amazon"),
    ]


def _subnets() -> list[Subnet]:
    return [
        Subnet("subnet-0a000000000000001", "a", "10.0.0.0/20", default=True, tags={"Name": "one", "tier": "front"}),
        Subnet("subnet-0a000000000000002", "b", "10.0.16.0/20", default=True, tags={"Name": "two", "tier": "back"}),
        Subnet("subnet-0a000000000000003", "c", "10.0.32.0/20", public=False, tags={"Name": "three", "tier": "back"}),
    ]


def _groups() -> list[Group]:
    return [Group("sg-0a000000000000001", "default"), Group("sg-0a000000000000002", "web", tags={"Name": "web"})]


def check_image_id(id: str) -> None:
    """Raises Refusal for what is no id of an image."""
    if not re.fullmatch(r"ami-[0-9a-f]{8}([0-9a-f]{9})?", id):
        raise Refusal("InvalidAMIID.Malformed", f'Invalid id: "{id}"')


@dataclass(slots=True)
class Catalogue:
    """See the module. `types` None means that any well-formed instance type exists."""

    letters: tuple[str, ...] = ("a", "b", "c")
    images: list[Image] = field(default_factory=_images)
    subnets: list[Subnet] = field(default_factory=_subnets)
    groups: list[Group] = field(default_factory=_groups)
    key_pairs: list[KeyPair] = field(default_factory=lambda: [KeyPair("key-0a000000000000001", "admin")])
    types: set[str] | None = None

    def image(self, id: str) -> Image:
        check_image_id(id)
        for each in self.images:
            if each.id == id:
                return each
        raise not_found("InvalidAMIID", "image id", f"[{id}]")

    def subnet(self, id: str) -> Subnet:
        for each in self.subnets:
            if each.id == id:
                return each
        raise not_found("InvalidSubnetID", "subnet ID", id)

    def default_subnet(self, letter: str = "") -> Subnet:
        """The default subnet of a zone, or of the first zone that has one."""
        for each in self.subnets:
            if each.default and letter in ("", each.letter):
                return each
        raise Refusal("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")

    def group(self, id_or_name: str) -> Group:
        for each in self.groups:
            if id_or_name in (each.id, each.name):
                return each
        raise not_found("InvalidGroup", "security group", id_or_name)

    def key_pair(self, name: str) -> KeyPair:
        for each in self.key_pairs:
            if each.name == name:
                return each
        raise not_found("InvalidKeyPair", "key pair", name)

    def check_type(self, name: str) -> None:
        if not _TYPE.fullmatch(name) or (self.types is not None and name not in self.types):
            raise invalid(f"Invalid value '{name}' for InstanceType.")

    def letter(self, zone: str, region: str) -> str:
        """The letter of a zone of this region."""
        for letter in self.letters:
            if zone == region + letter:
                return letter
        raise invalid(f"Invalid availability zone: [{zone}]")
