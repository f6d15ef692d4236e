"""RunInstances of the light EC2: whom a client token names, how many machines are made, and what is refused.

The documents that say so are named in `tests.simulated.ec2.launch`.
"""

from __future__ import annotations

from typing import Any

import pytest

from controller.ports import Identity
from tests.simulated.ec2 import ec2_client
from tests.simulated.ec2.trial import IMAGE, Trial, asked, code, tagged

_ONE, _TWO = "subnet-0a000000000000001", "subnet-0a000000000000002"


# --- the client token -----------------------------------------------------------------------------------------------
def test_the_same_call_again_names_the_same_machines() -> None:
    trial = Trial()
    first = trial.run(3, "batch")
    trial.clock.seconds = 40
    again = trial.run(3, "batch")
    assert [each["InstanceId"] for each in again] == [each["InstanceId"] for each in first]
    assert [each["State"]["Name"] for each in again] == ["running"] * 3
    assert len(trial.world.machines) == 3


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"InstanceType": "t3.large"}, id="type"),
        pytest.param({"MinCount": 1}, id="count"),
        pytest.param({"UserData": "other"}, id="user-data"),
        pytest.param({"TagSpecifications": tagged(a="c")}, id="tag"),
    ],
)
def test_a_token_with_other_parameters_is_a_mismatch(change: dict[str, Any]) -> None:
    trial = Trial()
    trial.run(2, "batch", UserData="one", TagSpecifications=tagged(a="b"))
    assert (
        code(lambda: trial.run(2, "batch", **({"UserData": "one", "TagSpecifications": tagged(a="b")} | change)))
        == "IdempotentParameterMismatch"
    )
    assert len(trial.world.machines) == 2


def test_calls_without_a_token_of_the_callers_are_different_calls() -> None:
    # The SDK makes up a token for each.
    trial = Trial()
    assert trial.ids() != trial.ids()


def test_a_token_counts_in_its_account_and_region() -> None:
    trial = Trial()
    first = trial.ids(1, "batch")
    for other in (ec2_client(trial.ec2, key="AKIDOTHER"), ec2_client(trial.ec2, region="us-east-1")):
        assert other.run_instances(**asked(1, "batch"))["Instances"][0].get("InstanceId") not in first
    assert len(trial.world.machines) == 3


@pytest.mark.parametrize(
    ("first", "second", "machines"),
    [
        pytest.param({"SubnetId": _ONE}, {"SubnetId": _TWO}, 2, id="subnets"),
        pytest.param({"Placement": {"AvailabilityZone": "eu-west-1a"}}, {"Placement": {"AvailabilityZone": "eu-west-1b"}}, 2, id="zones"),
        pytest.param({"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": _ONE}]}, {"SubnetId": _TWO}, 2, id="interface"),
        pytest.param({}, {"SubnetId": _ONE}, 2, id="region-and-zone"),
    ],
)
def test_a_token_counts_in_the_zone_that_the_call_names(first: dict[str, Any], second: dict[str, Any], machines: int) -> None:
    trial = Trial()
    for each in (first, second, first, second):
        trial.run(1, "batch", **each)
    assert len(trial.world.machines) == machines


def test_two_subnets_of_one_zone_share_tokens() -> None:
    trial = Trial()
    trial.ec2.catalogue.subnets[1].letter = "a"
    trial.run(1, "batch", SubnetId=_ONE)
    assert code(lambda: trial.run(1, "batch", SubnetId=_TWO)) == "IdempotentParameterMismatch"


@pytest.mark.parametrize(
    ("first_end", "ended", "answer"),
    [
        pytest.param(False, 1, "", id="one-of-two"),
        pytest.param(False, 2, "IdempotentInstanceTerminated", id="both"),
        pytest.param(True, 1, "IdempotentInstanceTerminated", id="one-of-two-and-strict"),
        pytest.param(True, 0, "", id="none-and-strict"),
    ],
)
def test_a_token_is_spent_when_its_machines_have_ended(first_end: bool, ended: int, answer: str) -> None:
    trial = Trial()
    trial.ec2.behaviour.first_end_spends_token = first_end
    for id in trial.ids(2, "batch")[:ended]:
        trial.client.terminate_instances(InstanceIds=[id])
    assert code(lambda: trial.run(2, "batch")) == ""
    trial.clock.seconds = 24 * 3600
    assert code(lambda: trial.run(2, "batch")) == answer
    assert len(trial.world.machines) == 2


def test_a_refused_call_leaves_its_token_unused() -> None:
    trial = Trial(capacity={"t3.small": 1})
    assert code(lambda: trial.run(2, "batch")) == "InsufficientInstanceCapacity"
    trial.world.settings.capacity = {}
    assert len(trial.ids(3, "batch")) == 3


