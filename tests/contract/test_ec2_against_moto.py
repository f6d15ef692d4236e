"""The light EC2 held against moto, call by call: the same boto3 calls to both, and the same answers, but for names.

Where moto says what EC2 documents otherwise the row stands in `_DIFFER` with the document, and the light EC2 must answer
as documented. A row there must differ: once moto is right it moves to `_AGREE`. Neither is EC2; both are judged by its
documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from tests.simulated.ec2 import peer
from tests.simulated.ec2.peer import Pair, Side

_API = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/"
_RUN, _DESCRIBE, _CODES = f"{_API}API_RunInstances.html", f"{_API}API_DescribeInstances.html", f"{_API}errors-overview.html"
_IDEMPOTENCY = "https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html"
_LIFECYCLE = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html"
_FILTERS = "https://docs.aws.amazon.com/cli/latest/reference/ec2/describe-instances.html"
_USER_DATA = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html"
_UNKNOWN = "i-0000000000000ffff"


@pytest.fixture(scope="module")
def pair() -> Generator[Pair]:
    with peer.pair() as both:
        yield both


# --- what is compared -----------------------------------------------------------------------------------------------
_LOOKS = (
    *("InstanceId", "ImageId", "InstanceType", "State", "AmiLaunchIndex", "SubnetId", "VpcId", "PrivateIpAddress", "PublicIpAddress"),
    *("KeyName", "InstanceLifecycle", "RootDeviceName", "LaunchTime", "EbsOptimized"),
)
_NAME = re.compile(r"\b(i|r|vol|eni)-[0-9a-f]{17}\b")
_ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")


def _tags(thing: dict[str, Any]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in thing.get("Tags", ())}


def _look(instance: dict[str, Any]) -> dict[str, object]:
    options = instance.get("MetadataOptions", {})
    look: dict[str, object] = {each: instance.get(each) for each in _LOOKS}
    look["tags"] = _tags(instance)
    look["zone"] = instance["Placement"]["AvailabilityZone"]
    look["devices"] = [each["DeviceName"] for each in instance.get("BlockDeviceMappings", ())]
    look["options"] = [options.get(each) for each in ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint", "InstanceMetadataTags")]
    look["interfaces"] = [[each["GroupName"] for each in one["Groups"]] for one in instance.get("NetworkInterfaces", ())]
    look["reason"] = instance.get("StateReason", {}).get("Code") or None
    return look


def _looks(side: Side, **asked: Any) -> list[dict[str, object]]:
    return [_look(each) for each in side.listed(**asked)]


def _answer(script: Script, side: Side) -> object:
    """What the script gives, with names in the order in which they appear; or the error's code."""
    try:
        return _normal(script(side), {})
    except ClientError as error:
        return error.response.get("Error", {}).get("Code")
    except ResponseParserError:
        return "no XML"


def _normal(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _normal(each, names) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_normal(each, names) for each in cast("list[Any]", value)]
    if isinstance(value, datetime):
        return "a time"
    if isinstance(value, str):
        named = _NAME.sub(lambda found: names.setdefault(found[0], f"{found[1]}-{len(names) + 1}"), value)
        return _ADDRESS.sub("an address", named)
    return value


# --- scripts --------------------------------------------------------------------------------------------------------
Script = Callable[[Side], object]
_TAGGED = [{"ResourceType": "instance", "Tags": [{"Key": "app", "Value": "web"}, {"Key": "odd", "Value": "<&>\"'é"}]}]


def _launched(side: Side) -> object:
    answer = side.run(3, TagSpecifications=_TAGGED, ClientToken="batch")
    looks = [_look(each) for each in answer["Instances"]]
    return looks, [each["ClientToken"] for each in answer["Instances"]]


def _three(side: Side) -> list[str]:
    """Three machines that differ in all that a filter can ask for."""
    one = side.ids(1, TagSpecifications=_TAGGED, KeyName="admin")
    two = side.ids(1, SubnetId=side.catalogue.subnets[1].id, ImageId=side.catalogue.images[1].id)
    three = side.ids(1, InstanceType="t3.large", SecurityGroupIds=[side.catalogue.groups[1].id])
    side.end(*two)
    return one + two + three


