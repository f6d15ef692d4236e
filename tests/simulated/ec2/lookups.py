"""The actions that show what an account finds in place: images, subnets, security groups, key pairs, zones.

Documents: the Describe actions of each in https://docs.aws.amazon.com/AWSEC2/latest/APIReference/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tests.simulated.ec2 import pages
from tests.simulated.ec2.asked import Action, Asked, Done, action
from tests.simulated.ec2.catalogue import Group, Image, KeyPair, Subnet, check_image_id
from tests.simulated.ec2.filters import Properties, passing
from tests.simulated.ec2.refusals import Refusal, not_found
from tests.simulated.ec2.xml import collection, element, flag, tag_set

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kind(Generic[T]):
    """One kind of thing: where its list is, how it is named, found and worded."""

    set: str
    things: Callable[[Asked], list[T]]
    #: Fields that name some, what each says of a thing, and the code for one that there is not.
    names: dict[str, tuple[Callable[[T], str], str, str]]
    properties: Callable[[Asked], Properties[T]]
    tags: Callable[[T], dict[str, str]]
    xml: Callable[[T, Asked], str]
    #: Whether it is among those the call is about, beside names and filters.
    scope: Callable[[T, Asked], bool] = lambda thing, asked: True
    #: Raises Refusal for a name that can be none's.
    check: Callable[[str, str], None] = lambda field, name: None

    def describe(self, asked: Asked) -> Done:
        things = self.things(asked)
        key = next(iter(self.names.values()))[0]
        page, more = pages.cut(asked, lambda: [key(each) for each in self._found(asked, things)])
        shown = [each for each in things if key(each) in frozenset(page)]
        return Done(collection(self.set, (self.xml(each, asked) for each in shown)) + more)

    def _found(self, asked: Asked, things: list[T]) -> list[T]:
        for field, (name, code, word) in self.names.items():
            wanted = asked.fields.values(field)
            for each in wanted:
                self.check(field, each)
            missing = sorted(set(wanted) - {name(each) for each in things})
            if missing:
                raise not_found(code, word, ", ".join(missing))
            things = [each for each in things if not wanted or name(each) in wanted]
        passes = passing(asked.fields, self.properties(asked), self.tags)
        return [each for each in things if self.scope(each, asked) and passes(each)]


_OWNER = re.compile(r"[0-9]{12}|self|amazon|aws-marketplace|aws-backup-vault")


def _owned(image: Image, asked: Asked) -> bool:
    owners = [asked.account[0] if each == "self" else each for each in asked.fields.values("Owner")]
    shown = not image.deprecated or asked.fields.text("IncludeDeprecated") == "true" or image.owner == asked.account[0]
    return shown and (not owners or image.owner in owners or image.alias in owners)


def _images(asked: Asked) -> list[Image]:
    for each in asked.fields.values("Owner"):
        if not _OWNER.fullmatch(each):
            raise Refusal("InvalidUserID.Malformed", f'Invalid user id: "{each}"')
    return asked.desk.catalogue.images


def _image_xml(image: Image, asked: Asked) -> str:
    return (
        element("imageId", image.id)
        + element("imageLocation", f"{image.owner}/{image.name}")
        + element("imageState", image.state)
        + element("imageOwnerId", image.owner)
        + (element("imageOwnerAlias", image.alias) if image.alias else "")
        + flag("isPublic", True)
        + element("architecture", image.architecture)
        + element("imageType", "machine")
        + element("name", image.name)
        + element("description", image.description)
        + element("rootDeviceType", "ebs" if image.root_device else "instance-store")
        + element("rootDeviceName", image.root_device)
        + collection("blockDeviceMapping", [_root_xml(image)] if image.root_device else [])
        + "<virtualizationType>hvm</virtualizationType><hypervisor>xen</hypervisor>"
        + element("creationDate", image.created)
        + tag_set(image.tags)
    )


def _root_xml(image: Image) -> str:
    volume = element("volumeSize", image.root_gib) + flag("deleteOnTermination", not image.keeps_root)
    return f"{element('deviceName', image.root_device)}<ebs>{volume}<volumeType>gp3</volumeType><encrypted>false</encrypted></ebs>"


IMAGES: _Kind[Image] = _Kind(
    "imagesSet",
    _images,
    {"ImageId": (lambda image: image.id, "InvalidAMIID", "image id")},
    lambda asked: {
        "image-id": lambda image: [image.id],
        "name": lambda image: [image.name],
        "owner-id": lambda image: [image.owner],
        "owner-alias": lambda image: [image.alias],
        "state": lambda image: [image.state],
        "architecture": lambda image: [image.architecture],
        "creation-date": lambda image: [image.created],
        "description": lambda image: [image.description],
        "root-device-type": lambda image: ["ebs"],
        "virtualization-type": lambda image: ["hvm"],
        "image-type": lambda image: ["machine"],
        "is-public": lambda image: ["true"],
    },
    lambda image: image.tags,
    _image_xml,
    _owned,
    lambda field, name: check_image_id(name),
)


def _subnet_xml(subnet: Subnet, asked: Asked) -> str:
    return (
        element("subnetId", subnet.id)
        + "<state>available</state>"
        + element("vpcId", subnet.vpc)
        + element("cidrBlock", subnet.cidr)
        + "<availableIpAddressCount>4091</availableIpAddressCount>"
        + element("availabilityZone", asked.zone(subnet.letter))
        + flag("defaultForAz", subnet.default)
        + flag("mapPublicIpOnLaunch", subnet.public)
        + element("ownerId", asked.account[0])
        + tag_set(subnet.tags)
    )


SUBNETS: _Kind[Subnet] = _Kind(
    "subnetSet",
    lambda asked: asked.desk.catalogue.subnets,
    {"SubnetId": (lambda subnet: subnet.id, "InvalidSubnetID", "subnet ID")},
    lambda asked: {
        "subnet-id": lambda subnet: [subnet.id],
        "vpc-id": lambda subnet: [subnet.vpc],
        "availability-zone": lambda subnet: [asked.zone(subnet.letter)],
        "cidr-block": lambda subnet: [subnet.cidr],
        "default-for-az": lambda subnet: [str(subnet.default).lower()],
        "state": lambda subnet: ["available"],
        "owner-id": lambda subnet: [asked.account[0]],
    },
    lambda subnet: subnet.tags,
    _subnet_xml,
)


def _group_xml(group: Group, asked: Asked) -> str:
    head = element("ownerId", asked.account[0]) + element("groupId", group.id) + element("groupName", group.name)
    return head + element("groupDescription", group.description) + element("vpcId", group.vpc) + tag_set(group.tags)


GROUPS: _Kind[Group] = _Kind(
    "securityGroupInfo",
    lambda asked: asked.desk.catalogue.groups,
    {
        "GroupId": (lambda group: group.id, "InvalidGroup", "security group"),
        "GroupName": (lambda group: group.name, "InvalidGroup", "security group"),
    },
    lambda asked: {
        "group-id": lambda group: [group.id],
        "group-name": lambda group: [group.name],
        "vpc-id": lambda group: [group.vpc],
        "description": lambda group: [group.description],
        "owner-id": lambda group: [asked.account[0]],
    },
    lambda group: group.tags,
    _group_xml,
)

KEY_PAIRS: _Kind[KeyPair] = _Kind(
    "keySet",
    lambda asked: asked.desk.catalogue.key_pairs,
    {
        "KeyName": (lambda pair: pair.name, "InvalidKeyPair", "key pair"),
        "KeyPairId": (lambda pair: pair.id, "InvalidKeyPair", "key pair"),
    },
    lambda asked: {"key-name": lambda pair: [pair.name], "key-pair-id": lambda pair: [pair.id]},
    lambda pair: pair.tags,
    lambda pair, asked: element("keyPairId", pair.id) + element("keyName", pair.name) + tag_set(pair.tags),
)


def _zone_xml(zone: str, asked: Asked) -> str:
    return element("zoneName", zone) + "<zoneState>available</zoneState>" + element("regionName", asked.account[1])


ZONES: _Kind[str] = _Kind(
    "availabilityZoneInfo",
    lambda asked: [asked.zone(letter) for letter in asked.desk.catalogue.letters],
    {"ZoneName": (str, "InvalidAvailabilityZone", "availability zone")},
    lambda asked: {"zone-name": lambda zone: [zone], "region-name": lambda zone: [asked.account[1]], "state": lambda zone: ["available"]},
    lambda zone: {},
    _zone_xml,
)


def actions() -> dict[str, Action]:
    """The actions on what is in place, by name."""
    kinds: dict[str, _Kind[Any]] = {
        "DescribeImages": IMAGES,
        "DescribeSubnets": SUBNETS,
        "DescribeSecurityGroups": GROUPS,
        "DescribeKeyPairs": KEY_PAIRS,
        "DescribeAvailabilityZones": ZONES,
    }
    extra = {"DescribeImages": ("Owner", "IncludeDeprecated"), "DescribeAvailabilityZones": ("AllAvailabilityZones",)}
    common = ("Filter", "MaxResults", "NextToken")
    return {name: action(kind.describe, *common, *kind.names, *extra.get(name, ())) for name, kind in kinds.items()}
