"""RunInstances: what it checks, whom a client token names, how many machines are made, and what each keeps of the call.

Documents: RunInstances (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html); "Ensuring
idempotency in Amazon EC2 API requests" (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from controller.ports import Identity, LaunchRequest
from tests.simulated.ec2.asked import Asked
from tests.simulated.ec2.catalogue import Group, Image, Subnet
from tests.simulated.ec2.query import Fields
from tests.simulated.ec2.refusals import Refusal, invalid
from tests.simulated.world import SimulatedMachine

BATCH_TAG = "occopus.io/batch"
USER_DATA_LIMIT_BYTES = 16 * 1024
TOKEN_LIMIT = 64
_SHOWN_KEY = re.compile(r"[0-9a-zA-Z\-_+=,.@:]{1,255}")


@dataclass(frozen=True, slots=True)
class Volume:
    device: str
    size_gib: int
    type: str
    delete: bool


@dataclass(frozen=True, slots=True)
class Launch:
    """What a machine keeps of the call that made it; in its `spec` under "launch"."""

    reservation: str
    token: str
    image: Image
    type: str
    subnet: Subnet
    groups: tuple[Group, ...]
    public: bool
    key_name: str = ""
    profile: str = ""
    volumes: tuple[Volume, ...] = ()
    spot: bool = False
    http_tokens: str = "optional"
    metadata_tags: str = "disabled"
    hop_limit: int = 1
    endpoint: str = "enabled"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A checked call: the least and the most machines, and how each is."""

    least: int
    most: int
    launch: Launch
    tags: dict[str, str]
    user_data: bytes


def run_instances(asked: Asked) -> list[SimulatedMachine]:
    """The machines that this call made, or the first with the same token. Raises Refusal: then nothing was made."""
    token = asked.fields.text("ClientToken")
    if len(token) > TOKEN_LIMIT or not token.isascii():
        raise Refusal("InvalidClientToken", f"A client token has at most {TOKEN_LIMIT} ASCII characters.")
    before = _before(asked) if token else None
    if before is not None:
        return before
    wanted = _wanted(asked)
    asked.refuse_dry_run()
    count = _room(asked, wanted)
    asked.take_instances("RunInstances", count)
    made = _make(asked, wanted, count)
    if token:
        asked.world.tokens[_token(asked)] = (_parameters(asked.fields), tuple(each.id for each in made))
    return made


def _token(asked: Asked) -> tuple[str, str, str]:
    """Where the token counts: in the zone that the call names, itself or by a subnet, else in the region."""
    face = _interface(asked.fields)
    named = face.has("SubnetId") or asked.fields.has("Placement.AvailabilityZone")
    place = asked.zone(_subnet(asked, face).letter) if named else asked.account[1]
    return asked.account[0], place, asked.fields.text("ClientToken")


def _parameters(fields: Fields) -> LaunchRequest:
    """The call's parameters, as far as a token binds them."""
    flat = {name: value for name, value in fields.flat.items() if name not in ("ClientToken", "DryRun")}
    return LaunchRequest(fields.text("ClientToken"), (), {}, flat, b"")


def _before(asked: Asked) -> list[SimulatedMachine] | None:
    """What an earlier call with this token made. Raises Refusal where it was another call, or what it made has ended."""
    first, ids = asked.world.tokens.get(_token(asked), (None, ()))
    if first is None:
        return None
    if first != _parameters(asked.fields):
        raise Refusal("IdempotentParameterMismatch", "The client token you have provided was used with other parameters.")
    machines = [asked.world.machines[id] for id in ids]
    ended = [each.ended <= asked.world.clock() for each in machines]
    if all(ended) or (asked.desk.behaviour.first_end_spends_token and any(ended)):
        raise Refusal("IdempotentInstanceTerminated", "The instances of an earlier request with this client token were terminated.")
    return machines