def _filter(name: str, *values: str) -> Script:
    return lambda side: (_three(side), side.filtered(name, *values))


def _filter_by(name: str, value: Callable[[Side], str]) -> Script:
    return lambda side: (_three(side), side.filtered(name, value(side)))


def _ended_twice(side: Side) -> object:
    ids = side.ids(2)
    return side.end(ids[0]), side.end(*ids), side.states()


def _one_bad_id(side: Side) -> object:
    ids = side.ids(2)
    with pytest.raises(ClientError):
        side.end(ids[0], _UNKNOWN)
    return side.states()


def _placed(side: Side) -> object:
    return _looks(side, InstanceIds=side.ids(1, Placement={"AvailabilityZone": "eu-west-1b"}))


def _root_volume(side: Side) -> object:
    """The launch has a say in the volume that the image boots from."""
    device = side.catalogue.images[0].root_device
    mapping = {"DeviceName": device, "Ebs": {"VolumeSize": 20, "DeleteOnTermination": False}}
    (instance,) = side.listed(InstanceIds=side.ids(1, BlockDeviceMappings=[mapping]))
    return [(each["DeviceName"], each["Ebs"]["DeleteOnTermination"]) for each in instance["BlockDeviceMappings"]]


def _interface(public: bool) -> Script:
    def script(side: Side) -> object:
        face = {"DeviceIndex": 0, "SubnetId": side.catalogue.subnets[1].id, "Groups": [side.catalogue.groups[1].id]}
        side.ids(1, NetworkInterfaces=[face | {"AssociatePublicIpAddress": public}])
        return _looks(side)

    return script


def _paged(counts: tuple[int, ...], size: int) -> Script:
    def script(side: Side) -> object:
        for each in counts:
            side.ids(each)
        pages = side.client.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": size})
        return [sum(len(one.get("Instances", ())) for one in page["Reservations"]) for page in pages]

    return script


def _images(**asked: Any) -> Script:
    keys = ("ImageId", "Name", "OwnerId", "RootDeviceName", "State")
    return lambda side: _picked(side.client.describe_images(**asked)["Images"], *keys)


def _subnets(name: str, value: str) -> Script:
    keys = ("SubnetId", "AvailabilityZone", "VpcId", "CidrBlock", "State", "DefaultForAz", "MapPublicIpOnLaunch")
    return lambda side: _picked(side.client.describe_subnets(Filters=[{"Name": name, "Values": [value]}])["Subnets"], *keys)


def _picked(things: object, *keys: str) -> object:
    return [[each.get(key) for key in keys] + [_tags(each)] for each in cast("list[dict[str, Any]]", things)]


def _groups(side: Side) -> object:
    found = side.client.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["web", "default"]}])["SecurityGroups"]
    return sorted((each.get("GroupName", ""), each.get("GroupId"), each.get("VpcId"), each.get("Description")) for each in found)


def _twice(change: dict[str, Any], *, ended: bool = False) -> Script:
    """The same token twice; how many machines there are then, and whether the second call names those of the first."""

    def script(side: Side) -> object:
        first = side.ids(2, ClientToken="batch")
        if ended:
            side.end(*first)
        again = side.ids(2, ClientToken="batch", **change)
        return first == again, len(side.states())

    return script