# --- how many -------------------------------------------------------------------------------------------------------
def test_members_of_a_call_are_numbered_and_share_a_reservation() -> None:
    trial = Trial()
    trial.run(4, "batch", TagSpecifications=tagged(**{"occopus.io/batch": "b-1"}))
    assert len(trial.client.describe_instances()["Reservations"]) == 1
    assert [each["AmiLaunchIndex"] for each in trial.listed()] == [0, 1, 2, 3]
    assert [each.identity for each in trial.world.live()] == [Identity("b-1", index) for index in range(4)]
    assert trial.world.duplicates() == []


def test_without_the_tag_the_batch_is_the_token() -> None:
    trial = Trial()
    trial.run(1, "batch")
    assert trial.world.live(Identity("batch", 0))


@pytest.mark.parametrize(
    ("capacity", "least", "made"),
    [
        pytest.param({"t3.small": 3}, 5, 0, id="all-or-none"),
        pytest.param({"t3.small": 3}, 1, 3, id="as-many-as-there-is-room-for"),
        pytest.param({"t3.small": 3}, 4, 0, id="fewer-than-the-least"),
        pytest.param({"t3.small": 9}, 1, 5, id="room-enough"),
        pytest.param({"eu-west-1a/t3.small": 2}, 1, 2, id="of-the-zone"),
        pytest.param({"eu-west-1b/t3.small": 2}, 5, 5, id="of-another-zone"),
        pytest.param({"t3.large": 0}, 5, 5, id="of-another-type"),
    ],
)
def test_capacity_bounds_what_is_made(capacity: dict[str, int], least: int, made: int) -> None:
    trial = Trial(capacity=capacity)
    answer = code(lambda: trial.run(5, SubnetId=_ONE, MinCount=least))
    assert (answer, len(trial.world.machines)) == ("" if made else "InsufficientInstanceCapacity", made)


def test_a_machine_that_ended_makes_room() -> None:
    trial = Trial(capacity={"t3.small": 1})
    (id,) = trial.ids()
    assert code(lambda: trial.run()) == "InsufficientInstanceCapacity"
    trial.world.kill(id)
    assert trial.ids() != [id]


def test_a_quota_is_held_against_the_most_and_by_account() -> None:
    trial = Trial(quota=3)
    trial.run(2)
    assert code(lambda: trial.run(2, MinCount=1)) == "VcpuLimitExceeded"
    assert ec2_client(trial.ec2, key="AKIDOTHER").run_instances(**asked(3))["Instances"]


# --- what a machine keeps -------------------------------------------------------------------------------------------
def test_what_a_call_says_of_its_machines_is_shown() -> None:
    trial = Trial()
    (id,) = trial.ids(
        1,
        "batch",
        KeyName="admin",
        IamInstanceProfile={"Name": "shop"},
        NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": _TWO, "Groups": ["sg-0a000000000000002"], "AssociatePublicIpAddress": False}],
        BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 20, "DeleteOnTermination": False}}],
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        InstanceMarketOptions={"MarketType": "spot"},
        TagSpecifications=tagged(Name="a<b>&'\"c", other="é"),
    )
    (shown,) = trial.listed(InstanceIds=[id])
    picked = {name: shown.get(name) for name in ("ImageId", "InstanceType", "ClientToken", "KeyName", "SubnetId", "InstanceLifecycle")}
    assert picked == {
        "ImageId": IMAGE,
        "InstanceType": "t3.small",
        "ClientToken": "batch",
        "KeyName": "admin",
        "SubnetId": _TWO,
        "InstanceLifecycle": "spot",
    }
    assert shown.get("IamInstanceProfile", {}).get("Arn") == "arn:aws:iam::111111111111:instance-profile/shop"
    assert shown.get("Placement", {}).get("AvailabilityZone") == "eu-west-1b"
    assert [each.get("GroupName") for each in shown.get("SecurityGroups", [])] == ["web"]
    assert [each.get("DeviceName") for each in shown.get("BlockDeviceMappings", [])] == ["/dev/xvda", "/dev/sdf"]
    assert shown.get("MetadataOptions", {}).get("HttpTokens") == "required"
    assert shown.get("Tags") == [{"Key": "Name", "Value": "a<b>&'\"c"}, {"Key": "other", "Value": "é"}]
    assert "PublicIpAddress" not in shown
    assert shown.get("PrivateIpAddress") == trial.world.live()[0].private_address