def _wanted(asked: Asked) -> Wanted:
    fields, catalogue = asked.fields, asked.desk.catalogue
    least, most = _counts(fields)
    image = catalogue.image(_required(fields, "ImageId"))
    catalogue.check_type(type := fields.text("InstanceType", "m1.small"))
    face = _interface(fields)
    subnet = _subnet(asked, face)
    groups = [*face.values("SecurityGroupId"), *fields.values("SecurityGroup")]
    key_name = fields.text("KeyName")
    if key_name:
        catalogue.key_pair(key_name)
    launch = Launch(
        reservation=f"r-{next(asked.world.numbers):017x}",
        token=fields.text("ClientToken"),
        image=image,
        type=type,
        subnet=subnet,
        groups=tuple(catalogue.group(each) for each in groups or ("default",)),
        public=face.yes("AssociatePublicIpAddress") if face.has("AssociatePublicIpAddress") else subnet.public,
        key_name=key_name,
        profile=fields.text("IamInstanceProfile.Arn") or fields.text("IamInstanceProfile.Name"),
        volumes=_volumes(fields, image),
        spot=fields.text("InstanceMarketOptions.MarketType") == "spot",
        http_tokens=fields.text("MetadataOptions.HttpTokens", "optional"),
        metadata_tags=_metadata_tags(asked),
        hop_limit=int(fields.text("MetadataOptions.HttpPutResponseHopLimit", "1")),
        endpoint=fields.text("MetadataOptions.HttpEndpoint", "enabled"),
    )
    return Wanted(least, most, launch, _tags(fields), _user_data(fields))


#: The parameters of RunInstances that are known here.
KNOWN = (
    *("ImageId", "InstanceType", "MinCount", "MaxCount", "ClientToken", "TagSpecification", "UserData", "SubnetId", "Placement"),
    *("SecurityGroupId", "SecurityGroup", "KeyName", "IamInstanceProfile", "BlockDeviceMapping", "MetadataOptions"),
    *("InstanceMarketOptions", "NetworkInterface", "EbsOptimized", "InstanceInitiatedShutdownBehavior", "Monitoring"),
)


def _required(fields: Fields, name: str) -> str:
    value = fields.text(name)
    if not value:
        raise Refusal("MissingParameter", f"The request must contain the parameter {name}")
    return value


def _counts(fields: Fields) -> tuple[int, int]:
    least, most = _required(fields, "MinCount"), _required(fields, "MaxCount")
    if not least.isdecimal() or not most.isdecimal() or not 1 <= int(least) <= int(most):
        raise invalid(f"Invalid value '{most}' for MaxCount or '{least}' for MinCount.")
    return int(least), int(most)


def _interface(fields: Fields) -> Fields:
    """Where subnet and groups are named: in the first network interface, or in the call itself."""
    faces = fields.items("NetworkInterface")
    if not faces:
        return fields
    if any(fields.has(each) for each in ("SubnetId", "SecurityGroupId", "SecurityGroup")):
        raise Refusal(
            "InvalidParameterCombination",
            "Network interfaces and an instance-level subnet ID or groups may not be specified on the same request",
        )
    return faces[0]


def _subnet(asked: Asked, face: Fields) -> Subnet:
    catalogue = asked.desk.catalogue
    zone = asked.fields.text("Placement.AvailabilityZone")
    letter = catalogue.letter(zone, asked.account[1]) if zone else ""
    id = face.text("SubnetId")
    if not id:
        return catalogue.default_subnet(letter)
    subnet = catalogue.subnet(id)
    if letter not in ("", subnet.letter):
        raise invalid(f"The availability zone '{zone}' is not that of subnet '{id}'")
    return subnet


