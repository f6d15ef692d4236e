"""The fields of the `ec2` cloud: of an account (`Cloud.spec.ec2`) and of a machine (an implementation's `ec2`).

They become part of the CRDs. A machine's fields as a user writes them and as `names.Names.resolve` returns them are one model:
resolving only sets more of them. Bounds are EC2's own where it has some
(https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from controller import errors
from controller.api.meta import LocalReference, Model, exactly_one, list_map, rules

Zone = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")]
TagName = Annotated[str, Field(min_length=1, max_length=256)]
Device = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^(/dev/)?[a-z0-9]+$")]
VolumeType = Literal["gp3", "gp2", "io1", "io2", "st1", "sc1", "standard"]
#: Nothing boots from st1 and sc1 (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html).
RootVolumeType = Literal["gp3", "gp2", "io1", "io2", "standard"]
TagValue = Annotated[str, Field(max_length=256)]


# --- of an account --------------------------------------------------------------------------------------------------
class Ec2Credentials(Model):
    """An access key that belongs to an IAM user, or a temporary one."""

    secret_ref: LocalReference = Field(
        description="The Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN where the key is temporary."
    )


class Ec2Cloud(Model):
    """An AWS account in one region."""

    region: str = Field(description="The region, as eu-west-1.", min_length=1, max_length=63, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    endpoint: str | None = Field(
        default=None,
        description="URL that EC2 and STS are asked at, in place of the region's own; it needs credentials. On this computer, or"
        " without TLS, only where the controller allows test clouds.",
        min_length=1,
        max_length=1024,
        pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$",
    )
    credentials: Ec2Credentials | None = Field(
        default=None,
        description="The access key. Without, the controller's own credentials, where it was started so that a Cloud may use them.",
    )


# --- of a machine ---------------------------------------------------------------------------------------------------
class Ec2Image(Model):
    """The AMI, by id or by its whole name."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            exactly_one(("id", "name"), "which image"),
            {"rule": "!has(self.owner) || has(self.name)", "message": "owner goes with name: an id is of one image alone"},
        )
    )
    id: str | None = Field(default=None, description="Its id.", max_length=64, pattern=r"^ami-[0-9a-f]+$")
    name: str | None = Field(default=None, description="Its whole name; one image must have it.", min_length=1, max_length=128)
    owner: str | None = Field(
        default=None,
        description="Who owns the image of that name: an account's id, self, amazon or aws-marketplace. Without, self: anybody may"
        " publish an image under any name.",
        max_length=64,
        pattern=r"^([0-9]{12}|[a-z][-a-z]*)$",
    )


class Ec2Subnet(Model):
    """A subnet, by id or by its tag Name."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one(("id", "name"), "which subnet")))
    id: str | None = Field(default=None, description="Its id.", max_length=64, pattern=r"^subnet-[0-9a-f]+$")
    name: TagName | None = Field(default=None, description="The value of its tag Name; one subnet of the region must have it.")


class Ec2SecurityGroup(Model):
    """A security group of the subnet's VPC, by id or by name."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one(("id", "name"), "which security group")))
    id: str | None = Field(default=None, description="Its id.", max_length=64, pattern=r"^sg-[0-9a-f]+$")
    name: TagName | None = Field(default=None, description="Its name.")


def _volume_rules(of_gp3: str) -> dict[str, Any]:
    """What EC2 says of all volumes of a type (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html); how much
    goes with a size, or on an instance type, it tells at the launch.

    `of_gp3` says in CEL whether it is of type gp3, which may be the one that holds where none is set.
    """
    of_io1, of_io2 = (f"has(self.type) && self.type == '{each}'" for each in ("io1", "io2"))
    return rules(
        {"rule": f"!has(self.iops) || {of_gp3} || {of_io1} || {of_io2}", "message": "iops goes with type gp3, io1 or io2"},
        {"rule": f"has(self.iops) || !({of_io1} || {of_io2})", "message": "type io1 and io2 need iops"},
        {"rule": f"!has(self.iops) || !({of_gp3}) || 3000 <= self.iops && self.iops <= 80000", "message": "iops of gp3: 3000 to 80000"},
        {"rule": f"!has(self.iops) || !({of_io1}) || self.iops <= 64000", "message": "iops of io1: 100 to 64000"},
        {"rule": f"!has(self.throughputMiBps) || {of_gp3}", "message": "throughputMiBps goes with type gp3"},
        {"rule": "!has(self.kmsKeyId) || has(self.encrypted) && self.encrypted", "message": "kmsKeyId goes with encrypted: true"},
    )


Iops = Annotated[int, Field(description="Its operations a second: of gp3 more than its 3000; io1 and io2 need it.", ge=100, le=256000)]
Throughput = Annotated[int, Field(description="Its throughput in MiB a second, of gp3 more than its 125.", ge=125, le=2000)]
KmsKey = Annotated[
    str,
    Field(
        description="The KMS key that encrypts it: id, alias (as alias/data) or ARN; without, the account's default key.",
        min_length=1,
        max_length=512,
        pattern=r"^[A-Za-z0-9:/_-]+$",
    ),
]