@pytest.mark.parametrize("keeps", [pytest.param(True, id="kept by the image"), pytest.param(False, id="not kept by the image")])
@pytest.mark.parametrize(
    ("asked_for", "deleted"),
    [
        pytest.param({}, None, id="nothing asked"),
        pytest.param({"DeleteOnTermination": True}, True, id="deleted"),
        pytest.param({"DeleteOnTermination": False}, False, id="kept"),
    ],
)
def test_what_a_call_says_of_the_root_volume_goes_before_the_image(keeps: bool, asked_for: dict[str, bool], deleted: bool | None) -> None:
    trial = Trial()
    trial.ec2.catalogue.image(IMAGE).keeps_root = keeps
    (id,) = trial.ids(1, BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 9, **asked_for}}])
    (volume,) = trial.listed(InstanceIds=[id])[0]["BlockDeviceMappings"]
    assert volume["Ebs"]["DeleteOnTermination"] is (not keeps if deleted is None else deleted)


@pytest.mark.parametrize(
    ("key", "account", "call", "refused"),
    [
        pytest.param("occopus.io/batch", "enabled", {}, True, id="shown by the account's default"),
        pytest.param("occopus.io/batch", "enabled", {"InstanceMetadataTags": "disabled"}, False, id="not shown, as the call says"),
        pytest.param("occopus.io/batch", "disabled", {"InstanceMetadataTags": "enabled"}, True, id="shown, as the call says"),
        pytest.param("occopus.io/batch", "disabled", {}, False, id="not shown"),
        pytest.param("occopus.io:batch", "enabled", {}, False, id="a key that can be shown"),
    ],
)
def test_tags_that_the_metadata_cannot_show_are_refused_where_they_would(
    key: str, account: str, call: dict[str, str], refused: bool
) -> None:
    trial = Trial()
    trial.ec2.behaviour.metadata_tags = account
    asked_for: dict[str, Any] = {"TagSpecifications": tagged(**{key: "x"}), "MetadataOptions": {"HttpTokens": "required", **call}}
    assert code(lambda: trial.run(1, **asked_for)) == ("InvalidParameterValue" if refused else "")


def test_user_data_arrives_and_is_limited_to_16_kib() -> None:
    trial = Trial()
    trial.run(1, UserData="x" * 16384)
    assert trial.world.live()[0].user_data == b"x" * 16384
    assert code(lambda: trial.run(1, UserData="x" * 16385)) == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        pytest.param({"ImageId": "ami-0a00000000000ffff"}, "InvalidAMIID.NotFound", id="image"),
        pytest.param({"ImageId": "debian"}, "InvalidAMIID.Malformed", id="image-malformed"),
        pytest.param({"InstanceType": "huge"}, "InvalidParameterValue", id="type"),
        pytest.param({"SubnetId": "subnet-0a00000000000ffff"}, "InvalidSubnetID.NotFound", id="subnet"),
        pytest.param({"SecurityGroupIds": ["sg-0a00000000000ffff"]}, "InvalidGroup.NotFound", id="group"),
        pytest.param({"KeyName": "nobody"}, "InvalidKeyPair.NotFound", id="key-pair"),
        pytest.param({"Placement": {"AvailabilityZone": "eu-west-1q"}}, "InvalidParameterValue", id="zone"),
        pytest.param(
            {"Placement": {"AvailabilityZone": "eu-west-1b"}, "SubnetId": _ONE}, "InvalidParameterValue", id="zone-of-another-subnet"
        ),
        pytest.param({"MinCount": 3}, "InvalidParameterValue", id="least-above-most"),
        pytest.param({"MinCount": 0, "MaxCount": 0}, "InvalidParameterValue", id="none"),
        pytest.param({"ClientToken": "x" * 65}, "InvalidClientToken", id="token-too-long"),
        pytest.param(
            {"SubnetId": _ONE, "NetworkInterfaces": [{"DeviceIndex": 0}]}, "InvalidParameterCombination", id="subnet-beside-an-interface"
        ),
        pytest.param({"TagSpecifications": tagged(**{f"k{n}": "" for n in range(51)})}, "TagLimitExceeded", id="too-many-tags"),
        pytest.param({"RamdiskId": "ari-1"}, "UnknownParameter", id="parameter-not-known-here"),
        pytest.param({"DryRun": True}, "DryRunOperation", id="dry-run"),
    ],
)
def test_a_call_that_cannot_be_done_makes_nothing(change: dict[str, Any], answer: str) -> None:
    trial = Trial()
    assert code(lambda: trial.run(2, **change)) == answer
    assert trial.world.machines == {}
    assert [(each.action, each.outcome) for each in trial.world.ledger] == [("RunInstances", answer)]