def _volumes(fields: Fields, image: Image) -> tuple[Volume, ...]:
    """The image's root volume, and what the call says of it and of others."""
    root = Volume(image.root_device, image.root_gib, "gp3", not image.keeps_root)
    volumes = {root.device: root} if root.device else {}
    for each in fields.items("BlockDeviceMapping"):
        device = _required(each, "DeviceName")
        before = volumes.get(device, Volume(device, 8, "gp3", True))
        delete = each.yes("Ebs.DeleteOnTermination") if each.has("Ebs.DeleteOnTermination") else before.delete
        size = int(each.text("Ebs.VolumeSize", str(before.size_gib)))
        volumes[device] = Volume(device, size, each.text("Ebs.VolumeType", before.type), delete)
    return tuple(volumes.values())


def _tags(fields: Fields) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in fields.items("TagSpecification"):
        if each.text("ResourceType") == "instance":
            found |= {tag.text("Key"): tag.text("Value") for tag in each.items("Tag")}
    if len(found) > 50:
        raise Refusal("TagLimitExceeded", "The maximum number of Tags for a resource is 50")
    return found


def _metadata_tags(asked: Asked) -> str:
    """Whether the metadata show the tags: as the call says, else as the account does. Raises Refusal for a key they cannot show.

    EC2's words and the pattern are those of https://github.com/aws/karpenter-provider-aws/pull/7012.
    """
    shown = asked.fields.text("MetadataOptions.InstanceMetadataTags", asked.desk.behaviour.metadata_tags)
    wrong = [each for each in _tags(asked.fields) if not _SHOWN_KEY.fullmatch(each)]
    if shown == "enabled" and wrong:
        raise invalid(f"'{wrong[0]}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{{1,255}})")
    return shown


def _user_data(fields: Fields) -> bytes:
    try:
        data = base64.b64decode(fields.text("UserData"), validate=True)
    except binascii.Error:
        raise invalid("Invalid BASE64 encoding of user data.") from None
    if len(data) > USER_DATA_LIMIT_BYTES:
        raise invalid("User data is limited to 16384 bytes")
    return data


def _room(asked: Asked, wanted: Wanted) -> int:
    """How many machines there is room for, at most those wanted. Raises Refusal where that is less than the least.

    The World's capacity is by instance type, or by zone and type: "t3.small", "eu-west-1a/t3.small". Room is given up to
    the most ("the largest possible number of instances above the specified minimum count"); a quota is held against the
    most ("between 1 and the quota").
    """
    settings, size, zone = asked.world.settings, wanted.launch.type, asked.zone(wanted.launch.subnet.letter)
    if settings.quota is None and not settings.capacity:
        return wanted.most
    live = [each for each in asked.world.live() if each.account == asked.account]
    if settings.quota is not None and len(live) + wanted.most > settings.quota:
        raise Refusal("VcpuLimitExceeded", f"You have requested more vCPU capacity than your current limit of {settings.quota} allows.")
    alike = [each for each in live if each.spec.get("size") == size]
    rooms = (
        settings.capacity.get(size, wanted.most + len(alike)) - len(alike),
        settings.capacity.get(f"{zone}/{size}", wanted.most + len(alike)) - sum(each.spec.get("zone") == zone for each in alike),
    )
    if min(rooms) < wanted.least:
        raise Refusal("InsufficientInstanceCapacity", f"We currently do not have sufficient {size} capacity in {zone}.", 500)
    return min(wanted.most, *rooms)


def _make(asked: Asked, wanted: Wanted, count: int) -> list[SimulatedMachine]:
    """One by one, with launch indexes from 0; in the World their batch is the tag's, else the token."""
    launch = wanted.launch
    batch = wanted.tags.get(BATCH_TAG) or launch.token or launch.reservation
    spec = {"image": launch.image.id, "size": launch.type, "zone": asked.zone(launch.subnet.letter), "launch": launch}
    request = LaunchRequest(batch, ("",) * count, wanted.tags, spec, wanted.user_data)
    name = wanted.tags.get("Name", "")
    return [asked.world.add(asked.account, Identity(batch, index), request, name) for index in range(count)]