class Ec2RootVolume(Model):
    """What the machine boots from. It ends with the machine."""

    model_config = ConfigDict(json_schema_extra=_volume_rules("has(self.type) && self.type == 'gp3'"))
    device: Device | None = Field(default=None, description="Its device name; without, as the image says.")
    size_gib: int | None = Field(default=None, alias="sizeGiB", description="Its size; without, the image's.", ge=1, le=65536)
    type: RootVolumeType | None = Field(default=None, description="Its type; without, the image's.")
    iops: Iops | None = None
    throughput_mibps: Throughput | None = Field(default=None, alias="throughputMiBps")
    encrypted: bool | None = Field(default=None, description="Whether it is encrypted; without, as the image and the account say.")
    kms_key_id: KmsKey | None = None


class Ec2Volume(Model):
    """One more volume, empty. It ends with the machine."""

    model_config = ConfigDict(json_schema_extra=_volume_rules("(!has(self.type) || self.type == 'gp3')"))
    device: Device = Field(description="Its device name, as /dev/sdf.")
    size_gib: int = Field(alias="sizeGiB", description="Its size.", ge=1, le=65536)
    type: VolumeType = Field(default="gp3", description="Its type.")
    iops: Iops | None = None
    throughput_mibps: Throughput | None = Field(default=None, alias="throughputMiBps")
    encrypted: bool | None = Field(default=None, description="Whether it is encrypted; without, as the account says.")
    kms_key_id: KmsKey | None = None


class Ec2InstanceProfile(Model):
    """The IAM instance profile, by name or by ARN."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one(("name", "arn"), "which instance profile")))
    name: str | None = Field(default=None, description="Its name.", max_length=128, pattern=r"^[\w+=,.@-]+$")
    arn: str | None = Field(default=None, description="Its ARN.", max_length=512, pattern=r"^arn:[-a-z]+:iam::[0-9]{12}:instance-profile/")


class Ec2Spot(Model):
    """Spare capacity at a lower price, which EC2 may take back; the machine then ends and its group makes another."""

    max_price: str | None = Field(
        default=None,
        description="The most to pay, in US dollars an hour; without, the on-demand price.",
        max_length=16,
        pattern=r"^[0-9]+(\.[0-9]+)?$",
    )


_OWN_TAGS = {
    "rule": r"self.all(key, !key.matches('^([aA][wW][sS]:|occopus\\.io/|Name$)'))",
    "message": "keys that begin with aws: are EC2's, those with occopus.io/ and Name are the controller's",
}


class Ec2Machine(Model):
    """An EC2 instance."""

    image: Ec2Image = Field(description="What it boots.")
    instance_type: str = Field(description="Its type, as t3.small.", max_length=64, pattern=r"^[a-z0-9][-a-z0-9]*\.[-a-z0-9]+$")
    key_name: str | None = Field(default=None, description="Name of the key pair for SSH.", min_length=1, max_length=255)
    subnet: Ec2Subnet | None = Field(
        default=None, description="Where it is; without, the default subnet of the zone, or of the first zone that has one."
    )
    zone: Zone | None = Field(default=None, description="The availability zone, as eu-west-1a. Beside a subnet it must be the subnet's.")
    security_groups: tuple[Ec2SecurityGroup, ...] = Field(
        default=(), description="Its security groups; without, the VPC's default group.", max_length=16
    )
    public_address: bool | None = Field(default=None, description="Whether it gets a public IPv4 address; without, as the subnet says.")
    root_volume: Ec2RootVolume | None = Field(default=None, description="What it boots from; without, as the image says.")
    volumes: tuple[Ec2Volume, ...] = Field(default=(), description="More volumes.", max_length=24, json_schema_extra=list_map("device"))
    iam_instance_profile: Ec2InstanceProfile | None = Field(default=None, description="The IAM role that programs on it may use.")
    imds: Literal["Required", "Optional"] = Field(
        default="Required",
        description="Whether its metadata service asks for a session token (IMDSv2). Optional lets any request on the machine read them.",
    )
    imds_hop_limit: int | None = Field(
        default=None,
        description="How many network hops an answer of its metadata service may take, for session tokens; a container on the machine"
        " needs 2. Without, as the image and the account say.",
        ge=1,
        le=64,
    )
    tags: dict[str, TagValue] = Field(
        default={}, description="More tags, for the instance and its volumes.", max_length=30, json_schema_extra=rules(_OWN_TAGS)
    )
    spot: Ec2Spot | None = Field(default=None, description="Launch it as a spot instance.")

    def written(self) -> dict[str, Any]:
        """As an implementation holds it: defaults written out, what is not set left out."""
        whole = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        # An empty `spot` says something, an empty list does not.
        return {name: value for name, value in whole.items() if value not in ([], {}) or name == "spot"}


def machine(spec: Any) -> Ec2Machine:
    """The fields, checked. Raises Invalid."""
    try:
        return Ec2Machine.model_validate(spec)
    except ValidationError as error:
        raise _invalid(error) from error


def cloud(spec: Any) -> Ec2Cloud:
    """The fields, checked. Raises Invalid."""
    try:
        return Ec2Cloud.model_validate(spec)
    except ValidationError as error:
        raise _invalid(error) from error


def _invalid(error: ValidationError) -> errors.Invalid:
    first = error.errors()[0]
    return errors.Invalid(".".join(map(str, first["loc"])), first["msg"])


__all__ = ["Ec2Cloud", "Ec2Machine", "cloud", "machine"]
