"""How a launch is worded and an instance read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from controller import errors
from controller.clouds.ec2 import instances
from controller.ports import CONTROLLER_TAG, Identity, LaunchRequest, MachineState

_ARN = "arn:aws:iam::123456789012:instance-profile/web"
_RESOLVED: Mapping[str, Any] = {"image": {"id": "ami-01"}, "instanceType": "t3.small", "subnet": {"id": "subnet-01"}, "zone": "eu-west-1a"}
_FAST = {"iops": 4000, "throughputMiBps": 250}
_EVERYTHING: Mapping[str, Any] = {
    **_RESOLVED,
    **{"keyName": "admin", "securityGroups": [{"id": "sg-01"}, {"id": "sg-02"}], "publicAddress": True},
    "rootVolume": {"device": "/dev/xvda", "sizeGiB": 20, "type": "io2", "iops": 500, "encrypted": True, "kmsKeyId": "alias/data"},
    "volumes": [{"device": "/dev/sdf", "sizeGiB": 100, "type": "st1"}, {"device": "/dev/sdg", "sizeGiB": 1, "encrypted": False, **_FAST}],
    "imdsHopLimit": 2,
    **{"iamInstanceProfile": {"name": "web"}, "imds": "Optional", "tags": {"cost-centre": "4711"}, "spot": {"maxPrice": "0.0125"}},
}


def _request(spec: Mapping[str, Any] = _RESOLVED, *names: str) -> LaunchRequest:
    tags = {CONTROLLER_TAG: "ours", "occopus.io/service": "web"}
    return LaunchRequest("batch-1", names or ("shop-web-0",), tags, spec, b"\x1f\x8b user data")


def test_the_least_launch() -> None:
    tags = [
        {"Key": "Name", "Value": "shop-web-0"},
        {"Key": "occopus.io/batch", "Value": "batch-1"},
        {"Key": CONTROLLER_TAG, "Value": "ours"},
        {"Key": "occopus.io/service", "Value": "web"},
    ]
    assert instances.parameters(_request(), "ours") == {
        "ClientToken": "batch-1",
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": "ami-01",
        "InstanceType": "t3.small",
        "SubnetId": "subnet-01",
        "Placement": {"AvailabilityZone": "eu-west-1a"},
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "InstanceMetadataTags": "disabled"},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}, {"ResourceType": "volume", "Tags": tags}],
        "UserData": b"\x1f\x8b user data",
    }


def test_a_launch_with_everything() -> None:
    found = instances.parameters(_request(_EVERYTHING, "shop-web-0", "shop-web-3"), "ours")
    assert (found["MinCount"], found["MaxCount"]) == (2, 2)
    assert found["KeyName"] == "admin"
    assert found["NetworkInterfaces"] == [
        {
            **{"DeviceIndex": 0, "SubnetId": "subnet-01", "Groups": ["sg-01", "sg-02"]},
            **{"AssociatePublicIpAddress": True, "DeleteOnTermination": True},
        }
    ]
    assert not {"SubnetId", "SecurityGroupIds"} & set(found)
    assert found["BlockDeviceMappings"] == [
        {
            "DeviceName": "/dev/xvda",
            "Ebs": {
                **{"VolumeSize": 20, "VolumeType": "io2", "Iops": 500, "Encrypted": True, "KmsKeyId": "alias/data"},
                "DeleteOnTermination": True,
            },
        },
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 100, "VolumeType": "st1", "DeleteOnTermination": True}},
        {
            "DeviceName": "/dev/sdg",
            "Ebs": {
                **{"VolumeSize": 1, "VolumeType": "gp3", "Iops": 4000, "Throughput": 250, "Encrypted": False},
                "DeleteOnTermination": True,
            },
        },
    ]
    assert found["IamInstanceProfile"] == {"Name": "web"}
    assert found["MetadataOptions"] == {
        **{"HttpEndpoint": "enabled", "HttpTokens": "optional", "InstanceMetadataTags": "disabled"},
        "HttpPutResponseHopLimit": 2,
    }
    spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate", "MaxPrice": "0.0125"}
    assert found["InstanceMarketOptions"] == {"MarketType": "spot", "SpotOptions": spot}
    for each in found["TagSpecifications"]:
        assert {"Key": "cost-centre", "Value": "4711"} in each["Tags"]
        assert {"Key": "Name", "Value": "shop-web"} in each["Tags"]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param({"securityGroups": [{"id": "sg-01"}]}, {"SubnetId": "subnet-01", "SecurityGroupIds": ["sg-01"]}, id="groups"),
        pytest.param(
            {"publicAddress": False},
            {
                "NetworkInterfaces": [
                    {"DeviceIndex": 0, "SubnetId": "subnet-01", "AssociatePublicIpAddress": False, "DeleteOnTermination": True}
                ]
            },
            id="no public address",
        ),
        pytest.param(
            {"rootVolume": {"device": "/dev/xvda"}},
            {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"DeleteOnTermination": True}}]},
            id="root volume as the image has it",
        ),
        pytest.param({"iamInstanceProfile": {"arn": _ARN}}, {"IamInstanceProfile": {"Arn": _ARN}}, id="profile by ARN"),
        pytest.param(
            {"spot": {}},
            {
                "InstanceMarketOptions": {
                    "MarketType": "spot",
                    "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
                }
            },
            id="spot at any price",
        ),
    ],
)
def test_a_field_alone(spec: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = instances.parameters(_request({**_RESOLVED, **spec}), "ours")
    assert {name: found[name] for name in wanted} == wanted


def _reversed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in reversed(list(values))}


def test_no_order_of_ours_changes_the_call() -> None:
    request = _request(_EVERYTHING)
    other = replace(request, tags=_reversed(request.tags), spec=_reversed(_EVERYTHING))
    assert repr(sorted(instances.parameters(other, "ours").items())) == repr(sorted(instances.parameters(request, "ours").items()))


def test_our_tags_go_before_the_users() -> None:
    spec = {**_RESOLVED, "tags": {CONTROLLER_TAG: "theirs", "Name": "x", "occopus.io/batch": "x"}}
    (tags, _) = instances.parameters(_request(spec), "ours")["TagSpecifications"]
    found = {each["Key"]: each["Value"] for each in tags["Tags"]}
    assert (found[CONTROLLER_TAG], found["Name"], found["occopus.io/batch"]) == ("ours", "shop-web-0", "batch-1")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"batch_id": "x" * 65}, "batch", id="a long token"),
        pytest.param({"batch_id": "é"}, "batch", id="a token that is not ASCII"),
        pytest.param({"names": ()}, "names", id="none"),
        pytest.param({"names": ("x",) * 101}, "names", id="too many"),
        pytest.param({"tags": {CONTROLLER_TAG: "theirs"}}, "tags", id="another's"),
        pytest.param({"user_data": b"x" * 16_385}, "userData", id="user data"),
        pytest.param({"spec": {**_RESOLVED, "image": {"name": "x"}}}, "image", id="image by name"),
        pytest.param({"spec": {**_RESOLVED, "subnet": {"name": "x"}}}, "subnet", id="subnet by name"),
        pytest.param({"spec": {**_RESOLVED, "zone": None}}, "subnet", id="no zone"),
        pytest.param({"spec": {**_RESOLVED, "securityGroups": [{"name": "x"}]}}, "securityGroups", id="group by name"),
        pytest.param({"spec": {**_RESOLVED, "rootVolume": {"sizeGiB": 1}}}, "rootVolume", id="no device"),
        pytest.param({"spec": {**_RESOLVED, "volumes": [{"device": "/dev/sdf", "sizeGiB": 0}]}}, "volumes.0.sizeGiB", id="size"),
    ],
)
def test_what_cannot_be_launched(change: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        instances.parameters(replace(_request(), **change), "ours")
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("names", "name"),
    [
        pytest.param(("shop-web-7",), "shop-web-7", id="one"),
        pytest.param(("shop-web-1", "shop-web-10"), "shop-web", id="a prefix of the other"),
        pytest.param(("web-1", "db-1"), "web-1", id="not of one group"),
        pytest.param(("one", "two"), "one", id="no index"),
    ],
)
def test_the_name_of_machines_that_share_it(names: tuple[str, ...], name: str) -> None:
    assert instances.common_name(names) == name


# --- what comes back ------------------------------------------------------------------------------------------------
def _instance(index: int = 0, state: str = "pending", batch: str = "batch-1") -> dict[str, Any]:
    return {
        **{"InstanceId": f"i-0{index}", "AmiLaunchIndex": index, "State": {"Name": state, "Code": 0}},
        "Tags": [{"Key": "occopus.io/batch", "Value": batch}],
    }


def test_machines_come_by_their_index() -> None:
    found = instances.launched({"Instances": [_instance(1), _instance(0)]}, _request(_RESOLVED, "a-0", "a-1"))
    assert [each.identity for each in found] == [Identity("batch-1", 0), Identity("batch-1", 1)]


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({}, id="that come late"),
        pytest.param({"Tags": [{"Key": "occopus.io/batch", "Value": "other"}]}, id="that somebody changed"),
    ],
)
def test_the_token_says_whose_they_are_and_not_the_tags(tags: dict[str, Any]) -> None:
    bare = [{name: value for name, value in _instance(index).items() if name != "Tags"} | tags for index in (1, 0)]
    found = instances.launched({"Instances": bare}, _request(_RESOLVED, "a-0", "a-1"))
    assert [(each.id, each.identity) for each in found] == [("i-00", Identity("batch-1", 0)), ("i-01", Identity("batch-1", 1))]


@pytest.mark.parametrize(
    ("shown", "kind"),
    [
        pytest.param([], errors.Transient, id="none"),
        pytest.param([{"InstanceId": "i-00"}], errors.Transient, id="no state and index"),
        pytest.param([_instance(0)], errors.TokenSpent, id="one of two"),
        pytest.param([_instance(0), _instance(1), _instance(2)], errors.TokenSpent, id="three of two"),
        pytest.param([_instance(0), _instance(0)], errors.TokenSpent, id="one of them twice"),
        pytest.param([_instance(1), _instance(2)], errors.TokenSpent, id="other indexes"),
        pytest.param([_instance(0), _instance(1, "terminated")], errors.TokenSpent, id="one has ended"),
        pytest.param([_instance(0), _instance(1, "shutting-down")], errors.TokenSpent, id="one ends"),
    ],
)
def test_an_answer_that_is_not_the_launch(shown: list[dict[str, Any]], kind: type[errors.CloudError]) -> None:
    with pytest.raises(errors.CloudError) as caught:
        instances.launched({"Instances": shown}, _request(_RESOLVED, "a-0", "a-1"))
    assert type(caught.value) is kind


def test_an_instance_is_read_whole() -> None:
    launched = datetime(2029, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    association = {"Association": {"PublicIp": "198.18.0.9"}}
    faces = [
        {"Attachment": {"DeviceIndex": 1}, "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.1.1"}]},
        {
            "Attachment": {"DeviceIndex": 0},
            "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.1"}, {"PrivateIpAddress": "10.0.0.2", **association}],
        },
    ]
    instance = {
        **_instance(3, "stopped"),
        **{"PrivateIpAddress": "10.0.0.1", "PublicIpAddress": "198.18.0.1", "NetworkInterfaces": faces, "LaunchTime": launched},
        "StateReason": {"Code": "Server.X", "Message": "Server.X: why"},
    }
    machine = instances.machine(instance)
    assert machine.private_addresses == ("10.0.0.1", "10.0.0.2", "10.0.1.1")
    assert machine.public_addresses == ("198.18.0.1", "198.18.0.9")
    assert (machine.state, machine.state_text, machine.message) == (MachineState.STOPPED, "stopped", "Server.X: why")
    assert machine.created == launched
    assert machine.created is not None
    assert machine.created.tzinfo is UTC


def test_a_machine_without_its_batch_is_nobodys() -> None:
    assert instances.machine({**_instance(0), "Tags": []}).identity == Identity("i-00", 0)
