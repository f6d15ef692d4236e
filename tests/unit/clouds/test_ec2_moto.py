"""That every field of a machine arrives at EC2 as it is meant: on moto, which is written after EC2's own answers."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.session import get_session

from controller.clouds.ec2 import driver as ec2
from controller.clouds.ec2.driver import Ec2Driver
from controller.ports import CONTROLLER_TAG, CloudConfig, LaunchRequest, MachineState
from tests.contract import moto

_KEYS = {"AWS_ACCESS_KEY_ID": "AKIDMAIN", "AWS_SECRET_ACCESS_KEY": "secret"}


class Account:
    """An account on moto, looked at past the driver."""

    def __init__(self) -> None:
        self.endpoint = moto.fresh()
        self.ec2 = self._client("ec2")
        self.iam = self._client("iam")

    def _client(self, service: str) -> Any:
        keys = {"aws_access_key_id": "AKIDMAIN", "aws_secret_access_key": "secret"}
        make: Any = get_session().create_client
        return make(service, region_name="eu-west-1", endpoint_url=self.endpoint, **keys)

    def driver(self) -> Ec2Driver:
        spec = {"region": "eu-west-1", "endpoint": self.endpoint, "credentials": {"secretRef": {"name": "aws"}}}
        return ec2.open(CloudConfig(spec, _KEYS, "ours", "", allow_local=True, ambient_credentials=False))

    def launched(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Resolve and launch it; the instance in EC2's words."""
        driver = self.driver()
        wanted = {"image": {"id": moto.image(self.endpoint)}, "instanceType": "t3.small", **spec}
        tags = {CONTROLLER_TAG: "ours", "occopus.io/service": "web"}
        (outcome,) = driver.create([LaunchRequest("batch-1", ("shop-web-0",), tags, driver.resolve(wanted), b"#cloud-config\n\xff")])
        assert isinstance(outcome, tuple), outcome
        (reservation,) = self.ec2.describe_instances(InstanceIds=[outcome[0].id])["Reservations"]
        (instance,) = reservation["Instances"]
        return instance


@pytest.fixture
def account() -> Account:
    return Account()


def _tags(found: dict[str, Any]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in found["Tags"]}


def test_key_group_subnet_and_profile(account: Account) -> None:
    client = account.ec2
    vpc = client.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    tags = [{"ResourceType": "subnet", "Tags": [{"Key": "Name", "Value": "front"}]}]
    placed = {"VpcId": vpc, "CidrBlock": "10.7.1.0/24", "AvailabilityZone": "eu-west-1b"}
    subnet = client.create_subnet(**placed, TagSpecifications=tags)["Subnet"]["SubnetId"]
    groups = [client.create_security_group(GroupName=each, Description="x", VpcId=vpc)["GroupId"] for each in ("web", "admin")]
    client.create_key_pair(KeyName="Ana's key")
    account.iam.create_instance_profile(InstanceProfileName="web")
    named = {"securityGroups": [{"name": "web"}, {"id": groups[1]}], "keyName": "Ana's key"}
    instance = account.launched({"subnet": {"name": "front"}, "iamInstanceProfile": {"name": "web"}, **named})
    assert (instance["SubnetId"], instance["VpcId"], instance["Placement"]["AvailabilityZone"]) == (subnet, vpc, "eu-west-1b")
    assert {each["GroupId"] for each in instance["SecurityGroups"]} == set(groups)
    assert instance["KeyName"] == "Ana's key"
    assert instance["IamInstanceProfile"]["Arn"].endswith(":instance-profile/web")


@pytest.mark.parametrize("public", [pytest.param(True, id="with"), pytest.param(False, id="without")])
def test_public_address(account: Account, public: bool) -> None:
    group = account.ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
    instance = account.launched({"publicAddress": public, "securityGroups": [{"id": group}]})
    assert ("PublicIpAddress" in instance) is public
    (machine,) = account.driver().list()
    assert bool(machine.public_addresses) is public
    assert machine.private_addresses == (instance["PrivateIpAddress"],)