_AGREE: dict[str, Script] = {
    "caller": lambda side: side.sts.get_caller_identity()["Account"],
    "launched": _launched,
    "shown": lambda side: (side.run(2, TagSpecifications=_TAGGED), side.settle(), _looks(side))[2],
    "one-reservation": lambda side: (
        side.ids(3),
        side.ids(1),
        [len(each.get("Instances", ())) for each in side.client.describe_instances()["Reservations"]],
    ),
    "none": lambda side: _looks(side),
    "options": lambda side: _looks(side, InstanceIds=side.ids(1, MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2})),
    "options-tags": lambda side: _looks(side, InstanceIds=side.ids(1, MetadataOptions={"InstanceMetadataTags": "enabled"})),
    "root-volume": _root_volume,
    "spot": lambda side: _looks(side, InstanceIds=side.ids(1, InstanceMarketOptions={"MarketType": "spot"})),
    "key": lambda side: _looks(side, InstanceIds=side.ids(1, KeyName="admin")),
    "zone": _placed,
    "public": _interface(True),
    "private": _interface(False),
    "tags-later": lambda side: (side.client.create_tags(Resources=side.ids(), Tags=[{"Key": "a", "Value": "b"}]), _looks(side))[1],
    "filter-tag": _filter("tag:app", "web"),
    "filter-tag-star": _filter("tag:app", "w*"),
    "filter-tag-none": _filter("tag:app", "WEB"),
    "filter-tag-key": _filter("tag-key", "app"),
    "filter-state": _filter("instance-state-name", "running"),
    "filter-states": _filter("instance-state-name", "running", "terminated"),
    "filter-image": _filter_by("image-id", lambda side: side.catalogue.images[1].id),
    "filter-subnet": _filter_by("subnet-id", lambda side: side.catalogue.subnets[0].id),
    "filter-vpc": _filter_by("vpc-id", lambda side: side.catalogue.subnets[0].vpc),
    "filter-zone": _filter("availability-zone", "eu-west-1b"),
    "filter-type": _filter("instance-type", "t3.large"),
    "filter-key": _filter("key-name", "admin"),
    "filter-group": _filter_by("instance.group-id", lambda side: side.catalogue.groups[1].id),
    "filter-id": lambda side: side.filtered("instance-id", side.ids(2)[1]),
    "pages": _paged((1,) * 12, 5),
    "pages-even": _paged((1,) * 10, 5),
    "ended": lambda side: (side.end(*side.ids(2)), side.states()),
    "one-bad-id": _one_bad_id,
    "unknown-id": lambda side: _looks(side, InstanceIds=[_UNKNOWN]),
    "end-unknown-id": lambda side: side.end(_UNKNOWN),
    "end-nothing": lambda side: side.end(),
    "console-unknown-id": lambda side: side.client.get_console_output(InstanceId=_UNKNOWN),
    "console": lambda side: (ids := side.ids(), side.client.get_console_output(InstanceId=ids[0]).get("InstanceId")),
    "ids-and-pages": lambda side: _looks(side, InstanceIds=side.ids(), MaxResults=5),
    "dry-run": lambda side: side.run(1, DryRun=True),
    "dry-end": lambda side: side.client.terminate_instances(InstanceIds=side.ids(), DryRun=True),
    "dry-describe": lambda side: _looks(side, DryRun=True),
    "no-image": lambda side: side.run(1, ImageId="ami-0a00000000000ffff"),
    "bad-image": lambda side: side.run(1, ImageId="debian"),
    "no-subnet": lambda side: side.run(1, SubnetId="subnet-0a00000000000ffff"),
    "no-group": lambda side: side.run(1, SecurityGroupIds=["sg-0a00000000000ffff"]),
    "no-key": lambda side: side.run(1, KeyName="nobody"),
    "no-zone": lambda side: side.run(1, Placement={"AvailabilityZone": "eu-west-1q"}),
    "subnet-twice": lambda side: side.run(1, SubnetId=side.catalogue.subnets[0].id, NetworkInterfaces=[{"DeviceIndex": 0}]),
    "images-own": _images(Owners=["self"]),
    "images-name": _images(Filters=[{"Name": "name", "Values": ["debian-1?"]}]),
    "images-tag": _images(Filters=[{"Name": "tag:os", "Values": ["debian-13"]}]),
    "images-none": _images(Filters=[{"Name": "name", "Values": ["nothing"]}]),
    "images-no-id": _images(ImageIds=["ami-0a00000000000ffff"]),
    "images-bad-id": _images(ImageIds=["debian"]),
    "subnets-tag": _subnets("tag:Name", "front"),
    "subnets-zone": _subnets("availability-zone", "eu-west-1c"),
    "subnets-none": _subnets("tag:Name", "back"),
    "subnets-no-id": lambda side: side.client.describe_subnets(SubnetIds=["subnet-0a00000000000ffff"]),
    "groups": _groups,
    "groups-no-id": lambda side: side.client.describe_security_groups(GroupIds=["sg-0a00000000000ffff"]),
    "keys": lambda side: [
        (each.get("KeyName"), each.get("KeyPairId")) for each in side.client.describe_key_pairs(KeyNames=["admin"])["KeyPairs"]
    ],
    "keys-none": lambda side: side.client.describe_key_pairs(KeyNames=["nobody"]),
    "zones": lambda side: [each.get("ZoneName") for each in side.client.describe_availability_zones()["AvailabilityZones"]],
}