def test_volumes_are_tagged_and_end_with_the_machine(account: Account) -> None:
    root = {"sizeGiB": 42, "type": "gp3", "encrypted": True}
    instance = account.launched({"rootVolume": root, "volumes": [{"device": "/dev/sdf", "sizeGiB": 7, "type": "st1"}]})
    ids = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in instance["BlockDeviceMappings"]}
    assert set(ids) == {instance["RootDeviceName"], "/dev/sdf"}
    volumes = {each["VolumeId"]: each for each in account.ec2.describe_volumes(VolumeIds=list(ids.values()))["Volumes"]}
    first, second = volumes[ids[instance["RootDeviceName"]]], volumes[ids["/dev/sdf"]]
    assert (first["Size"], first["VolumeType"], first["Encrypted"]) == (42, "gp3", True)
    assert (second["Size"], second["VolumeType"]) == (7, "st1")
    for each in volumes.values():
        assert _tags(each)[CONTROLLER_TAG] == "ours"
    driver = account.driver()
    driver.delete([each.id for each in driver.list()])
    assert account.ec2.describe_volumes(VolumeIds=[])["Volumes"] == []


def test_fast_and_encrypted_volumes(account: Account) -> None:
    fast = {"device": "/dev/sdf", "sizeGiB": 20, "iops": 4000, "throughputMiBps": 250, "encrypted": True, "kmsKeyId": "alias/data"}
    instance = account.launched({"volumes": [fast]})
    ids = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in instance["BlockDeviceMappings"]}
    volumes = {each["VolumeId"]: each for each in account.ec2.describe_volumes(VolumeIds=list(ids.values()))["Volumes"]}
    # It takes Iops and Throughput, and shows neither.
    second = volumes[ids["/dev/sdf"]]
    assert (second["VolumeType"], second["Encrypted"], second["KmsKeyId"]) == ("gp3", True, "alias/data")


def test_the_images_own_root_volume_ends_with_the_machine(account: Account) -> None:
    """Moto's images keep theirs, as some of EC2's do."""
    image = account.ec2.describe_images(ImageIds=[moto.image(account.endpoint)])["Images"][0]
    (own,) = image["BlockDeviceMappings"]
    assert own["Ebs"]["DeleteOnTermination"] is False
    instance = account.launched({})
    (volume,) = account.ec2.describe_volumes(VolumeIds=[instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])["Volumes"]
    assert volume["Size"] == own["Ebs"]["VolumeSize"]
    driver = account.driver()
    driver.delete([instance["InstanceId"]])
    assert account.ec2.describe_volumes(VolumeIds=[])["Volumes"] == []


def test_tags_token_metadata_and_user_data(account: Account) -> None:
    instance = account.launched({"tags": {"cost-centre": "4711"}})
    wanted = {
        "cost-centre": "4711",
        CONTROLLER_TAG: "ours",
        "occopus.io/service": "web",
        "occopus.io/batch": "batch-1",
        "Name": "shop-web-0",
    }
    assert _tags(instance) == wanted
    assert instance["ClientToken"] == "batch-1"
    assert (instance["MetadataOptions"]["HttpTokens"], instance["MetadataOptions"]["InstanceMetadataTags"]) == ("required", "disabled")
    data = account.ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    assert data["UserData"]["Value"] == "I2Nsb3VkLWNvbmZpZwr/"


def test_metadata_without_a_session_token(account: Account) -> None:
    assert account.launched({"imds": "Optional"})["MetadataOptions"]["HttpTokens"] == "optional"


def test_metadata_for_containers(account: Account) -> None:
    assert account.launched({"imdsHopLimit": 2})["MetadataOptions"]["HttpPutResponseHopLimit"] == 2


def test_spot(account: Account) -> None:
    assert account.launched({"spot": {"maxPrice": "0.01"}})["InstanceLifecycle"] == "spot"


def test_a_protected_machine_does_not_keep_another(account: Account) -> None:
    driver = account.driver()
    first = account.launched({})["InstanceId"]
    account.ec2.modify_instance_attribute(InstanceId=first, DisableApiTermination={"Value": True})
    account.launched({})
    machines = driver.list()
    outcomes = dict(zip([each.id for each in machines], driver.delete([each.id for each in machines]), strict=True))
    assert {id: type(each).__name__ for id, each in outcomes.items() if each is not None} == {first: "Denied"}
    assert {each.state for each in driver.list() if each.id != first} == {MachineState.TERMINATED}


def test_a_machine_that_was_stopped_from_outside(account: Account) -> None:
    id = account.launched({})["InstanceId"]
    account.ec2.stop_instances(InstanceIds=[id])
    (machine,) = account.driver().list()
    assert machine.state is MachineState.STOPPED
    assert machine.message.startswith("Client.UserInitiatedShutdown")