#: The script, what the document says, and which document.
_DIFFER: dict[str, tuple[Script, object, str]] = {
    "token-again": (_twice({}), [True, 2], _IDEMPOTENCY),
    "token-mismatch": (_twice({"UserData": "x"}), "IdempotentParameterMismatch", _IDEMPOTENCY),
    "token-ended": (_twice({}, ended=True), "IdempotentInstanceTerminated", _CODES),
    "as-many-as-there-is-room-for": (lambda side: len(side.ids(1, MaxCount=3)), 3, f"{_RUN} MaxCount"),
    "least-above-most": (lambda side: side.run(2, MaxCount=1), "InvalidParameterValue", f"{_RUN} MinCount"),
    "none-wanted": (lambda side: side.run(0), "InvalidParameterValue", f"{_RUN} MinCount"),
    "no-type": (lambda side: side.run(1, InstanceType="huge"), "InvalidParameterValue", f"{_CODES}: moto's code is not among them"),
    "user-data-too-long": (lambda side: side.run(1, UserData="x" * 16385), "InvalidParameterValue", _USER_DATA),
    "token-too-long": (lambda side: side.run(1, ClientToken="x" * 65), "InvalidClientToken", f"{_CODES}, {_IDEMPOTENCY}"),
    "default-group": (
        lambda side: [each.get("GroupName") for each in side.run(1)["Instances"][0]["SecurityGroups"]],
        ["default"],
        f"{_RUN}: without a security group the VPC's default one is used; {_API}API_Instance.html groupSet",
    ),
    "bad-id": (lambda side: _looks(side, InstanceIds=["i-xyz"]), "InvalidInstanceID.Malformed", _CODES),
    "end-bad-id": (lambda side: side.end("i-xyz"), "InvalidInstanceID.Malformed", _CODES),
    "ended-twice": (
        _ended_twice,
        [
            [["i-1", {"Code": 16, "Name": "running"}, {"Code": 32, "Name": "shutting-down"}]],
            [
                ["i-1", {"Code": 48, "Name": "terminated"}, {"Code": 48, "Name": "terminated"}],
                ["i-2", {"Code": 16, "Name": "running"}, {"Code": 32, "Name": "shutting-down"}],
            ],
            [{"Code": 48, "Name": "terminated"}, {"Code": 48, "Name": "terminated"}],
        ],
        _LIFECYCLE,
    ),
    "filter-token": (lambda side: (side.ids(2, ClientToken="one"), side.filtered("client-token", "one")), [["i-1", "i-2"]] * 2, _FILTERS),
    "filter-launch-index": (lambda side: (side.ids(2), side.filtered("launch-index", "1")), [["i-1", "i-2"], ["i-2"]], _FILTERS),
    "pages-of-one-call": (_paged((12,), 5), [5, 5, 2], f"{_DESCRIBE} MaxResults: the maximum number of items"),
    "no-page-token": (lambda side: _looks(side, NextToken="nonsense"), "InvalidPaginationToken", _CODES),
}


#: How many rows there are; `docs/promises.md` names it.
NUMBER = len(_AGREE) + len(_DIFFER)


@pytest.mark.parametrize("name", [pytest.param(each, id=each) for each in _AGREE])
def test_both_give_the_same_answer(name: str, pair: Pair) -> None:
    moto, light = (_answer(_AGREE[name], side) for side in pair.sides())
    assert light == moto


@pytest.mark.parametrize("name", [pytest.param(each, id=each) for each in _DIFFER])
def test_where_moto_is_wrong_the_light_ec2_is_as_documented(name: str, pair: Pair) -> None:
    script, documented, source = _DIFFER[name]
    moto, light = (_answer(script, side) for side in pair.sides())
    assert light == documented, source
    assert moto != documented, f"moto has become right: {name} belongs to _AGREE"
